"""Asynchronous hooks begun where they are called: each firing asks anew, whatever came before."""

import asyncio
import functools
import gc
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from llmspell_otel.hooks import Cancel, Continue, Hook, Modified, Replace, Result
from llmspell_otel.hooks.breaker import BreakerProfile
from llmspell_otel.hooks.registration import Registration

PATIENT = BreakerProfile(failure_threshold=10**6, slow_call_duration=60)
POINT = "custom:steps"


def registered(hook: Callable[[Any], Any], **options: Any) -> Registration:
    """*hook*, at the point of these tests."""
    return Hook.register(POINT, hook, breaker=PATIENT, **options)


def at_once(context: Any) -> None:
    """Is not asynchronous."""


async def quiet(context: Any) -> None:
    """Ends with its first step, and says nothing."""


async def turning(context: Any) -> None:
    """Waits for the loop's next turn: it yields None, which is no answer."""
    await asyncio.sleep(0)


async def answering(context: Any) -> Result:
    """Ends with its first step, and says something."""
    return Replace("said")


async def answering_later(context: Any) -> Result:
    """Suspends, and says something then."""
    await asyncio.sleep(0)
    return Replace("said")


async def raising(context: Any) -> None:
    """Fails in its first step."""
    raise ValueError


async def ending(context: Any) -> None:
    """Raises what ends generators, which is a failure like any other."""
    raise StopIteration(Cancel("an answer in disguise"))


KINDS = (quiet, turning, answering, answering_later, raising, ending)


@pytest.mark.parametrize("neighbour", [None, quiet, at_once])
@pytest.mark.parametrize("hook", KINDS, ids=lambda hook: hook.__name__)
def test_every_firing_asks_anew(hook: Any, neighbour: Any) -> None:
    """However an earlier firing of it ended, the hook is asked, and heard, the next time."""
    handles = [registered(each) for each in (hook, neighbour) if each]
    wanted = Replace("said") if "answering" in hook.__name__ else Continue()

    async def main() -> None:
        for _ in range(5):
            assert await Hook.fire_async(POINT) == wanted

    asyncio.run(main())
    assert handles[0].calls == 5
    assert handles[0].failures == (5 if hook in (raising, ending) else 0)
    assert all(each.calls == (0 if wanted.decides else 5) for each in handles[1:])


def test_firings_overlap() -> None:
    """While one firing of a hook is suspended, others ask it too, each with its own context."""
    seen: list[str] = []

    async def hook(context: Any) -> Result:
        mine = context.data["input"]
        await asyncio.sleep(0.001 * (mine % 3))
        seen.append(mine)
        return Modified({"output": mine})

    registered(hook)

    async def one(number: int) -> None:
        data: dict[str, Any] = {"input": number}
        await Hook.fire_async(POINT, data)
        assert data["output"] == number

    async def main() -> None:
        await asyncio.gather(*(one(number) for number in range(100)))

    asyncio.run(main())
    assert sorted(seen) == list(range(100))


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
@pytest.mark.parametrize("neighbours", [0, 1])
def test_what_ends_the_program_goes_through_and_the_hook_stays(
    error: type[BaseException], neighbours: int
) -> None:
    """What is no `Exception` reaches the caller from a first step; the next firing asks anew."""
    raised = [error()]

    async def hook(context: Any) -> Result:
        if raised:
            raise raised.pop()
        return Replace("asked")

    for _ in range(neighbours):
        registered(quiet)
    registered(hook)

    async def main() -> None:
        firing = Hook.fire_async(POINT)
        with pytest.raises(error):
            firing.send(None)
        assert await Hook.fire_async(POINT) == Replace("asked")

    asyncio.run(main())


class ByItsCall:
    """An object whose call is asynchronous."""

    async def __call__(self, context: Any) -> Result:
        return Replace(self)

    async def method(self, context: Any) -> Result:
        """A bound method does as well."""
        return Replace(self)


def test_whatever_is_called_asynchronously_is_begun() -> None:
    """Objects, bound methods, partial calls, and what only looks asynchronous."""
    owner = ByItsCall()

    async def more(wanted: object, context: Any) -> Result:
        return Replace(wanted)

    for hook in (owner, owner.method, functools.partial(more, owner)):
        handle = registered(hook)
        assert asyncio.run(Hook.fire_async(POINT)) == Replace(owner)
        assert Hook.fire(POINT) == Replace(owner)
        assert (handle.calls, handle.failures) == (2, 0)
        handle.unregister()


@pytest.mark.parametrize("hook", [quiet, turning, answering])
def test_nothing_of_a_firing_is_kept(hook: Any) -> None:
    """What the caller handed in is free again when the firing is over."""

    class Input:
        """Can be referred to weakly."""

    registered(hook)

    async def main() -> weakref.ref[Input]:
        held = Input()
        await Hook.fire_async(POINT, {"input": held})
        return weakref.ref(held)

    kept = asyncio.run(main())
    gc.collect()
    assert kept() is None


def test_a_hook_that_takes_itself_out_while_it_suspends_ends_all_the_same() -> None:
    """The firing under way ends as it began; the next does not ask it."""

    async def hook(context: Any) -> Result:
        handle.unregister()
        await asyncio.sleep(0)
        return Replace("last words")

    handle = registered(hook)

    async def main() -> None:
        assert await Hook.fire_async(POINT) == Replace("last words")
        assert await Hook.fire_async(POINT) == Continue()

    asyncio.run(main())


def test_a_hook_that_fires_its_own_point_is_bounded() -> None:
    """Recursion ends at the engine's depth, and the hook is still asked afterwards."""

    async def hook(context: Any) -> None:
        await Hook.fire_async(POINT)

    handle = registered(hook)

    async def main() -> None:
        await Hook.fire_async(POINT)
        first = handle.calls
        await Hook.fire_async(POINT)
        assert (first, handle.calls) == (8, 16)

    asyncio.run(main())


def test_threads_with_loops_of_their_own_share_a_hook() -> None:
    """Each firing is asked once, whichever thread it comes from."""
    handle = registered(turning)

    async def main() -> None:
        for _ in range(200):
            await Hook.fire_async(POINT)

    threads = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (handle.calls, handle.failures) == (800, 0)


def test_a_fork_in_the_midst_of_a_first_step_asks_anew_in_the_child() -> None:
    """The child has no use for what another thread of the parent was stepping with."""
    entered, let_go = threading.Event(), threading.Event()

    async def hook(context: Any) -> None:
        if context.data.get("hold"):
            entered.set()
            let_go.wait(10)

    handle = registered(hook)
    asyncio.run(Hook.fire_async(POINT))
    thread = threading.Thread(target=lambda: asyncio.run(Hook.fire_async(POINT, {"hold": True})))
    thread.start()
    assert entered.wait(10)
    child = os.fork()
    if not child:
        asked = handle.calls
        asyncio.run(Hook.fire_async(POINT))
        os._exit(not (handle.calls == asked + 1 and not handle.failures))
    let_go.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
