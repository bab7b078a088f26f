"""The guest never breaks the host: cases 1 to 10 of the fault list."""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from llmspell_otel.errors import OperationCancelled
from llmspell_otel.events import default_bus
from llmspell_otel.hooks import Cache, Cancel, Hook, Modified, Replace, Retry, Skipped
from llmspell_otel.hooks.breaker import BreakerProfile, BreakerState
from llmspell_otel.hooks.engine import MAX_DEPTH
from llmspell_otel.hooks.registry import registry
from llmspell_otel.operations import tool
from tests.kit.named import named

BEFORE, AFTER, ERROR = "tool:before_execution", "tool:after_execution", "tool:error"
NEVER = BreakerProfile(failure_threshold=10**6, slow_call_threshold=10**6)


@tool
def work(given: Any) -> Any:
    """Give what was given, or raise it."""
    if isinstance(given, BaseException):
        raise given
    return given


@tool
async def awork(given: Any) -> Any:
    """The same, asynchronously."""
    await asyncio.sleep(0)
    if isinstance(given, BaseException):
        raise given
    return given


@pytest.fixture(autouse=True)
def no_hooks_left() -> Iterator[None]:
    """Take out what a test registered."""
    registry.clear()
    yield
    registry.clear()


@pytest.fixture
def ended() -> Iterator[list[Any]]:
    """The closing events of tools."""
    heard: list[Any] = []
    names = ("tool:execution_complete", "tool:execution_error")
    subscription = default_bus().subscribe(names, heard.append)
    yield heard
    subscription.unsubscribe()


def counting(log: list[int], number: int) -> Callable[[Any], None]:
    """A hook that notes that it was asked."""
    return lambda context: log.append(number)


@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize("sync", [True, False])
def test_1_a_raising_hook_is_isolated(
    position: int, sync: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller's value and error are untouched, the others ran, it is told once."""
    asked: list[int] = []

    def fails(context: Any) -> None:
        raise ValueError("from the hook")

    for point in (BEFORE, AFTER, ERROR):
        for number in range(4):
            function = fails if number == position else counting(asked, number)
            Hook.register(point, function, breaker=NEVER)
    value, error = object(), KeyError("from the tool")
    for _ in range(3):
        assert (work(value) if sync else asyncio.run(awork(value))) is value
        with pytest.raises(KeyError) as caught:
            work(error) if sync else asyncio.run(awork(error))
        assert caught.value is error
    others = [number for number in range(4) if number != position]
    assert asked == others * 12
    broken = [hook for hook in Hook.list() if hook.function is fails]
    assert [hook.failures for hook in broken] == [6, 3, 3]
    assert len([each for each in caplog.records if "failed at" in each.message]) == 3


@pytest.mark.parametrize(
    "kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit]
)
@pytest.mark.parametrize("point", [BEFORE, AFTER])
def test_2_what_stops_a_program_goes_through(
    kind: type[BaseException], point: str, ended: list[Any]
) -> None:
    """Unchanged; the error hooks ran once, the operation ended once."""
    stop, seen = kind("stop"), []

    def stops(context: Any) -> None:
        raise stop

    Hook.register(point, stops)
    Hook.register(ERROR, lambda context: seen.append(context.error))
    with pytest.raises(kind) as caught:
        work(1)
    assert caught.value is stop
    assert len(ended) == 1
    assert seen == ([] if kind is GeneratorExit else [stop])


@pytest.mark.parametrize(
    "kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit]
)
def test_2_what_stops_a_program_in_the_call_goes_through(
    kind: type[BaseException], ended: list[Any]
) -> None:
    """Hooks may look, and can change nothing."""
    Hook.register(ERROR, lambda context: Replace("recovered"))
    stop = kind("stop")
    with pytest.raises(kind) as caught:
        work(stop)
    assert caught.value is stop
    assert len(ended) == 1


class Hostile:
    """Nothing can be done with it."""

    def __str__(self) -> str:
        raise ValueError("str")

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        raise ValueError("eq")

    __hash__ = None  # type: ignore[assignment]

    def __deepcopy__(self, memo: object) -> "Hostile":
        raise ValueError("copy")

    def __bool__(self) -> bool:
        raise ValueError("bool")


def test_3_hostile_values_pass(ended: list[Any]) -> None:
    """Neither text, nor comparison, nor truth, nor copies are asked of the host's objects."""
    for point in (BEFORE, AFTER):
        Hook.register(point, lambda context: Cache(key="k"))
        Hook.register(point, lambda context: Modified({"note": Hostile()}))
    hostile = Hostile()
    assert work(hostile) is hostile
    assert work(hostile) is hostile
    assert len(ended) == 2


def test_4_a_hanging_hook_is_cut_off() -> None:
    """Within its time and 20 ms; the later hooks run; after n of them it is left out."""
    later: list[int] = []

    async def hangs(context: Any) -> None:
        await asyncio.sleep(3600)

    handle = Hook.register(BEFORE, hangs, timeout=0.05)
    Hook.register(BEFORE, counting(later, 1))

    async def main() -> list[float]:
        taken = []
        for _ in range(5):
            began = time.perf_counter()
            assert await awork(1) == 1
            taken.append(time.perf_counter() - began)
        assert len(asyncio.all_tasks()) == 1
        return taken

    taken = asyncio.run(main())
    assert min(taken[:3]) < 0.05 + 0.02
    assert max(taken[3:]) < 0.05
    assert later == [1] * 5
    assert handle.breaker.state is BreakerState.OPEN


def test_5_a_hook_that_ignores_cancellation_is_quarantined() -> None:
    """The caller goes on within its time and 50 ms; the hook is left out at once.

    The quickest of three counts: what the machine takes from a test is not the hook's.
    """

    async def stubborn(context: Any) -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                continue

    async def main() -> float:
        began = time.perf_counter()
        assert await awork(1) == 1
        taken = time.perf_counter() - began
        assert len(asyncio.all_tasks()) == 1
        return taken

    taken = []
    for _ in range(3):
        handle = Hook.register(BEFORE, stubborn, timeout=0.03)
        taken.append(asyncio.run(main()))
        assert handle.breaker.state is BreakerState.OPEN
        handle.unregister()
    assert min(taken) < 0.03 + 0.05


def test_6_a_blocking_hook_blocks_once() -> None:
    """With a time of its own, the overrun opens its breaker: the next call does not wait."""
    handle = Hook.register(BEFORE, lambda context: time.sleep(0.1), timeout=0.05)
    assert work(1) == 1
    began = time.perf_counter()
    assert work(1) == 1
    assert time.perf_counter() - began < 0.05
    assert (handle.calls, handle.breaker.state) == (1, BreakerState.OPEN)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("points", [1, 3])
def test_7_a_hook_that_fires_itself_is_bounded(
    asynchronous: bool, points: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Alone or in a circle: no deeper than the limit, one error line, the caller is served."""
    depth: list[int] = []
    names = [f"custom:circle_{number}" for number in range(points)]

    for here, there in zip(names, [*names[1:], names[0]], strict=True):

        def sync(context: Any, there: str = there) -> None:
            depth.append(1)
            Hook.fire(there)

        async def awaited(context: Any, there: str = there) -> None:
            depth.append(1)
            await asyncio.sleep(0)
            Hook.fire(there)

        Hook.register(here, awaited if asynchronous else sync, timeout=30, breaker=NEVER)
    Hook.fire(names[0])
    assert MAX_DEPTH - 1 <= len(depth) <= MAX_DEPTH + points
    assert len([each for each in caplog.records if each.levelno == logging.ERROR]) == 1
    assert not any(registry.slot(name).busy for name in names)


def test_8_registering_while_firing_loses_no_call() -> None:
    """Four threads fire, two register and take out: every call is counted."""
    steady = Hook.register("custom:busy", lambda context: None, breaker=NEVER)

    def fire() -> None:
        for _ in range(2000):
            Hook.fire("custom:busy")

    def change() -> None:
        for _ in range(300):
            Hook.register("custom:busy", lambda context: None).unregister()

    with ThreadPoolExecutor(6) as pool:
        done = [pool.submit(each) for each in [fire] * 4 + [change] * 2]
    assert [each.exception() for each in done] == [None] * 6
    assert steady.calls == 8000


def test_9_changes_in_place_do_not_reach_the_call() -> None:
    """Only `Modified` changes arguments; the mapping hooks are given is theirs alone."""

    def meddles(context: Any) -> None:
        context.data["input"]["given"] = "changed"
        context.data.clear()

    Hook.register(BEFORE, meddles)
    Hook.register(AFTER, meddles)
    assert work("mine") == "mine"


RESULTS = {
    "modified": lambda: Modified({"input": {"given": "modified"}}),
    "cancel": lambda: Cancel("no"),
    "replace": lambda: Replace("replaced"),
    "retry": lambda: Retry(delay=0, max_attempts=2),
    "skipped": lambda: Skipped("not me"),
    "none": lambda: None,
}


@pytest.mark.parametrize("order", [*itertools.permutations(RESULTS, 3)], ids="-".join)
def test_10_results_in_every_order(order: tuple[str, ...]) -> None:
    """The first that decides decides; what was modified before it stays; Skipped hides nothing."""
    asked: list[str] = []

    def saying(word: str) -> Callable[[Any], Any]:
        def hook(context: Any) -> Any:
            asked.append(word)
            return RESULTS[word]()

        return hook

    for word in order:
        Hook.register(BEFORE, saying(word))
    deciding = [word for word in order if word in ("cancel", "replace", "retry")]
    first = deciding[0] if deciding else None
    if first == "cancel":
        with pytest.raises(OperationCancelled):
            work("plain")
    else:
        expected = "modified" if "modified" in order else "plain"
        if first == "retry" and "modified" in order[order.index("retry") :]:
            expected = "plain"
        assert work("plain") == ("replaced" if first == "replace" else expected)
    reached = order[: order.index(first) + 1] if first else order
    assert asked == list(reached) * (2 if first == "retry" else 1)


@pytest.mark.parametrize(
    "nonsense",
    [
        42,
        object(),
        {"type": "explode"},
        {"type": "retry", "delay_ms": "soon"},
        {"type": "modified", "data": 3},
        {"type": "fork", "operations": 3},
        {"type": "cache", "key": []},
        {"type": "retry", "max_attempts": 0},
        {"continue_execution": "perhaps"},
        {"action": "redirect"},
    ],
    ids=named,
)
def test_answers_that_make_no_sense_are_failures_of_the_hook(nonsense: Any) -> None:
    """They are reported and counted; the call goes on, and fail-closed hooks close."""
    handle = Hook.register(BEFORE, lambda context: nonsense, breaker=NEVER)
    assert work(1) == 1
    assert handle.failures == 1
    handle.unregister()
    Hook.register(BEFORE, lambda context: nonsense, on_failure="cancel")
    with pytest.raises(OperationCancelled, match="fails closed"):
        work(1)
