"""The nine states of an agent, and the points that their transitions fire."""

import asyncio
import threading
import time
from typing import Any

import pytest

from llmspell_otel import Cancel, Modified, OperationCancelled, agent
from llmspell_otel.errors import AgentStateError, TransitionTimeoutError
from llmspell_otel.events import Event
from llmspell_otel.hooks.profiles import BreakerProfile
from llmspell_otel.operations.lifecycle import (
    AgentLifecycle,
    AgentState,
    AsyncAgentLifecycle,
    LifecycleConfig,
    end_agents,
    life_of,
)
from llmspell_otel.operations.states import ALLOWED

S = AgentState
LIFE = (
    "BeforeAgentInit",
    "AfterAgentInit",
    "BeforeAgentExecution",
    "AfterAgentExecution",
    "AgentError",
    "BeforeAgentShutdown",
    "AfterAgentShutdown",
)
# The shortest way to each state.
WAYS = {
    S.UNINITIALIZED: (),
    S.INITIALIZING: (S.INITIALIZING,),
    S.READY: (S.INITIALIZING, S.READY),
    S.RUNNING: (S.INITIALIZING, S.READY, S.RUNNING),
    S.PAUSED: (S.INITIALIZING, S.READY, S.RUNNING, S.PAUSED),
    S.ERROR: (S.ERROR,),
    S.RECOVERING: (S.ERROR, S.RECOVERING),
    S.TERMINATING: (S.INITIALIZING, S.TERMINATING),
    S.TERMINATED: (S.INITIALIZING, S.TERMINATING, S.TERMINATED),
}


def at(state: AgentState, **options: Any) -> AgentLifecycle:
    """A life that stands at *state*."""
    life = AgentLifecycle("helper", **options)
    for step in WAYS[state]:
        life.transition(step)
    return life


def test_a_whole_life_fires_each_of_the_seven_points_once(seen: Any) -> None:
    """Initialise, execute, execute and fail, recover, terminate."""
    seen.watch(*LIFE)
    life = AgentLifecycle("helper")
    life.initialize("first use")
    assert life.start(question="why?") == {"question": "why?"}
    assert life.stop("because") == "because"
    life.start()
    life.error(ValueError("no"))
    life.recover()
    life.terminate("done")
    assert seen.names == [
        "BeforeAgentInit",
        "AfterAgentInit",
        "BeforeAgentExecution",
        "AfterAgentExecution",
        "BeforeAgentExecution",
        "AgentError",
        "BeforeAgentShutdown",
        "AfterAgentShutdown",
    ]
    first = seen[0]
    assert first.component.type == "agent"
    assert first.component.name == "helper"
    assert first.metadata == {
        "agent_id": life.agent_id,
        "from_state": "Uninitialized",
        "to_state": "Initializing",
        "transition_phase": "enter",
        "transition_reason": "first use",
    }
    assert seen[2].data == {"input": {"question": "why?"}}
    assert seen[3].data == {"output": "because"}
    assert isinstance(seen[5].data["error"], ValueError)


def test_a_pause_is_part_of_the_execution(seen: Any) -> None:
    """Pausing and resuming fire no second Before and no early After."""
    seen.watch("BeforeAgentExecution", "AfterAgentExecution", "custom:agent_paused")
    life = at(S.READY)
    life.start()
    life.pause()
    life.resume()
    life.stop()
    assert seen.names == [
        "BeforeAgentExecution",
        "custom:agent_paused",
        "custom:agent_paused",
        "AfterAgentExecution",
    ]
    assert [context.metadata["transition_phase"] for context in seen[1:3]] == ["enter", "exit"]


@pytest.mark.parametrize("old", AgentState)
@pytest.mark.parametrize("new", AgentState)
def test_a_transition_fires_its_points_or_is_refused(
    old: AgentState, new: AgentState, seen: Any
) -> None:
    """Every pair of states: the allowed leave and enter once, the others change nothing."""
    life = at(old)
    left = {S.PAUSED: "custom:agent_paused", S.RECOVERING: "custom:agent_recovering"}
    exit_point = left.get(old, f"custom:agent_state_{old}_exit")
    seen.watch(exit_point, f"custom:agent_state_{new}_enter")
    if new in ALLOWED[old]:
        life.transition(new)
        assert life.state is new
        assert seen.names == [exit_point, f"custom:agent_state_{new}_enter"]
        assert life.history[-1].from_state is old
    else:
        before = life.history
        with pytest.raises(AgentStateError, match=f"from {old} to {new}"):
            life.transition(new)
        assert life.state is old
        assert seen == []
        assert life.history == before
        assert life.breaker.stats.total_failures == 0


def test_cancel_refuses_before_anything_is_left(seen: Any, hook: Any) -> None:
    """A Cancel at a Before point: no exit point, same state, no failure, and it may be retried."""
    seen.watch("custom:agent_state_Ready_exit")
    answers = [Cancel("not now")] * 5 + [None]
    hook("BeforeAgentExecution", lambda _: answers.pop(0))
    life = at(S.READY)
    for _ in range(5):
        with pytest.raises(OperationCancelled, match="not now"):
            life.start()
    assert life.state is S.READY
    assert seen == []
    assert life.breaker.stats.total_failures == 0
    life.start()
    assert life.state is S.RUNNING


def test_hooks_change_what_goes_in_and_comes_out(hook: Any) -> None:
    """Modified at Before and After changes what `start` and `stop` give."""
    hook("agent:before_execution", lambda _: Modified({"input": {"tone": "kind"}}))
    hook("agent:after_execution", lambda c: Modified({"output": c.output.upper()}))
    life = at(S.READY)
    assert life.start(question="why?") == {"question": "why?", "tone": "kind"}
    assert life.stop("because") == "BECAUSE"


def test_a_failing_handler_is_undone_and_the_breaker_recovers() -> None:
    """Three failures open the breaker, refusals say so, and after its time it closes again."""
    profile = BreakerProfile(open_duration=0.05, success_threshold=1)
    life = at(S.READY, config=LifecycleConfig(breaker=profile))
    broken = True

    def enter() -> None:
        if broken:
            raise RuntimeError("no memory")

    life.on_enter(S.RUNNING, enter)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="no memory"):
            life.start()
        assert life.state is S.READY
    with pytest.raises(AgentStateError, match="its last transitions failed"):
        life.start()
    broken = False
    time.sleep(0.06)
    life.start()
    life.stop()
    assert life.breaker.stats.state == "closed"


def test_a_broken_agent_can_always_fail_and_end() -> None:
    """An open breaker does not stand between an agent and its end."""
    life = at(S.READY)
    life.breaker.force_open()
    life.error("it is broken")
    life.terminate()
    assert life.state is S.TERMINATED


def test_recovery_is_bounded() -> None:
    """Three recoveries without an execution that ended well; one that did counts anew."""
    life = at(S.ERROR)
    for _ in range(3):
        life.recover()
        life.error("again")
    with pytest.raises(AgentStateError, match="was recovered 3 times"):
        life.recover()
    assert life.state is S.ERROR


def test_history_is_bounded() -> None:
    """Only the latest transitions are kept."""
    life = at(S.READY, config=LifecycleConfig(history=4))
    for _ in range(10):
        life.start()
        life.stop()
    assert [each.to_state for each in life.history] == [S.RUNNING, S.READY] * 2


def test_a_second_transition_meanwhile_is_refused() -> None:
    """A handler that asks for another transition is told what is under way."""
    life = at(S.READY)
    life.on_enter(S.RUNNING, life.terminate)
    with pytest.raises(AgentStateError, match="while it goes from Ready to Running"):
        life.start()
    assert life.state is S.READY


def test_predicates() -> None:
    """What can be done in each state."""
    can_execute = {state for state in S if at(state).can_execute}
    assert can_execute == {S.READY, S.RUNNING}
    assert {state for state in S if at(state).can_pause} == {S.RUNNING}
    assert {state for state in S if not at(state).can_terminate} == {S.TERMINATING, S.TERMINATED}
    assert {state for state in S if at(state).healthy} == {S.READY, S.RUNNING, S.PAUSED}
    assert {state for state in S if at(state).is_error} == {S.ERROR, S.RECOVERING}


def test_a_late_synchronous_transition_is_undone() -> None:
    """What blocks too long cannot be interrupted, but it does not count."""
    life = at(S.READY, config=LifecycleConfig(max_transition_time=0.01))
    life.on_enter(S.RUNNING, lambda: time.sleep(0.02))
    with pytest.raises(TransitionTimeoutError, match=r"longer than 0\.01 s"):
        life.start()
    assert life.state is S.READY
    assert life.breaker.stats.total_failures == 1


def test_asynchronous_transitions_await_hooks_and_handlers(seen: Any, hook: Any) -> None:
    """Everything runs in the caller's own task."""
    tasks = []

    async def here(_: Any) -> None:
        await asyncio.sleep(0)
        tasks.append(asyncio.current_task())

    async def enter() -> None:
        tasks.append(asyncio.current_task())

    async def main() -> None:
        hook("AfterAgentInit", here)
        life = AsyncAgentLifecycle("helper")
        life.on_enter(S.READY, enter)
        await life.initialize()
        await life.start()
        assert await life.stop(1) == 1
        await life.start()
        await life.pause()
        await life.resume()
        await life.error("x")
        await life.recover()
        await life.terminate()
        assert life.state is S.TERMINATED
        assert set(tasks) == {asyncio.current_task()}

    asyncio.run(main())


def test_a_late_asynchronous_transition_is_interrupted() -> None:
    """The handler is cancelled at the time limit, and the state is what it was."""

    async def main() -> None:
        life = AsyncAgentLifecycle("helper", config=LifecycleConfig(max_transition_time=0.02))
        life.on_enter(S.READY, lambda: asyncio.sleep(30))
        began = time.monotonic()
        with pytest.raises(TransitionTimeoutError):
            await life.initialize()
        assert time.monotonic() - began < 1
        assert life.state is S.ERROR
        assert life.breaker.stats.total_failures == 1

    asyncio.run(main())


def test_cancel_transition_stops_the_one_under_way() -> None:
    """From another thread, while a handler waits; and none is left to cancel afterwards."""

    async def main() -> None:
        life = AsyncAgentLifecycle("helper")
        await life.transition(S.INITIALIZING)
        life.on_enter(S.READY, lambda: asyncio.sleep(30))
        timer = threading.Timer(0.02, life.cancel_transition, ["changed my mind"])
        timer.start()
        with pytest.raises(OperationCancelled, match="changed my mind"):
            await life.transition(S.READY)
        timer.join()
        assert life.state is S.INITIALIZING
        assert not life.cancel_transition()
        assert life.breaker.stats.total_failures == 0

    asyncio.run(main())


def test_cancel_transition_from_its_own_hook_is_not_lost(hook: Any) -> None:
    """Asked for before the handlers began, it still holds."""
    life = at(S.READY)
    hook("BeforeAgentExecution", lambda _: life.cancel_transition("too early") and None)
    with pytest.raises(OperationCancelled, match="too early"):
        life.start()
    assert life.state is S.READY


def test_transitions_are_events() -> None:
    """`agent:state_changed` says who, from where, to where and why."""
    told = []
    with Event.subscribe("agent.state_changed", lambda event: told.append(event.data)):
        life = at(S.READY)
    assert told[-1] == {
        "agent_id": life.agent_id,
        "name": "helper",
        "from_state": "Initializing",
        "to_state": "Ready",
        "reason": "",
    }


# -- decorated agents


@agent
def answer(question: str) -> str:
    """Answer, or fail."""
    if question == "fail":
        raise ValueError(question)
    return question.upper()


@pytest.fixture(autouse=True)
def ended() -> Any:
    """No life goes on after its test."""
    yield
    end_agents("test")


def test_a_decorated_agent_lives(seen: Any) -> None:
    """Initialised once, one Before and one After or Error for each execution, then shut down."""
    seen.watch(*LIFE, "custom:agent_state_Running_enter", "custom:agent_ready")
    assert answer("a") == "A"
    with pytest.raises(ValueError, match="fail"):
        answer("fail")
    end_agents("bye")
    running = ["custom:agent_state_Running_enter", "BeforeAgentExecution"]
    assert seen.names == [
        "BeforeAgentInit",
        "AfterAgentInit",
        *running,
        "AfterAgentExecution",
        "custom:agent_ready",
        *running,
        "AgentError",
        "custom:agent_ready",
        "BeforeAgentShutdown",
        "AfterAgentShutdown",
    ]
    assert seen[-1].metadata["transition_reason"] == "bye"


def test_an_execution_after_the_end_begins_a_new_life(seen: Any) -> None:
    """With an id of its own."""
    seen.watch("AfterAgentInit")
    answer("a")
    end_agents()
    answer("a")
    assert len(seen) == 2
    assert seen[0].metadata["agent_id"] != seen[1].metadata["agent_id"]


def test_nobody_watching_no_life() -> None:
    """Without a hook, a subscription or `life_of`, no machine is made."""

    @agent
    def unwatched() -> None: ...

    unwatched()
    life = life_of(unwatched)
    assert life.state is S.UNINITIALIZED
    unwatched()
    assert life.state is S.READY


def test_every_shape_lives(seen: Any) -> None:
    """A coroutine, a generator and an asynchronous generator go to Running and back."""

    @agent
    async def coroutine() -> int:
        return 1

    @agent
    def generator() -> Any:
        got = yield 1
        yield got

    @agent
    async def stream() -> Any:
        got = yield 1
        yield got

    async def main() -> None:
        assert await coroutine() == 1
        items = stream()
        assert await items.__anext__() == 1
        assert life_of(stream).state is S.RUNNING
        assert await items.asend(2) == 2
        await items.aclose()

    seen.watch("BeforeAgentInit", "custom:agent_state_Running_enter", "custom:agent_ready")
    asyncio.run(main())
    items = generator()
    assert next(items) == 1
    assert items.send(2) == 2
    items.close()
    per_agent = ["BeforeAgentInit", "custom:agent_state_Running_enter", "custom:agent_ready"]
    assert seen.names == per_agent * 3


def test_overlapping_executions_are_one_running(seen: Any) -> None:
    """The first brings the agent to Running, the last one back to Ready."""

    @agent
    async def slow() -> None:
        await asyncio.sleep(0.01)

    async def main() -> None:
        await asyncio.gather(*(slow() for _ in range(5)))

    seen.watch("custom:agent_state_Running_enter", "custom:agent_ready", "BeforeAgentExecution")
    asyncio.run(main())
    assert seen.names.count("BeforeAgentExecution") == 5
    assert seen.names.count("custom:agent_state_Running_enter") == 1
    assert seen.names.count("custom:agent_ready") == 1


def test_a_hook_may_refuse_to_initialise_an_agent(hook: Any) -> None:
    """The execution does not happen, and may be tried again."""
    handle = hook("BeforeAgentInit", lambda _: Cancel("closed"))
    with pytest.raises(OperationCancelled, match="closed"):
        answer("a")
    handle.unregister()
    assert answer("a") == "A"


def test_a_subscription_follows_decorated_agents() -> None:
    """Whoever listens to `agent:state_changed` sees each life from there on."""
    told: list[str] = []
    with Event.subscribe("agent.state_changed", lambda event: told.append(event.data["to_state"])):
        answer("a")
    assert told == ["Initializing", "Ready", "Running", "Ready"]
    answer("a")
    assert len(told) == 4


def test_changes_of_state_are_part_of_the_run() -> None:
    """All of an execution's, the first initialisation too, carry its correlation id."""
    told: list[str] = []
    runs: list[str] = []
    with (
        Event.subscribe("agent.state_changed", lambda event: told.append(event.correlation_id)),
        Event.subscribe("agent:execution_*", lambda event: runs.append(event.correlation_id)),
    ):
        answer("a")
    assert len(told) == 4
    assert set(told) == set(runs)
    assert len(set(runs)) == 1


def test_a_run_that_is_abandoned_brings_its_agent_back_within_the_run() -> None:
    """A coroutine that nobody drives to its end is closed: Ready, with the run's id."""

    @agent("left")
    async def left() -> None:
        await asyncio.Event().wait()

    told: list[tuple[str, str]] = []

    async def main() -> None:
        running = left()
        running.send(None)
        running.close()

    with Event.subscribe(
        "agent.state_changed",
        lambda event: told.append((event.data["to_state"], event.correlation_id)),
    ):
        asyncio.run(main())
    assert [state for state, _ in told] == ["Initializing", "Ready", "Running", "Ready"]
    assert len({run for _, run in told}) == 1
    assert told[0][1] != ""


def test_an_agent_that_replies_tells_why_it_is_not_initialised(hook: Any) -> None:
    """A refusal to initialise it is refused as any other: in the agent's own way."""

    @agent("polite", on_cancel="reply")
    def polite() -> str:
        return "hello"

    hook("BeforeAgentInit", lambda _: Cancel("closed"))
    assert polite() == "Refused: closed"
