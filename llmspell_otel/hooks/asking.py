"""Asking hooks one after another, each apart from the others' faults.

The loop is written once for both worlds. Where it cannot go on before something outside
is known (an asynchronous hook's answer, a cache's), it hands back a `Pending`; the driver
finds out, inline or by awaiting, and calls `resume`.
"""

import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from types import CoroutineType
from typing import Any, Final

from llmspell_otel.guard import guard
from llmspell_otel.hooks.conditions import conditions
from llmspell_otel.hooks.context import Decision, HookContext
from llmspell_otel.hooks.delays import foreign
from llmspell_otel.hooks.lateness import Begun, HookTimeoutError
from llmspell_otel.hooks.registration import Registration
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
from llmspell_otel.points import Moment

_logger = logging.getLogger("llmspell_otel.hooks")
DOUBTED_CALLS: Final = 32
"""A slow call that may have been others' doing counts if one of so many before it was slow."""
clock: Final = time.perf_counter
"""Seconds; a float is made and compared faster than a whole number of nanoseconds."""


class Verdict:
    """A result that decided the moment, and the hook that gave it."""

    __slots__ = ("hook", "result")

    def __init__(self, hook: Registration, result: Result) -> None:
        self.hook = hook
        self.result = result


class Pending:
    """A firing that waits: for an answer of *hook*, or for what the cache holds."""

    __slots__ = ("awaitable", "hook", "lookup", "rest", "started")

    def __init__(
        self,
        hook: Registration,
        rest: Iterator[Registration],
        awaitable: Awaitable[Any] | None = None,
        lookup: Cache | None = None,
    ) -> None:
        self.hook = hook
        self.rest = rest
        self.awaitable = awaitable
        self.lookup = lookup
        self.started = 0.0
        """When the hook was called, or its answer seen to be one that has to be waited for."""

    def perform(self) -> Any:
        """Find out, blocking the caller's thread.

        Raises:
            Exception: the asynchronous hook's own, or `HookTimeoutError`.
        """
        if self.awaitable is not None:
            from llmspell_otel.hooks.waiting import engine_loop  # brings asyncio: dear

            self.started = clock()  # the import was no fault of the hook's
            return engine_loop.wait(self.awaitable, self.hook.timeout or conditions.timeout)
        try:
            return conditions.store.get(self.lookup.key) if self.lookup else MISSING
        except Exception as error:
            guard.report("reading the cache", error)
            return MISSING

    def perform_async(self) -> Awaitable[Any]:
        """The same, to be awaited."""
        awaitable = self.awaitable
        if isinstance(awaitable, Begun):
            return awaitable
        if awaitable is not None:
            from llmspell_otel.hooks.steps import bounded

            return bounded(awaitable, self.hook.timeout or conditions.timeout)
        return self._looked_up()

    async def _looked_up(self) -> Any:
        try:
            return await conditions.store.get_async(self.lookup.key) if self.lookup else MISSING
        except Exception as error:
            guard.report("reading the cache", error)
            return MISSING


Outcome = Verdict | Pending | None
Rest = tuple[Registration, ...] | Iterator[Registration]
Ask = Callable[[HookContext], Any]
Observer = Callable[[Registration, HookContext, Result | None, BaseException | None], None]


def _unobserved(*_: object) -> None:
    """Nobody wants to know."""


class _Observers:
    """Who is told of every answer but Continue; set once, by whoever publishes events."""

    told: Observer = staticmethod(_unobserved)


observers = _Observers()


def several(hooks: tuple[Registration, ...]) -> Ask:
    """A function that asks *hooks* as they are now; gives the outcome."""
    rows = tuple((hook.call, hook) for hook in hooks)

    def ask(context: HookContext) -> Outcome:
        for call, hook in rows:
            try:
                answer = call(context)
            except Exception as error:
                outcome: Outcome = failed(hook, context, error, hooks)
            else:
                if answer is None:
                    continue
                outcome = answered(hook, context, answer, hooks)
            if outcome is not None:
                return outcome
        return None

    return ask


def walk(rest: Iterator[Registration], context: HookContext) -> Outcome:
    """The same, with every hook timed by itself."""
    for hook in rest:
        started = clock()
        try:
            answer = hook.call(context)
        except Exception as error:
            outcome: Outcome = failed(hook, context, error, rest)
        else:
            elapsed = clock() - started
            outcome = None if answer is None else answered(hook, context, answer, rest)
            if type(outcome) is Pending:
                outcome.started = started
            else:
                timed(hook, elapsed)
        if outcome is not None:
            return outcome
    return None


def answered(hook: Registration, context: HookContext, answer: Any, rest: Rest) -> Outcome:
    """Take one hook's answer that is not None."""
    if type(answer) is CoroutineType or (
        not isinstance(answer, Result)
        and (isinstance(answer, Begun) or inspect.isawaitable(answer))
    ):
        return Pending(hook, after(hook, rest), answer)
    try:
        result = answer if isinstance(answer, Result) else result_of(answer)
        outcome = _taken(hook, context, result, rest)
    except Exception as error:  # not one of the nine results, or one that makes no sense
        return failed(hook, context, error, rest)
    hook.failing = False
    return outcome


def _taken(hook: Registration, context: HookContext, result: Result, rest: Rest) -> Outcome:
    kind = type(result)
    if kind.kind == "continue":
        return None
    if isinstance(result, Cache) and context.point.moment is Moment.BEFORE:
        return Pending(hook, after(hook, rest), lookup=result)
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
        pass_over(after(hook, rest))
        return Verdict(hook, result)
    return None


def failed(
    hook: Registration, context: HookContext, error: Exception, rest: Rest
) -> Verdict | None:
    """Isolate a failing hook: count it, say so once, and fail closed if it asked to."""
    hook.failures += 1
    if isinstance(error, HookTimeoutError) and error.stubborn:
        hook.breaker.trip("went on after it was cancelled")
    elif hook.call is hook.function:
        hook.breaker.failure(time.perf_counter_ns())
    if not hook.failing:
        hook.failing = True
        _logger.warning("hook %r failed at %s", hook.name, context.point, exc_info=error)
    tell(hook, context, None, error)
    if hook.on_failure != "cancel":
        return None
    result = Cancel(f"hook {hook.name!r} failed and fails closed")
    context.decisions.append(Decision(hook.name, context.point.spelling, "cancel", result.reason))
    tell(hook, context, result, None)
    pass_over(after(hook, rest))
    return Verdict(hook, result)


NOBODY: Final[Iterator[Registration]] = iter(())


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


def after(hook: Registration, hooks: Rest) -> Iterator[Registration]:
    """The hooks that come after *hook*."""
    if isinstance(hooks, tuple):
        return NOBODY if hooks[-1] is hook else iter(hooks[hooks.index(hook) + 1 :])
    return hooks


def timed(hook: Registration, elapsed: float, *, suspended: bool = False) -> None:
    """Report a slow call; an overrun of the hook's own time opens its breaker at once."""
    hook.lasted = elapsed
    if elapsed >= hook.slow:
        _dragged(hook, elapsed, suspended=suspended)


def _dragged(hook: Registration, elapsed: float, *, suspended: bool) -> None:
    if hook.call is not hook.function:
        return  # a probe reports for itself
    if hook.on_failure == "cancel":
        return  # closing an agent down because its guard is slow would be the greater harm
    own = elapsed - foreign(clock() - elapsed, suspended=suspended)
    if own < hook.slow:
        if not _doubted_before(hook):
            return
        own = elapsed
    if hook.timeout is not None and own > hook.timeout:
        hook.breaker.trip(f"took {own:.3g} s, more than its {hook.timeout:g} s")
    else:
        hook.breaker.slow(time.perf_counter_ns(), int(own * 1e9))


def _doubted_before(hook: Registration) -> bool:
    """Whether one of its last calls was slow too: it cannot always have been the others."""
    calls = hook.calls
    again = calls - hook.doubted <= DOUBTED_CALLS
    hook.doubted = calls
    return again
