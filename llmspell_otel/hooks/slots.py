"""The hooks of one point, in order, and how each of them fares."""

import heapq
import itertools
import threading
import time
from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from functools import partial
from graphlib import CycleError, TopologicalSorter
from operator import attrgetter
from typing import Any

from llmspell_otel.errors import HookError
from llmspell_otel.hooks.breaker import NEVER, Breaker
from llmspell_otel.hooks.budget import OverheadBudget
from llmspell_otel.hooks.forks import watch_forks
from llmspell_otel.hooks.options import HookFunction, HookOptions, is_async, name_of, priority_of
from llmspell_otel.hooks.results import Cancel
from llmspell_otel.points import HookPoint

BreakerChange = Callable[["Registration", str, str, str], None]
"""Told of a hook, its breaker's old and new state, and the reason."""

staged: ContextVar["list[Registration] | None"] = ContextVar("llmspell_staged", default=None)
"""Where registrations gather instead of taking effect, while a policy is loaded."""

_order = attrgetter("order")


class Registration:
    """One hook at one point, and how it has fared; also the handle that its owner keeps."""

    __slots__ = (
        "__weakref__",
        "after",
        "before",
        "breaker",
        "budget",
        "call",
        "counted",
        "enabled",
        "failing",
        "failures",
        "function",
        "id",
        "is_async",
        "language",
        "live",
        "missed",
        "name",
        "on_failure",
        "order",
        "priority",
        "slot",
        "tags",
        "timeout",
        "took",
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
        self.failing = False
        self.failures = 0
        self.counted = 0
        self.missed = 0
        self.took = 0
        """Nanoseconds of its last call that was timed by itself; 0 before any was."""
        self.budget: OverheadBudget | None = None
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
        "__weakref__",
        "_listeners",
        "_live",
        "_lock",
        "_ordered",
        "_registered",
        "_settled",
        "_wishes",
        "entered",
        "hooks",
        "left",
        "on_breaker",
        "overflowing",
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
        self.entered = 0
        """How many firings have begun; adding to it is atomic, as no call stands in between."""
        self.left = 0
        """How many of them have ended, so that the difference is under way, in all threads."""
        self.overflowing = False
        self.watch = 0
        """How many firings are still to be timed hook by hook."""
        self.on_breaker = on_breaker
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._registered: list[Registration] = []
        self._ordered: tuple[Registration, ...] | None = None
        self._wishes: tuple[Registration, ...] = ()
        self._live: tuple[Registration, ...] = ()
        self.after_fork()
        watch_forks(self)
        self._settled = 0

    def after_fork(self) -> None:
        """Take a new lock, and forget the firings of the parent's other threads."""
        self._lock = threading.RLock()
        self.left = self.entered

    # -- who is registered

    def add(self, hooks: Sequence[Registration]) -> None:
        """Put *hooks* in at their places.

        Raises:
            HookError: their `before` and `after` go round in a circle; none is put in.
        """
        self.exchange((), hooks)

    def exchange(self, old: Sequence[Registration], new: Sequence[Registration]) -> None:
        """Take *old* out and put *new* in; every firing sees the one or the other.

        Raises:
            HookError: the order that they ask for goes round in a circle; nothing is changed.
        """
        with self._lock:
            self.check_order(new, old)
            self._settle()
            for hook in old:
                if hook.slot is self and hook in self._registered:
                    self._registered.remove(hook)
                hook.slot, hook.live = None, False
            for hook in new:
                insort(self._registered, hook, key=_order)
            if old:
                self._live = tuple(hook for hook in self._live if hook.live)
            wishes = (*self._wishes, *(hook for hook in new if hook.before or hook.after))
            self._wishes = tuple(hook for hook in wishes if hook.slot is self)
            self._ordered = None
            self.invalidate()

    def remove(self, hook: Registration) -> bool:
        """Take *hook* out; firings under way still end as they began."""
        with self._lock:
            if hook.slot is not self:
                return False
            self.exchange((hook,), ())
            return True

    def registered(self) -> tuple[Registration, ...]:
        """Every hook of the point in order, also those that are off."""
        with self._lock:
            if self._ordered is None:
                hooks = self._registered
                self._ordered = _arranged(hooks, self.point) if self._wishes else tuple(hooks)
            return self._ordered

    def check_order(self, new: Sequence[Registration], old: Sequence[Registration]) -> None:
        """Refuse *new*, in the place of *old*, if their order goes round in a circle.

        Raises:
            HookError: it does.
        """
        wishes = itertools.chain(self._wishes, (hook for hook in new if hook.before or hook.after))
        if new and any(True for _ in wishes):
            gone = {hook.id for hook in old}
            stay = [hook for hook in self._registered if hook.id not in gone]
            _arranged(sorted([*stay, *new], key=_order), self.point)

    # -- who is asked

    def invalidate(self) -> None:
        """Have the next firing look again at who is on."""
        with self._lock:
            self.retry_at = 0 if self._registered else NEVER
            if not self._registered:
                self.hooks = ()
            elif not self.hooks:
                # Non-empty, so that the guard at a call site sees that there may be work.
                self.hooks = (self._registered[0],)
            self._tell()

    def listen(self, listener: Callable[[], None]) -> None:
        """Call *listener* now, and whenever `hooks` may have become empty or stopped being so."""
        with self._lock:
            self._listeners = (*self._listeners, listener)
            listener()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

    def compile(self, now: int) -> tuple[Registration, ...]:
        """Decide who is asked: those on, whose breaker is closed or may try again."""
        with self._lock:
            self._settle()
            self.overflowing = False
            self.retry_at = NEVER
            on = [hook for hook in self.registered() if hook.enabled]
            self._live = tuple(hook for hook in on if self._admit(hook, now))
            for hook in self._registered:
                hook.live = False
            for hook in self._live:
                hook.live = True
            self.slow_ns = min((hook.breaker.slow_ns for hook in self._live), default=NEVER)
            # Whoever waits for his time keeps the point from looking empty until it has come.
            waits = self.retry_at != NEVER and not self._live
            self.hooks = tuple(on[:1]) if waits else self._live
            self._tell()
            return self.hooks

    def _admit(self, hook: Registration, now: int) -> bool:
        if hook.breaker.passing:
            hook.call = hook.function
        elif now >= hook.breaker.retry_at_ns:
            hook.call = partial(_tried_async if hook.is_async else _tried, hook)
        else:
            self.retry_at = min(self.retry_at, hook.breaker.retry_at_ns)
            hook.call = partial(_absent, hook)
            return hook.on_failure == "cancel"
        return True

    # -- how often

    def counted_for(self, hook: Registration) -> int:
        """How many firings since the last `compile` walked *hook*."""
        with self._lock:
            return self.entered - self._settled if hook.live else 0

    def _settle(self) -> None:
        fired = self.entered
        if fired != self._settled:
            for hook in self._live:
                hook.counted += fired - self._settled
            self._settled = fired


def _arranged(hooks: Sequence[Registration], point: HookPoint) -> tuple[Registration, ...]:
    """*hooks*, already by priority, in the order that their `before` and `after` ask for.

    Raises:
        HookError: it goes round in a circle.
    """
    earlier = _wishes_of(hooks)
    try:
        rough = tuple(TopologicalSorter(earlier).static_order())
    except CycleError as error:
        circle = " -> ".join(hooks[index].name for index in error.args[1])
        raise HookError(
            f"the hooks of {point} cannot be put in order, `before` and `after` go round:"
            f" {circle}; take one of them back"
        ) from None
    # A hook with a wish moves next to whom it names; everybody else stays where he is.
    place = list(range(len(hooks)))
    for index in reversed(rough):
        for other in earlier[index]:
            if hooks[index].name in hooks[other].before:
                place[other] = min(place[other], place[index])
    for index in rough:
        if hooks[index].after:
            place[index] = max([place[index], *(place[other] for other in earlier[index])])
    sorter = TopologicalSorter(earlier)
    sorter.prepare()
    return tuple(hooks[index] for index in _first_ready_first(sorter, place))


def _wishes_of(hooks: Sequence[Registration]) -> dict[int, set[int]]:
    """Which hooks, by index, must come before each."""
    named: dict[str, list[int]] = {}
    for index, hook in enumerate(hooks):
        named.setdefault(hook.name, []).append(index)
    earlier: dict[int, set[int]] = {index: set() for index in range(len(hooks))}
    for index, hook in enumerate(hooks):
        for name in hook.after:
            earlier[index].update(named.get(name, ()))
        for name in hook.before:
            for other in named.get(name, ()):
                earlier[other].add(index)
    return earlier


def _first_ready_first(sorter: "TopologicalSorter[int]", place: Sequence[int]) -> Iterator[int]:
    ready = [(place[index], index) for index in sorter.get_ready()]
    heapq.heapify(ready)
    while ready:
        _, index = heapq.heappop(ready)
        yield index
        sorter.done(index)
        for freed in sorter.get_ready():
            heapq.heappush(ready, (place[freed], freed))


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
    if error is None:
        hook.breaker.slow(now, now - started, permit)
    elif isinstance(error, Exception):
        hook.breaker.failure(now, now - started, permit)
    else:
        hook.breaker.release(permit)
