"""Many at once, cancelled anywhere, at the end of the process: cases 28 to 34 and 40."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace

from llmspell_otel.events import default_bus
from llmspell_otel.hooks import Fork, Hook, Retry
from llmspell_otel.hooks.breaker import BreakerProfile
from llmspell_otel.hooks.registry import registry
from llmspell_otel.hooks.store import MISSING, MemoryStore
from llmspell_otel.operations import agent, tool
from llmspell_otel.operations.operation import current

NEVER = BreakerProfile(failure_threshold=10**6, slow_call_threshold=10**6)
BEFORE, AFTER, ERROR = "tool:before_execution", "tool:after_execution", "tool:error"


@tool
async def inner(number: int) -> Any:
    """Wait a little; tell whose call this is."""
    await asyncio.sleep(0)
    operation = current.get()
    assert operation is not None
    return number, operation.correlation_id


@agent
async def outer(number: int) -> Any:
    """Call a tool twice, side by side."""
    mine = current.get()
    assert mine is not None
    pair = await asyncio.gather(inner(number), asyncio.create_task(inner(number)))
    assert [each[1] for each in pair] == [mine.correlation_id] * 2
    return mine.correlation_id


@pytest.fixture(autouse=True)
def no_hooks_left() -> Iterator[None]:
    """Take out what a test registered."""
    registry.clear()
    yield
    registry.clear()
    assert current.get() is None
    assert not trace.get_current_span().get_span_context().is_valid


def test_28_many_tasks_each_see_their_own() -> None:
    """Every count is exact, no context crosses to another task."""
    seen: list[str] = []

    async def before(context: Any) -> None:
        await asyncio.sleep(0)
        seen.append(context.correlation_id)

    first = Hook.register(BEFORE, before, timeout=60, breaker=NEVER)
    second = Hook.register(AFTER, lambda context: None, breaker=NEVER)
    Hook.register("agent:before_execution", lambda context: None, breaker=NEVER)

    async def main() -> list[str]:
        return await asyncio.gather(*(outer(number) for number in range(2000)))

    ids = asyncio.run(main())
    assert len(set(ids)) == 2000
    assert sorted(seen) == sorted(ids * 2)
    assert first.calls == second.calls == 4000
    assert first.failures == 0


def test_28_many_threads_each_see_their_own() -> None:
    """The same with threads, and hooks that block."""

    @tool
    def blocking() -> str:
        operation = current.get()
        assert operation is not None
        return operation.correlation_id

    hook = Hook.register(BEFORE, lambda context: None, breaker=NEVER)
    hook.breaker.disable()  # most of so short an operation's time is the hook's, and so its budget
    ids: list[str] = []

    def run() -> None:
        ids.extend(blocking() for _ in range(50))

    threads = [threading.Thread(target=run) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 5000
    assert hook.calls == 5000


@pytest.mark.parametrize("when", range(14))
def test_31_cancelled_at_every_await(when: int) -> None:
    """Error hooks see it once, nothing is left running, the caller gets it."""
    errors: list[Any] = []
    ends: list[Any] = []
    names = ("tool:execution_complete", "tool:execution_error")
    subscription = default_bus().subscribe(names, ends.append)

    async def hook(context: Any) -> None:
        await asyncio.sleep(0)

    async def branch() -> None:
        await asyncio.sleep(10)

    async def forks(context: Any) -> Fork:
        return Fork([branch])

    Hook.register(BEFORE, hook, breaker=NEVER)
    Hook.register(BEFORE, forks, breaker=NEVER)
    Hook.register(AFTER, hook, breaker=NEVER)
    Hook.register(ERROR, lambda context: errors.append(context.error), breaker=NEVER)

    async def main() -> None:
        task = asyncio.create_task(inner(1))
        for _ in range(when):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(5):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    subscription.unsubscribe()
    assert len(ends) == (when > 0)
    assert [type(error) for error in errors] == [asyncio.CancelledError] * (when > 0)


def test_31_cancelled_while_waiting_to_retry() -> None:
    """A long pause between attempts ends with the caller."""

    @tool
    async def fails() -> None:
        raise ValueError

    Hook.register(ERROR, lambda context: Retry(delay=3600, max_attempts=9))

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await fails()

    asyncio.run(main())


SHUTDOWN = """
import asyncio, atexit, threading, time
from llmspell_otel.hooks import Hook
from llmspell_otel.operations import tool

@tool
def work(number):
    return number

async def slow(context):
    await asyncio.sleep(0.001)

Hook.register("tool:before_execution", slow)
Hook.register("tool:after_execution", lambda context: None)

class Late:
    def __del__(self):
        work(1)

late = Late()
atexit.register(work, 2)

def forever():
    while True:
        work(3)

threading.Thread(target=forever, daemon=True).start()
assert work(4) == 4
time.sleep(0.05)
raise SystemExit(7)
"""


def test_33_the_end_of_the_interpreter_is_quiet() -> None:
    """Calls in `atexit`, in finalisers and in daemon threads: no word, the exit code kept."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", SHUTDOWN],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 7
    assert ended.stderr == ""


def test_34_a_jump_of_the_wall_clock_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breakers and caches go by clocks that do not jump."""
    store = MemoryStore()
    store.set("k", 1, 60)
    hook = Hook.register(BEFORE, lambda context: None)
    now = time.time_ns
    for hours in (-1, 1):
        monkeypatch.setattr(time, "time", lambda hours=hours: now() / 1e9 + hours * 3600)
        monkeypatch.setattr(time, "time_ns", lambda hours=hours: now() + hours * 3600 * 10**9)
        asyncio.run(inner(1))
        assert store.get("k") == 1
        assert hook.breaker.passing
    assert store.get("other") is MISSING
    assert hook.calls == 2


def test_40_installed_and_not_configured_is_silent() -> None:
    """Without hooks, subscribers and telemetry a decorated call is the bare call."""
    program = """
from llmspell_otel.operations import tool
from llmspell_otel.operations.operation import current
seen = []
@tool
def work(number):
    seen.append(current.get())
    return number
assert work(1) == 1 and seen == [None]
"""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
