"""Queued delivery: threads, event loops, receivers; forks and the end of the process."""

import asyncio
import gc
import logging
import threading
import time
from typing import Any

import pytest

from llmspell_otel.events import Event, EventBus, EventError, UniversalEvent, default_bus, make
from tests.events.kit import Gate, eventually


@pytest.fixture
def bus() -> EventBus:
    """A bus of one's own."""
    return EventBus()


def test_a_queued_handler_runs_in_a_thread_of_its_own(bus: EventBus) -> None:
    """The publisher does not wait, and the order is kept."""
    got: list[Any] = []

    def handler(event: UniversalEvent) -> None:
        got.append((event.data, threading.current_thread().name))

    bus.subscribe("n", handler, delivery="queued", name="worker")
    for number in range(3):
        bus.publish(make("n", number))
    assert bus.flush()
    assert eventually(lambda: len(got) == 3)
    assert got == [(number, "llmspell-events-worker") for number in range(3)]
    bus.close()


def test_an_async_handler_without_a_loop_runs_in_the_background(bus: EventBus) -> None:
    """Synchronous applications may use async handlers too."""
    got: list[Any] = []

    async def handler(event: UniversalEvent) -> None:
        await asyncio.sleep(0)
        got.append(event.data)

    bus.subscribe("n", handler)
    for number in range(3):
        bus.publish(make("n", number))
    assert eventually(lambda: got == [0, 1, 2])
    bus.close()


def test_a_failing_async_handler_is_contained(bus: EventBus) -> None:
    """Errors, also a stray cancellation, are counted; later events are still handled."""
    got: list[Any] = []

    async def handler(event: UniversalEvent) -> None:
        await asyncio.sleep(0)
        if event.data == 1:
            raise ValueError
        if event.data == 2:
            raise asyncio.CancelledError
        got.append(event.data)

    handle = bus.subscribe("n", handler)
    for number in range(4):
        bus.publish(make("n", number))
    assert eventually(lambda: got == [0, 3])
    assert eventually(lambda: handle.stats.errors == 2)
    assert [each.error_type for each in handle.dead_letters] == ["ValueError", "CancelledError"]
    bus.close()


def test_a_failing_queued_handler_is_contained(bus: EventBus) -> None:
    """Even one that wants to leave the process does not take its worker with it."""
    got: list[Any] = []

    def handler(event: UniversalEvent) -> None:
        if event.data == 0:
            raise SystemExit
        got.append(event.data)

    handle = bus.subscribe("n", handler, delivery="queued")
    bus.publish(make("n", 0))
    bus.publish(make("n", 1))
    assert eventually(lambda: got == [1])
    assert handle.stats.errors == 1
    bus.close()


def test_a_stream_iterates(bus: EventBus) -> None:
    """`async for` sees what other threads publish, and ends with close."""

    async def main() -> list[Any]:
        stream = bus.stream("agent.**")
        publisher = threading.Thread(
            target=lambda: [bus.publish(make("agent.x.y", n)) for n in range(500)]
        )
        publisher.start()
        got: list[Any] = []
        async for event in stream:
            got.append(event.data)
            if len(got) == 500:
                stream.close()
        await asyncio.to_thread(publisher.join)
        return got

    assert asyncio.run(main()) == list(range(500))
    assert not bus.subscriptions()


def test_a_stream_that_waits_ends_with_close(bus: EventBus) -> None:
    """A consumer with nothing to read leaves its loop when the stream is closed."""

    async def main() -> int:
        async with bus.stream("a") as stream:

            async def consume() -> int:
                return len([event async for event in stream])

            task = asyncio.create_task(consume())
            await asyncio.sleep(0.01)
            bus.publish(make("a"))
            await asyncio.sleep(0.01)
            stream.close()
            return await asyncio.wait_for(task, 5)

    assert asyncio.run(main()) == 1


def test_a_forgotten_stream_is_tidied_up(bus: EventBus) -> None:
    """A stream that nobody holds any more costs no memory after the next event."""

    async def main() -> None:
        async for event in bus.stream("a"):
            assert event.data == 1
            break

    async def publish() -> None:
        await asyncio.sleep(0.01)
        bus.publish(make("a", 1))

    async def both() -> None:
        await asyncio.gather(main(), publish())

    asyncio.run(both())
    gc.collect()
    bus.publish(make("a", 2))
    assert not bus.subscriptions()


def test_receivers_in_threads_share_the_mail(bus: EventBus) -> None:
    """Four receivers get every event, each once."""
    box = bus.mailbox("n")
    got: list[Any] = []

    def receive() -> None:
        while (event := box.receive(5)) is not None:
            got.append(event.data)

    threads = [threading.Thread(target=receive) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(2_000):
        bus.publish(make("n", number))
    assert eventually(lambda: len(got) == 2_000)
    box.unsubscribe()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert sorted(got) == list(range(2_000))


def test_receiving_takes_no_longer_than_its_timeout(bus: EventBus) -> None:
    """Nothing comes: None, or an empty batch, in time."""
    box = bus.mailbox("n")
    began = time.monotonic()
    assert box.receive(0.05) is None
    assert box.receive_batch(5, 0) == []
    assert 0.04 < time.monotonic() - began < 2


def test_the_facade_receives() -> None:
    """`Event.receive` works on subscriptions without a handler, and refuses others."""
    box = Event.subscribe("facade.mail")
    for number in range(3):
        Event.publish("facade.mail", number)
    assert Event.receive(box, 0).data == 0  # type: ignore[union-attr]
    assert [event.data for event in Event.receive_batch(box, 5, 0)] == [1, 2]
    assert Event.get_stats()["delivered"] >= 3
    handled = Event.subscribe("facade.mail", print)
    with pytest.raises(EventError, match="has a handler"):
        Event.receive(handled)
    assert Event.unsubscribe(box)
    assert Event.unsubscribe(handled)


def test_a_dead_loop_ends_its_subscription(bus: EventBus, caplog: pytest.LogCaptureFixture) -> None:
    """When the subscriber's loop is closed, the next event removes the subscription and says so."""
    handles: list[Any] = []

    async def handler(event: UniversalEvent) -> None:
        """Take it."""

    async def main() -> None:
        handles.append(bus.subscribe("n", handler))
        bus.publish(make("n", 1))
        await asyncio.sleep(0.01)

    asyncio.run(main())
    with caplog.at_level(logging.WARNING):
        bus.publish(make("n", 2))
    assert not bus.subscriptions()
    stats = handles[0].stats
    assert (stats.published, stats.delivered, stats.dropped) == (2, 1, 1)
    assert "its event loop is closed" in caplog.text


def test_a_loop_torn_down_while_handling_loses_nothing_unseen(bus: EventBus) -> None:
    """What was queued when the loop was cancelled is counted as dropped."""
    handles: list[Any] = []

    async def handler(event: UniversalEvent) -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        handles.append(bus.subscribe("n", handler))
        for _ in range(10):
            bus.publish(make("n"))
        await asyncio.sleep(0.01)

    asyncio.run(main())
    stats = handles[0].stats
    assert (stats.published, stats.delivered, stats.dropped, stats.queued) == (10, 1, 9, 0)
    assert not bus.subscriptions()


def test_closing_delivers_what_waits(bus: EventBus) -> None:
    """A bus that is closed hands out its queues first."""
    got: list[Any] = []

    def handler(event: UniversalEvent) -> None:
        time.sleep(0.001)
        got.append(event.data)

    handle = bus.subscribe("n", handler, delivery="queued")
    for number in range(100):
        bus.publish(make("n", number))
    bus.close(10)
    bus.publish(make("n", "late"))
    assert got == list(range(100))
    assert (handle.stats.delivered, handle.stats.queued) == (100, 0)
    assert not bus.subscriptions()


def test_closing_waits_no_longer_than_its_limit(bus: EventBus) -> None:
    """A hanging handler costs the limit once; the rest is dropped and counted."""
    gate = Gate()
    handles = [bus.subscribe("n", gate.wait, delivery="queued") for _ in range(3)]
    for _ in range(200):
        bus.publish(make("n"))
    assert gate.entered.wait(5)
    began = time.monotonic()
    bus.close(0.2)
    assert time.monotonic() - began < 2
    gate.open()
    assert eventually(lambda: all(each.stats.queued == 0 for each in handles))
    for handle in handles:
        assert (handle.stats.delivered, handle.stats.dropped) == (1, 199)


def test_unsubscribing_frees_the_queue_and_the_worker(bus: EventBus) -> None:
    """Nothing of a queued subscription stays behind."""
    gate = Gate()
    handle = bus.subscribe("n", gate.wait, delivery="queued", name="gone")
    for _ in range(10):
        bus.publish(make("n"))
    assert gate.entered.wait(5)
    handle.unsubscribe()
    gate.open()
    assert eventually(
        lambda: "llmspell-events-gone" not in {each.name for each in threading.enumerate()}
    )
    stats = handle.stats
    assert (stats.delivered, stats.dropped, stats.queued) == (1, 9, 0)


def test_a_subscription_says_what_it_is(bus: EventBus) -> None:
    """Its text names its patterns and state."""
    box = bus.mailbox(["a", "b.*"], name="mail")
    assert repr(box) == "<Mailbox 'mail' on a, b.*: active>"
    box.unsubscribe()
    assert repr(box).endswith("ended>")


def test_the_default_bus_is_one() -> None:
    """Everybody in the process speaks on the same bus."""
    assert default_bus() is default_bus()
