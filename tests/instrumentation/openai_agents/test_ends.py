"""Every end that a run of the Agents SDK can come to, and what its spans look like."""

import asyncio
import gc
import json
from collections.abc import Callable
from typing import Any

import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrailTripwireTriggered,
    MaxTurnsExceeded,
    Runner,
    SQLiteSession,
    function_tool,
    input_guardrail,
)
from openai import InternalServerError
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from llmspell_instrumentation.openai_agents import ADAPTER
from llmspell_instrumentation.weaver import attach
from llmspell_otel.testing import ModelRequest, Reply, Usage
from tests.instrumentation.openai_agents.conftest import Stage
from tests.instrumentation.watching import Watching

Serve = Callable[..., Stage]
OUTCOME = "llmspell.operation.outcome"
TURN = Usage(input=10, output=4, cached=2)
both = pytest.mark.parametrize("way", ["run", "stream"])


@function_tool
def weather(city: str) -> str:
    """How the weather is."""
    return f"sunny in {city}"


def perform(stage: Stage, way: str, agent: Any, **options: Any) -> Any:
    """One run, plain or streamed."""
    return asyncio.run(getattr(stage, way)(agent, "go", **options))


def tree(watching: Watching) -> Any:
    """The spans as nested names, in the order in which they began."""
    children: dict[int | None, list[ReadableSpan]] = {}
    for span in sorted(watching.spans, key=lambda one: one.start_time or 0):
        parent = span.parent.span_id if span.parent else None
        children.setdefault(parent, []).append(span)

    def below(identity: int | None) -> Any:
        return [(span.name, *below(span.context.span_id)) for span in children.get(identity, [])]

    return below(None)


@both
def test_a_run_with_a_tool(instrumented: Watching, serve: Serve, way: str) -> None:
    """A run holds its turns, a turn its model call and its tools; the tokens are the run's."""
    stage = serve(
        Reply.tools(("weather", {"city": "Oslo"}), usage=TURN), Reply.text("done", usage=TURN)
    )
    agent = Agent(name="guide", model="gpt-5", tools=[weather], instructions="Be brief.")
    assert perform(stage, way, agent).final_output == "done"
    assert tree(instrumented) == [
        (
            "invoke_agent guide",
            ("run_stage turn guide", ("chat gpt-5",), ("execute_tool weather",)),
            ("run_stage turn guide", ("chat gpt-5",)),
        )
    ]
    run = dict(instrumented.named("invoke_agent guide").attributes or {})
    assert (
        run.items()
        >= {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": "guide",
            "gen_ai.request.model": "gpt-5",
            "gen_ai.usage.input_tokens": 20,
            "gen_ai.usage.output_tokens": 8,
            "gen_ai.response.finish_reasons": ("stop",),
        }.items()
    )
    assert "gen_ai.conversation.id" not in run
    tool = dict(instrumented.named("execute_tool weather").attributes or {})
    assert (
        tool.items()
        >= {
            "gen_ai.tool.name": "weather",
            "gen_ai.tool.type": "function",
            "gen_ai.tool.description": "How the weather is.",
            "gen_ai.agent.name": "guide",
        }.items()
    )
    assert tool["gen_ai.tool.call.id"]
    assert instrumented.named("execute_tool weather").kind is trace.SpanKind.INTERNAL
    chats = [
        dict(span.attributes or {}) for span in instrumented.spans if span.name == "chat gpt-5"
    ]
    assert [chat["gen_ai.usage.input_tokens"] for chat in chats] == [10, 10]


@both
def test_a_hand_off(instrumented: Watching, serve: Serve, way: str) -> None:
    """A hand-off is a stage of the turn that asked for it; the other agent's part follows it."""
    stage = serve(Reply.tools(("transfer_to_clerk", {})), Reply.text("done"))
    clerk = Agent(name="clerk", model="gpt-5")
    guide = Agent(name="guide", model="gpt-5", handoffs=[clerk])
    assert perform(stage, way, guide).last_agent.name == "clerk"
    assert tree(instrumented) == [
        (
            "invoke_agent guide",
            ("run_stage turn guide", ("chat gpt-5",), ("run_stage handoff clerk",)),
            ("invoke_agent clerk", ("run_stage turn clerk", ("chat gpt-5",))),
        )
    ]
    run = dict(instrumented.named("invoke_agent guide").attributes or {})
    assert "gen_ai.request.model" not in run


@both
def test_an_agent_as_a_tool(instrumented: Watching, serve: Serve, way: str) -> None:
    """An agent used as a tool is a run within a tool call, and counts its own tokens only."""
    stage = serve(
        Reply.tools(("ask_clerk", {"input": "?"}), usage=TURN),
        Reply.text("asked", usage=TURN),
        Reply.text("done", usage=TURN),
    )
    clerk = Agent(name="clerk", model="gpt-5")
    tool = clerk.as_tool(tool_name="ask_clerk", tool_description="Ask the clerk.")
    perform(stage, way, Agent(name="guide", model="gpt-5", tools=[tool]))
    inner = ("invoke_agent clerk", ("run_stage turn clerk", ("chat gpt-5",)))
    assert tree(instrumented) == [
        (
            "invoke_agent guide",
            ("run_stage turn guide", ("chat gpt-5",), ("execute_tool ask_clerk", inner)),
            ("run_stage turn guide", ("chat gpt-5",)),
        )
    ]
    used = {
        name: dict(instrumented.named(f"invoke_agent {name}").attributes or {})[
            "gen_ai.usage.input_tokens"
        ]
        for name in ("guide", "clerk")
    }
    assert used == {"guide": 20, "clerk": 10}


@both
def test_the_programs_own_error(instrumented: Watching, serve: Serve, way: str) -> None:
    """A provider's error is the program's own, and every span around it is an error."""
    with pytest.raises(InternalServerError):
        perform(serve(Reply.error(500)), way, Agent(name="guide", model="gpt-5"))
    assert {span.name for span in instrumented.spans} == {
        "invoke_agent guide",
        "run_stage turn guide",
        "chat gpt-5",
    }
    assert {span.status.status_code for span in instrumented.spans} == {StatusCode.ERROR}
    assert dict(instrumented.named("chat gpt-5").attributes or {})["error.type"] == "500"


@both
def test_too_many_turns(instrumented: Watching, serve: Serve, way: str) -> None:
    """An error of the SDK's own is raised as ever, and is the run's alone."""
    stage = serve(Reply.tools(("weather", {"city": "Oslo"})))
    agent = Agent(name="guide", model="gpt-5", tools=[weather])
    with pytest.raises(MaxTurnsExceeded):
        perform(stage, way, agent, max_turns=1)
    run = instrumented.named("invoke_agent guide")
    assert run.status.status_code is StatusCode.ERROR
    assert dict(run.attributes or {})["error.type"] == "agents.exceptions.MaxTurnsExceeded"
    assert instrumented.named("run_stage turn guide").status.status_code is StatusCode.UNSET


@both
def test_a_tripwire(instrumented: Watching, serve: Serve, way: str) -> None:
    """A guardrail that trips raises as ever."""

    @input_guardrail(run_in_parallel=False)
    async def trip(*_: Any) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered=True)

    agent = Agent(name="guide", model="gpt-5", input_guardrails=[trip])
    with pytest.raises(InputGuardrailTripwireTriggered):
        perform(serve(Reply.text("unsaid")), way, agent)
    assert instrumented.named("invoke_agent guide").status.status_code is StatusCode.ERROR


def test_a_failing_tool_that_the_model_is_told_of(instrumented: Watching, serve: Serve) -> None:
    """The SDK turns a tool's error into a text for the model: the tool's span is an error."""

    @function_tool
    def fragile() -> str:
        """Break."""
        raise ConnectionError

    stage = serve(Reply.tools(("fragile", {})), Reply.text("sorry"))
    perform(stage, "run", Agent(name="guide", model="gpt-5", tools=[fragile]))
    span = instrumented.named("execute_tool fragile")
    assert span.status.status_code is StatusCode.ERROR
    assert dict(span.attributes or {})["error.type"] == "ConnectionError"
    assert instrumented.named("invoke_agent guide").status.status_code is StatusCode.UNSET


def _slow(_: ModelRequest) -> Reply:
    return Reply.text("late", delay=20)


def test_a_cancelled_task(instrumented: Watching, serve: Serve) -> None:
    """A cancelled run is cancelled, with all its spans."""
    stage = serve(_slow)

    async def work() -> None:
        task = asyncio.ensure_future(stage.run(Agent(name="guide", model="gpt-5"), "go"))
        await stage.reached()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(work())
    outcomes = {dict(span.attributes or {})[OUTCOME] for span in instrumented.spans}
    assert (len(instrumented.spans), outcomes) == (3, {"cancelled"})


def test_a_cancelled_stream(instrumented: Watching, serve: Serve) -> None:
    """`result.cancel()` ends the streamed run, and with it its spans."""
    stage = serve(_slow)

    async def work() -> None:
        async with stage.config() as config:
            result = Runner.run_streamed(
                Agent(name="guide", model="gpt-5"), "go", run_config=config
            )
            await stage.reached()
            result.cancel()
            assert [event async for event in result.stream_events()] == []
            assert result.is_complete

    asyncio.run(work())
    outcomes = {dict(span.attributes or {})[OUTCOME] for span in instrumented.spans}
    assert (len(instrumented.spans), outcomes) == (3, {"cancelled"})


def test_an_abandoned_stream(instrumented: Watching, serve: Serve) -> None:
    """A streamed run whose result nobody keeps runs to its end in the background."""
    stage = serve(Reply.text("said to nobody"))

    async def work() -> None:
        async with stage.config() as config:
            result = Runner.run_streamed(
                Agent(name="guide", model="gpt-5"), "go", run_config=config
            )
            task = result.run_loop_task
            del result
            gc.collect()
            assert task is not None
            await task

    asyncio.run(work())
    assert tree(instrumented) == [("invoke_agent guide", ("run_stage turn guide", ("chat gpt-5",)))]


def test_a_streamed_run_belongs_where_it_was_started(instrumented: Watching, serve: Serve) -> None:
    """The background task's spans lie under the caller's, and leak into no consumer."""
    stage = serve(Reply.text("done"))
    tracer = instrumented.provider.get_tracer("test")

    async def work() -> None:
        async with stage.config() as config:
            with tracer.start_as_current_span("request") as request:
                result = Runner.run_streamed(
                    Agent(name="guide", model="gpt-5"), "go", run_config=config
                )
                async for _ in result.stream_events():
                    assert trace.get_current_span() is request

    asyncio.run(work())
    assert tree(instrumented) == [
        ("request", ("invoke_agent guide", ("run_stage turn guide", ("chat gpt-5",))))
    ]


def test_a_conversation_is_the_sessions(instrumented: Watching, serve: Serve) -> None:
    """A session that the application gives names the conversation; nothing else invents one."""
    stage = serve(Reply.text("done"))
    session = SQLiteSession("visit-7")
    perform(stage, "run", Agent(name="guide", model="gpt-5"), session=session)
    session.close()
    run = dict(instrumented.named("invoke_agent guide").attributes or {})
    chat = dict(instrumented.named("chat gpt-5").attributes or {})
    assert run["gen_ai.conversation.id"] == "visit-7"
    assert chat["gen_ai.conversation.id"] == "visit-7"


@both
def test_content(instrumented: Watching, serve: Serve, way: str) -> None:
    """With capture on, spans say what was asked, called and answered."""
    stage = serve(Reply.tools(("weather", {"city": "Oslo"})), Reply.text("done"))
    agent = Agent(name="guide", model="gpt-5", tools=[weather], instructions="Be brief.")
    perform(stage, way, agent)
    run = dict(instrumented.named("invoke_agent guide").attributes or {})
    tool = dict(instrumented.named("execute_tool weather").attributes or {})
    asked = json.dumps(run["gen_ai.input.messages"], default=dict)
    assert '"go"' in asked
    assert "done" in json.dumps(run["gen_ai.output.messages"], default=dict)
    assert "Be brief." in json.dumps(run["gen_ai.system_instructions"], default=dict)
    assert tool["gen_ai.tool.call.arguments"] == {"city": "Oslo"}
    assert tool["gen_ai.tool.call.result"] == "sunny in Oslo"


@both
def test_suppressed(instrumented: Watching, serve: Serve, way: str) -> None:
    """Under suppression there is no span, and the run works."""
    with suppress_instrumentation():
        result = perform(serve(Reply.text("done")), way, Agent(name="guide", model="gpt-5"))
    assert result.final_output == "done"
    assert not instrumented.spans


@both
def test_uninstrumented(watching: Watching, serve: Serve, way: str) -> None:
    """After detaching there is no span, and the run works."""
    attach(ADAPTER).close()
    result = perform(serve(Reply.text("done")), way, Agent(name="guide", model="gpt-5"))
    assert result.final_output == "done"
    assert not watching.spans


@both
def test_the_result_is_the_sdks_own(instrumented: Watching, serve: Serve, way: str) -> None:
    """What a run gives is of the SDK's own class, not of a wrapper's."""
    result = perform(serve(Reply.text("done")), way, Agent(name="guide", model="gpt-5"))
    assert type(result).__name__ == ("RunResult" if way == "run" else "RunResultStreaming")
    assert type(result).__module__ == "agents.result"


@both
def test_a_refused_hand_off(
    instrumented: Watching, serve: Serve, way: str, hook: Callable[..., Any]
) -> None:
    """A hand-off that a hook cancels is not made; the model reads why, and goes on."""
    stage = serve(Reply.tools(("transfer_to_clerk", {})), Reply.text("I stay"))
    guide = Agent(name="guide", model="gpt-5", handoffs=[Agent(name="clerk", model="gpt-5")])
    hook(
        "stage:before_execution",
        lambda context: "not there" if context.component.name == "handoff clerk" else None,
    )
    result = perform(stage, way, guide)
    assert (result.final_output, result.last_agent.name) == ("I stay", "guide")
    assert [one.output for one in stage.requests[1].tool_results] == ["not there"]


@both
def test_a_redirected_hand_off(
    instrumented: Watching, serve: Serve, way: str, hook: Callable[..., Any]
) -> None:
    """A hand-off can be led to another agent that the first one can reach."""
    stage = serve(Reply.tools(("transfer_to_clerk", {})), Reply.text("done"))
    others = [Agent(name=name, model="gpt-5") for name in ("clerk", "boss")]
    guide = Agent(name="guide", model="gpt-5", handoffs=others)
    hook(
        "stage:before_execution",
        lambda context: (
            {"type": "redirect", "target": "boss"}
            if context.component.name == "handoff clerk"
            else None
        ),
    )
    assert perform(stage, way, guide).last_agent.name == "boss"
