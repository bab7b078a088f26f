"""Who wants to be asked where: every hook point's slot, and the ways to fill and empty them."""

import logging
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from llmspell_otel.errors import HookError
from llmspell_otel.hooks.forks import watch_forks
from llmspell_otel.hooks.options import (
    PRIORITIES,
    HookFunction,
    HookOptions,
    OnFailure,
    check_signature,
    is_async,
    name_of,
    priority_of,
)
from llmspell_otel.hooks.slots import BreakerChange, Registration, Slot, staged
from llmspell_otel.hooks.sources import SOURCES, look_after
from llmspell_otel.points import HookPoint, point_of

__all__ = [
    "PRIORITIES",
    "BreakerChange",
    "HookFunction",
    "HookOptions",
    "OnFailure",
    "Registration",
    "Registry",
    "RegistryStats",
    "Slot",
    "breaker_listeners",
    "check_signature",
    "is_async",
    "name_of",
    "priority_of",
    "registry",
]

_logger = logging.getLogger("llmspell_otel.hooks")

Row = tuple[str | HookPoint, HookFunction, HookOptions]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryStats:
    """How many hooks there are, and what became of their calls."""

    hooks: int
    enabled: int
    calls: int
    failures: int
    by_point: dict[str, int]
    by_language: dict[str, int]
    by_breaker: dict[str, int]


def unheard(*_: object) -> None:
    """Nobody is told."""


class Registry:
    """Every slot, and the ways to find, fill and empty them."""

    def __init__(self, on_breaker: BreakerChange = unheard) -> None:
        self._slots: dict[str, Slot] = {}  # by the name of their point
        self._on_breaker = on_breaker
        self.after_fork()
        watch_forks(self)

    def after_fork(self) -> None:
        """Take a new lock."""
        self._lock = threading.Lock()

    def slot(self, point: str | HookPoint) -> Slot:
        """The slot of that *point*; always the same object.

        Raises:
            UnknownHookPointError: no point has that name.
        """
        found = point_of(point)
        slot = self._slots.get(found.name)
        if slot is None:
            made = Slot(found, self._on_breaker)
            with self._lock:
                slot = self._slots.setdefault(found.name, made)
            if slot is made and found.name in SOURCES:
                made.listen(partial(look_after, made))
        return slot

    def register(
        self, point: str | HookPoint, function: HookFunction, options: HookOptions
    ) -> Registration:
        """Have *function* asked at *point*.

        Raises:
            UnknownHookPointError: no point has that name.
            HookSignatureError: *function* cannot be called with a context.
            HookError: its place in the order goes round in a circle.
        """
        hook = self._made(point, function, options)
        gathered = staged.get()
        if gathered is not None:
            gathered.append(hook)
        elif hook.slot is not None:
            try:
                hook.slot.add((hook,))
            except HookError:
                hook.slot = None
                raise
        return hook

    def register_all(self, rows: Iterable[Row]) -> list[Registration]:
        """Register many at once: all of them, or, when one is not usable, none.

        Raises:
            HookError: as `register`, and then nothing is registered.
        """
        hooks = [self._made(*row) for row in rows]
        gathered = staged.get()
        if gathered is not None:
            gathered.extend(hooks)
        else:
            self.exchange((), hooks)
        return hooks

    def exchange(self, old: Sequence[Registration], new: Sequence[Registration]) -> None:
        """Take *old* out and put *new* in; at each point, a firing sees the one or the other.

        Raises:
            HookError: the order that the new ones ask for goes round in a circle; nothing is
                changed.
        """
        slots = {hook.slot: None for hook in (*old, *new) if hook.slot is not None}
        done: list[tuple[Slot, list[Registration]]] = []
        try:
            for slot in slots:
                put = [hook for hook in new if hook.slot is slot]
                slot.check_order(put, [hook for hook in old if hook.slot is slot])
                done.append((slot, put))
        except Exception:
            for hook in new:
                hook.slot = None
            raise
        for slot, put in done:
            slot.exchange([hook for hook in old if hook.slot is slot], put)

    def hooks(self) -> list[Registration]:
        """Every registration, by point and then in the order in which they are asked."""
        with self._lock:
            slots = list(self._slots.values())
        return [hook for slot in slots for hook in slot.registered()]

    def stats(self) -> RegistryStats:
        """How many hooks there are, and what became of their calls."""
        hooks = self.hooks()
        return RegistryStats(
            hooks=len(hooks),
            enabled=sum(hook.enabled for hook in hooks),
            calls=sum(hook.calls for hook in hooks),
            failures=sum(hook.failures for hook in hooks),
            by_point=dict(Counter(hook.point.spelling for hook in hooks if hook.point)),
            by_language=dict(Counter(hook.language for hook in hooks)),
            by_breaker=dict(Counter(str(hook.breaker.state) for hook in hooks)),
        )

    def clear(self) -> None:
        """Take every hook out."""
        self.exchange(self.hooks(), ())

    def _made(
        self, point: str | HookPoint, function: HookFunction, options: HookOptions
    ) -> Registration:
        slot = self.slot(point)
        check_signature(function)
        return Registration(slot, function, options)


breaker_listeners: list[BreakerChange] = []
"""Who else wants to know of breakers: whoever publishes events."""


def _breaker_changed(hook: Registration, old: str, new: str, reason: str) -> None:
    level = logging.WARNING if new == "open" else logging.INFO
    _logger.log(
        level, "hook %r: breaker %s -> %s%s", hook.name, old, new, f" ({reason})" if reason else ""
    )
    for listener in breaker_listeners:
        listener(hook, old, new, reason)


registry: Final = Registry(_breaker_changed)
"""The hooks of this process."""
