"""Hooks that are there only for those who want them: offered by feature, built when first asked."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from llmspell_otel.errors import HookError
from llmspell_otel.hooks.options import HookFunction, HookOptions, check_signature
from llmspell_otel.hooks.registry import Registration, Registry, registry
from llmspell_otel.points import HookPoint, point_of

Factory = Callable[[], HookFunction]


class _Lazy:
    """Stands in for a hook until it is asked for the first time."""

    def __init__(self, name: str, factory: Factory) -> None:
        self.__name__ = name
        self._factory = factory
        self._lock = threading.Lock()
        self.built: HookFunction | None = None

    def __call__(self, context: Any) -> Any:
        if self.built is None:
            with self._lock:
                if self.built is None:
                    hook = self._factory()
                    check_signature(hook)
                    self.built = hook
        return self.built(context)


@dataclass(slots=True)
class Offer:
    """One hook on offer."""

    name: str
    point: HookPoint
    features: frozenset[str]
    options: HookOptions
    hook: _Lazy
    handle: Registration | None = None

    @property
    def built(self) -> bool:
        """Whether the hook has been made."""
        return self.hook.built is not None


class Offers:
    """Hooks on offer, and the features that are on."""

    def __init__(self, into: Registry) -> None:
        self._registry = into
        self._lock = threading.RLock()
        self._offers: dict[str, Offer] = {}
        self._on: set[str] = set()

    def offer(
        self,
        name: str,
        point: str | HookPoint,
        factory: Factory,
        *,
        features: Iterable[str] = (),
        **options: Any,
    ) -> Offer:
        """Have what *factory* makes asked at *point*, while all of *features* are on.

        The hook is made when it is asked for the first time. A factory that raises is a
        failing hook, and is tried again. *options* are those of `HookOptions`.

        Raises:
            HookError: there is an offer of that name, or an option is not usable.
            UnknownHookPointError: no point has that name.
        """
        if isinstance(features, str):
            raise HookError(f"features={features!r} is one text; give a list")
        made = Offer(
            name,
            point_of(point),
            frozenset(features),
            HookOptions(name=name, **options),
            _Lazy(name, factory),
        )
        with self._lock:
            if name in self._offers:
                raise HookError(f"there is an offer named {name!r} already; withdraw it first")
            self._offers[name] = made
            self._settle()
        return made

    def withdraw(self, name: str) -> bool:
        """Take an offer back; tell whether it was there."""
        with self._lock:
            offer = self._offers.pop(name, None)
            if offer is not None and offer.handle is not None:
                offer.handle.unregister()
            return offer is not None

    def enable(self, *features: str) -> None:
        """Switch features on: the hooks that need no others are asked from now on."""
        with self._lock:
            self._on.update(features)
            self._settle()

    def disable(self, *features: str) -> None:
        """Switch features off: the hooks that need one of them are asked no more."""
        with self._lock:
            self._on.difference_update(features)
            self._settle()

    def _settle(self) -> None:
        for offer in self._offers.values():
            wanted = offer.features <= self._on
            if wanted and offer.handle is None:
                offer.handle = self._registry.register(offer.point, offer.hook, offer.options)
            elif not wanted and offer.handle is not None:
                offer.handle.unregister()
                offer.handle = None


offers: Final = Offers(registry)
"""The offers of this process."""
