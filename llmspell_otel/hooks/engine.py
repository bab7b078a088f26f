"""Firing a point: who is to be asked is asked, and what it took is looked at."""

import logging
import time
from contextvars import ContextVar
from typing import Any, Final

from llmspell_otel.hooks.asking import (
    Ask,
    Outcome,
    Pending,
    Verdict,
    answered,
    clock,
    failed,
    pass_over,
    timed,
    walk,
)
from llmspell_otel.hooks.context import HookContext
from llmspell_otel.hooks.delays import refresh
from llmspell_otel.hooks.registration import Registration
from llmspell_otel.hooks.slots import DUE, LOOK, Slot

_logger = logging.getLogger("llmspell_otel.hooks")

MAX_DEPTH: Final = 8
"""How deep firings may nest inside each other's hooks."""
WATCHED_FIRES: Final = 32
"""How many firings are timed hook by hook after one of several hooks was slow."""

depth_below: ContextVar[int] = ContextVar("llmspell_hook_depth", default=0)
"""How many firings the running code is inside of, but for the outermost."""


def fire(slot: Slot, context: HookContext) -> Outcome:
    """Ask the hooks of *slot*; gives the verdict, None for "go on", or what it waits for.

    Callers guard it with ``if slot.hooks:`` and make the context just before: its time is
    where the firing's begins. Raises nothing but what is no `Exception` (`SystemExit`,
    `KeyboardInterrupt`, `CancelledError`), which passes through unchanged.
    """
    hooks = slot.hooks
    if not hooks:
        return None
    if slot.busy:  # nested, or another thread's
        return _fire_one_by_one(slot, context)
    slot.busy = True
    slot.entered += 1
    ask = slot.ask
    try:
        answer = ask(context)
    except Exception as error:  # of one hook alone: several are isolated from each other
        answer = failed(hooks[0], context, error, hooks)
    finally:
        slot.busy = False
    now = clock()
    if answer is None and now - context.began < slot.slow:
        context.began = now
        return None
    return _concluded(slot, hooks, context, answer, now)


def step(slot: Slot, context: HookContext) -> Outcome:
    """`fire`, for a caller who will await what it waits for: asynchronous hooks are begun here.

    (Apart from `fire`, which one test more would make a tenth slower.)
    """
    hooks = slot.hooks
    if not hooks:
        return None
    if slot.busy:
        return _fire_one_by_one(slot, context)
    slot.busy = True
    slot.entered += 1
    ask, go_on = slot.step or (slot.ask, None)
    try:
        answer = ask(context)
        if answer is not go_on and go_on is not None:
            answer = _suspended(slot, ask, go_on, answer)
    except BaseException as error:
        answer = _ended(slot, hooks, context, (ask, go_on), error)
    finally:
        slot.busy = False
    now = clock()
    if answer is go_on and now - context.began < slot.slow:
        context.began = now
        return None
    return _concluded(slot, hooks, context, None if answer is go_on else answer, now)


def _suspended(slot: Slot, ask: Ask, stepping: Any, waited: Any) -> Pending:
    slot.renew(ask, stepping)
    return stepping.pending(ask, waited)  # type: ignore[no-any-return]


def _ended(
    slot: Slot,
    hooks: tuple[Registration, ...],
    context: HookContext,
    asked: tuple[Ask, Any],
    error: BaseException,
) -> Any:
    """What came of asking that ended with *error*: an answer may, where hooks are stepped through.

    Raises:
        BaseException: *error*, if it is no `Exception`.
    """
    ask, stepping = asked
    if stepping is not None:
        slot.renew(ask, stepping)
        if isinstance(error, StopIteration):
            return error.value
    if not isinstance(error, Exception):
        raise error
    return failed(hooks[0], context, error, hooks) or stepping


def _concluded(
    slot: Slot, hooks: tuple[Registration, ...], context: HookContext, answer: Any, now: float
) -> Outcome:
    """What became of a firing that was slow, or had an answer."""
    elapsed = now - context.began
    context.began = now
    kind = type(answer)
    if answer is LOOK or answer is DUE:
        if answer is DUE:
            pass_over(hook for hook in hooks if hook.live)
        return _fire_one_by_one(slot, context)
    if answer is None or kind is Verdict or kind is Pending:
        outcome: Outcome = answer
    else:
        outcome = answered(hooks[0], context, answer, hooks)
    several = len(hooks) > 1
    if isinstance(outcome, Pending):
        outcome.started = now if several else now - elapsed
    if elapsed >= slot.slow and (several or not isinstance(outcome, Pending)):
        _dragged(slot, hooks, elapsed)
    return outcome


def _dragged(slot: Slot, hooks: tuple[Registration, ...], elapsed: float) -> None:
    if len(hooks) == 1:
        timed(hooks[0], elapsed)
    else:
        # Which of them it was is not known yet: time the next firings hook by hook.
        slot.watch = WATCHED_FIRES


def _fire_one_by_one(slot: Slot, context: HookContext) -> Outcome:
    """Fire with the true depth known, and each hook counted and timed."""
    depth = depth_below.get()
    if depth >= MAX_DEPTH - 1:
        overflown(slot)
        return None
    hooks = slot.look(time.perf_counter_ns())
    refresh(clock())
    for hook in hooks:
        hook.counted += 1
    token = depth_below.set(depth + 1)
    try:
        return walk(iter(hooks), context)
    finally:
        depth_below.reset(token)


def overflown(slot: Slot) -> None:
    """Say once that *slot* is fired too deep."""
    if not slot.overflowing:
        slot.overflowing = True
        _logger.error(
            "hook point %s is fired by its own hooks, %d levels deep: no hook is asked below that",
            slot.point,
            MAX_DEPTH,
        )


def resume(pending: Pending, context: HookContext, answer: Any) -> Outcome:
    """Go on with a firing whose hook has now given *answer*."""
    now = clock()
    timed(pending.hook, now - pending.started, suspended=True)
    if answer is not None:
        outcome = answered(pending.hook, context, answer, pending.rest)
        if type(outcome) is Pending:
            outcome.started = now
        if outcome is not None:
            return outcome
    return walk(pending.rest, context)


def resume_failed(pending: Pending, context: HookContext, error: Exception) -> Outcome:
    """Go on with a firing whose asynchronous hook failed, or overran its time."""
    verdict = failed(pending.hook, context, error, pending.rest)
    return verdict or walk(pending.rest, context)
