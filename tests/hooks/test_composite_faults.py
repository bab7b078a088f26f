"""Composites under hangs, overruns, cancellations and threads: bounded, and nothing left over."""

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llmspell_otel.hooks.composite import AnyComposite, parallel, sequential, voting
from llmspell_otel.hooks.context import HookContext
from llmspell_otel.hooks.errands import GRACE, HookBusyError
from llmspell_otel.hooks.results import Cancel, Modified, Result
from llmspell_otel.hooks.waiting import HookTimeoutError, bounded
from tests.hooks.composite_bench import (
    a_context,
    ask,
    fails,
    fails_async,
    hangs,
    record,
    says,
    says_async,
)

BUDGET = 0.15
SLACK = 0.25  # what a busy machine may add

who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


class Blocker:
    """A synchronous hook that blocks until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.calls = 0
        self.__name__ = "blocker"

    def __call__(self, context: HookContext) -> Result:
        self.calls += 1
        self.let_go.wait(30)
        return Cancel("too late")


@pytest.fixture
def blocker() -> Iterator[Blocker]:
    """A hook that blocks; let go at the end, so that no thread outlives its test."""
    hook = Blocker()
    yield hook
    hook.let_go.set()
    until(lambda: not [each for each in threading.enumerate() if "llmspell-hook-" in each.name])


def until(condition: Callable[[], object]) -> None:
    """Wait for *condition*, for as long as a busy machine may need."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def timed(composite: AnyComposite, context: HookContext | None = None) -> tuple[Any, float]:
    """What it answers, and after how many seconds."""
    started = time.monotonic()
    return ask(composite, context), time.monotonic() - started


# -- hangs


@pytest.mark.parametrize("make", [parallel, voting])
def test_the_rest_decides_when_one_hangs_and_one_fails(make: Any) -> None:
    """One hang, one error: the others decide within the budget, and no task is left."""
    voters = [hangs, fails_async, *(says_async(Cancel("no")) for _ in range(3))]
    composite = make(*voters, timeout=BUDGET)
    context = a_context()
    result, seconds = timed(composite, context)
    assert result == Cancel("no")
    assert BUDGET <= seconds < BUDGET + SLACK
    assert composite.errors == 2
    assert ("hangs", "error", False) in record(context)
    assert composite.left_behind == 0


@pytest.mark.parametrize("make", [parallel, voting])
def test_the_same_with_threads(make: Any, blocker: Blocker) -> None:
    """Synchronous children have the same budget, and a blocking one is not asked twice."""
    composite = make(blocker, fails, *(says(Cancel("no")) for _ in range(3)), timeout=BUDGET)
    result, seconds = timed(composite)
    assert result == Cancel("no")
    assert BUDGET <= seconds < BUDGET + SLACK
    assert composite.errors == 2
    assert composite.left_behind == 1
    result, seconds = timed(composite)
    assert result == Cancel("no")
    assert seconds < BUDGET, "it waited for a hook that is known to hang"
    assert composite.errors == 4
    assert blocker.calls == 1
    blocker.let_go.set()
    until(lambda: composite.left_behind == 0)
    ask(composite)
    assert blocker.calls == 2, "it came back, and was not asked again"


def test_a_blocking_hook_does_not_block_the_loop(blocker: Blocker) -> None:
    """In an asynchronous parallel, synchronous children run in threads beside the loop."""
    ticks = 0

    async def ticking(context: HookContext) -> None:
        nonlocal ticks
        for _ in range(10):
            await asyncio.sleep(0.001)
            ticks += 1

    composite = parallel(blocker, ticking, timeout=BUDGET)
    assert ask(composite) is None
    assert ticks == 10
    assert composite.left_behind == 1


def test_a_hook_that_ignores_its_cancellation_is_left_behind() -> None:
    """The others' answer comes in time; the stubborn hook is not asked again until it ends."""
    calls = 0
    released = asyncio.Event()

    async def stubborn(context: HookContext) -> None:
        nonlocal calls
        calls += 1
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    composite = parallel(stubborn, says_async(Cancel("no")), timeout=0.05)

    async def main() -> None:
        started = time.monotonic()
        assert await composite(a_context()) == Cancel("no")  # type: ignore[misc]
        assert time.monotonic() - started < 0.05 + GRACE + SLACK
        assert composite.left_behind == 1
        assert await composite(a_context()) == Cancel("no")  # type: ignore[misc]
        assert calls == 1
        released.set()
        await asyncio.sleep(0.01)
        assert composite.left_behind == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_when_all_hang_it_says_so(blocker: Blocker) -> None:
    """Nobody answered in time: the composite fails with their time-outs."""
    with pytest.raises(HookTimeoutError, match=r"0\.05 s"):
        ask(parallel(hangs, timeout=0.05))
    composite = parallel(blocker, timeout=0.05)
    with pytest.raises(HookTimeoutError):
        ask(composite)
    with pytest.raises(HookBusyError, match="blocker"):
        ask(composite)


def test_a_hang_can_fail_closed() -> None:
    """With on_child_failure="raise", one hang is the composite's own failure."""
    composite = voting(hangs, says_async(None), timeout=0.05, on_child_failure="raise")
    with pytest.raises(HookTimeoutError):
        ask(composite)


def test_a_late_answer_is_not_heard() -> None:
    """What a hook answers after its time, while being cancelled, does not count."""

    async def late(context: HookContext) -> Result:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return Cancel("too late")
        raise AssertionError

    composite = parallel(late, says_async(None), timeout=0.02)
    assert ask(composite) is None
    assert composite.errors == 1


# -- cancellation


@pytest.mark.parametrize("make", [parallel, voting, sequential])
@pytest.mark.parametrize("steps", range(4))
def test_the_callers_cancellation_reaches_every_child(make: Any, steps: int) -> None:
    """Cancelled at any step, it passes the cancellation on and leaves no task."""
    entered = ended = 0

    async def waits(context: HookContext) -> None:
        nonlocal entered, ended
        entered += 1
        try:
            await asyncio.sleep(3600)
        finally:
            ended += 1

    async def main() -> None:
        composite = make(waits, waits, says(None), waits)
        task = asyncio.create_task(composite(a_context()))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert composite.errors == 0, "being cancelled is not the children's failure"
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    assert entered == ended


@pytest.mark.parametrize("make", [parallel, voting, sequential])
def test_the_engines_time_limit_leaves_no_task(make: Any) -> None:
    """Under the engine's own bound a hanging composite ends, and so do its children."""

    async def main() -> None:
        started = time.monotonic()
        with pytest.raises(HookTimeoutError):
            await bounded(make(hangs, hangs)(a_context()), 0.05)
        assert time.monotonic() - started < 0.05 + SLACK
        await asyncio.sleep(GRACE)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_a_childs_own_cancellation_passes_through() -> None:
    """A child that raises CancelledError is not mistaken for one that failed."""

    async def cancels(context: HookContext) -> None:
        raise asyncio.CancelledError

    for make in (parallel, voting, sequential):
        with pytest.raises(asyncio.CancelledError):
            ask(make(cancels, says_async(None)))


# -- concurrency


@pytest.mark.parametrize("limit", [1, 2, None])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["threads", "tasks"])
def test_max_concurrency_is_kept(limit: int | None, asynchronous: bool) -> None:
    """Never more than max_concurrency at a time, and all are asked."""
    lock = threading.Lock()
    active = most = calls = 0

    def enter(step: int) -> None:
        nonlocal active, most, calls
        with lock:
            active += step
            most = max(most, active)
            calls += step > 0

    def sync(context: HookContext) -> None:
        enter(1)
        time.sleep(0.02)
        enter(-1)

    async def awaited(context: HookContext) -> None:
        enter(1)
        await asyncio.sleep(0.02)
        enter(-1)

    hook = awaited if asynchronous else sync
    ask(parallel(*[hook] * 6, max_concurrency=limit))
    assert calls == 6
    assert active == 0
    assert most == (limit or 6)


def test_parallel_hooks_overlap() -> None:
    """Eight hooks of 50 ms take nowhere near 400 ms, in threads and in tasks."""

    async def awaited(context: HookContext) -> None:
        await asyncio.sleep(0.05)

    for hook in (lambda context: time.sleep(0.05), awaited):
        _, seconds = timed(parallel(*[hook] * 8))
        assert seconds < 0.3


@pytest.mark.parametrize("extra", [[], [says_async(None)]], ids=["sync", "async"])
def test_children_see_the_callers_context_variables(extra: list[Any]) -> None:
    """Threads and tasks work in copies of the caller's context: they see, and do not leak."""
    seen: list[str] = []

    def looks(context: HookContext) -> None:
        seen.append(who.get())
        who.set("somebody else")

    async def main() -> None:
        who.set("caller")
        result = parallel(looks, looks, *extra)(a_context())
        if extra:
            await result  # type: ignore[misc]
        assert who.get() == "caller"

    asyncio.run(main())
    assert seen == ["caller", "caller"]


def test_one_composite_serves_many_threads() -> None:
    """Fired from many threads at once, every firing gets its own answer, errors are exact."""

    def echo(context: HookContext) -> Modified:
        return Modified({"input": {"echo": context.input["query"]}})

    composite = parallel(sequential(echo, fails), echo, voting(fails, echo, min_votes=1))
    wrong: list[object] = []

    def work(number: int) -> None:
        for turn in range(10):
            query = f"{number}-{turn}"
            if composite(a_context(query=query)) != Modified({"input": {"echo": query}}):
                wrong.append(query)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert composite.errors == 0, "its children isolated their own failures"


def test_errors_of_many_threads_are_counted_exactly() -> None:
    """No failure is lost between threads."""
    composite = sequential(fails, says(None))
    threads = [
        threading.Thread(target=lambda: [composite(a_context()) for _ in range(200)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert composite.errors == 1600


@pytest.mark.parametrize("make", [parallel, voting])
def test_without_threads_to_be_had_it_asks_here(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the interpreter's end no thread can start: the hooks are asked one after another."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    composite = make(says(Cancel("no")), says(Cancel("no")), timeout=5)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert isinstance(composite(a_context()), Cancel)
