"""The eight phases of a tool's call, its limits, and the discovery of tools."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from llmspell_otel import (
    Cancel,
    Modified,
    OperationCancelled,
    Replace,
    agent,
    stage,
    tool,
    workflow,
)
from llmspell_otel.errors import SettingsError, TimeLimitError
from llmspell_otel.events import Event
from llmspell_otel.operations import traits
from llmspell_otel.operations.call import Kind
from llmspell_otel.operations.discovery import tools
from llmspell_otel.operations.points import MOMENTS
from llmspell_otel.operations.traits import ResourceLimits

PHASES = (
    "ToolValidation",
    "custom:tool_parameter_validation",
    "custom:tool_security_check",
    "custom:tool_resource_allocated",
    "BeforeToolExecution",
    "AfterToolExecution",
    "ToolError",
    "custom:tool_timeout",
    "custom:tool_resource_released",
)
ENTRY = list(PHASES[:5])
RELEASED = "custom:tool_resource_released"


@pytest.fixture(autouse=True)
def no_traits_left() -> Iterator[None]:
    """Limits of one test do not hold in the next."""
    yield
    for name in list(traits._traits):
        traits.set_traits(name, None)


@tool("fetch_page", category="web", security_level="restricted")
def fetch(url: str) -> str:
    """Fetch a page."""
    if url == "broken":
        raise ValueError(url)
    return f"page of {url}"


def test_a_call_goes_through_its_phases_in_order(seen: Any) -> None:
    """Validation (two points), security, allocation, before, after, release."""
    seen.watch(*PHASES)
    traits.set_traits("fetch_page", traits.ToolTraits(category="web", security_level="restricted"))
    assert fetch("here") == "page of here"
    assert seen.names == [*ENTRY, "AfterToolExecution", RELEASED]
    assert [context.metadata["execution_phase"] for context in seen] == [
        "ParameterValidation",
        "ParameterValidation",
        "SecurityCheck",
        "ResourceAllocation",
        "PreExecution",
        "PostExecution",
        "ResourceCleanup",
    ]
    for context in seen:
        assert context.data["input"] == {"url": "here"}
        assert context.metadata["tool_category"] == "web"
        assert context.metadata["security_level"] == "restricted"
        metrics = context.metadata["resource_metrics"]
        assert metrics["concurrent_ops"] == 1
        assert metrics["operations_count"] >= 1
        assert metrics["wall_time_ms"] > 0
    assert "execution_success" not in seen[0].metadata
    assert [context.metadata["execution_success"] for context in seen[-2:]] == [True, True]
    assert seen[5].data["output"] == "page of here"


def test_a_failing_call_is_released_too(seen: Any) -> None:
    """ErrorHandling, then ResourceCleanup; the exception passes through unchanged."""
    seen.watch(*PHASES)
    with pytest.raises(ValueError, match="broken"):
        fetch("broken")
    assert seen.names == [*ENTRY, "ToolError", RELEASED]
    assert [context.metadata["execution_success"] for context in seen[-2:]] == [False, False]


def test_asynchronous_and_generating_tools_too(seen: Any) -> None:
    """The phases are those of every shape; a stream is released when it is over."""

    @tool
    async def later(x: int) -> int:
        await asyncio.sleep(0)
        return x

    @tool
    def several() -> Iterator[int]:
        yield 1
        yield 2

    seen.watch(*PHASES)
    assert asyncio.run(later(3)) == 3
    items = several()
    assert next(items) == 1
    assert seen.names == [*ENTRY, "AfterToolExecution", RELEASED, *ENTRY]
    assert list(items) == [2]
    assert seen.names[-2:] == ["AfterToolExecution", RELEASED]


def test_an_abandoned_stream_gives_its_place_back(seen: Any) -> None:
    """Closing or collecting it counts it out."""

    @tool
    def endless() -> Iterator[int]:
        while True:
            yield 1

    seen.watch("BeforeToolExecution")
    for _ in range(3):
        items = endless()
        next(items)
        items.close()
    assert seen[-1].metadata["resource_metrics"]["concurrent_ops"] == 1


@pytest.mark.parametrize("point", PHASES[:4])
def test_what_an_answer_does_before_execution(point: str, hook: Any, seen: Any) -> None:
    """At each entry phase: Cancel stops the call, Replace answers it, Modified changes it."""
    seen.watch("BeforeToolExecution", RELEASED)
    handle = hook(point, lambda _: Cancel("not allowed"))
    with pytest.raises(OperationCancelled, match="not allowed"):
        fetch("x")
    assert seen.names == [RELEASED]
    handle.unregister()
    handle = hook(point, lambda _: Replace("from a hook"))
    assert fetch("x") == "from a hook"
    handle.unregister()
    hook(point, lambda _: Modified({"input": {"url": "elsewhere"}}))
    assert fetch("x") == "page of elsewhere"
    assert seen[-2].data["input"] == {"url": "elsewhere"}


def test_resources_are_measured(seen: Any) -> None:
    """Processor time and memory that a call really used."""
    kept: list[bytearray] = []

    @tool
    def busy() -> None:
        until = time.process_time() + 0.03
        while time.process_time() < until:
            sum(range(1000))
        kept.append(bytearray(32 * 1024 * 1024))
        kept[0][::4096] = b"x" * len(kept[0][::4096])

    seen.watch("custom:tool_resource_released")
    busy()
    metrics = seen[0].metadata["resource_metrics"]
    assert metrics["cpu_time_ms"] >= 30
    assert metrics["wall_time_ms"] >= 29
    assert metrics["memory_bytes"] > 16 * 1024 * 1024


# -- limits


def test_an_asynchronous_tool_is_cancelled_at_its_time_limit(seen: Any) -> None:
    """Timeout, ResourceLimitExceeded, ErrorHandling, ResourceCleanup; a hook may still recover."""
    stopped = []

    @tool(timeout=0.02)
    async def slow() -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            stopped.append(True)
            raise

    with pytest.raises(TimeLimitError, match=r"tool 'slow' .* 0\.02 s"):
        asyncio.run(slow())  # without any hook
    assert stopped == [True]
    seen.watch("custom:tool_timeout", "ResourceLimitExceeded", "ToolError", RELEASED)
    with pytest.raises(TimeLimitError):
        asyncio.run(slow())
    assert seen.names == ["custom:tool_timeout", "ResourceLimitExceeded", "ToolError", RELEASED]
    assert isinstance(seen[0].data["error"], TimeLimitError)
    assert seen[1].data["limit"] == {"name": "tool.seconds", "limit": 0.02, "unit": "s"}
    assert seen[1].data["value"] >= 0.02
    assert seen[1].component.name == "slow"


def test_a_synchronous_tool_is_left_behind_at_its_time_limit(hook: Any) -> None:
    """The caller goes on; the function ends by itself, in its own thread."""
    release, ended = threading.Event(), threading.Event()

    @tool(timeout=0.02)
    def slow() -> None:
        release.wait(10)
        ended.set()

    hook("tool:error", lambda _: Replace("too slow"))
    began = time.monotonic()
    assert slow() == "too slow"
    assert time.monotonic() - began < 5
    release.set()
    assert ended.wait(5)


def test_the_tools_own_timeouts_are_its_own() -> None:
    """A TimeoutError that the tool raises is not the limit's."""

    @tool(timeout=5)
    async def asks() -> None:
        raise TimeoutError("the server's")

    with pytest.raises(TimeoutError, match="the server's") as caught:
        asyncio.run(asks())
    assert not isinstance(caught.value, TimeLimitError)


def test_one_call_too_many_at_once_is_refused(seen: Any) -> None:
    """The concurrency limit, told before it refuses."""

    @tool(limits=ResourceLimits(concurrent=2, seconds=None))
    async def shared() -> None:
        await asyncio.sleep(0.01)

    async def main() -> list[Any]:
        return await asyncio.gather(*(shared() for _ in range(3)), return_exceptions=True)

    seen.watch("ResourceLimitExceeded")
    results = asyncio.run(main())
    assert results[:2] == [None, None]
    assert isinstance(results[2], OperationCancelled)
    assert "its limit is 2" in str(results[2])
    assert seen[0].data["limit"]["name"] == "tool.concurrent"
    assert asyncio.run(main())[:2] == [None, None]


def test_used_up_processor_time_and_memory_are_told(seen: Any) -> None:
    """They are found out afterwards; the output stands."""
    kept: list[bytearray] = []

    @tool(limits=ResourceLimits(cpu_seconds=0.001, memory_bytes=1024, seconds=None))
    def busy() -> int:
        until = time.process_time() + 0.01
        while time.process_time() < until:
            sum(range(1000))
        kept.append(bytearray(16 * 1024 * 1024))
        kept[0][::4096] = b"x" * len(kept[0][::4096])
        return 1

    seen.watch("system:resource_limit_exceeded")
    assert busy() == 1
    assert [context.data["limit"]["name"] for context in seen] == [
        "tool.cpu_seconds",
        "tool.memory_bytes",
    ]


def test_unusable_traits_are_refused() -> None:
    """With what would be usable."""
    with pytest.raises(SettingsError, match="use None or more than 0"):
        tool(timeout=0)
    with pytest.raises(SettingsError, match="use one of safe, restricted, privileged"):
        tool(security_level="high")
    with pytest.raises(SettingsError, match="use one of analysis"):
        tool(category="magic")


def test_limits_alone_keep_a_tool_awake() -> None:
    """An un-hooked tool without limits is not touched; limits switch the engine on."""
    assert not MOMENTS[Kind.TOOL].switch.on

    @tool(timeout=1)
    def guarded() -> None: ...

    assert MOMENTS[Kind.TOOL].switch.on
    traits.set_traits("guarded", None)
    assert not MOMENTS[Kind.TOOL].switch.on


# -- discovery


def test_listing_tools_asks_and_tells(seen: Any, hook: Any) -> None:
    """Before with the agent, After with the names, and hooks may hide some."""
    seen.watch("BeforeToolDiscovery", "AfterToolDiscovery")
    names = [each.name for each in tools("researcher")]
    assert "fetch_page" in names
    assert seen[0].data == {"agent": "researcher"}
    assert seen[1].data == {"agent": "researcher", "tools": names}
    info = next(each for each in tools() if each.name == "fetch_page")
    assert info.description == "Fetch a page."
    assert info.parameters == ("url",)
    handle = hook("tool:after_discovery", lambda _: Modified({"tools": ["fetch_page"]}))
    assert [each.name for each in tools()] == ["fetch_page"]
    handle.unregister()
    hook("tool:before_discovery", lambda _: Cancel("none for you"))
    assert tools() == []


# -- stages


def test_stages_tell_of_transitions(seen: Any) -> None:
    """From the stage before, in each workflow by itself; as an event too."""

    @stage
    def first() -> None: ...

    @stage("second")
    def second() -> None: ...

    @workflow
    def order() -> None:
        first()
        second()

    told: list[Any] = []
    with Event.subscribe("workflow.stage_transition", lambda event: told.append(event.data)):
        seen.watch("WorkflowStageTransition")
        order()
        order()
    expected = [{"from": None, "to": "first"}, {"from": "first", "to": "second"}] * 2
    assert [context.data for context in seen] == expected
    assert seen[0].component.name == "order"
    assert [{key: each[key] for key in ("from", "to")} for each in told] == expected


def test_nobody_hooked_nothing_made() -> None:
    """Without hooks a tool's call is the plain call."""
    calls = []

    @agent
    @tool
    def plain() -> int:
        calls.append(1)
        return 1

    assert plain() == 1
    assert calls == [1]
