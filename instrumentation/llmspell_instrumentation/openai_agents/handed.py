"""Agents that a run is handed over to: operations of their own, over all of their turns."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from opentelemetry.util.types import AttributeValue

from llmspell_instrumentation.arguments import named
from llmspell_instrumentation.joinpoint import Through, through_engine
from llmspell_instrumentation.reading import get, present, text
from llmspell_otel.operations import Aspect
from llmspell_otel.operations.call import Call, Codec, Held, Kind, Shape
from llmspell_otel.sessions import adopted
from llmspell_otel.telemetry import semconv
from llmspell_otel.telemetry.semconv import Operation


class HandedOverCodec(Codec):
    """An agent's part of a run that another agent began; a call of our own making."""

    def name(self, call: Call) -> str:
        """The agent's name."""
        return str(call.kwargs["agent"].name)

    def agent(self, call: Call) -> object:
        """The agent."""
        return call.kwargs["agent"]

    def input(self, call: Call) -> dict[str, Any]:
        """What the run has come to so far."""
        return {"input": call.kwargs["input"]}

    def request(self, call: Call) -> dict[str, AttributeValue]:
        """Which agent it is."""
        agent = call.kwargs["agent"]
        return present(
            {
                semconv.OPERATION_NAME: Operation.INVOKE_AGENT,
                semconv.AGENT_NAME: text(agent.name),
                semconv.AGENT_DESCRIPTION: text(get(agent, "handoff_description")),
            }
        )

    def hold(self, call: Call, result: Any, held: Held) -> Any:
        """Stay open until the run ends, or goes on with yet another agent."""
        del call, result
        return held


_ASPECT = Aspect(Kind.AGENT, HandedOverCodec(), Shape.ASYNC)


class _Part:
    """Whose part of a run is under way."""

    def __init__(self, agent: Any) -> None:
        self.first = agent
        self.agent = agent
        self.held: Any = None

    async def come_to(self, agent: Any, given: Any) -> None:
        """Note that it is *agent*'s turn; a new agent's part begins, the last one's ends."""
        if agent is self.agent:
            return
        await self.over()
        self.agent = agent
        if agent is self.first:
            return
        handed = await through_engine(
            _ASPECT, Call(_nothing, None, (), {"agent": agent, "input": given})
        )
        self.held = handed if hasattr(handed, "end_async") else None

    async def over(self, error: BaseException | None = None) -> None:
        """End the part that is under way."""
        held, self.held = self.held, None
        if held is None:
            return
        if error is None:
            await held.end_async()
        else:
            await held.failed_async(error)


_part: ContextVar[_Part | None] = ContextVar("llmspell_agents_part", default=None)


async def _nothing(**_: Any) -> None:
    """The call behind a part: it is made of turns, which are calls themselves."""


def parted(positional: tuple[str, ...], door: Through = through_engine) -> Through:
    """The door of a run whose agents hand over to each other."""

    async def run(aspect: Any, call: Call) -> Any:
        given = named(call, positional)
        part = _Part(given.get("starting_agent"))
        token = _part.set(part)
        try:
            async with adopted(text(get(given.get("session"), "session_id"))):
                result = await door(aspect, _ending_with(part, call))
        finally:
            _part.reset(token)
        return result

    return run


def _ending_with(part: _Part, call: Call) -> Call:
    """The *call*, after which the last agent's part is over; before the run's own end."""

    async def target(*args: Any, **kwargs: Any) -> Any:
        try:
            result = await call.target(*args, **kwargs)
        except BaseException as error:
            await part.over(error)
            raise
        await part.over()
        return result

    return Call(target, call.instance, call.args, call.kwargs)


def turn(positional: tuple[str, ...] = ()) -> Callable[[Any, Call], Any]:
    """The door of turns: each runs within its agent's part."""

    async def taken(aspect: Any, call: Call) -> Any:
        part = _part.get()
        if part is None:
            return await through_engine(aspect, call)
        given = named(call, positional)
        agent = get(given.get("bindings"), "public_agent")
        if agent is not None:
            await part.come_to(agent, aspect.codec.input(call).get("input"))
        if part.held is None:
            return await through_engine(aspect, call)
        with part.held.pull():
            return await through_engine(aspect, call)

    return taken
