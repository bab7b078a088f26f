"""Policies: files of hooks that are loaded, exchanged and taken out as one unit."""

import itertools
import logging
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Final, Protocol

from llmspell_otel.errors import PolicyError
from llmspell_otel.events import default_bus
from llmspell_otel.events.subscription import Subscription
from llmspell_otel.hooks.notices import ENGINE, notify, told
from llmspell_otel.hooks.registry import Registration, registry
from llmspell_otel.hooks.slots import staged

__all__ = ["Policy", "load_policy", "watch"]

_logger = logging.getLogger("llmspell_otel.hooks")
_numbers = itertools.count(1)
_lock: Final = threading.RLock()  # one policy at a time: each knows its own by what is new

Stamp = tuple[int, int]


class Policy:
    """One policy file, and what it registered."""

    def __init__(self, path: str | Path) -> None:
        self.path: Path = Path(path).absolute()
        self.hooks: list[Registration] = []
        """The hooks that are in force, in the order in which the file registered them."""
        self.subscriptions: list[Subscription] = []
        """The event subscriptions that the file made."""
        self.module: ModuleType | None = None
        self.stamp: Stamp | None = None

    def reload(self) -> None:
        """Put what the file says now in the place of what it said before.

        At each hook point a call meets the old hooks or the new ones, never none.

        Raises:
            PolicyError: the file does not load; what was in force stays in force.
        """
        with _lock:
            self.stamp = _stamp_of(self.path)
            module = _module_of(self.path)
            with _gathering(self.path, module) as (hooks, subscriptions):
                _run(self.path, module)
            old, self.hooks = self.hooks, hooks
            ended, self.subscriptions = self.subscriptions, subscriptions
            try:
                registry.exchange([hook for hook in old if hook.slot is not None], hooks)
            except Exception as error:
                self.hooks, self.subscriptions = old, ended
                _leave(subscriptions, module)
                raise PolicyError(str(self.path), str(error)) from None
            _leave(ended, self.module)
            before, self.module = self.module, module
            loaded[self.path] = self
        if before is not None:
            _changed(self.path)

    def reload_if_changed(self) -> bool:
        """Reload if the file is another one than at the last attempt; tell whether it was.

        Raises:
            PolicyError: as `reload`, once for every change.
        """
        if _stamp_of(self.path) == self.stamp:
            return False
        self.reload()
        return True

    def unload(self) -> None:
        """Take out everything that the file registered; doing it twice is doing it once."""
        with _lock:
            hooks, self.hooks = self.hooks, []
            registry.exchange([hook for hook in hooks if hook.slot is not None], ())
            subscriptions, self.subscriptions = self.subscriptions, []
            _leave(subscriptions, self.module)
            self.module = None
            loaded.pop(self.path, None)

    def __repr__(self) -> str:
        return f"<policy {str(self.path)!r}, {len(self.hooks)} hooks>"


loaded: Final[dict[Path, Policy]] = {}
"""The policies that are in force, by the path of their file."""


def load_policy(path: str | Path) -> Policy:
    """Run the Python file at *path*; the hooks that it registers take effect together.

    A policy that is loaded already is reloaded.

    Raises:
        PolicyError: the file cannot be read, does not run, or asks for what there is not;
            nothing of it is in force then.
    """
    with _lock:
        policy = loaded.get(Path(path).absolute()) or Policy(path)
        policy.reload()
        return policy


class Watched(Protocol):
    """What comes from a file, and can be taken from it anew."""

    @property
    def path(self) -> Path:
        """The file."""
        ...

    def reload_if_changed(self) -> bool:
        """As `Policy.reload_if_changed`."""
        ...


def watch(policies: Iterable[Watched], interval: float = 1.0) -> Callable[[], None]:
    """Reload *policies* as their files change, looking every *interval* seconds.

    A file that does not load is logged, and what was in force stays. Gives what ends it.
    """
    watched = tuple(policies)
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(interval):
            for policy in watched:
                try:
                    if policy.reload_if_changed():
                        _logger.info("policy %s was reloaded", policy.path)
                except PolicyError as error:
                    _logger.error("%s; the earlier one stays in force", error)  # noqa: TRY400

    thread = threading.Thread(target=look, name="llmspell-policies", daemon=True)
    thread.start()

    def end() -> None:
        ended.set()
        thread.join()

    return end


def _changed(path: Path) -> None:
    slot = registry.slot("ConfigurationChange")
    if told(slot):
        notify(slot, ENGINE, {"changed": [str(path)]}, {"source": "policy"})


# -- loading one file


def _stamp_of(path: Path) -> Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _module_of(path: Path) -> ModuleType:
    module = ModuleType(f"llmspell_policy_{path.stem}_{next(_numbers)}")
    module.__file__ = str(path)
    return module


@contextmanager
def _gathering(
    path: Path, module: ModuleType
) -> Generator[tuple[list[Registration], list[Subscription]]]:
    """Hold back the hooks that are registered meanwhile, and note the subscriptions."""
    hooks: list[Registration] = []
    subscriptions: list[Subscription] = []
    before = set(default_bus().subscriptions())
    token = staged.set(hooks)
    sys.modules[module.__name__] = module  # dataclasses and pickles look for it there
    try:
        yield hooks, subscriptions
    except BaseException as error:
        _leave(_new_of(module, before), module)
        if isinstance(error, KeyboardInterrupt):
            raise
        raise PolicyError(str(path), _problem(path, error)) from error
    finally:
        staged.reset(token)
    subscriptions += _new_of(module, before)


def _new_of(module: ModuleType, before: set[Subscription]) -> list[Subscription]:
    """The subscriptions made since *before* whose handlers live in *module*."""
    return [
        each
        for each in default_bus().subscriptions()
        if each not in before
        and getattr(getattr(each, "handler", None), "__module__", None) == module.__name__
    ]


def _leave(subscriptions: Iterable[Subscription], module: ModuleType | None) -> None:
    for subscription in subscriptions:
        subscription.unsubscribe()
    if module is not None:
        sys.modules.pop(module.__name__, None)


def _run(path: Path, module: ModuleType) -> None:
    # Compiled here, not imported: no byte code of an earlier second can come back.
    exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)  # noqa: S102 - its purpose


def _problem(path: Path, error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}"
    if isinstance(error, OSError) and error.filename == str(path):
        return f"{error.strerror}; check the path"
    frames = extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    where = f"line {lines[-1]}: " if lines else ""
    return f"{where}{type(error).__name__}: {error}"
