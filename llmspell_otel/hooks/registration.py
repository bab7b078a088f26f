"""One hook at one point: how it is called, and how it has fared."""

import itertools
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from llmspell_otel.hooks.breaker import Breaker
from llmspell_otel.hooks.delays import foreign
from llmspell_otel.hooks.options import HookFunction, HookOptions, is_async, name_of, priority_of
from llmspell_otel.hooks.results import Cancel
from llmspell_otel.points import HookPoint

if TYPE_CHECKING:
    from llmspell_otel.hooks.budget import OverheadBudget
    from llmspell_otel.hooks.slots import Slot

BreakerChange = Callable[["Registration", str, str, str], None]
"""Told of a hook, its breaker's old and new state, and the reason."""


class Registration:
    """One hook at one point, and how it has fared; also the handle that its owner keeps."""

    __slots__ = (
        "__weakref__",
        "_breaker",
        "_profile",
        "after",
        "before",
        "budget",
        "call",
        "counted",
        "doubted",
        "enabled",
        "failing",
        "failures",
        "function",
        "id",
        "is_async",
        "language",
        "lasted",
        "live",
        "missed",
        "name",
        "on_failure",
        "order",
        "priority",
        "slot",
        "slow",
        "tags",
        "timeout",
    )
    _ids = itertools.count(1)

    def __init__(self, slot: "Slot", function: HookFunction, options: HookOptions) -> None:
        number = next(Registration._ids)
        self.id = f"hook-{number}"
        self.slot: Slot | None = slot
        self.function = function
        self.call = function
        """What a firing calls: the hook, or what stands in for it while its breaker is open."""
        self.name = options.name or name_of(function)
        self.priority = priority_of(options.priority)
        self.order = (self.priority, number)
        self.before, self.after = frozenset(options.before), frozenset(options.after)
        self.tags = tuple(options.tags)
        self.on_failure = options.on_failure
        self.timeout = options.timeout
        self.language = options.language.lower()
        self.is_async = is_async(function)
        self.enabled = True
        self.live = False
        """Whether the point's own count of firings counts for it."""
        self.failing = False
        self.failures = 0
        self.counted = 0
        self.missed = 0
        self.doubted = -1_000
        """How many calls it had had when one was slow that others may have made slow."""
        self.lasted = 0.0
        """Seconds of its last call that was timed by itself; 0 before any was."""
        self.budget: OverheadBudget | None = None
        self._profile = options.breaker
        self._breaker: Breaker | None = None
        self.slow = options.breaker.slow_call_duration
        """Seconds; a call at least this long is slow."""

    @property
    def breaker(self) -> Breaker:
        """Its circuit breaker; made when it is first asked for, as most never see trouble."""
        if self._breaker is None:
            made = Breaker(
                self._profile, clock=time.perf_counter_ns, on_change=self._on_breaker_change
            )
            if self._breaker is None:  # atomic with the next line, as no call stands in between
                self._breaker = made
        return self._breaker

    @property
    def point(self) -> HookPoint | None:
        """Where the hook is registered; None once it is not any more."""
        return self.slot.point if self.slot is not None else None

    @property
    def took(self) -> int:
        """Nanoseconds of its last call that was timed by itself; 0 before any was."""
        return int(self.lasted * 1e9)

    @property
    def calls(self) -> int:
        """How often the hook was called."""
        slot = self.slot
        return self.counted - self.missed + (slot.counted_for(self) if slot is not None else 0)

    def unregister(self) -> bool:
        """Take the hook out; False if it already was."""
        slot = self.slot
        return slot.remove(self) if slot is not None else False

    def enable(self, *, enabled: bool = True) -> None:
        """Switch the hook on, or off without forgetting it."""
        self.enabled = enabled
        if self.slot is not None:
            self.slot.invalidate()

    def disable(self) -> None:
        """Switch the hook off without forgetting it."""
        self.enable(enabled=False)

    def admit(self, now: int) -> int | None:
        """Decide what a firing calls for it from *now* on, on its breaker's clock.

        Gives None if the hook itself may be called; otherwise when to decide anew.
        """
        breaker = self._breaker
        if breaker is None or breaker.passing:
            self.call = self.function
        elif now >= breaker.retry_at_ns:
            self.call = partial(_tried_async if self.is_async else _tried, self)
        else:
            self.call = partial(_absent, self)
            return breaker.retry_at_ns
        return None

    def _on_breaker_change(self, old: str, new: str, reason: str) -> None:
        self.failing = False  # the next failure is news again
        if self.slot is not None:
            self.slot.invalidate()
            self.slot.on_breaker(self, str(old), str(new), reason)

    def __repr__(self) -> str:
        where = self.point.spelling if self.point else "nowhere"
        return f"<hook {self.name!r} at {where}, priority {self.priority}>"


# -- what stands in for a hook whose breaker is not closed


def _absent(hook: Registration, _context: object) -> Cancel | None:
    if hook.on_failure != "cancel":
        return None
    return Cancel(f"hook {hook.name!r} is unavailable and fails closed")


def _tried(hook: Registration, context: object) -> Any:
    """Call *hook* as the probe of its breaker, if there is one to be had."""
    started = time.perf_counter_ns()
    permit = hook.breaker.permit(started)
    if not permit:
        return _absent(hook, context)
    try:
        answer = hook.function(context)
    except BaseException as error:
        _report(hook, permit, started, error)
        raise
    _report(hook, permit, started, None)
    return answer


async def _tried_async(hook: Registration, context: object) -> Any:
    started = time.perf_counter_ns()
    permit = hook.breaker.permit(started)
    if not permit:
        return _absent(hook, context)
    try:
        answer = await hook.function(context)
    except BaseException as error:
        _report(hook, permit, started, error)
        raise
    _report(hook, permit, started, None)
    return answer


def _report(hook: Registration, permit: int, started: int, error: BaseException | None) -> None:
    now = time.perf_counter_ns()
    elapsed = now - started
    if elapsed >= hook.breaker.slow_ns:  # not what the thread waited for others is to its charge
        own = elapsed / 1e9 - foreign(started / 1e9, suspended=hook.is_async)
        elapsed = int(max(0.0, own) * 1e9)
    if error is None:
        hook.breaker.slow(now, elapsed, permit)
    elif isinstance(error, Exception):
        hook.breaker.failure(now, elapsed, permit)
    else:
        hook.breaker.release(permit)
