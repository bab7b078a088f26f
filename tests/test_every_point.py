"""One realistic program fires every hook point, as often and with the keys as documented."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from llmspell_otel import Event, Hook, HookContext, agent, instrument, tool, uninstrument
from llmspell_otel.errors import StateConflictError, TimeLimitError
from llmspell_otel.hooks import Component
from llmspell_otel.hooks.policies import load_policy
from llmspell_otel.hooks.registry import registry
from llmspell_otel.monitor import Monitor, monitor
from llmspell_otel.operations import traits
from llmspell_otel.operations.discovery import tools
from llmspell_otel.operations.ports import ports
from llmspell_otel.operations.workflows import sequential, step
from llmspell_otel.points import POINTS
from llmspell_otel.sessions import session
from llmspell_otel.state import State
from llmspell_otel.system import security_violation
from llmspell_otel.testing import ModelServer, Reply

SALE = "shop.sale"
EXPECTED = {
    # One agent: two executions, one of which fails.
    "BeforeAgentInit": 1,
    "AfterAgentInit": 1,
    "BeforeAgentExecution": 2,
    "AfterAgentExecution": 1,
    "AgentError": 1,
    "BeforeAgentShutdown": 1,
    "AfterAgentShutdown": 1,
    # Three calls of tools: one well, one failing, one too slow. One listing.
    "BeforeToolDiscovery": 1,
    "AfterToolDiscovery": 1,
    "BeforeToolExecution": 3,
    "AfterToolExecution": 1,
    "ToolValidation": 3,
    "ToolError": 2,
    # Two workflows of two stages each; the last stage of the second one fails.
    "BeforeWorkflowStart": 2,
    "WorkflowStageTransition": 4,
    "BeforeWorkflowStage": 4,
    "AfterWorkflowStage": 3,
    "WorkflowCheckpoint": 3,
    "WorkflowRollback": 1,
    "AfterWorkflowComplete": 1,
    "WorkflowError": 2,
    # One write, one that meets another, one read, one read of an old value.
    "BeforeStateRead": 2,
    "AfterStateRead": 2,
    "BeforeStateWrite": 2,
    "AfterStateWrite": 1,
    "StateConflict": 1,
    "StateMigration": 1,
    "SystemStartup": 1,
    "SystemShutdown": 1,
    "ConfigurationChange": 1,
    "ResourceLimitExceeded": 1,
    "SecurityViolation": 1,
    "SessionStart": 1,
    "SessionEnd": 1,
    "SessionCheckpoint": 1,
    "SessionRestore": 1,
    # One event of the program's own, whose subscriber fails.
    "BeforeEventEmit": 1,
    "AfterEventEmit": 1,
    "EventHandlerError": 1,
    "PerformanceThresholdExceeded": 1,
    "MemoryUsageHigh": 1,
    "CpuUsageHigh": 1,
    # Three calls of models: whole, streamed, failing.
    "BeforeModelCall": 3,
    "AfterModelCall": 2,
    "ModelError": 1,
    "ModelStreamChunk": None,  # as many as there were chunks
}


class Firings:
    """Every firing, by the spelling under which it was hooked."""

    def __init__(self) -> None:
        self.by_name: Counter[str] = Counter()
        self.by_spelling: Counter[str] = Counter()
        self.contexts: list[HookContext] = []
        for point in POINTS:
            Hook.register(point.name, self.named)
            Hook.register(point.spelling, self.spelled)

    def named(self, context: HookContext) -> None:
        """Hooked as in ``BeforeToolExecution``."""
        if _counts(context):
            self.by_name[context.point.name] += 1
            self.contexts.append(context)

    def spelled(self, context: HookContext) -> None:
        """Hooked as in ``tool:before_execution``."""
        if _counts(context):
            self.by_spelling[context.point.name] += 1


def _counts(context: HookContext) -> bool:
    # While its points are hooked, everything the engine does is an event on the bus.
    return context.data.get("event_type", SALE) == SALE


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing of other tests, and nothing left for them."""
    monkeypatch.setattr(ports, "telemetry", ports.telemetry)
    monkeypatch.setattr(monitor, "interval", 3600.0)
    uninstrument()
    registry.clear()
    yield
    registry.clear()
    uninstrument()
    for name in list(traits._traits):
        traits.set_traits(name, None)


@tool("check_stock")
def check(item: str) -> int:
    """How many there are."""
    if item == "unknown":
        raise KeyError(item)
    return 7


def _models(server: ModelServer) -> int:
    """Three calls; gives how many chunks the streamed one had."""
    said: Any = [{"role": "user", "content": "hello"}]
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as client:
        client.chat.completions.create(model="gpt-4o-mini", messages=said)
        stream = client.chat.completions.create(model="gpt-4o-mini", messages=said, stream=True)
        chunks = sum(1 for _ in stream)
        with contextlib.suppress(openai.APIStatusError):
            client.chat.completions.create(model="gpt-4o-mini", messages=said)
    return chunks


def _agents(server: ModelServer) -> int:
    chunks: list[int] = []

    @tool("slow_supplier", timeout=0.02)
    async def supplier() -> None:
        await asyncio.sleep(30)

    @agent("shop_assistant")
    def assistant(question: str) -> int:
        if question == "bad":
            raise ValueError(question)
        chunks.append(_models(server))
        offered = {each.name for each in tools("shop_assistant")}
        assert {"check_stock", "slow_supplier"} <= offered
        return check("apples")

    assert assistant("apples?") == 7
    with contextlib.suppress(ValueError):
        assistant("bad")
    with contextlib.suppress(KeyError):
        check("unknown")
    with contextlib.suppress(TimeLimitError):
        asyncio.run(supplier())
    uninstrument()  # while the agent is still there: it is shut down
    return chunks[0]


def _workflows() -> None:
    def fail(_: Any) -> None:
        raise RuntimeError("no courier")

    book = step(lambda order: order, name="book", compensate=lambda _: None)
    sequential("order", book, step(lambda order: order, name="ship")).run("apples")
    with contextlib.suppress(RuntimeError):
        sequential("order", book, step(fail, name="ship")).run("pears")


def _state() -> None:
    old = State()
    with session("customer-1") as current:
        old.set("user:ann", "name", "Ann Lee")
        with contextlib.suppress(StateConflictError):
            old.compare_and_set("user:ann", "name", "Bob", "Bob Lee")
        old.get("user:ann", "name")
        State(old.backend, version=2, migrations={1: str.split}).get("user:ann", "name")
        current.checkpoint("begun")
        current.restore("begun")


def _system(folder: Path) -> None:
    policy = load_policy_twice(folder / "policy.py")
    policy.unload()
    security_violation("secrets", Component("tool", "check_stock"))

    def broken(_: Any) -> None:
        raise OSError("printer on fire")

    with Event.subscribe(SALE, broken):
        Event.publish(SALE, {"item": "apples"})
    watching = Monitor()
    for threshold in watching.thresholds:
        threshold.high = threshold.low = 0.0
        threshold.patience = 1
    sum(range(300_000))
    watching.look()


def load_policy_twice(path: Path) -> Any:
    """A policy that changes while the program runs."""
    path.write_text("x = 1\n")
    load_policy(path)
    path.write_text("x = 2\n")
    return load_policy(path)


def test_the_expectations_name_every_point() -> None:
    """A point that is added has to be fired by the program, and expected here."""
    assert set(EXPECTED) == {point.name for point in POINTS}
    assert len(POINTS) == 42 + 4


def test_every_point_is_fired(tmp_path: Path) -> None:
    """So many times, under both spellings, with the documented keys."""
    firings = Firings()
    instrument("openai")
    _state()
    _workflows()
    _system(tmp_path)
    script = [Reply.text("hi"), Reply.text("hello there"), Reply.error(400)]
    with ModelServer(script) as server:
        chunks = _agents(server)
    expected = {**EXPECTED, "ModelStreamChunk": chunks}
    assert dict(firings.by_name) == expected
    assert dict(firings.by_spelling) == expected
    assert chunks > 1
    for context in firings.contexts:
        missing = set(context.point.holds) - context.data.keys() - context.metadata.keys()
        assert not missing, f"{context.point}: {missing}"
        assert context.component.type
        assert context.component.name


def test_nothing_is_fired_when_nobody_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same program without hooks: no point is fired, and it runs as before."""
    fired: list[Any] = []
    monkeypatch.setattr("llmspell_otel.hooks.driving.fire", lambda *given: fired.append(given))
    instrument("openai")
    _state()
    _workflows()
    _system(tmp_path)
    with ModelServer([Reply.text("hi"), Reply.text("hello there"), Reply.error(400)]) as server:
        assert _agents(server) > 1
    assert fired == []
