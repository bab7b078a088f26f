"""Waiting for asynchronous hooks: whatever they wait for, however they end."""

import asyncio
import contextvars
import gc
import random
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

import anyio
import pytest

from llmspell_otel.hooks import Hook, Replace
from llmspell_otel.hooks.breaker import BreakerProfile, BreakerState
from llmspell_otel.hooks.conditions import conditions
from llmspell_otel.hooks.context import Component, HookContext
from llmspell_otel.hooks.driving import consult, consult_async, drive_async
from llmspell_otel.hooks.registry import Slot, registry
from llmspell_otel.hooks.results import Result
from llmspell_otel.hooks.steps import abandoned
from llmspell_otel.hooks.waiting import HookTimeoutError, bounded, engine_loop

PATIENT = BreakerProfile(failure_threshold=10**6, slow_call_duration=60)
POINT = "custom:waiting"
Hooked = Callable[[], Coroutine[Any, Any, Any]]


async def fired() -> Any:
    """What the hooks of the point decide, asked from a task."""
    slot = registry.slot(POINT)
    context = HookContext(slot.point, Component("custom", "x"), {})
    ask = random.choice((consult_async, driven))  # two ways to the same
    result = await ask(slot, context)
    return result.value if isinstance(result, Replace) else result


async def driven(slot: Slot, context: HookContext) -> Result | None:
    """Asked by a flow, as operations do it."""
    return await drive_async(consult(slot, context))


def fired_sync() -> Any:
    """The same, asked from a thread that may block."""
    result = Hook.fire(POINT)
    return result.value if isinstance(result, Replace) else result


async def at_once() -> str:
    """Never suspends."""
    return "ok"


async def round_the_loop() -> str:
    """Suspends without a future."""
    for _ in range(3):
        await asyncio.sleep(0)
    return "ok"


async def sleeping() -> str:
    """Suspends on a timer."""
    await asyncio.sleep(0.001)
    return "ok"


async def gathering() -> str:
    """Suspends on several."""
    parts = await asyncio.gather(sleeping(), round_the_loop(), at_once())
    return parts[0]


async def grouped() -> str:
    """Has tasks of its own."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(sleeping())
    return task.result()


async def within_its_own_timeout() -> str:
    """Limits itself, in time."""
    async with asyncio.timeout(5):
        return await sleeping()


async def past_its_own_timeout() -> str:
    """Limits itself, and knows what to do then."""
    try:
        async with asyncio.timeout(0.002):
            await asyncio.sleep(10)
    except TimeoutError:
        return "ok"
    return "never"


async def waited_for() -> str:
    """Uses `wait_for`, both ways."""
    try:
        await asyncio.wait_for(asyncio.sleep(10), 0.002)
    except TimeoutError:
        return await asyncio.wait_for(sleeping(), 5)
    return "never"


async def scoped() -> str:
    """Uses anyio's cancel scopes."""
    with anyio.move_on_after(0.002) as scope:
        await anyio.sleep(10)
    assert scope.cancelled_caught
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 0.001)
    return "ok"


async def shielding() -> str:
    """Shields a part of itself."""
    return await asyncio.shield(sleeping())


async def in_a_thread() -> str:
    """Lets a thread do it."""
    return await asyncio.to_thread(lambda: "ok")


async def locking() -> str:
    """Waits in turn for a lock, an event and a queue."""
    lock, event, queue = asyncio.Lock(), asyncio.Event(), asyncio.Queue[str]()
    asyncio.get_running_loop().call_later(0.001, event.set)
    async with lock:
        await event.wait()
        queue.put_nowait("ok")
        return await queue.get()


WAYS = [
    at_once,
    round_the_loop,
    sleeping,
    gathering,
    grouped,
    within_its_own_timeout,
    past_its_own_timeout,
    waited_for,
    scoped,
    shielding,
    in_a_thread,
    locking,
]


def answering(way: Hooked) -> Any:
    """A hook that answers with what *way* gives."""

    async def hook(context: Any) -> Replace:
        return Replace(await way())

    return hook


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_hook_may_wait_in_any_way(way: Hooked) -> None:
    """Awaited by a task or by a blocked thread, the hook gives its answer."""
    handle = Hook.register(POINT, answering(way))
    assert asyncio.run(fired()) == "ok"
    assert fired_sync() == "ok"
    assert (handle.calls, handle.failures) == (2, 0)


def test_a_hook_runs_in_the_callers_task_and_context() -> None:
    """It sees the caller's context variables, and in a task its changes stay."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    async def hook(context: Any) -> Replace:
        await asyncio.sleep(0)
        seen = variable.get()
        variable.set("changed")
        return Replace((seen, asyncio.current_task()))

    async def main() -> None:
        variable.set("mine")
        assert await fired() == ("mine", asyncio.current_task())
        assert variable.get() == "changed"

    Hook.register(POINT, hook)
    asyncio.run(main())
    variable.set("blocking")
    assert fired_sync()[0] == "blocking"
    assert variable.get() == "blocking"


async def hangs() -> None:
    """Waits for ever."""
    await asyncio.sleep(3600)


async def spins() -> None:
    """Goes round the loop for ever."""
    while await asyncio.sleep(0, result=True):
        pass


async def will_not() -> None:
    """Goes on after every cancellation."""
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue


STUBBORN = threading.Event()


async def never_ends() -> None:
    """Not even closing ends it, as long as it is `STUBBORN`."""
    while STUBBORN.is_set():
        try:
            await asyncio.sleep(3600)
        except BaseException:
            continue


async def tidies_up() -> None:
    """Has something to await on its way out."""
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(3600)


@pytest.mark.parametrize("way", [hangs, spins, will_not, tidies_up, never_ends])
@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
def test_a_hook_that_does_not_come_back_is_left_at_its_time(way: Hooked, sync: bool) -> None:
    """The caller waits for no longer than the hook was given; nothing of it goes on."""
    STUBBORN.set()
    Hook.register(POINT, answering(way), timeout=0.03)
    Hook.register(POINT, lambda context: Replace("later"))

    async def main() -> tuple[Any, float]:
        tasks = asyncio.all_tasks()
        began = time.perf_counter()
        result = await fired()
        elapsed = time.perf_counter() - began
        assert asyncio.all_tasks() == tasks
        return result, elapsed

    def blocking() -> tuple[Any, float]:
        began = time.perf_counter()
        return fired_sync(), time.perf_counter() - began

    result, elapsed = blocking() if sync else asyncio.run(main())
    assert result == "later"
    assert elapsed < 0.03 + 0.5  # a bound for a busy machine; the fault list has the narrow one
    STUBBORN.clear()
    assert len(abandoned) == (way is never_ends)
    abandoned.clear()


def test_a_stubborn_hook_is_left_out_at_once() -> None:
    """One that went on after its cancellation is not given a second chance before its time."""
    handle = Hook.register(POINT, answering(will_not), timeout=0.01)
    asyncio.run(fired())
    assert handle.breaker.state is BreakerState.OPEN
    assert handle.breaker.stats.reason == "went on after it was cancelled"


def test_a_hook_that_hangs_again_and_again_is_left_out() -> None:
    """Each overrun is a failure; the breaker opens at its threshold."""
    handle = Hook.register(POINT, answering(hangs), timeout=0.005)

    async def main() -> None:
        for _ in range(5):
            await fired()

    asyncio.run(main())
    assert handle.failures == 3
    assert handle.breaker.state is BreakerState.OPEN


@pytest.mark.parametrize("way", [hangs, spins, will_not, gathering, grouped, scoped])
def test_cancelling_the_caller_reaches_hook_and_caller(way: Hooked) -> None:
    """The hook may swallow its cancellation; the caller's own is not lost."""
    Hook.register(POINT, answering(way), timeout=0.05)

    async def main() -> None:
        tasks = asyncio.all_tasks()
        task = asyncio.create_task(fired())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert asyncio.all_tasks() == tasks

    asyncio.run(main())


def test_cancelling_waits_for_the_hooks_own_task_as_usual() -> None:
    """What the hook awaits is cancelled, and its clean-up is seen through."""
    seen: list[str] = []

    async def inner() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(0.005)
            seen.append("tidied")

    async def way() -> None:
        await asyncio.create_task(inner())

    Hook.register(POINT, answering(way))

    async def main() -> None:
        task = asyncio.create_task(fired())
        await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seen == ["tidied"]

    asyncio.run(main())


def test_a_hosts_timeout_around_the_call_works() -> None:
    """`asyncio.timeout` of the host cuts the hook off and is told so."""
    Hook.register(POINT, answering(hangs), timeout=10)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await fired()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    asyncio.run(main())


@pytest.mark.parametrize("when", range(8))
def test_cancelled_at_any_moment(when: int) -> None:
    """Whenever the caller is cancelled, it either has its answer or the cancellation."""
    Hook.register(POINT, answering(gathering))

    async def main() -> None:
        task = asyncio.create_task(fired())
        for _ in range(when):
            await asyncio.sleep(0)
        task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        assert outcome == "ok" or isinstance(outcome, asyncio.CancelledError)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_a_hooks_exception_is_isolated_after_it_waited() -> None:
    """The later hooks are asked, and the failure is counted."""

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError

    handle = Hook.register(POINT, answering(fails))
    Hook.register(POINT, lambda context: Replace("later"))
    assert asyncio.run(fired()) == "later"
    assert fired_sync() == "later"
    assert handle.failures == 2


class Waits:
    """An awaitable that is no coroutine."""

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self._awaitable = awaitable

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._awaitable.__await__()


def test_any_awaitable_is_an_answer() -> None:
    """A plain function may hand back something to await."""
    Hook.register(POINT, lambda context: Waits(answering(sleeping)(context)))
    assert asyncio.run(fired()) == "ok"
    assert fired_sync() == "ok"


def test_any_awaitable_is_waited_for_no_longer_than_its_time() -> None:
    """Its own `TimeoutError` is told apart from ours."""

    async def main() -> None:
        with pytest.raises(HookTimeoutError, match=r"0\.01 s"):
            await bounded(Waits(hangs()), 0.01)
        with pytest.raises(TimeoutError, match="mine"):
            await bounded(Waits(complaining()), 5)
        assert await bounded(Waits(sleeping()), None) == "ok"

    async def complaining() -> None:
        raise TimeoutError("mine")

    asyncio.run(main())


def test_what_is_no_future_is_a_failure_of_the_hook() -> None:
    """A hook written for another event loop is isolated like any other fault."""

    class Strange:
        def __await__(self) -> Generator[Any, Any, None]:
            yield "trio speaks otherwise"

    async def way() -> None:
        await Strange()

    handle = Hook.register(POINT, answering(way))
    Hook.register(POINT, lambda context: Replace("later"))
    assert asyncio.run(fired()) == "later"
    assert handle.failures == 1


def test_a_blocking_call_inside_an_asynchronous_hook_can_have_asynchronous_hooks() -> None:
    """The engine's loop does not wait for itself."""

    async def inner(context: Any) -> Replace:
        await asyncio.sleep(0.001)
        return Replace("inner")

    async def outer(context: Any) -> Replace:
        result = Hook.fire("custom:inner")
        assert isinstance(result, Replace)
        return Replace(f"outer of {result.value}")

    Hook.register("custom:inner", inner)
    Hook.register(POINT, outer)
    assert fired_sync() == "outer of inner"
    assert asyncio.run(fired()) == "outer of inner"


def test_a_caller_whose_coroutine_is_thrown_away_leaves_nothing_behind() -> None:
    """Closing the caller in the middle of a hook closes the hook."""
    seen: list[type[BaseException]] = []

    async def way() -> None:
        try:
            await asyncio.sleep(10)
        except BaseException as error:
            seen.append(type(error))
            raise

    Hook.register(POINT, answering(way))

    async def main() -> None:
        running = fired()
        running.send(None)
        running.close()
        assert seen == [GeneratorExit]
        assert not registry.slot(POINT).busy

    asyncio.run(main())
    gc.collect()


def test_hooks_of_many_threads_share_the_engines_loop() -> None:
    """They wait beside each other, not one after another."""
    here = 0
    everybody = asyncio.Event()

    async def way() -> str:
        nonlocal here
        here += 1
        if here == 20:
            everybody.set()
        await everybody.wait()
        return "ok"

    Hook.register(POINT, answering(way), timeout=30)
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(fired_sync())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["ok"] * 20


def test_a_hooks_own_time_goes_before_the_common_one() -> None:
    """The engine's default holds where a hook says nothing."""
    conditions.timeout = 0.005
    Hook.register(POINT, answering(sleeping), timeout=5)
    Hook.register(POINT, answering(hangs), priority="high")
    assert asyncio.run(fired()) == "ok"


def test_the_engines_loop_starts_without_being_waited_for() -> None:
    """Things can be left to it."""
    done = threading.Event()

    async def work() -> None:
        done.set()

    engine_loop.start(work(), 1.0)
    assert done.wait(5)


def test_each_of_many_waits_ends_at_its_own_time() -> None:
    """They share a timer; whoever began later, or has less time, is not cut off with others."""
    conditions.timeout = 0.1
    Hook.register(POINT, answering(hangs), breaker=PATIENT)
    Hook.register(POINT, answering(hangs), timeout=0.03, breaker=PATIENT)

    async def timed(after: float) -> float:
        await asyncio.sleep(after)
        began = time.perf_counter()
        await fired()
        return time.perf_counter() - began

    async def main() -> list[float]:
        return await asyncio.gather(*(timed(number / 500) for number in range(50)))

    taken = asyncio.run(main())
    assert min(taken) >= 0.13
    assert sorted(taken)[25] < 0.13 + 0.1


def test_waits_of_a_new_loop_do_not_wait_for_a_closed_one() -> None:
    """A timer that was left in a closed loop is not counted on."""
    conditions.timeout = 0.02
    handle = Hook.register(POINT, answering(hangs), breaker=PATIENT)
    for turn in range(1, 4):
        asyncio.run(fired())
        assert handle.failures == turn
