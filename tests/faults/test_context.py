"""What is current stays whose it is; streams that nobody reads to their end."""

import asyncio
import gc
import logging
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
from opentelemetry import trace
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from llmspell_otel import agent, tool
from llmspell_otel.operations import current
from llmspell_otel.operations.ports import ports
from llmspell_otel.telemetry import Options, Providers, Telemetry


@pytest.fixture
def spans(caplog: pytest.LogCaptureFixture) -> Iterator[InMemorySpanExporter]:
    """Finished spans; afterwards nothing is current, and no detach has failed."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    ports.telemetry = Telemetry(Providers(provider, NoOpMeterProvider(), None), None, Options())
    with caplog.at_level(logging.DEBUG):
        yield memory
    ports.telemetry = None
    assert "Failed to detach context" not in caplog.text
    assert here() == (None, trace.INVALID_SPAN_CONTEXT)


def here() -> tuple[object, object]:
    """The current operation and span."""
    return current.get(), trace.get_current_span().get_span_context()


@tool
async def look(number: int) -> str:
    """Say whose call it is."""
    await asyncio.sleep(0)
    operation = current.get()
    assert operation is not None
    return operation.correlation_id


@tool
def count(number: int) -> Iterator[int]:
    """Give numbers, one by one."""
    yield from range(number)


@tool
async def count_async(number: int) -> AsyncIterator[int]:
    """Give numbers, one by one, asynchronously."""
    for each in range(number):
        await asyncio.sleep(0)
        yield each


def test_every_task_sees_its_own_run_and_leaves_nothing_behind(
    spans: InMemorySpanExporter,
) -> None:
    """Nested agents, gather, threads and callbacks: before is as after, in every one."""

    @agent
    async def inner(number: int) -> set[str]:
        before = here()
        found = set(await asyncio.gather(*(look(each) for each in range(5))))
        found.add(await asyncio.to_thread(lambda: asyncio.run(look(number))))
        assert here() == before
        return found

    @agent
    async def outer(number: int) -> set[str]:
        before = here()
        called: list[tuple[object, object]] = []
        asyncio.get_running_loop().call_soon(lambda: called.append(here()))
        found = await inner(number)
        assert called == [before]
        assert here() == before
        return found

    async def main() -> None:
        before = here()
        runs = await asyncio.gather(*(outer(number) for number in range(20)))
        assert all(len(run) == 1 for run in runs)
        assert len(set.union(*runs)) == 20
        assert here() == before

    asyncio.run(main())
    assert len(spans.get_finished_spans()) == 20 * 8
    assert len({span.context.trace_id for span in spans.get_finished_spans()}) == 20


def test_the_consumer_of_a_stream_is_not_inside_of_it(spans: InMemorySpanExporter) -> None:
    """Between two items the caller's own span is current, in whichever task it pulls."""

    async def main() -> None:
        stream = count_async(3)
        before = here()
        assert await anext(stream) == 0
        assert here() == before
        assert await asyncio.create_task(anext(stream)) == 1  # type: ignore[arg-type]
        await asyncio.create_task(stream.aclose())  # type: ignore[attr-defined]
        assert here() == before

    asyncio.run(main())
    (span,) = spans.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["llmspell.operation.outcome"] == "closed"


def test_a_stream_left_early_ends_its_span_once(spans: InMemorySpanExporter) -> None:
    """By break and collection, by an error in the consumer, and by another thread's close."""
    for number in count(5):
        if number == 2:
            break
    gc.collect()
    assert len(spans.get_finished_spans()) == 1

    def consume() -> None:
        for _ in count(5):
            raise KeyError

    with pytest.raises(KeyError):
        consume()
    gc.collect()
    assert len(spans.get_finished_spans()) == 2

    stream = count(5)
    next(stream)
    closer = threading.Thread(target=stream.close)  # type: ignore[attr-defined]
    closer.start()
    closer.join()
    del stream
    gc.collect()
    assert len(spans.get_finished_spans()) == 3


def test_a_cancelled_consumer_ends_the_stream(spans: InMemorySpanExporter) -> None:
    """The error is the cancellation, and it reaches who waits for the task."""

    @tool
    async def endless() -> AsyncIterator[int]:
        yield 0
        await asyncio.sleep(3600)
        yield 1

    async def consume() -> None:
        async for _ in endless():
            pass

    async def main() -> None:
        task = asyncio.create_task(consume())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
    (span,) = spans.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["llmspell.operation.outcome"] == "cancelled"
    assert span.attributes["error.type"] == "asyncio.exceptions.CancelledError"
