"""Agents of the Agents SDK: their initialisation, and the listing of their tools."""

import asyncio
import gc
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from agents import Agent, function_tool

from llmspell_otel import Cancel, Event, Modified, OperationCancelled
from llmspell_otel.operations.agents import end_agents
from llmspell_otel.testing import Reply
from tests.instrumentation.watching import Watching

Hooking = Callable[..., None]


@function_tool
def look() -> str:
    """Look."""
    return "seen"


@function_tool
def leave() -> str:
    """Leave."""
    return "gone"


def test_construction_initialises(instrumented: Watching, hook: Hooking) -> None:
    """One Before and one After for each agent, copies too; the end shuts those down that live."""
    told: list[Any] = []
    for point in ("BeforeAgentInit", "AfterAgentInit", "AfterAgentShutdown"):
        hook(point, lambda context: told.append((context.point.name, context.component.name)))
    desk = Agent(name="desk")
    desk.clone(name="copy")
    gc.collect()
    end_agents("test")
    assert told == [
        ("BeforeAgentInit", "desk"),
        ("AfterAgentInit", "desk"),
        ("BeforeAgentInit", "copy"),
        ("AfterAgentInit", "copy"),
        ("AfterAgentShutdown", "desk"),
    ]


def test_what_construction_raises_passes_through(instrumented: Watching, hook: Hooking) -> None:
    """The SDK's own error, and a hook's refusal."""
    hook("AfterAgentInit", lambda _: None)
    with pytest.raises(TypeError, match="name must be a string"):
        Agent(name=5)  # type: ignore[arg-type] # that is the point
    hook("BeforeAgentInit", lambda _: Cancel("no more agents"))
    with pytest.raises(OperationCancelled, match="no more agents"):
        Agent(name="desk")


def test_listing_tools_asks_tells_and_hides(
    instrumented: Watching, hook: Hooking, serve: Callable[..., Any]
) -> None:
    """The model is offered only what hooks leave."""
    told: list[Any] = []
    hook("BeforeToolDiscovery", lambda context: told.append(context.data))
    hook("AfterToolDiscovery", lambda context: told.append(dict(context.data)))
    hook("AfterToolDiscovery", lambda _: Modified({"tools": ["look"]}))
    stage = serve(Reply.text("done"))
    asyncio.run(stage.run(Agent(name="desk", tools=[look, leave]), "hello"))
    assert told == [{"agent": "desk"}, {"agent": "desk", "tools": ["look", "leave"]}]
    offered = [each["name"] for each in stage.requests[0].body["tools"]]
    assert offered == ["look"]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_run_leads_its_agents_through_their_states(
    instrumented: Watching, hook: Hooking, serve: Callable[..., Any], *, streamed: bool
) -> None:
    """The first agent runs all along, the second from the hand-over on; within the one trace."""
    told: list[tuple[str, str]] = []
    traces: set[str] = set()

    def changed(event: Any) -> None:
        told.append((event.data["name"], event.data["to_state"]))
        if event.data["to_state"] == "Running":
            traces.add(event.correlation_id)

    second = Agent(name="second")
    first = Agent(name="first", handoffs=[second])
    stage = serve(Reply.tools(("transfer_to_second", {})), Reply.text("done"))
    with Event.subscribe("agent:state_changed", changed):
        asyncio.run((stage.stream if streamed else stage.run)(first, "hello"))
    entered = [(name, state) for name, state in told if state in ("Running", "Ready")]
    assert entered == [
        ("first", "Ready"),
        ("first", "Running"),
        ("second", "Ready"),
        ("second", "Running"),
        ("second", "Ready"),
        ("first", "Ready"),
    ]
    assert len(traces) == 1
    assert traces != {""}


PROGRAM = """
import llmspell_otel
from llmspell_otel import Hook
llmspell_otel.instrument()
Hook.register("AfterAgentShutdown", lambda context: print(context.component.name))
from agents import Agent
desk = Agent(name="desk")
"""


def test_agents_that_live_at_the_end_of_the_process_are_shut_down() -> None:
    """Also those that were made after everything else that waits for the exit."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "desk\n"
