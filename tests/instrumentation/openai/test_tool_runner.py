"""The tool runner of openai 3: a run is an agent's, its functions are tools."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from llmspell_otel.testing import ModelRequest, Reply
from tests.instrumentation.openai.conftest import Serve
from tests.instrumentation.openai.surfaces import Served
from tests.instrumentation.results import AFTER, BEFORE, ERROR, Case, every_cell, hold
from tests.instrumentation.watching import Watching

RUN = "invoke_agent responses_tool_runner"
runner = pytest.importorskip("openai.lib.responses_tool_runner")


def tool(name: str) -> dict[str, Any]:
    """A function tool that takes a city."""
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    return {"type": "function", "name": name, "parameters": schema, "strict": False}


class RunnerBench:
    """A runner with two functions, whose model calls the first and repeats what it says."""

    points = {  # noqa: RUF012 - never changed
        BEFORE: "tool:before_execution",
        AFTER: "tool:after_execution",
        ERROR: "tool:error",
    }
    change = {"city": "Rome"}  # noqa: RUF012 - never changed

    def __init__(self) -> None:
        self.failing = False
        self.reached: list[str] = []
        self.cities: list[Any] = []
        self.served = Served(self.reply)

    def _function(self, name: str) -> Any:
        def visit(arguments: dict[str, Any]) -> str:
            self.reached.append(name)
            self.cities.append(arguments["city"])
            if self.failing and len(self.reached) == 1:
                raise ConnectionError(name)
            return f"{name} {len(self.reached)}"

        return runner.RegisteredFunction(tool(name), visit)

    def reply(self, request: ModelRequest) -> Reply:
        """Call the first function; then repeat what it said."""
        if request.tool_results:
            return Reply.text(request.tool_results[0].output)
        return Reply.tools(("first", {"city": "Oslo"}))

    def perform(self) -> str:
        """Run; gives what the model was told."""
        made = runner.ResponsesToolRunner(
            functions=[self._function("first"), self._function("other")]
        )
        response = made.run(self.served.client, {"model": "m", "input": "go"}, max_steps=3)
        return str(response.output_text)

    def changed(self) -> bool:
        """Whether the function was called with the other city."""
        return self.cities == ["Rome"]

    def refused(self, attempt: Callable[[], str], reason: str) -> None:
        """The model reads the reason, and the run goes on."""
        assert attempt() == reason


@every_cell
def test_the_table(instrumented: Watching, case: Case, hook: Callable[..., Any]) -> None:
    """Each result does to a function call what the table says.

    But for errors: what a function raises, the runner raises without its cause.
    """
    if case.raises is not None and case.moment == ERROR and case.raises.__name__ == "Planted":
        case = Case(case.moment, case.answer, reached=case.reached, raises=Exception)
    bench = RunnerBench()
    with bench.served:
        hold(bench, case, hook)


def test_a_run(instrumented: Watching) -> None:
    """A run holds its model calls and its tools; neither shows the runner's own bookkeeping."""
    bench = RunnerBench()
    with bench.served:
        assert bench.perform() == "first 1"
    assert instrumented.names == ["chat m", "execute_tool first", "chat m", RUN]
    run = instrumented.named(RUN)
    for span in instrumented.spans[:3]:
        assert span.parent is not None
        assert span.parent.span_id == run.context.span_id
    called = dict(instrumented.named("execute_tool first").attributes or {})
    assert called.items() >= {"gen_ai.tool.name": "first", "gen_ai.tool.type": "function"}.items()
    assert called["gen_ai.tool.call.arguments"] == {"city": "Oslo"}
    assert called["gen_ai.tool.call.result"] == "first 1"


def test_an_asynchronous_run(instrumented: Watching, serve: Serve) -> None:
    """The asynchronous runner is observed likewise."""
    served = serve(Reply.tools(("first", {"city": "Oslo"})), Reply.text("done"))

    async def visit(arguments: dict[str, Any]) -> str:
        return json.dumps(arguments)

    async def work(client: Any) -> Any:
        made = runner.AsyncResponsesToolRunner(
            functions=[runner.AsyncRegisteredFunction(tool("first"), visit)]
        )
        return await made.run(client, {"model": "m", "input": "go"}, max_steps=3)

    assert served.run(work).output_text == "done"
    assert instrumented.names == ["chat m", "execute_tool first", "chat m", RUN]


def test_a_replaced_run(instrumented: Watching, serve: Serve, hook: Callable[..., Any]) -> None:
    """A text in place of a run is the response that says it."""
    hook("agent:before_execution", lambda _: {"type": "replace", "value": "mine"})
    made = runner.ResponsesToolRunner(functions=[])
    served = serve()
    response = made.run(served.client, {"model": "m", "input": "go"})
    assert response.output_text == "mine"
    assert not served.requests
