"""Forks: branches beside a call, linked to it, joined with it, cancelled with it."""

import asyncio
import threading
import time
from functools import partial
from typing import Any

import pytest

from llmspell_otel.events import UniversalEvent
from llmspell_otel.hooks import Cancel, Fork, Hook
from llmspell_otel.operations import agent, tool
from llmspell_otel.operations.advice import MAX_BRANCHES

BEFORE, AFTER = "tool:before_execution", "tool:after_execution"


@tool
def fork_search(query: str) -> str:
    """A tool that branches call by its name."""
    return fork_nested(query)


@tool
def fork_nested(query: str) -> str:
    """What such a branch calls in turn."""
    return f"found {query}"


@tool
def work(query: str) -> str:
    """The forked call."""
    time.sleep(0.02)
    return f"worked on {query}"


@tool
async def awork(query: str) -> str:
    """The same, asynchronously."""
    await asyncio.sleep(0.02)
    return f"worked on {query}"


@agent
def around(query: str) -> str:
    """The agent whose tool is forked."""
    return work(query)


def forking(*branches: Any) -> list[Any]:
    """Fork the next `work` or `awork`; where the outputs arrive."""
    forks: list[Any] = []

    def fork(context: Any) -> Fork | None:
        return Fork(branches) if context.component.name.endswith("work") else None

    Hook.register(BEFORE, fork)
    Hook.register(AFTER, lambda context: forks.extend(context.data.get("forks", [])))
    return forks


def run(sync: bool) -> str:
    """Make the forked call."""
    return work("cats") if sync else asyncio.run(awork("cats"))


@pytest.mark.parametrize("sync", [True, False])
def test_branches_are_names_names_with_input_and_callables(sync: bool) -> None:
    """A name is called with the call's own input, unless the branch brings another."""
    forks = forking("fork_search", ("fork_search", {"query": "dogs"}), lambda: 3, "nobody")
    assert run(sync) == "worked on cats"
    assert forks == ["found cats", "found dogs", 3]


@pytest.mark.parametrize("sync", [True, False])
def test_branches_run_at_the_same_time_as_the_call(sync: bool) -> None:
    """Two branches and the call meet at one barrier."""
    barrier = threading.Barrier(2)
    forks = forking(lambda: barrier.wait(5), lambda: barrier.wait(5))
    run(sync)
    assert sorted(forks) == [0, 1]


def test_a_branchs_own_operation_is_linked_to_the_fork(events: list[UniversalEvent]) -> None:
    """Its span is a sibling with a link; operations below it have their parents only."""
    forking("fork_search")
    around("cats")
    ended = {event.data["name"]: event for event in events if "outcome" in event.data}
    forked, branch, below = ended["work"], ended["fork_search"], ended["fork_nested"]
    assert branch.data["links"] == [forked.traceparent]
    assert branch.data["parent"] == forked.data["parent"] == ended["around"].data["operation"]
    assert "links" not in below.data
    assert below.data["parent"] == branch.data["operation"]
    assert len({event.correlation_id for event in ended.values()}) == 1
    assert forked.data["forks"] == 1


@tool
async def afork_search(query: str) -> str:
    """A branch that is awaited."""
    await asyncio.sleep(0)
    return f"found {query}"


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize(
    "branch",
    ["afork_search", lambda: afork_search("cats"), partial(afork_search, "cats")],
    ids=["name", "function", "partial"],
)
def test_a_branch_that_is_awaited_is_linked_too(
    events: list[UniversalEvent], branch: Any, sync: bool
) -> None:
    """However its coroutine comes about, and wherever it is awaited."""
    forks = forking(branch)
    run(sync)
    ended = {event.data["name"]: event for event in events if "outcome" in event.data}
    assert forks == ["found cats"]
    forked = ended["work" if sync else "awork"]
    assert ended["afork_search"].data["links"] == [forked.traceparent]


def test_cancelling_the_caller_cancels_the_branches() -> None:
    """While the call runs, and while the branches are joined."""
    ended: list[str] = []

    async def branch() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("branch")

    forking(branch)

    async def main(pause: float) -> None:
        task = asyncio.create_task(awork("cats"))
        await asyncio.sleep(pause)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main(0.005))
    asyncio.run(main(0.1))
    assert ended == ["branch", "branch"]


def test_a_cancelled_call_still_joins_its_branches() -> None:
    """A later hook stops the call; the branches that ran have ended by then."""
    ran: list[int] = []
    forking(lambda: ran.append(1))
    Hook.register(
        BEFORE, lambda context: Cancel("no") if "work" in context.component.name else None
    )
    with pytest.raises(Exception, match="no"):
        work("cats")
    assert ran == [1]


def test_the_number_of_branches_is_bounded() -> None:
    """Those beyond the limit are reported and not run."""
    forks = forking(*[lambda: 1] * (MAX_BRANCHES + 10))
    run(sync=True)
    assert len(forks) == MAX_BRANCHES
