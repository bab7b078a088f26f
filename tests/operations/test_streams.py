"""Generators and streams: pulled, sent into, thrown into, closed, abandoned, cached, stopped."""

import asyncio
import gc
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import pytest
from opentelemetry import trace

from llmspell_otel.errors import OperationCancelled
from llmspell_otel.hooks import Cache, Cancel, Hook, Modified, Replace
from llmspell_otel.hooks.conditions import conditions
from llmspell_otel.operations import Aspect, Call, Codec, Kind, current, invoke, tool
from llmspell_otel.operations.advice import StoredStream

ends: list[str] = []


@tool
def talk(limit: int = 3) -> Generator[Any, Any, str]:
    """Answers what it is sent."""
    given: Any = None
    try:
        for number in range(limit):
            try:
                given = yield (number, given)
            except KeyError as error:
                given = f"caught {error}"
    finally:
        ends.append("closed")
    return "done"


@tool
async def atalk(limit: int = 3) -> AsyncIterator[Any]:
    """The same, asynchronously."""
    given: Any = None
    try:
        for number in range(limit):
            await asyncio.sleep(0)
            try:
                given = yield (number, given)
            except KeyError as error:
                given = f"caught {error}"
    finally:
        ends.append("closed")


@pytest.fixture(autouse=True)
def hooked(events: list[Any]) -> None:
    """Somebody looks at every tool and listens to every operation."""
    ends.clear()
    Hook.register("tool:before_execution", lambda context: None)


def outcome_of(events: list[Any]) -> list[str]:
    """How operations ended, in order."""
    return [event.data["outcome"] for event in events if "outcome" in event.data]


def test_a_generator_is_sent_into_and_thrown_into(events: list[Any]) -> None:
    """It is the same generator to its consumer: values in, errors in, its own return value out."""
    talking = talk()
    assert next(talking) == (0, None)
    assert talking.send("hello") == (1, "hello")
    assert talking.throw(KeyError("x")) == (2, "caught 'x'")
    with pytest.raises(StopIteration) as stopped:
        next(talking)
    assert stopped.value.value == "done"
    assert outcome_of(events) == ["ok"]


def test_an_asynchronous_generator_too(events: list[Any]) -> None:
    """`asend`, `athrow` and `aclose` work."""

    async def main() -> None:
        talking: Any = atalk()
        assert await anext(talking) == (0, None)
        assert await talking.asend("hello") == (1, "hello")
        assert await talking.athrow(KeyError("x")) == (2, "caught 'x'")
        with pytest.raises(StopAsyncIteration):
            await anext(talking)
        other: Any = atalk()
        await anext(other)
        await other.aclose()

    asyncio.run(main())
    assert outcome_of(events) == ["ok", "closed"]
    assert ends == ["closed", "closed"]


def test_an_error_thrown_in_and_not_caught_comes_out(events: list[Any]) -> None:
    """And ends the operation with it."""
    talking = talk()
    next(talking)
    mine = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught:
        talking.throw(mine)
    assert caught.value is mine
    assert outcome_of(events) == ["error"]


@pytest.mark.parametrize("way", ["break", "close", "collect", "unstarted"])
def test_a_generator_that_is_not_exhausted_ends_once(events: list[Any], way: str) -> None:
    """By a break, a close or the collector; one that was never begun was no operation."""
    talking = talk()
    if way != "unstarted":
        next(talking)
    if way == "close":
        talking.close()
        talking.close()
    del talking
    gc.collect()
    assert outcome_of(events) == ([] if way == "unstarted" else ["closed"])
    assert len(ends) == (way != "unstarted")
    assert current.get() is None


def test_an_abandoned_asynchronous_generator_ends_once(events: list[Any]) -> None:
    """The event loop closes it."""

    async def main() -> None:
        async for _ in atalk():
            break
        gc.collect()
        for _ in range(10):
            await asyncio.sleep(0)

    asyncio.run(main())
    assert outcome_of(events) == ["closed"]


def test_nothing_is_current_in_the_consumer() -> None:
    """The operation is current while the generator runs, never between."""

    @tool
    def looking() -> Iterator[Any]:
        yield current.get()
        yield current.get()

    inside = [(item, current.get()) for item in looking()]
    assert inside[0][0] is inside[1][0]
    assert inside[0][0].name == "looking"
    assert [outside for _, outside in inside] == [None, None]
    assert not trace.get_current_span().get_span_context().is_valid


def test_a_generator_moved_to_another_thread_or_task_works() -> None:
    """Its context goes with it."""

    async def main() -> list[Any]:
        talking = atalk()
        first = await asyncio.create_task(anext(talking))  # type: ignore[arg-type]
        second = await asyncio.create_task(anext(talking))  # type: ignore[arg-type]
        return [first, second, *[item async for item in talking]]

    assert asyncio.run(main()) == [(0, None), (1, None), (2, None)]
    assert current.get() is None


@pytest.mark.parametrize("sync", [True, False])
def test_a_stream_is_cached_whole_and_replayed(sync: bool) -> None:
    """Every chunk comes again, the call does not; a stream broken off is not kept."""
    calls: list[int] = []

    @tool
    def count(limit: int) -> Iterator[int]:
        calls.append(limit)
        yield from range(limit)

    @tool
    async def acount(limit: int) -> AsyncIterator[int]:
        calls.append(limit)
        for number in range(limit):
            yield number

    Hook.register("tool:before_execution", lambda context: Cache(key="k", ttl=60))

    async def collected() -> list[int]:
        return [number async for number in acount(3)]

    async def begun() -> None:
        counting: Any = acount(3)
        await anext(counting)
        await counting.aclose()

    if sync:
        counting = count(3)
        next(counting)
        counting.close()
    else:
        asyncio.run(begun())
    assert len(conditions.store) == 0  # type: ignore[arg-type]
    for _ in range(3):
        assert (list(count(3)) if sync else asyncio.run(collected())) == [0, 1, 2]
    assert calls == [3, 3]
    assert conditions.store.get("k") == StoredStream((0, 1, 2))


class Chunked:
    """A library's stream object."""

    def __init__(self, chunks: list[Any]) -> None:
        self._chunks = iter(chunks)
        self.closed = 0

    def __iter__(self) -> "Chunked":
        return self

    def __next__(self) -> Any:
        return next(self._chunks)

    async def __anext__(self) -> Any:
        try:
            return next(self._chunks)
        except StopIteration:
            raise StopAsyncIteration from None

    def __aiter__(self) -> "Chunked":
        return self

    def close(self) -> None:
        """Count how often."""
        self.closed += 1


class StreamingCodec(Codec):
    """Its calls give streams."""

    def streams(self, call: Call, result: Any) -> bool:
        """Every result is one."""
        return isinstance(result, Chunked)

    def replay(self, call: Call, chunks: Any) -> Any:
        """In the library's own shape."""
        return Chunked(list(chunks))


MODEL = Aspect(Kind.MODEL, StreamingCodec())


def streamed(chunks: list[Any]) -> tuple[Chunked, Any]:
    """A stream, and what its consumer gets in its place."""
    stream = Chunked(chunks)
    return stream, invoke(MODEL, Call(lambda **_: stream, None, (), {"prompt": "hi"}))


def test_chunk_hooks_see_and_change_every_chunk() -> None:
    """They stand at their own point, and their contexts do not pile up."""
    contexts: list[Any] = []

    def shout(context: Any) -> Modified:
        contexts.append(context)
        return Modified({"output": context.output.upper()})

    Hook.register("model:stream_chunk", shout)
    _, consumer = streamed(["a", "b"])
    assert isinstance(consumer, Chunked)
    assert list(consumer) == ["A", "B"]
    assert [context.point.name for context in contexts] == ["ModelStreamChunk"] * 2
    assert contexts[1].parent is not contexts[0]


@pytest.mark.parametrize("sync", [True, False])
def test_a_hook_can_stop_a_stream(sync: bool, events: list[Any]) -> None:
    """The consumer is told, the library's stream is closed, the operation has ended."""

    def stop(context: Any) -> Any:
        return Cancel("enough") if context.output == "b" else Replace(context.output + "!")

    Hook.register("model:stream_chunk", stop)
    stream, consumer = streamed(["a", "b", "c"])

    async def consume() -> None:
        assert await anext(consumer) == "a!"
        with pytest.raises(OperationCancelled, match="enough"):
            await anext(consumer)

    if sync:
        assert next(consumer) == "a!"
        with pytest.raises(OperationCancelled, match="enough"):
            next(consumer)
    else:
        asyncio.run(consume())
    assert stream.closed == 1
    assert outcome_of(events) == ["error"]


def test_a_stream_objects_every_end_is_one_end(events: list[Any]) -> None:
    """Exhausted, then closed, then collected: the first counts."""
    stream, consumer = streamed(["a"])
    assert list(consumer) == ["a"]
    consumer.close()
    del consumer
    gc.collect()
    assert outcome_of(events) == ["ok"]
    assert stream.closed == 1


def test_an_abandoned_stream_object_is_told_of(events: list[Any]) -> None:
    """The collector ends the operation."""
    _, consumer = streamed(["a", "b"])
    next(consumer)
    del consumer
    gc.collect()
    assert outcome_of(events) == ["abandoned"]


def test_a_cached_stream_object_is_replayed_in_its_own_shape() -> None:
    """The codec makes a stream of the chunks that were kept."""
    Hook.register("model:before_call", lambda context: Cache(key="k", ttl=60))
    _, first = streamed(["a", "b"])
    assert list(first) == ["a", "b"]
    other, second = streamed(["x"])
    assert isinstance(second, Chunked)
    assert second is not other
    assert list(second) == ["a", "b"]
