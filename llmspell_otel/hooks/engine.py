"""Firing a point: its hooks are asked in order, each apart from the others' faults.

The loop is written once for both worlds. Where it cannot go on before something outside
is known (an asynchronous hook's answer, a cache's), it hands back a `Pending`; the driver
finds out, inline or by awaiting, and calls `resume`.
"""

import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from types import CoroutineType
from typing import Any, Final

from llmspell_otel.guard import guard
from llmspell_otel.hooks.conditions import conditions
from llmspell_otel.hooks.context import Decision, HookContext
from llmspell_otel.hooks.registry import Registration, Slot
from llmspell_otel.hooks.results import (
    Cache,
    Cancel,
    Fork,
    Modified,
    Result,
    Retry,
    Skipped,
    result_of,
)
from llmspell_otel.hooks.store import MISSING
from llmspell_otel.hooks.waiting import HookTimeoutError, bounded, engine_loop, rest_of
from llmspell_otel.points import Moment

_logger = logging.getLogger("llmspell_otel.hooks")
_clock = time.perf_counter_ns

MAX_DEPTH: Final = 8
"""How deep firings may nest inside each other's hooks."""
WATCHED_FIRES: Final = 32
"""How many firings are timed hook by hook after one of several hooks was slow."""

depth_below: ContextVar[int] = ContextVar("llmspell_hook_depth", default=0)
"""How many firings the running code is inside of, but for the outermost."""


@dataclass(slots=True, eq=False)
class Verdict:
    """A result that decided the moment, and the hook that gave it."""

    hook: Registration
    result: Result


@dataclass(slots=True, eq=False)
class Pending:
    """A firing that waits: for an answer of *hook*, or for what the cache holds."""

    hook: Registration
    rest: Iterator[Registration]
    awaitable: Awaitable[Any] | None = None
    lookup: Cache | None = None
    started: int = 0

    def perform(self) -> Any:
        """Find out, blocking the caller's thread.

        Raises:
            Exception: the asynchronous hook's own, or `HookTimeoutError`.
        """
        if self.awaitable is not None:
            return engine_loop.wait(self.awaitable, self.hook.timeout or conditions.timeout)
        try:
            return conditions.store.get(self.lookup.key) if self.lookup else MISSING
        except Exception as error:
            guard.report("reading the cache", error)
            return MISSING

    async def perform_async(self) -> Any:
        """The same, awaiting."""
        awaitable = self.awaitable
        if type(awaitable) is CoroutineType:
            try:
                waited = awaitable.send(None)
            except StopIteration as done:
                return done.value
            return await rest_of(awaitable, waited, self.hook.timeout or conditions.timeout)
        if awaitable is not None:
            return await bounded(awaitable, self.hook.timeout or conditions.timeout)
        try:
            return await conditions.store.get_async(self.lookup.key) if self.lookup else MISSING
        except Exception as error:
            guard.report("reading the cache", error)
            return MISSING


Outcome = Verdict | Pending | None
Rest = tuple[Registration, ...] | Iterator[Registration]
Observer = Callable[[Registration, HookContext, Result | None, BaseException | None], None]


def _unobserved(*_: object) -> None:
    """Nobody wants to know."""


class _Observers:
    """Who is told of every answer but Continue; set once, by whoever publishes events."""

    told: Observer = staticmethod(_unobserved)


observers = _Observers()


def fire(slot: Slot, context: HookContext) -> Outcome:
    """Ask the hooks of *slot*; gives the verdict, None for "go on", or what it waits for.

    Callers guard it with ``if slot.hooks:``. Raises nothing but what is no `Exception`
    (`SystemExit`, `KeyboardInterrupt`, `CancelledError`), which passes through unchanged.
    """
    started = _clock()
    hooks = slot.hooks if started < slot.retry_at else slot.compile(started)
    if slot.entered > slot.left or slot.watch:  # nested, or another thread's, or to be timed
        return _fire_carefully(slot, hooks, context)
    slot.entered += 1
    try:
        for hook in hooks:
            try:
                answer = hook.call(context)
            except Exception as error:
                outcome: Outcome = _failed(hook, context, error, hooks)
            else:
                if answer is None:
                    continue
                outcome = _answered(hook, context, answer, hooks)
            if outcome is not None:
                break
        else:
            outcome = None
    finally:
        slot.left += 1
    elapsed = _clock() - started
    if elapsed >= slot.slow_ns:
        _dragged(slot, hooks, elapsed)
    return outcome


def resume(pending: Pending, context: HookContext, answer: Any) -> Outcome:
    """Go on with a firing whose hook has now given *answer*."""
    _timed(pending.hook, _clock() - pending.started)
    if answer is not None:
        verdict = _answered(pending.hook, context, answer, pending.rest)
        if verdict is not None:
            return verdict
    return _walk(pending.rest, context)


def resume_failed(pending: Pending, context: HookContext, error: Exception) -> Outcome:
    """Go on with a firing whose asynchronous hook failed, or overran its time."""
    failed = _failed(pending.hook, context, error, pending.rest)
    return failed or _walk(pending.rest, context)


def resume_missed(pending: Pending, context: HookContext) -> Outcome:
    """Go on with a firing whose key is not in the cache."""
    return _walk(pending.rest, context)


def _walk(rest: Iterator[Registration], context: HookContext) -> Outcome:
    """The same loop, with every hook timed by itself."""
    for hook in rest:
        started = _clock()
        try:
            answer = hook.call(context)
        except Exception as error:
            outcome: Outcome = _failed(hook, context, error, rest)
        else:
            elapsed = _clock() - started
            outcome = None if answer is None else _answered(hook, context, answer, rest)
            if not isinstance(outcome, Pending):
                _timed(hook, elapsed)
        if outcome is not None:
            return outcome
    return None


def _fire_carefully(slot: Slot, hooks: tuple[Registration, ...], context: HookContext) -> Outcome:
    """Fire with the true depth known, and each hook timed."""
    depth = depth_below.get()
    if depth >= MAX_DEPTH - 1:
        _overflown(slot)
        return None
    slot.entered += 1
    slot.watch = max(0, slot.watch - 1)
    token = depth_below.set(depth + 1)
    try:
        return _walk(iter(hooks), context)
    finally:
        slot.left += 1
        depth_below.reset(token)


def _overflown(slot: Slot) -> None:
    if not slot.overflowing:
        slot.overflowing = True
        _logger.error(
            "hook point %s is fired by its own hooks, %d levels deep: no hook is asked below that",
            slot.point,
            MAX_DEPTH,
        )


def _answered(hook: Registration, context: HookContext, answer: Any, rest: Rest) -> Outcome:
    """Take one hook's answer that is not None."""
    if type(answer) is CoroutineType or (
        not isinstance(answer, Result) and inspect.isawaitable(answer)
    ):
        return Pending(hook, _after(hook, rest), awaitable=answer, started=_clock())
    try:
        result = answer if isinstance(answer, Result) else result_of(answer)
        outcome = _taken(hook, context, result, rest)
    except Exception as error:  # not one of the nine results, or one that makes no sense
        return _failed(hook, context, error, rest)
    hook.failing = False
    return outcome


def _taken(hook: Registration, context: HookContext, result: Result, rest: Rest) -> Outcome:
    kind = type(result)
    if kind.kind == "continue":
        return None
    if isinstance(result, Cache) and context.point.moment is Moment.BEFORE:
        return Pending(hook, _after(hook, rest), lookup=result)
    if isinstance(result, Modified):
        context.apply(result)
    reason = result.reason if isinstance(result, (Cancel, Skipped, Retry)) else ""
    decision = Decision(
        hook.name, context.point.spelling, kind.kind, reason, attributes=context.notes
    )
    context.notes = {}
    context.decisions.append(decision)
    tell(hook, context, result, None)
    if isinstance(result, Fork):
        context.branches.extend(result.operations)
    elif isinstance(result, Cache):
        context.to_store.append(result)
    elif kind.decides:
        pass_over(_after(hook, rest))
        return Verdict(hook, result)
    return None


def pass_over(rest: Iterator[Registration]) -> None:
    """Take note that the hooks of *rest* are not asked this time."""
    for hook in rest:
        hook.missed += 1


def tell(
    hook: Registration, context: HookContext, result: Result | None, error: Exception | None
) -> None:
    """Pass a decision on to whoever publishes it; never raises."""
    try:
        observers.told(hook, context, result, error)
    except Exception as failure:
        guard.report("telling of a hook's decision", failure)


def _after(hook: Registration, hooks: Rest) -> Iterator[Registration]:
    """The hooks that come after *hook*."""
    if isinstance(hooks, tuple):
        return iter(hooks[hooks.index(hook) + 1 :])
    return hooks


def _failed(
    hook: Registration, context: HookContext, error: Exception, rest: Rest = ()
) -> Verdict | None:
    """Isolate a failing hook: count it, say so once, and fail closed if it asked to."""
    hook.failures += 1
    if isinstance(error, HookTimeoutError) and error.stubborn:
        hook.breaker.trip("went on after it was cancelled")
    elif hook.call is hook.function:
        hook.breaker.failure(_clock())
    if not hook.failing:
        hook.failing = True
        _logger.warning("hook %r failed at %s", hook.name, context.point, exc_info=error)
    tell(hook, context, None, error)
    if hook.on_failure != "cancel":
        return None
    result = Cancel(f"hook {hook.name!r} failed and fails closed")
    context.decisions.append(Decision(hook.name, context.point.spelling, "cancel", result.reason))
    tell(hook, context, result, None)
    pass_over(iter(()) if rest == () else _after(hook, rest))
    return Verdict(hook, result)


def _dragged(slot: Slot, hooks: tuple[Registration, ...], elapsed: int) -> None:
    if len(hooks) == 1:
        _timed(hooks[0], elapsed)
    else:
        # Which of them it was is not known yet: time the next firings hook by hook.
        slot.watch = WATCHED_FIRES


def _timed(hook: Registration, elapsed: int) -> None:
    """Report a slow call; an overrun of the hook's own time opens its breaker at once."""
    hook.took = elapsed
    breaker = hook.breaker
    if elapsed < breaker.slow_ns or hook.call is not hook.function:
        return
    if hook.on_failure == "cancel":
        return  # closing an agent down because its guard is slow would be the greater harm
    if hook.timeout is not None and elapsed > hook.timeout * 1e9:
        breaker.trip(f"took {elapsed / 1e9:.3g} s, more than its {hook.timeout:g} s")
    else:
        breaker.slow(_clock(), elapsed)
