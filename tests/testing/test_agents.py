"""A real OpenAI Agents SDK program against the scripted server, in both wire formats."""

import asyncio

import pytest

from llmspell_otel.testing import ModelServer, Reply, Rule, Usage
from tests.testing.conftest import async_client

agents = pytest.importorskip("agents", reason="openai-agents needs openai 3")

SCRIPT = [
    Rule(
        offers="transfer_to_specialist",
        reply=[
            Reply.tools(("look_up", {"order": "A-1"}), ("look_up", {"order": "A-2"})),
            Reply.tools(("transfer_to_specialist", {})),
        ],
    ),
    Reply.tools(("look_up", {"order": "A-3"})),
    Reply.text("All three are on their way.", usage=Usage(input=100, output=8, cached=64)),
]


async def run(server: ModelServer, mode: str, *, stream: bool) -> tuple[str, str, list[str], int]:
    """Run two agents with a tool and a hand-off; give answer, agent, tool calls and tokens."""
    called: list[str] = []

    @agents.function_tool
    def look_up(order: str) -> str:
        """Find an order."""
        called.append(order)
        return f"{order} is on its way"

    async with async_client(server) as client:
        kind = agents.OpenAIResponsesModel
        if mode == "chat":
            kind = agents.OpenAIChatCompletionsModel
        model = kind(model="gpt-4o-mini", openai_client=client)
        specialist = agents.Agent(name="specialist", model=model, tools=[look_up])
        triage = agents.Agent(name="triage", model=model, tools=[look_up], handoffs=[specialist])
        config = agents.RunConfig(tracing_disabled=True)
        if stream:
            result = agents.Runner.run_streamed(triage, "Where are they?", run_config=config)
            async for _ in result.stream_events():
                pass
        else:
            result = await agents.Runner.run(triage, "Where are they?", run_config=config)
        usage = result.context_wrapper.usage
        return result.final_output, result.last_agent.name, called, usage.total_tokens


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("mode", ["chat", "responses"])
def test_agents_run_through(mode: str, *, stream: bool) -> None:
    """Tools at once, a hand-off, another tool and the answer; every reply is used once."""
    with ModelServer(SCRIPT) as server:
        answer, agent, called, tokens = asyncio.run(run(server, mode, stream=stream))
        requests = server.requests
        assert server.unused == ()
    assert answer == "All three are on their way."
    assert agent == "specialist"
    assert sorted(called) == ["A-1", "A-2", "A-3"]
    assert [request.endpoint for request in requests] == [mode] * 4
    assert [request.stream for request in requests] == [stream] * 4
    assert [result.output for result in requests[1].tool_results] == [
        "A-1 is on its way",
        "A-2 is on its way",
    ]
    assert [result.name for result in requests[3].tool_results] == ["look_up"]
    if mode == "responses" or not stream:  # a chat stream brings no usage unless it is asked for
        assert tokens > 108
