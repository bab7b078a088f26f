"""Patching a library's functions, now or when it is imported, and exactly undoing it."""

import inspect
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from importlib.machinery import PathFinder
from threading import RLock
from typing import Any

import wrapt

from llmspell_instrumentation.joinpoint import Adapter, JoinPoint, shape_of
from llmspell_instrumentation.versions import installed
from llmspell_instrumentation.wrapper import Wrapper
from llmspell_otel.guard import guard
from llmspell_otel.operations.call import Call, Kind
from llmspell_otel.runtime import models_ahead

_logger = logging.getLogger(__name__)


class _Advice:
    """Sends calls through the engine, until it is switched off."""

    __slots__ = ("_aspect", "_through", "live")

    def __init__(self, point: JoinPoint, original: Any) -> None:
        from llmspell_otel.operations import Aspect

        self._aspect = Aspect(
            kind=point.kind, codec=point.codec, shape=point.shape or shape_of(original)
        )
        self._through = point.through
        # Bound methods that the host took while attached outlive the attachment.
        self.live = True

    def __call__(
        self,
        wrapped: Callable[..., Any],
        instance: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        if not self.live:
            return wrapped(*args, **kwargs)
        return self._through(self._aspect, Call(wrapped, instance, args, kwargs))


def weave(point: JoinPoint) -> Callable[[], None]:
    """Wrap the function at *point*; the returned callable puts the original back.

    Raises:
        LookupError: this version of the library has no such function.
    """
    owner, name, original = point.resolve()
    if point.overrides:
        return _weave_overrides(point, owner, name)
    return _weave_one(point, owner, name, original)


def _weave_one(point: JoinPoint, owner: Any, name: str, original: Any) -> Callable[[], None]:
    if isinstance(original, Wrapper):
        return lambda: None
    inherited = name not in vars(owner)
    advice = _Advice(point, original)
    wrapper = Wrapper(original, advice)
    setattr(owner, name, wrapper)

    def restore() -> None:
        advice.live = False
        if vars(owner).get(name) is not wrapper:
            return  # Somebody wrapped our wrapper: it stays in place, and only passes through.
        if inherited:
            delattr(owner, name)
        else:
            setattr(owner, name, original)

    return restore


def _weave_overrides(point: JoinPoint, base: Any, name: str) -> Callable[[], None]:
    """Wrap *name* in every subclass of *base* that defines it, the future ones included."""
    undo = ExitStack()

    def meet(cls: type) -> None:
        if _concerns(point, cls, name):
            original = inspect.getattr_static(cls, name)
            undo.callback(_weave_one(point, cls, name, original))

    def met(cls: type) -> None:
        # Some of these are classes that the host is just defining.
        guard.contained(f"wrapping {point.target}", meet, cls)

    for cls in _subclasses(base):
        met(cls)
    undo.callback(_on_subclass(base, met))
    return undo.close


def _concerns(point: JoinPoint, cls: type, name: str) -> bool:
    names = {f"{one.__module__}:{one.__qualname__}" for one in cls.__mro__}
    if f"{cls.__module__}:{cls.__qualname__}" in point.takes:
        return True
    return name in vars(cls) and (
        bool(names.intersection(point.takes)) or not names.intersection(point.leaves)
    )


def _subclasses(base: Any) -> Iterator[type]:
    for cls in base.__subclasses__():
        yield cls
        yield from _subclasses(cls)


def _on_subclass(base: Any, meet: Callable[[type], None]) -> Callable[[], None]:
    """Have *meet* called with every new subclass of *base*, until the result is called."""
    before = vars(base).get("__init_subclass__")
    live = True

    def init_subclass(cls: Any, /, **options: Any) -> None:
        if before is None:
            super(base, cls).__init_subclass__(**options)
        else:
            before.__get__(None, cls)(**options)
        if live:
            meet(cls)

    ours: Any = classmethod(init_subclass)
    base.__init_subclass__ = ours

    def restore() -> None:
        nonlocal live
        live = False
        if vars(base).get("__init_subclass__") is not ours:
            return  # Somebody's own is over ours, and calls it: it only passes through.
        if before is None:
            del base.__init_subclass__
        else:
            base.__init_subclass__ = before

    return restore


class Attachment:
    """One adapter, woven into its library as far as the library has been imported."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self.version = installed(adapter.requires)
        self.found: list[str] = []
        self.missing: list[str] = []
        self.broken = ""
        self._points: tuple[JoinPoint, ...] | None = None
        self._waiting: set[str] = set()
        self._undo = ExitStack()
        self._open = True
        self._lock = RLock()

    @property
    def waits(self) -> bool:
        """Whether nothing is known yet of how the library will be met."""
        return self._points is None and not self.broken

    @property
    def pending(self) -> list[str]:
        """The join points that were read, and whose modules the host has not imported yet."""
        return [point.target for point in self._points or () if point.module in self._waiting]

    def attach(self) -> "Attachment":
        """Patch what is imported, and wait for the import of the rest."""
        wrapt.register_post_import_hook(self._on_package, self.adapter.package)
        return self

    def read(self) -> None:
        """Read the adapter's table, unless that is done; the library is not imported for it."""
        if self._open and self.waits:
            try:
                # Not under the lock: a table that imports its library would wait for who imports
                # that, and who does waits for us.
                points = self.adapter.expected
            except Exception as error:
                _logger.exception("llmspell: the adapter %r cannot be read", self.adapter.name)
                self.broken = f"the adapter {self.adapter.name!r} cannot be read: {error!r}"
            else:
                self._expect(points)

    def _expect(self, points: tuple[JoinPoint, ...]) -> None:
        with self._lock:
            if self._points is not None:
                return
            self._points = points
        by_module: dict[str, list[JoinPoint]] = {}
        for point in points:
            by_module.setdefault(point.module, []).append(point)
        for module, found in by_module.items():
            if module in sys.modules or _exists(module):
                self._waiting.add(module)
                wrapt.register_post_import_hook(self._on_import(module, found), module)
            else:
                for point in found:
                    self._report_missing(point)

    def _on_package(self, _: Any) -> None:
        self.read()
        # Prices are loaded from the moment that a library which calls models is there.
        if self._open and any(point.kind is Kind.MODEL for point in self._points or ()):
            models_ahead()

    def close(self) -> None:
        """Put every original back; modules imported from now on stay as they are."""
        with self._lock:
            self._open = False
            self._waiting.clear()
            self._undo.close()

    def _on_import(self, module: str, points: list[JoinPoint]) -> Callable[[Any], None]:
        def patch(_: Any) -> None:
            with self._lock:
                self._waiting.discard(module)
                for point in points if self._open else ():
                    self._weave(point)

        return patch

    def _weave(self, point: JoinPoint) -> None:
        try:
            self._undo.callback(weave(point))
            self.found.append(point.target)
        except LookupError:
            self._report_missing(point)
        except Exception:
            # This runs inside the host's import statement.
            _logger.exception("llmspell: %s could not be wrapped", point.target)
            self.missing.append(point.target)

    def _report_missing(self, point: JoinPoint) -> None:
        self.missing.append(point.target)
        _logger.warning(
            "llmspell: %s %s has no %s; its calls will not be seen. The adapter was made for %s",
            self.adapter.name,
            self.version,
            point.target,
            self.adapter.requires,
        )


def _exists(module: str) -> bool:
    """Whether *module* can be found, without importing it or its parents."""
    path: list[str] | None = None
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        if name in sys.modules:  # wherever it came from
            path = list(getattr(sys.modules[name], "__path__", ()))
            continue
        try:
            spec = PathFinder.find_spec(name, path)
        except (ImportError, ValueError):
            return False
        if spec is None:
            return False
        path = list(spec.submodule_search_locations or ())
    return True
