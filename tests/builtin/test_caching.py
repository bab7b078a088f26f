"""The caching hook, on real SDK calls and on plain functions."""

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import InternalServerError

from llmspell_otel import Cancel, Hook, OperationCancelled, tool
from llmspell_otel.builtin.caching import Cacher, CachingSettings, rows_of
from llmspell_otel.builtin.fingerprint import Unkeyable, fingerprint
from llmspell_otel.builtin.flights import Flights
from llmspell_otel.builtin.vault import Entry, Memory, packed, unpacked, weigh
from llmspell_otel.hooks.registry import registry
from llmspell_otel.testing import Reply, Usage
from tests.builtin.support import Clock, ask, events, said, streamed

pytestmark = pytest.mark.usefixtures("instrumented")
Serve = Callable[..., Any]


class Counted:
    """A tool that counts its calls."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.calls: list[Any] = []

        @tool("look_up")
        def look_up(query: Any, user: str = "") -> dict[str, Any]:
            self.calls.append(query)
            time.sleep(seconds)
            if query == "fail":
                raise ValueError(query)
            return {"found": [query], "call": len(self.calls)}

        self.look_up = look_up


def cached_by(clock: Clock, **settings: Any) -> Cacher:
    """A caching hook with that clock, registered."""
    cacher_settings = CachingSettings(include=("tool:*",), **settings)
    cacher = Cacher(cacher_settings, clock=clock)
    registry.register_all(rows_of(cacher_settings, cacher))
    return cacher


def test_the_second_equal_call_is_not_made(serve: Serve) -> None:
    """Its caller gets what the first gave, and an object of his own."""
    Hook.enable_builtin("caching")
    served = serve(Reply.text("hello"), Reply.text("again"))
    first, second = ask(served.client), ask(served.client)
    assert said(first) == said(second) == "hello"
    assert type(second) is type(first)
    second.choices[0].message.content = "changed"
    assert said(ask(served.client)) == "hello"
    assert said(ask(served.client, "Other.")) == "again"
    assert len(served.requests) == 2


def test_asynchronous_calls_are_cached_alike(serve: Serve) -> None:
    """The same hook serves both worlds."""
    Hook.enable_builtin("caching")
    served = serve(Reply.text("hello"), Reply.text("async"))

    async def twice(client: Any) -> list[str]:
        return [said(await ask(client)), said(await ask(client))]

    answers = served.run(twice)
    assert answers[0] == answers[1]
    assert len(served.requests) == 1


def test_a_stream_is_replayed_as_a_stream(serve: Serve) -> None:
    """Chunk by chunk, as it came; a plain call of the same input is another call."""
    Hook.enable_builtin("caching")
    served = serve(Reply.text("hello there, you"), Reply.text("plain"))
    first = list(ask(served.client, stream=True))
    second = list(ask(served.client, stream=True))
    assert [chunk.model_dump() for chunk in first] == [chunk.model_dump() for chunk in second]
    assert len(first) > 2
    assert said(ask(served.client)) == "plain"
    assert len(served.requests) == 2


def test_a_stream_that_was_left_is_not_kept(serve: Serve) -> None:
    """Half an answer must not become the answer."""
    Hook.enable_builtin("caching")
    served = serve(Reply.text("hello there, you"), Reply.text("the whole of it"))
    with ask(served.client, stream=True) as stream:
        next(stream)
    assert streamed(ask(served.client, stream=True)) == "the whole of it"


def test_failures_are_not_kept(serve: Serve) -> None:
    """The next call is made."""
    Hook.enable_builtin("caching")
    served = serve(Reply.error(500, "down"), Reply.text("hello"))
    with pytest.raises(InternalServerError):
        ask(served.client)
    assert said(ask(served.client)) == "hello"


def test_failures_are_kept_when_asked() -> None:
    """For a time of their own, and raised anew."""
    clock = Clock()
    cached_by(clock, cache_errors=True, error_ttl=5)
    counted = Counted()
    for _ in range(2):
        with pytest.raises(ValueError, match="fail"):
            counted.look_up("fail")
    assert counted.calls == ["fail"]
    clock.advance(5.1)
    with pytest.raises(ValueError, match="fail"):
        counted.look_up("fail")
    assert len(counted.calls) == 2


def test_outputs_serve_for_their_time() -> None:
    """No longer, and by component if told so."""
    clock = Clock()
    cached_by(clock, ttl=10, ttls={"tool:look_*": 20})
    counted = Counted()
    counted.look_up("a")
    clock.advance(19.9)
    counted.look_up("a")
    assert len(counted.calls) == 1
    clock.advance(0.2)
    counted.look_up("a")
    assert len(counted.calls) == 2


@pytest.mark.parametrize(("extend", "calls"), [(True, 1), (False, 2)])
def test_a_hit_may_begin_the_time_anew(extend: bool, calls: int) -> None:
    """If `extend_on_hit` says so."""
    clock = Clock()
    cached_by(clock, ttl=10, extend_on_hit=extend)
    counted = Counted()
    for _ in range(3):
        counted.look_up("a")
        clock.advance(8)
    assert len(counted.calls) == calls


def test_the_least_recently_used_goes_first() -> None:
    """When there are more outputs than may be kept."""
    cached_by(Clock(), max_entries=2)
    counted = Counted()
    for query in ("a", "b", "a", "c", "a", "b"):
        counted.look_up(query)
    assert counted.calls == ["a", "b", "c", "b"]


def test_outputs_are_bounded_in_size() -> None:
    """One by one, and together."""
    cacher = cached_by(Clock(), max_entry_bytes=2_000, max_bytes=4_096)
    counted = Counted()
    counted.look_up("x" * 3_000)
    assert len(cacher.memory) == 0
    for number in range(5):
        counted.look_up(f"{number}" * 1_000)
    assert len(cacher.memory) == 2  # of some 1,400 bytes each


def test_quick_calls_need_not_be_kept() -> None:
    """Those below `min_seconds` are made each time."""
    clock = Clock()
    cached_by(clock, min_seconds=1.0)
    counted = Counted()
    counted.look_up("a")
    counted.look_up("a")
    assert len(counted.calls) == 2


def test_tools_are_cached_only_when_named() -> None:
    """By default only models are."""
    Hook.enable_builtin("caching")
    counted = Counted()
    counted.look_up("a")
    counted.look_up("a")
    assert len(counted.calls) == 2
    Hook.enable_builtin("caching", include="tool:look_*")
    counted.look_up("b")
    counted.look_up("b")
    assert len(counted.calls) == 3


def test_some_arguments_make_no_difference() -> None:
    """`user` and time stamps by default; all but `key_fields` if those are named."""
    cached_by(Clock())
    counted = Counted()
    counted.look_up("a", user="ann")
    counted.look_up("a", user="bob")
    assert len(counted.calls) == 1


def test_chosen_arguments_make_all_the_difference() -> None:
    """Whatever the others say."""
    cached_by(Clock(), key_fields=["user"])
    counted = Counted()
    counted.look_up("a", user="ann")
    counted.look_up("b", user="ann")
    counted.look_up("b", user="bob")
    assert counted.calls == ["a", "b"]


def test_users_may_be_kept_apart() -> None:
    """Then nobody is given another's answer."""
    cached_by(Clock(), scope="user")
    counted = Counted()
    counted.look_up("a", user="ann")
    counted.look_up("a", user="bob")
    counted.look_up("a", user="ann")
    assert len(counted.calls) == 2


def test_times_in_texts_may_be_the_same() -> None:
    """If told so."""
    cached_by(Clock(), ignore_times=True)
    counted = Counted()
    counted.look_up("It is 2026-11-22T10:00:00Z. Hello.")
    counted.look_up("It is 2026-11-22T10:00:07.123+01:00. Hello.")
    counted.look_up("It is late. Hello.")
    assert len(counted.calls) == 2


# -- single flight


def test_a_herd_of_threads_makes_one_call() -> None:
    """All of them get what it gave."""
    Hook.enable_builtin("caching", include="tool:*")
    counted = Counted(seconds=0.2)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(counted.look_up, ["a"] * 16))
    assert len(counted.calls) == 1
    assert all(answer == answers[0] for answer in answers)
    assert len({id(answer) for answer in answers}) == 16


def test_a_herd_of_tasks_makes_one_call(serve: Serve) -> None:
    """Without blocking the event loop."""
    Hook.enable_builtin("caching")
    served = serve(Reply.text("hello", delay=0.2), *[Reply.text("more")] * 20)

    async def herd(client: Any) -> list[str]:
        return [said(each) for each in await asyncio.gather(*[ask(client) for _ in range(20)])]

    assert served.run(herd) == ["hello"] * 20
    assert len(served.requests) == 1


def test_without_single_flight_each_makes_its_own() -> None:
    """The setting says so."""
    Hook.enable_builtin("caching", include="tool:*", single_flight=False)
    counted = Counted(seconds=0.1)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(counted.look_up, ["a"] * 4))
    assert len(counted.calls) == 4


def test_a_leader_that_fails_sends_the_others_on_their_way() -> None:
    """Nobody hangs, and nobody is given another's error."""
    Hook.enable_builtin("caching", include="tool:*")
    counted = Counted(seconds=0.1)

    def attempt(_: int) -> str:
        try:
            counted.look_up("fail")
        except ValueError as error:
            return str(error)
        return "no error"

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(attempt, range(4))) == ["fail"] * 4
    assert len(counted.calls) == 4


def test_a_waiting_task_that_is_cancelled_leaves_the_others_alone(serve: Serve) -> None:
    """Its own wait ends, theirs does not."""
    Hook.enable_builtin("caching")
    served = serve(Reply.text("hello", delay=0.3), *[Reply.text("more")] * 3)

    async def work(client: Any) -> Any:
        tasks = [asyncio.create_task(ask(client)) for _ in range(3)]
        await asyncio.sleep(0.1)
        tasks[1].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, second, third = served.run(work)
    assert said(first) == said(third) == "hello"
    assert isinstance(second, asyncio.CancelledError)
    assert len(served.requests) == 1


def test_a_leader_that_another_hook_stops_keeps_nobody_waiting() -> None:
    """A hook asked after the last may cancel the call without a word to the cache."""
    Hook.enable_builtin("caching", include="tool:*", wait=20)
    Hook.register("tool:before_execution", lambda _: Cancel("no"), priority="lowest", name="no")
    counted = Counted()
    began = time.monotonic()
    for _ in range(2):
        with pytest.raises(OperationCancelled):
            counted.look_up("a")
        gc.collect()
    assert time.monotonic() - began < 5


def test_the_collector_may_end_a_flight_at_any_moment() -> None:
    """Also while the same thread joins another: nothing is waited for."""
    flights: Flights[Any] = Flights()

    class Operation:
        pass

    operation = Operation()
    _, leads = flights.join("a", operation)
    assert leads
    flight, leads = flights.join("a", Operation())
    assert not leads
    with flights._lock:  # where a collection inside of `join` would find us
        del operation
        gc.collect()
    assert flight.outcome is not None
    assert flight.outcome.done()
    assert not len(flights)
    assert len(flights) == 0


def test_an_operation_does_not_wait_for_the_one_around_it() -> None:
    """A tool that calls itself with the same input would wait for itself."""
    Hook.enable_builtin("caching", include="tool:*", wait=20)
    depth: list[int] = []

    @tool
    def again(query: str) -> str:
        depth.append(1)
        return again(query) if len(depth) < 3 else "deep"

    began = time.monotonic()
    assert again("a") == "deep"
    assert time.monotonic() - began < 5


def test_a_blocking_call_does_not_wait_for_a_task_of_its_own_loop() -> None:
    """The task could not go on while the loop is blocked."""
    Hook.enable_builtin("caching", include="tool:*", wait=20)
    calls: list[str] = []

    async def slow(query: str) -> str:
        calls.append("slow")
        await asyncio.sleep(0.05)
        return "slow"

    def quick(query: str) -> str:
        calls.append("quick")
        return "quick"

    slow.__qualname__ = quick.__qualname__ = "one"
    slowly, quickly = tool("one")(slow), tool("one")(quick)

    async def main() -> list[str]:
        task = asyncio.create_task(slowly("a"))
        await asyncio.sleep(0.01)
        return [quickly("a"), await task]

    began = time.monotonic()
    assert asyncio.run(main()) == ["quick", "slow"]
    assert time.monotonic() - began < 5


# -- what is told


def test_hits_tell_what_they_saved(serve: Serve) -> None:
    """Seconds and dollars, as an event; and the decision says hit or miss."""
    Hook.enable_builtin("caching")
    usage = Usage(input=1000, output=100)
    served = serve(Reply.text("hello", usage=usage, delay=0.05))
    with events("cache:hit") as hits, events("model:call_complete") as ends:
        Hook.register("model:after_call", _priced, priority="high")
        ask(served.client)
        ask(served.client)
    (hit,) = hits
    assert 0.05 <= hit["saved_seconds"] < 5
    assert hit["saved_dollars"] == 0.25
    results = [
        decision["attributes"]["llmspell.cache.result"]
        for end in ends
        for decision in end["decisions"]
        if "attributes" in decision
    ]
    assert results == ["miss", "hit"]


def _priced(context: Any) -> None:
    context.operation.cost = Decimal("0.25")


# -- keys


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def _reordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _reordered(value[key]) for key in reversed(list(value))}
    return [_reordered(item) for item in value] if isinstance(value, list) else value


@given(JSON)
def test_the_order_of_names_makes_no_difference(value: Any) -> None:
    """At no depth."""
    assert fingerprint(value) == fingerprint(_reordered(value))


@given(JSON, JSON)
def test_different_inputs_have_different_keys(one: Any, other: Any) -> None:
    """And only equal ones the same; 1, 1.0 and True are told apart."""
    if repr(_sorted(one)) != repr(_sorted(other)):
        assert fingerprint(one) != fingerprint(other)


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


@dataclass
class Point:
    """A record."""

    x: int
    y: Any


def _nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def _cycle() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "hostile",
    [
        _nested(10_000),
        _cycle(),
        "x" * 100_000_000,
        {1: "a"},
        object(),
        lambda: None,
        Point(1, object()),
        ["x" * 1000] * 100_000,
    ],
    ids=["deep", "cyclic", "huge", "number keys", "object", "function", "record", "many"],
)
def test_hostile_inputs_have_no_key_and_cost_no_time(hostile: Any) -> None:
    """The call is made as if there were no cache."""
    began = time.process_time()
    with pytest.raises(Unkeyable):
        fingerprint(hostile)
    assert time.process_time() - began < 0.5


def test_calls_without_a_key_are_made() -> None:
    """And are told as passed by."""
    cached_by(Clock())
    counted = Counted()
    with events("tool:execution_complete") as ends:
        for _ in range(2):
            counted.look_up([object()])
    assert len(counted.calls) == 2
    decision = ends[0]["decisions"][0]
    assert decision["attributes"]["llmspell.cache.result"] == "bypass"


@pytest.mark.parametrize(
    "value",
    ["\ud800 half a pair", b"\xff\x00", {"s": {3, 1, 2}}, Point(1, "y"), Point, 10**6000],
    ids=["surrogate", "bytes", "set", "record", "type", "number"],
)
def test_odd_inputs_have_stable_keys(value: Any) -> None:
    """Invalid unicode, bytes, sets, records, types and huge numbers."""
    assert fingerprint(value) == fingerprint(value)


# -- the vault


def test_memory_refuses_what_is_larger_than_itself() -> None:
    """And keeps what it had."""
    memory = Memory(10, 100, Clock())
    memory.set("a", Entry("a", 10, size=50))
    memory.set("b", Entry("b", 10, size=500))
    assert memory.get("a") is not None
    assert memory.get("b") is None


def test_a_step_back_of_the_clock_breaks_nothing() -> None:
    """Entries live a little longer."""
    clock = Clock()
    memory = Memory(10, 100, clock)
    memory.set("a", Entry("a", 10))
    clock.advance(-500)
    assert memory.get("a") is not None
    clock.advance(511)
    assert memory.get("a") is None


def test_weighing_stops_at_the_limit() -> None:
    """A value of any size takes no more time than one just beyond the limit."""
    began = time.process_time()
    assert weigh(["x" * 10] * 3_000_000, 1000) > 1000
    assert time.process_time() - began < 1
    assert weigh(_cycle(), 10**9) < 10_000


@pytest.mark.parametrize("value", [{"a": [1, "x", None]}, "text", 3.5, True, None])
def test_plain_values_travel(value: Any) -> None:
    """They come back as they were."""
    data = packed(Entry(value, 10, 1.5, 0.25), models=False)
    entry = unpacked(data)
    assert entry is not None
    assert (entry.value, entry.seconds, entry.dollars) == (value, 1.5, 0.25)


@pytest.mark.parametrize("value", [(1, 2), {1: 2}, object(), {1, 2}, b"x", float("nan")])
def test_what_would_come_back_as_something_else_does_not_travel(value: Any) -> None:
    """A tuple would be a list."""
    assert packed(Entry(value, 10), models=False) is None


@pytest.mark.parametrize("data", [None, b"", b"\x80\x04N.", b"{}", b"[1]", b'{"value": 1}'])
def test_what_another_wrote_there_is_no_entry(data: bytes | None) -> None:
    """Nothing is executed, nothing raised."""
    assert unpacked(data) is None


def test_threads_may_share_the_memory() -> None:
    """Eight threads that get and set lose nothing and break nothing."""
    memory = Memory(50, 10_000)
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for number in range(2000):
                key = str((seed * number) % 70)
                memory.set(key, Entry(key, 100))
                found = memory.get(key)
                assert found is None or found.value == key
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(memory) <= 50
