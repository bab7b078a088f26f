"""Who wants to be asked where: registrations, in order, per hook point."""

import inspect
import itertools
import logging
import threading
import time
from bisect import insort
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

from llmspell_otel.errors import HookError, HookSignatureError
from llmspell_otel.hooks.breaker import DEFAULT, NEVER, Breaker, BreakerProfile
from llmspell_otel.hooks.results import Cancel
from llmspell_otel.points import HookPoint, point_of

_logger = logging.getLogger("llmspell_otel.hooks")

HookFunction = Callable[[Any], Any]
OnFailure = Literal["skip", "cancel"]
_unit: ContextVar["list[Registration] | None"] = ContextVar("llmspell_hook_unit", default=None)

BreakerChange = Callable[["Registration", str, str, str], None]
"""Told of a hook, its breaker's old and new state, and the reason."""

PRIORITIES: Final = {
    "highest": -2_147_483_648,
    "high": -100,
    "normal": 0,
    "low": 100,
    "lowest": 2_147_483_647,
}
"""The names of priorities; lower numbers run first."""


def priority_of(priority: str | int) -> int:
    """The number behind a priority.

    Raises:
        HookError: it is neither a number nor one of the five names.
    """
    if isinstance(priority, int):
        return priority
    try:
        return PRIORITIES[priority.lower()]
    except (KeyError, AttributeError):
        names = ", ".join(PRIORITIES)
        raise HookError(f"priority {priority!r} is neither a whole number nor {names}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class HookOptions:
    """How a hook wants to be run.

    *timeout* is in seconds; None takes the engine's. *breaker* is the profile of its breaker.

    Raises:
        HookError: a value is not usable.
    """

    priority: str | int = "normal"
    name: str | None = None
    tags: Iterable[str] = ()
    on_failure: OnFailure = "skip"
    timeout: float | None = None
    language: str = "python"
    breaker: BreakerProfile = DEFAULT

    def __post_init__(self) -> None:
        if self.on_failure not in ("skip", "cancel"):
            raise HookError(f"on_failure={self.on_failure!r} is neither 'skip' nor 'cancel'")
        if self.timeout is not None and not self.timeout > 0:
            raise HookError(f"timeout={self.timeout!r} is not a positive number of seconds")
        priority_of(self.priority)


class Registration:
    """One hook at one point, and how it has fared; also the handle that its owner keeps."""

    __slots__ = (
        "__weakref__",
        "breaker",
        "call",
        "counted",
        "enabled",
        "failing",
        "failures",
        "function",
        "id",
        "is_async",
        "language",
        "missed",
        "name",
        "on_failure",
        "order",
        "priority",
        "slot",
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
        self.tags = tuple(options.tags)
        self.on_failure = options.on_failure
        self.timeout = options.timeout
        self.language = options.language
        self.is_async = is_async(function)
        self.enabled = True
        self.failing = False
        self.failures = 0
        self.counted = 0
        self.missed = 0
        self.breaker = Breaker(
            options.breaker, clock=time.perf_counter_ns, on_change=self._on_breaker_change
        )

    @property
    def point(self) -> HookPoint | None:
        """Where the hook is registered; None once it is not any more."""
        return self.slot.point if self.slot is not None else None

    @property
    def calls(self) -> int:
        """How often the hook was called."""
        under_way = self.slot.counted_for(self) if self.slot is not None else 0
        return self.counted + under_way - self.missed

    def unregister(self) -> bool:
        """Take the hook out; False if it already was."""
        slot = self.slot
        return slot.remove(self) if slot is not None else False

    def enable(self, *, enabled: bool = True) -> None:
        """Switch the hook on, or off without forgetting it."""
        self.enabled = enabled
        if self.slot is not None:
            self.slot.invalidate()

    def _on_breaker_change(self, old: str, new: str, reason: str) -> None:
        self.failing = False  # the next failure is news again
        if self.slot is not None:
            self.slot.invalidate()
            self.slot.on_breaker(self, str(old), str(new), reason)

    def __repr__(self) -> str:
        where = self.point.spelling if self.point else "nowhere"
        return f"<hook {self.name!r} at {where}, priority {self.priority}>"


class Slot:
    """All hooks of one point. `hooks` is what a firing walks; empty means nothing to do."""

    __slots__ = (
        "_fires",
        "_lock",
        "_registered",
        "count",
        "depth",
        "hooks",
        "on_breaker",
        "point",
        "retry_at",
        "slow_ns",
        "watch",
    )

    def __init__(self, point: HookPoint, on_breaker: BreakerChange) -> None:
        self.point = point
        self.hooks: tuple[Registration, ...] = ()
        self.retry_at: int = NEVER
        """When `compile` must look again, on the clock of `time.perf_counter_ns`."""
        self.slow_ns: int = NEVER
        """A firing at least this long may hold a slow hook."""
        self.depth = 0
        self.watch = 0
        """How many firings are still to be timed hook by hook."""
        self.on_breaker = on_breaker
        self._registered: list[Registration] = []
        self._lock = threading.RLock()
        self._fires = itertools.count()
        self.count = self._fires.__next__
        """Count one firing; atomic, and so exact without a lock."""

    def add(self, hooks: Iterable[Registration]) -> None:
        """Put *hooks* in at their places."""
        with self._lock:
            for hook in hooks:
                insort(self._registered, hook, key=lambda each: each.order)
            self.invalidate()

    def remove(self, hook: Registration) -> bool:
        """Take *hook* out; firings under way still end as they began."""
        with self._lock:
            if hook.slot is not self:
                return False
            self._settle()
            hook.slot = None
            if hook not in self._registered:  # still held back by its unit
                return True
            self._registered.remove(hook)
            self.hooks = tuple(each for each in self.hooks if each is not hook)
            self.invalidate()
            return True

    def registered(self) -> tuple[Registration, ...]:
        """Every hook of the point in order, also those that are off."""
        with self._lock:
            return tuple(self._registered)

    def invalidate(self) -> None:
        """Have the next firing look again at who is on."""
        with self._lock:
            if self._registered and not self.hooks:
                # Non-empty, so that the guard at a call site sees that there may be work.
                self.hooks = tuple(self._registered[:1])
                self._fires = itertools.count()
                self.count = self._fires.__next__
            self.retry_at = 0 if self._registered else NEVER

    def compile(self, now: int) -> tuple[Registration, ...]:
        """Decide who is asked: those on, whose breaker is closed or may try again."""
        with self._lock:
            self._settle()
            self.retry_at = NEVER
            live = tuple(hook for hook in self._registered if self._admit(hook, now))
            self.slow_ns = min((hook.breaker.slow_ns for hook in live), default=NEVER)
            self.hooks = live
            return live

    def counted_for(self, hook: Registration) -> int:
        """How many firings since the last `compile` walked *hook*."""
        with self._lock:
            # The next value of a count is told by nothing but this.
            fired = int(self._fires.__reduce__()[1][0])
            return fired if hook in self.hooks else 0

    def _settle(self) -> None:
        for hook in self.hooks:
            hook.counted += self.counted_for(hook)
        self._fires = itertools.count()
        self.count = self._fires.__next__

    def _admit(self, hook: Registration, now: int) -> bool:
        if not hook.enabled:
            return False
        if hook.breaker.passing:
            hook.call = hook.function
        elif now >= hook.breaker.retry_at_ns:
            hook.call = partial(_tried_async if hook.is_async else _tried, hook)
        else:
            self.retry_at = min(self.retry_at, hook.breaker.retry_at_ns)
            hook.call = partial(_unavailable, hook)
            return hook.on_failure == "cancel"
        return True


class Registry:
    """Every slot, and the ways to find, fill and empty them."""

    def __init__(self, on_breaker: BreakerChange = lambda *_: None) -> None:
        self._slots: dict[HookPoint, Slot] = {}
        self._lock = threading.Lock()
        self._on_breaker = on_breaker

    def slot(self, point: str | HookPoint) -> Slot:
        """The slot of that *point*; always the same object.

        Raises:
            UnknownHookPointError: no point has that name.
        """
        found = point_of(point)
        slot = self._slots.get(found)
        if slot is None:
            with self._lock:
                slot = self._slots.setdefault(found, Slot(found, self._on_breaker))
        return slot

    def register(
        self, point: str | HookPoint, function: HookFunction, options: HookOptions
    ) -> Registration:
        """Have *function* asked at *point*.

        Raises:
            UnknownHookPointError: no point has that name.
            HookSignatureError: *function* cannot be called with a context.
        """
        slot = self.slot(point)
        check_signature(function)
        hook = Registration(slot, function, options)
        unit = _unit.get()
        if unit is None:
            slot.add((hook,))
        else:
            unit.append(hook)
        return hook

    @contextmanager
    def unit(self) -> Iterator[list[Registration]]:
        """Hold back what is registered inside the ``with`` until its end: all of it, or none."""
        hooks: list[Registration] = []
        token = _unit.set(hooks)
        try:
            yield hooks
        finally:
            _unit.reset(token)
        for hook in hooks:
            if hook.slot is not None:
                hook.slot.add((hook,))

    def hooks(self) -> list[Registration]:
        """Every registration, by point and then in the order in which they are asked."""
        with self._lock:
            slots = list(self._slots.values())
        return [hook for slot in slots for hook in slot.registered()]

    def clear(self) -> None:
        """Take every hook out."""
        for hook in self.hooks():
            hook.unregister()


def name_of(function: HookFunction) -> str:
    """What a hook is called when nobody named it."""
    return getattr(function, "__name__", None) or type(function).__name__


def is_async(function: HookFunction) -> bool:
    """Whether calling *function* gives something to await."""
    inner = function.func if isinstance(function, partial) else function
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(
        getattr(inner, "__call__", None)  # noqa: B004 - an object may be async by its __call__
    )


def check_signature(function: HookFunction) -> None:
    """Refuse what cannot be called with one positional argument.

    Raises:
        HookSignatureError: *function* is not callable, or not with a context alone.
    """
    if not callable(function):
        raise HookSignatureError(repr(function), "it is not callable")
    try:
        inspect.signature(function).bind(object())
    except TypeError as error:
        raise HookSignatureError(name_of(function), str(error)) from None
    except ValueError:
        return  # a builtin that does not tell its signature


def _unavailable(hook: Registration, _context: object) -> Cancel:
    return Cancel(f"hook {hook.name!r} is unavailable and fails closed")


def _absent(hook: Registration, context: object) -> Cancel | None:
    return _unavailable(hook, context) if hook.on_failure == "cancel" else None


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
    if error is None:
        hook.breaker.slow(now, now - started, permit)
    elif isinstance(error, Exception):
        hook.breaker.failure(now, now - started, permit)
    else:
        hook.breaker.release(permit)


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
