"""Steps and effects: a flow is a generator that yields what it wants done in the world.

Each effect knows how to happen while blocking and while awaiting; a flow knows neither, and
so serves the synchronous and the asynchronous world with one body.
"""

from collections.abc import Awaitable, Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from llmspell_otel.hooks.asking import Outcome, Pending, Verdict, pass_over, tell, walk
from llmspell_otel.hooks.context import Decision, HookContext
from llmspell_otel.hooks.engine import (
    MAX_DEPTH,
    depth_below,
    fire,
    overflown,
    resume,
    resume_failed,
    step,
)
from llmspell_otel.hooks.lateness import awaited, dismiss
from llmspell_otel.hooks.registry import Slot
from llmspell_otel.hooks.results import Result
from llmspell_otel.hooks.store import MISSING

_Answer = TypeVar("_Answer")


class Effect(Protocol):
    """Something to be done outside of a flow, which is sent what came of it."""

    def perform(self) -> Any:
        """Do it, blocking the caller's thread."""
        ...

    def perform_async(self) -> Awaitable[Any]:
        """Do it, awaiting."""
        ...


class Parked(BaseException):
    """Raised by an effect that hands *value* to the caller while the flow stays where it is."""

    def __init__(self, value: Any) -> None:
        self.value = value


Flow = Generator[Effect, Any, _Answer]


def drive(flow: Flow[_Answer], answer: Any = None) -> _Answer:
    """Run *flow* to its end, or to where it is parked, blocking where it waits."""
    if not awaited.get():
        return _driven(flow, answer)
    awaited.set(False)
    try:
        return _driven(flow, answer)
    finally:
        awaited.set(True)


def _driven(flow: Flow[_Answer], answer: Any) -> _Answer:
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
    if not awaited.get():
        awaited.set(True)
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
    begins = slot.step is not None and awaited.get()
    outcome = step(slot, context) if begins else fire(slot, context)
    if outcome is None:
        return None
    return (yield from _settled(slot, context, outcome))


async def consult_async(slot: Slot, context: HookContext) -> Result | None:
    """The same, awaiting; quicker than to drive it while no hook suspends."""
    outcome = step(slot, context)
    if outcome is None:
        return None
    return await drive_async(_settled(slot, context, outcome))


def _settled(slot: Slot, context: HookContext, outcome: Outcome) -> Flow[Result | None]:
    """Bring a firing to its end."""
    if isinstance(outcome, Verdict):
        return outcome.result
    depth = depth_below.get()
    if depth >= MAX_DEPTH - 1 and isinstance(outcome, Pending):
        _abandon(slot, outcome)
        return None
    token = depth_below.set(depth + 1)
    try:
        while isinstance(outcome, Pending):
            try:
                answer = yield outcome
            except Exception as error:
                outcome = resume_failed(outcome, context, error)
            else:
                after = resume if outcome.lookup is None else _looked_up
                outcome = after(outcome, context, answer)
        return outcome.result if outcome is not None else None
    finally:
        try:  # noqa: SIM105 - `suppress` costs as much as the firing
            depth_below.reset(token)
        except ValueError:
            pass  # the collector closes us, in another context


def _looked_up(pending: Pending, context: HookContext, answer: Any) -> Outcome:
    """Go on with a firing now that *answer* was found in the cache, or was not."""
    hook, missed = pending.hook, answer is MISSING
    reason = "miss" if missed else "hit"
    context.decisions.append(Decision(hook.name, context.point.spelling, "cache", reason))
    tell(hook, context, pending.lookup, None)
    if not missed:
        pass_over(pending.rest)
        return Verdict(hook, Recalled(answer))
    if pending.lookup is not None:
        context.to_store.append(pending.lookup)
    return walk(pending.rest, context)


def _abandon(slot: Slot, pending: Pending) -> None:
    """Ask no further: hooks fire each other too deep."""
    overflown(slot)
    pending.hook.missed += 1
    pass_over(pending.rest)
    if pending.awaitable is not None:
        dismiss(pending.awaitable)
