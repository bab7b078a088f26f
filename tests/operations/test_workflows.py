"""The four patterns of workflows, their fourteen phases, and what happens when steps fail."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from llmspell_otel import Cancel, Modified, OperationCancelled, Replace
from llmspell_otel.errors import SettingsError, TimeLimitError
from llmspell_otel.operations.operation import current
from llmspell_otel.operations.workflows import (
    Workflow,
    branch,
    conditional,
    loop,
    parallel,
    sequential,
    step,
    workflow_run,
)

PHASES = (
    "custom:workflow_start",
    "custom:workflow_complete",
    "custom:workflow_step_boundary",
    "custom:workflow_state_change",
    "custom:workflow_shared_data",
    "custom:condition_evaluation",
    "custom:branch_selection",
    "custom:loop_iteration_start",
    "custom:loop_iteration_complete",
    "custom:loop_termination",
    "custom:parallel_fork",
    "custom:parallel_join",
    "custom:parallel_synchronization",
    "WorkflowError",
)
BOUNDARY = "custom:workflow_step_boundary"


def double(value: int) -> int:
    """Twice as much."""
    return value * 2


async def add(value: int) -> int:
    """One more."""
    await asyncio.sleep(0)
    return value + 1


def broken(value: int) -> int:
    """Fails."""
    raise ValueError(f"no {value}")


def blocking(flow: Workflow, *args: Any, **options: Any) -> Any:
    """Run it in the one world."""
    return flow.run(*args, **options)


def awaiting(flow: Workflow, *args: Any, **options: Any) -> Any:
    """Run it in the other."""
    return asyncio.run(flow.run_async(*args, **options))


@pytest.fixture(params=[blocking, awaiting])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Either world: everything here holds in both."""
    return request.param  # type: ignore[no-any-return] # one of the two above


def test_a_sequence_passes_its_value_on(run: Any, seen: Any) -> None:
    """Each step is a stage of its own, told before and after."""
    seen.watch(
        "custom:workflow_start",
        "custom:workflow_complete",
        BOUNDARY,
        "BeforeWorkflowStart",
        "BeforeWorkflowStage",
        "AfterWorkflowStage",
        "AfterWorkflowComplete",
        "WorkflowStageTransition",
    )
    assert run(sequential("order", double, add), 5) == 11
    one = [
        BOUNDARY,
        "WorkflowStageTransition",
        "BeforeWorkflowStage",
        "AfterWorkflowStage",
        BOUNDARY,
    ]
    assert seen.names == [
        "BeforeWorkflowStart",
        "custom:workflow_start",
        *one,
        *one,
        "custom:workflow_complete",
        "AfterWorkflowComplete",
    ]
    boundaries = [context.metadata for context in seen if context.point.name == BOUNDARY]
    assert [(each["step_name"], each["step_index"], each["boundary"]) for each in boundaries] == [
        ("double", 0, "before"),
        ("double", 0, "after"),
        ("add", 1, "before"),
        ("add", 1, "after"),
    ]
    assert boundaries[1]["step_success"] is True
    assert boundaries[0]["workflow_type"] == "sequential"
    assert boundaries[0]["workflow_state"] == "Running"
    complete = seen[-2]
    assert complete.metadata["workflow_state"] == "Completed"
    assert complete.data == {"pattern_outcome": "ok"}
    moves = [context.data for context in seen if context.point.name == "WorkflowStageTransition"]
    assert moves == [{"from": None, "to": "double"}, {"from": "double", "to": "add"}]


def test_completion_is_told_of_failures_too(run: Any, seen: Any) -> None:
    """With the outcome; the stage's and the workflow's error point are fired once each."""
    seen.watch("custom:workflow_complete", "WorkflowError", BOUNDARY)
    with pytest.raises(ValueError, match="no 2"):
        run(sequential("order", double, broken, double), 1)
    assert seen.names == [BOUNDARY] * 3 + [
        "WorkflowError",
        BOUNDARY,
        "custom:workflow_complete",
        "WorkflowError",
    ]
    assert seen[4].metadata["step_success"] is False
    assert seen[5].data == {"pattern_outcome": "failed", "pattern_error_type": "ValueError"}
    assert [seen[3].component.type, seen[6].component.type] == ["stage", "workflow"]


def test_stages_nest_in_their_workflow(run: Any, hook: Any) -> None:
    """By the operation that is current in each step."""
    hook("BeforeWorkflowStage", lambda _: None)
    hook("BeforeWorkflowStart", lambda _: None)
    found: list[Any] = []

    def look(value: Any) -> Any:
        inner = current.get()
        assert inner is not None
        assert inner.parent is not None
        found.append((inner.name, inner.parent.name, inner.trace_id == inner.parent.trace_id))
        return value

    run(parallel("fan", step(look, name="a"), step(look, name="b")))
    assert sorted(found) == [("a", "fan", True), ("b", "fan", True)]


def test_what_hooks_answer_has_effect(run: Any, hook: Any) -> None:
    """Modified and Replace at stages, Cancel at a stage, at a phase and at the start."""
    flow = sequential("order", double, double)
    handle = hook(
        "BeforeWorkflowStage",
        lambda c: Modified({"input": {"input": 100}}) if c.data["input"]["input"] == 1 else None,
    )
    assert run(flow, 1) == 400
    handle.unregister()
    handle = hook("workflow:before_step", lambda _: Replace(7))
    assert run(flow, 1) == 7
    handle.unregister()
    for point in ("BeforeWorkflowStage", BOUNDARY, "custom:workflow_start", "BeforeWorkflowStart"):
        handle = hook(point, lambda _: Cancel("stop"))
        with pytest.raises(OperationCancelled, match="stop"):
            run(flow, 1)
        handle.unregister()


def test_conditions(run: Any, seen: Any) -> None:
    """The first that is true, all that are, the default, or the value as it is."""
    seen.watch("custom:condition_evaluation", "custom:branch_selection")
    small = branch(lambda v: v < 10, double, name="small")
    any_ = branch(lambda _: True, add, name="any")
    assert run(conditional("route", small, any_), 1) == 2
    assert seen.names == ["custom:condition_evaluation", "custom:branch_selection"]
    truth = {"is_true": True, "error": None, "description": "small"}
    assert seen[0].data == {
        "pattern_branch_name": "small",
        "pattern_branch_index": 0,
        "pattern_condition_result": truth,
    }
    assert seen[1].data == {
        "pattern_selected_branch": "small",
        "pattern_condition_result": truth,
    }
    assert run(conditional("route", small, any_, all_matching=True), 1) == 3
    assert run(conditional("route", small, default=step(lambda _: "big", name="big")), 99) == "big"
    assert seen[-1].data["pattern_selected_branch"] == "big"
    assert run(conditional("route", small), 99) == 99
    with pytest.raises(ZeroDivisionError):
        run(conditional("route", branch(lambda v: v / 0, double)), 1)
    assert seen[-1].data["pattern_condition_result"]["error"] == "ZeroDivisionError"


def test_loops(run: Any, seen: Any) -> None:
    """Over items, while a condition holds, until another does, and never too often."""
    seen.watch(*PHASES[7:10])
    assert run(loop("each", double, over=[1, 2])) == [2, 4]
    assert seen.names == ["custom:loop_iteration_start", "custom:loop_iteration_complete"] * 2
    assert seen[2].data == {"pattern_iteration": 1, "pattern_value": 2}
    assert seen[3].data == {"pattern_iteration": 1, "pattern_completed_iterations": 2}
    seen.clear()
    assert run(loop("grow", double, while_=lambda v: v < 10), 1) == 16
    assert "custom:loop_termination" not in seen.names
    assert run(loop("grow", double, until=lambda v: v > 2), 1) == 4
    assert seen[-1].data == {"pattern_break_reason": "until", "pattern_completed_iterations": 2}
    assert run(loop("grow", double, max_iterations=3), 1) == 8
    assert seen[-1].data["pattern_break_reason"] == "max_iterations"


def test_parallel_branches(run: Any, seen: Any) -> None:
    """Fork, the branches' own boundaries, synchronization, join; outputs by name."""
    seen.watch(*PHASES[10:13])
    assert run(parallel("fan", double, add), 5) == {"double": 10, "add": 6}
    assert seen.names == [*list(PHASES[10:11]), PHASES[12], PHASES[11]]
    assert seen[0].data == {"pattern_branch_count": 2, "pattern_max_concurrency": 2}
    assert seen[1].data == {"pattern_branch_count": 2, "pattern_arrived_branches": 2}
    assert seen[2].data == {"pattern_completed_branches": 2, "pattern_stopped_early": False}


def test_parallel_width_is_held(run: Any) -> None:
    """Never more at once than `max_concurrency`."""
    lock, now, most = threading.Lock(), [0], [0]

    async def busy(value: Any) -> Any:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        await asyncio.sleep(0.01)
        with lock:
            now[0] -= 1
        return value

    steps = [step(busy, name=f"b{number}") for number in range(6)]
    assert len(run(parallel("fan", *steps, max_concurrency=2))) == 6
    assert most[0] == 2


def test_a_failing_branch_stops_the_others(seen: Any) -> None:
    """Tasks are cancelled, the failure is raised, and the join says so."""
    seen.watch("custom:parallel_join")
    stopped: list[bool] = []

    async def slow(_: Any) -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            stopped.append(True)
            raise

    with pytest.raises(ValueError, match="no 1"):
        awaiting(parallel("fan", slow, broken), 1)
    assert stopped == [True]
    assert seen[0].data == {"pattern_completed_branches": 0, "pattern_stopped_early": True}


@pytest.mark.parametrize("pattern", [sequential, parallel])
def test_going_on_after_an_error(run: Any, pattern: Any) -> None:
    """With `continue` a failing step is left out: its value passes through."""
    flow = pattern("order", broken, double, on_error="continue")
    expected = 2 if pattern is sequential else {"broken": 1, "double": 2}
    assert run(flow, 1) == expected


def test_trying_again(run: Any) -> None:
    """With `retry`: so many attempts, with pauses that double."""
    times: list[float] = []

    def flaky(value: int) -> int:
        times.append(time.monotonic())
        if len(times) < 3:
            raise ValueError("not yet")
        return value

    flow = sequential("order", flaky, on_error="retry", max_attempts=3, backoff=0.02)
    assert run(flow, 4) == 4
    assert times[1] - times[0] >= 0.02
    assert times[2] - times[1] >= 0.04
    times.clear()
    with pytest.raises(ValueError, match="not yet"):
        run(sequential("order", flaky, on_error="retry", max_attempts=2, backoff=0), 4)
    assert len(times) == 2


def test_what_was_done_is_undone(run: Any, seen: Any) -> None:
    """Compensations run in reverse; one that fails does not keep the others from it."""
    seen.watch("WorkflowRollback", "custom:workflow_complete")
    undone: list[Any] = []

    async def undo(output: Any) -> None:
        undone.append(output)

    def fail(_: Any) -> None:
        raise RuntimeError("cannot undo")

    flow = sequential(
        "order",
        step(double, name="book", compensate=undo),
        step(double, name="pay", compensate=fail),
        step(double, name="ship", compensate=undo),
        double,
        broken,
    )
    with pytest.raises(ValueError, match="no 16"):
        run(flow, 1)
    assert undone == [8, 2]
    assert seen.names == ["WorkflowRollback", "custom:workflow_complete"]
    assert seen[0].metadata["steps"] == ["ship", "pay", "book"]
    assert seen[0].data["checkpoint"]["label"] == "double"


def test_taking_a_run_up_again(run: Any, seen: Any) -> None:
    """A checkpoint after each step; a new run goes on behind it with its value and data."""
    seen.watch("WorkflowCheckpoint")
    calls: list[str] = []
    taken: list[Any] = []

    def first(value: int) -> int:
        calls.append("first")
        inside = workflow_run()
        assert inside is not None
        inside.shared.set("who", "me")
        taken.append(inside)
        return value + 1

    def second(value: int) -> Any:
        calls.append("second")
        inside = workflow_run()
        assert inside is not None
        return value, inside.shared.get("who")

    flow = sequential("order", first, second)
    assert run(flow, 1) == (2, "me")
    record = seen[0].data["checkpoint"]
    assert (record["label"], record["index"], record["value"]) == ("first", 0, 2)
    assert record["shared"] == {"who": "me"}
    calls.clear()
    assert run(flow, resume=taken[0].checkpoints[0]) == (2, "me")
    assert calls == ["second"]


def test_shared_data_is_told(run: Any, seen: Any) -> None:
    """Every access, and every change with old and new value."""
    seen.watch("custom:workflow_state_change", "custom:workflow_shared_data")

    def share(_: Any) -> Any:
        inside = workflow_run()
        assert inside is not None
        inside.shared.set("n", 1)
        inside.shared.set("n", 2)
        return inside.shared.get("n")

    assert run(sequential("order", share), shared={"n": 0}) == 2
    assert [context.data for context in seen] == [
        {"pattern_access_type": "write", "pattern_key": "n"},
        {"pattern_key": "n", "pattern_old_value": 0, "pattern_new_value": 1},
        {"pattern_access_type": "write", "pattern_key": "n"},
        {"pattern_key": "n", "pattern_old_value": 1, "pattern_new_value": 2},
        {"pattern_access_type": "read", "pattern_key": "n"},
    ]


def test_a_run_ends_at_its_time_limit(run: Any, seen: Any) -> None:
    """Awaiting it is interrupted; blocking it ends before the next step."""
    seen.watch("custom:workflow_complete")
    calls: list[int] = []

    async def slow(value: Any) -> Any:
        calls.append(1)
        await asyncio.sleep(0.05)
        return value

    with pytest.raises(TimeLimitError, match=r"workflow 'order' .* 0\.02 s"):
        run(sequential("order", slow, step(slow, name="again"), timeout=0.02))
    assert calls == [1]
    assert seen[0].data["pattern_outcome"] == "timeout"


def test_a_step_has_its_own_time_limit(run: Any) -> None:
    """Told from the workflow's."""

    async def slow(_: Any) -> None:
        await asyncio.sleep(5)

    with pytest.raises(TimeLimitError, match="stage 'slow'"):
        run(sequential("order", step(slow, timeout=0.02)))


def test_workflows_within_workflows(run: Any) -> None:
    """A workflow is a step like any other."""
    inner = parallel("inner", double, add)
    assert run(sequential("outer", inner, lambda both: both["double"] + both["add"]), 5) == 16


def test_cancelling_a_run_leaves_nothing_behind() -> None:
    """Branches are cancelled with it, and it is told as cancelled."""
    ended: list[bool] = []

    async def slow(_: Any) -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.append(True)

    async def main() -> None:
        flow = parallel("fan", step(slow, name="a"), step(slow, name="b"))
        task = asyncio.create_task(flow.run_async())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
    assert ended == [True, True]


def test_unusable_options_are_refused() -> None:
    """When the workflow is made, not when it runs."""
    with pytest.raises(SettingsError, match="use 1 or more"):
        sequential("order", max_attempts=0)
    with pytest.raises(SettingsError, match="fail_fast, continue or retry"):
        sequential("order", on_error="panic")
