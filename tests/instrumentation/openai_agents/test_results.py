"""What the nine results do to agents, tools and other makers' models in the Agents SDK."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from agents import Agent, Model, ModelResponse, RunConfig, Runner, Usage, function_tool
from openai.types.responses import ResponseCompletedEvent

from llmspell_instrumentation.openai.native import model_response
from llmspell_instrumentation.openai_agents.runs import output_message
from llmspell_otel.errors import OperationCancelled
from llmspell_otel.operations.call import Call
from llmspell_otel.testing import ModelRequest, Reply
from tests.instrumentation.openai_agents.conftest import Stage
from tests.instrumentation.results import (
    AFTER,
    BEFORE,
    CASES,
    ERROR,
    Case,
    causes,
    every_cell,
    hold,
)
from tests.instrumentation.watching import Watching


class AgentBench:
    """Two agents that can hand off to each other, run in one of three ways."""

    points = {  # noqa: RUF012 - never changed
        BEFORE: "agent:before_execution",
        AFTER: "agent:after_execution",
        ERROR: "agent:error",
    }
    change = {"input": "something else"}  # noqa: RUF012 - never changed

    def __init__(self, way: str) -> None:
        self.way = way
        self.failing = False
        self.stage = Stage(self.reply)
        other = Agent(name="other", model="other")
        self.first = Agent(name="first", model="first", handoffs=[other])

    @property
    def reached(self) -> list[str]:
        """The agents that ran."""
        return [request.model for request in self.stage.requests]

    def reply(self, request: ModelRequest) -> Reply:
        """Say which agent this is, and which run."""
        number = len(self.stage.requests)
        failed = self.failing and number == 1
        return Reply.error(500) if failed else Reply.text(f"{request.model} {number}")

    def perform(self) -> str:
        """Run the agent `first`."""
        if self.way == "sync":
            return str(self.stage.run_sync(self.first, "go").final_output)
        way = self.stage.stream if self.way == "streamed" else self.stage.run
        return str(asyncio.run(way(self.first, "go")).final_output)

    def changed(self) -> bool:
        """Whether the agent was run with the other input."""
        return bool(self.stage.requests[0].user == self.change["input"])

    def refused(self, attempt: Callable[[], str], reason: str) -> None:
        """A run that is refused raises."""
        with pytest.raises(OperationCancelled, match=reason):
            attempt()


class ToolBench:
    """An agent with two tools, whose model calls the first and repeats what it says."""

    points = {  # noqa: RUF012 - never changed
        BEFORE: "tool:before_execution",
        AFTER: "tool:after_execution",
        ERROR: "tool:error",
    }
    change = {"city": "Rome"}  # noqa: RUF012 - never changed

    def __init__(self, way: str) -> None:
        self.way = way
        self.failing = False
        self.reached: list[str] = []
        self.cities: list[str] = []
        self.stage = Stage(self.reply)
        tools = [self._tool("first"), self._tool("other")]
        self.agent = Agent(name="agent", model="m", tools=tools)

    def _tool(self, name: str) -> Any:
        def visit(city: str) -> str:
            """Go there."""
            self.reached.append(name)
            self.cities.append(city)
            if self.failing and len(self.reached) == 1:
                raise ConnectionError(name)
            return f"{name} {len(self.reached)}"

        return function_tool(visit, name_override=name, failure_error_function=None)

    def reply(self, request: ModelRequest) -> Reply:
        """Call the first tool; then repeat what it said."""
        if request.tool_results:
            return Reply.text(request.tool_results[0].output)
        return Reply.tools(("first", {"city": "Oslo"}))

    def perform(self) -> str:
        """Have the tool called; gives what the model was told."""
        way = self.stage.stream if self.way == "streamed" else self.stage.run
        return str(asyncio.run(way(self.agent, "go")).final_output)

    def changed(self) -> bool:
        """Whether the tool was called with the other city."""
        return self.cities == ["Rome"]

    def refused(self, attempt: Callable[[], str], reason: str) -> None:
        """The model reads the reason, and the run goes on."""
        assert attempt() == reason


class Making(Model):
    """A model of another maker's."""

    def __init__(self, bench: "ModelBench", name: str) -> None:
        self.bench, self.model = bench, name

    def say(self, asked: Any) -> str:
        """Say which model this is, and which call."""
        self.bench.reached.append(self.model)
        self.bench.asked.append(asked)
        number = len(self.bench.reached)
        if self.bench.failing and number == 1:
            raise ConnectionError(self.model)
        return f"{self.model} {number}"

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        """The answer at once."""
        said = self.say(kwargs["input"] if "input" in kwargs else args[1])
        return ModelResponse(output=[output_message(said)], usage=Usage(), response_id="r")

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """The answer as one event."""
        said = self.say(kwargs["input"] if "input" in kwargs else args[1])
        response = model_response(Call(self.say, self, (), {"model": self.model}), said)
        yield ResponseCompletedEvent(
            type="response.completed", sequence_number=0, response=response
        )


class ModelBench:
    """An agent with a model that is no OpenAI client's."""

    points = {  # noqa: RUF012 - never changed
        BEFORE: "model:before_call",
        AFTER: "model:after_call",
        ERROR: "model:error",
    }
    change = {"input": [{"role": "user", "content": "else"}]}  # noqa: RUF012 - never changed

    def __init__(self) -> None:
        self.failing = False
        self.reached: list[str] = []
        self.asked: list[Any] = []
        self.other = Making(self, "other")

    def perform(self) -> str:
        """Run an agent with the model."""
        agent = Agent(name="agent", model=Making(self, "first"))
        config = RunConfig(tracing_disabled=True)
        return str(asyncio.run(Runner.run(agent, "go", run_config=config)).final_output)

    def changed(self) -> bool:
        """Whether the model was sent something else."""
        return self.asked == [self.change["input"]]

    def refused(self, attempt: Callable[[], str], reason: str) -> None:
        """A model call that is refused raises."""
        with pytest.raises(Exception, match=reason) as raised:
            attempt()
        assert any(isinstance(one, OperationCancelled) for one in causes(raised.value))


@every_cell
@pytest.mark.parametrize("way", ["run", "streamed"])
def test_agents(instrumented: Watching, case: Case, way: str, hook: Callable[..., Any]) -> None:
    """Each result does to a run what the table says, however it is run."""
    bench = AgentBench(way)
    with bench.stage.server:
        hold(bench, case, hook)


@pytest.mark.parametrize("case", [case for case in CASES if case.moment == BEFORE], ids=str)
def test_agents_run_without_a_loop(
    instrumented: Watching, case: Case, hook: Callable[..., Any]
) -> None:
    """`run_sync` passes the same join point, and gives one span a run."""
    bench = AgentBench("sync")
    with bench.stage.server:
        hold(bench, case, hook)


@every_cell
def test_tools(instrumented: Watching, case: Case, hook: Callable[..., Any]) -> None:
    """Each result does to a tool call what the table says."""
    bench = ToolBench("streamed" if case.moment == AFTER else "run")
    with bench.stage.server:
        hold(bench, case, hook)


@pytest.mark.parametrize("case", [case for case in CASES if "other" not in case.reached], ids=str)
def test_other_makers_models(instrumented: Watching, case: Case, hook: Callable[..., Any]) -> None:
    """Each result does to another maker's model what the table says.

    But for redirects: a model object cannot be found by its name.
    """
    hold(ModelBench(), case, hook)
