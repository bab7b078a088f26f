"""Steps and effects: a flow is a generator that yields what it wants done in the world.

Each effect knows how to happen while blocking and while awaiting; a flow knows neither, and
so serves the synchronous and the asynchronous world with one body.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from llmspell_otel.hooks.asking import Outcome, Pending, pass_over, tell
from llmspell_otel.hooks.context import Decision, HookContext
from llmspell_otel.hooks.engine import (
    MAX_DEPTH,
    depth_below,
    fire,
    overflown,
    resume,
    resume_failed,
    resume_missed,
)
from llmspell_otel.hooks.lateness import dismiss
from llmspell_otel.hooks.registry import Slot
from llmspell_otel.hooks.results import Result
from llmspell_otel.hooks.store import MISSING

_Answer = TypeVar("_Answer")


class Effect(Protocol):
    """Something to be done outside of a flow, which is sent what came of it."""

    def perform(self) -> Any:
        """Do it, blocking the caller's thread."""
        ...

    async def perform_async(self) -> Any:
        """Do it, awaiting."""
        ...


class Parked(BaseException):
    """Raised by an effect that hands *value* to the caller while the flow stays where it is."""

    def __init__(self, value: Any) -> None:
        self.value = value


Flow = Generator[Effect, Any, _Answer]


def drive(flow: Flow[_Answer], answer: Any = None) -> _Answer:
    """Run *flow* to its end, or to where it is parked, blocking where it waits."""
    try:
        effect = flow.send(answer)
        while True:
            try:
                answer = effect.perform()
            except Parked as parked:
                return parked.value  # type: ignore[no-any-return] # whatever the effect hands out
            except BaseException as error:
                effect = flow.throw(error)
            else:
                effect = flow.send(answer)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return] # a generator's value is Any


async def drive_async(flow: Flow[_Answer], answer: Any = None) -> _Answer:
    """The same, awaiting where it waits."""
    try:
        effect = flow.send(answer)
        while True:
            try:
                answer = await effect.perform_async()
            except Parked as parked:
                return parked.value  # type: ignore[no-any-return] # whatever the effect hands out
            except BaseException as error:
                effect = flow.throw(error)
            else:
                effect = flow.send(answer)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return] # a generator's value is Any


@dataclass(frozen=True, slots=True)
class Recalled(Result):
    """What the cache held under a hook's key: as deciding as the `Cache` that asked for it."""

    value: Any


def consult(slot: Slot, context: HookContext) -> Flow[Result | None]:
    """Fire *slot* and bring it to its end; gives the deciding result, or None."""
    outcome = fire(slot, context)
    if isinstance(outcome, Pending):
        return (yield from _settled(slot, context, outcome))
    return outcome.result if outcome is not None else None


def _settled(slot: Slot, context: HookContext, pending: Pending) -> Flow[Result | None]:
    """Find out what the firing waits for until nothing is left to wait for."""
    outcome: Outcome = pending
    depth = depth_below.get()
    if depth >= MAX_DEPTH - 1:
        _abandoned(slot, pending)
        return None
    depth_below.set(depth + 1)
    try:
        while isinstance(outcome, Pending):
            try:
                answer = yield outcome
            except Exception as error:
                outcome = resume_failed(outcome, context, error)
                continue
            if outcome.lookup is None:
                outcome = resume(outcome, context, answer)
                continue
            if answer is not MISSING:
                pass_over(outcome.rest)
                return _recalled(outcome, context, "hit", answer)
            _recalled(outcome, context, "miss", answer)
            context.to_store.append(outcome.lookup)
            outcome = resume_missed(outcome, context)
        return outcome.result if outcome is not None else None
    finally:
        if depth_below.get() == depth + 1:  # by value: the collector may close us elsewhere
            depth_below.set(depth)


def _abandoned(slot: Slot, pending: Pending) -> None:
    """Ask no further: hooks fire each other too deep."""
    overflown(slot)
    pending.hook.missed += 1
    pass_over(pending.rest)
    if pending.awaitable is not None:
        dismiss(pending.awaitable)


def _recalled(pending: Pending, context: HookContext, reason: str, value: Any) -> Recalled:
    hook = pending.hook
    context.decisions.append(Decision(hook.name, context.point.spelling, "cache", reason))
    tell(hook, context, pending.lookup, None)
    return Recalled(value)
