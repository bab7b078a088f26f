"""Tools that fail under the Agents SDK, which tells the model of it instead of raising."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import agents
import pytest
from opentelemetry.trace import StatusCode

from llmspell_instrumentation.openai_agents import ADAPTER
from llmspell_instrumentation.weaver import attach
from llmspell_otel.hooks import Replace, Retry
from llmspell_otel.testing import ModelServer, Reply
from tests.instrumentation.watching import Watching

SDK_TEXT = "An error occurred while running the tool. Please try again."


@pytest.fixture
def instrumented(watching: Watching) -> Iterator[Watching]:
    """The spans made while the Agents SDK is instrumented."""
    with attach(ADAPTER):
        yield watching


def run(tool: agents.FunctionTool) -> str:
    """Run an agent that calls *tool* once; give what the model was told."""

    async def whole(server: ModelServer) -> None:
        from openai import AsyncOpenAI

        async with AsyncOpenAI(base_url=server.base_url, api_key="k") as client:
            model = agents.OpenAIResponsesModel(model="m", openai_client=client)
            agent = agents.Agent(name="one", model=model, tools=[tool])
            config = agents.RunConfig(tracing_disabled=True)
            result = await agents.Runner.run(agent, "go", run_config=config)
            assert result.final_output == "done"

    with ModelServer([Reply.tools((tool.name, {})), Reply.text("done")]) as server:
        asyncio.run(whole(server))
        (told,) = server.requests[1].tool_results
        return told.output


class Flaky:
    """Fails so many times, then works."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = 0

    def tool(self, **options: Any) -> agents.FunctionTool:
        """Make a tool of it, by the SDK's own decorator."""

        @agents.function_tool(**options)
        def flaky() -> str:
            """Work now and then."""
            self.calls += 1
            if self.calls <= self.failures:
                raise ConnectionResetError(f"lost {self.calls}")
            return "worked"

        return flaky


def test_hooks_see_the_tools_own_error_and_retry(instrumented, hook) -> None:
    """A failure that the SDK would have told the model is retried, and the model never hears."""
    seen = []

    def retry(context: Any) -> Retry:
        seen.append(str(context.data["error"]))
        return Retry(delay=0, max_attempts=3)

    hook("tool:error", retry)
    flaky = Flaky(2)
    assert run(flaky.tool()) == "worked"
    assert flaky.calls == 3
    assert seen == ["lost 1", "lost 2"]
    assert instrumented.named("execute_tool flaky").status.status_code is not StatusCode.ERROR


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, SDK_TEXT),
        ({"failure_error_function": lambda _context, error: f"told: {error}"}, "told: lost 1"),
    ],
    ids=["default", "own"],
)
def test_an_unrecovered_failure_is_told_as_the_program_says(instrumented, options, told) -> None:
    """Without a hook the model reads what it would have read anyway; the span has the error."""
    assert run(Flaky(1).tool(**options)) == told
    span = instrumented.named("execute_tool flaky")
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "ConnectionResetError"


def test_retries_that_fail_end_in_the_last_text(instrumented, hook) -> None:
    """When every attempt fails, the model reads of the last one."""
    hook("tool:error", lambda context: Retry(delay=0, max_attempts=2))
    flaky = Flaky(5)
    told = run(flaky.tool(failure_error_function=lambda _context, error: f"told: {error}"))
    assert (told, flaky.calls) == ("told: lost 2", 2)


def test_a_failure_that_the_program_lets_through_still_raises(instrumented) -> None:
    """A tool without a failure function ends the run as it did before."""
    with pytest.raises(agents.UserError, match="lost 1"):
        run(Flaky(1).tool(failure_error_function=None))
    span = instrumented.named("execute_tool flaky")
    assert span.attributes["error.type"] == "ConnectionResetError"


def test_a_timeout_is_an_error_too(instrumented, hook) -> None:
    """The SDK's own timeout reaches error hooks, which may recover from it."""
    seen = []

    def recover(context: Any) -> Replace:
        seen.append(context.data["error"])
        return Replace("later")

    @agents.function_tool(timeout=0.05)
    async def slow() -> str:
        """Take long."""
        await asyncio.sleep(30)
        return "never"

    hook("tool:error", recover)
    begun = time.monotonic()
    assert run(slow) == "later"
    assert time.monotonic() - begun < 20
    assert [type(error) for error in seen] == [TimeoutError]


def test_tools_at_once_keep_their_failures_apart(instrumented) -> None:
    """Two calls of one turn fail and work each for itself."""
    ok, bad = Flaky(0), Flaky(1)
    good_tool, bad_tool = ok.tool(name_override="good"), bad.tool(name_override="bad")

    async def whole(server: ModelServer) -> None:
        from openai import AsyncOpenAI

        async with AsyncOpenAI(base_url=server.base_url, api_key="k") as client:
            model = agents.OpenAIResponsesModel(model="m", openai_client=client)
            agent = agents.Agent(name="one", model=model, tools=[good_tool, bad_tool])
            config = agents.RunConfig(tracing_disabled=True)
            await agents.Runner.run(agent, "go", run_config=config)

    script = [Reply.tools(("bad", {}), ("good", {}), ("good", {})), Reply.text("done")]
    with ModelServer(script) as server:
        asyncio.run(whole(server))
        told = [result.output for result in server.requests[1].tool_results]
    assert told == [SDK_TEXT, "worked", "worked"]
    errors = [
        span.attributes.get("error.type") for span in instrumented.spans if "tool" in span.name
    ]
    assert sorted(errors, key=str) == ["ConnectionResetError", None, None]
