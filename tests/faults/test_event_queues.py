"""Full queues, crossings of the water marks and broken subscribers, counted exactly."""

import gc
import itertools
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from llmspell_otel.events import EventBus, UniversalEvent, flow, make
from llmspell_otel.events.subscription import MAX_DEAD_LETTERS
from tests.events.kit import eventually

LOSING = ("drop_oldest", "drop_newest", "reject")


class Held:
    """A subscriber, sync or async, that handles nothing until it may; the first batch is taken."""

    def __init__(self, bus: EventBus, kind: str, capacity: int, overflow: Any) -> None:
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.got: list[tuple[int, int]] = []
        handler = self._sync if kind == "sync" else self._awaited
        self.handle = bus.subscribe(
            "n", handler, delivery="queued", capacity=capacity, overflow=overflow
        )
        bus.publish(make("n", (-1, 0)))
        assert self.entered.wait(10)

    def _sync(self, event: UniversalEvent) -> None:
        self.entered.set()
        assert self.gate.wait(30)
        self.got.append(event.data)

    async def _awaited(self, event: UniversalEvent) -> None:
        self._sync(event)

    def balanced(self) -> Any:
        """The books, which have to balance."""
        stats = self.handle.stats
        assert stats.published == stats.delivered + stats.dropped + stats.rejected + stats.queued
        return stats


def gaps_of(bus: EventBus) -> list[dict[str, Any]]:
    """The gaps that will be told."""
    gaps: list[dict[str, Any]] = []
    bus.subscribe("event:gap", lambda event: gaps.append(event.data))
    return gaps


def publish_from(producers: int, each: int, bus: EventBus) -> list[UniversalEvent]:
    """Publish *each* events from every one of so many threads; return those, in no order."""
    made = [[make("n", (who, number)) for number in range(each)] for who in range(producers)]

    def publish(events: list[UniversalEvent]) -> None:
        for event in events:
            bus.publish(event)

    threads = [threading.Thread(target=publish, args=(events,)) for events in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return [event for events in made for event in events]


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("producers", [1, 8])
@pytest.mark.parametrize("capacity", [1, 2, 1024])
@pytest.mark.parametrize("overflow", LOSING)
def test_a_full_queue_keeps_exact_books(
    overflow: str, capacity: int, producers: int, kind: str
) -> None:
    """All comes while nothing is handled: what survives, what is lost, and the gap, to the event.

    Published = delivered + dropped + rejected + queued when it is full, when it has run empty and
    after the end.
    """
    bus = EventBus()
    gaps = gaps_of(bus)
    held = Held(bus, kind, capacity, overflow)
    each = (capacity + 500) // producers
    sent = publish_from(producers, each, bus)
    full = held.balanced()
    assert full.published == 1 + len(sent)
    assert full.queued == 1 + capacity  # the one that is being handled, and those that wait
    lost = len(sent) - capacity
    expected = (0, lost) if overflow == "reject" else (lost, 0)
    assert (full.dropped, full.rejected) == expected
    held.gate.set()
    assert bus.flush(30)
    rest = held.balanced()
    assert (rest.delivered, rest.queued) == (1 + capacity, 0)
    survivors = held.got[1:]
    assert len(survivors) == capacity
    for who in range(producers):
        mine = [number for producer, number in survivors if producer == who]
        # Of every producer the first or the last, in order, and none between them is missing.
        whole = range(each - len(mine), each) if overflow == "drop_oldest" else range(len(mine))
        assert mine == list(whole)
    gone = {event.sequence for event in sent if event.data not in set(survivors)}
    assert eventually(lambda: sum(gap["lost"] for gap in gaps) == lost)
    assert min(gap["first_sequence"] for gap in gaps) == min(gone)
    assert max(gap["last_sequence"] for gap in gaps) == max(gone)
    bus.close()
    assert held.balanced().published == 1 + len(sent)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("overflow", [*LOSING, "block"])
def test_the_end_comes_upon_a_full_queue(overflow: str, kind: str) -> None:
    """Closed while it is full and its consumer hangs: everything is accounted for."""
    bus = EventBus()
    held = Held(bus, kind, 64, overflow)
    publish_from(1, 64 if overflow == "block" else 200, bus)
    bus.close(0.1)
    held.gate.set()
    assert eventually(lambda: held.balanced().queued == 0)
    stats = held.balanced()
    assert stats.delivered == len(held.got)
    assert stats.published == 1 + (64 if overflow == "block" else 200)
    assert stats.dropped + stats.rejected == stats.published - len(held.got)


@pytest.mark.parametrize("producers", [1, 8])
@pytest.mark.parametrize("capacity", [2, 10, 1_000])
def test_a_saw_tooth_tells_each_crossing_once(capacity: int, producers: int) -> None:
    """Up over the high mark, about it, down to the low one: one `started`, one `relieved`."""
    bus, told = EventBus(), list[tuple[str, int]]()
    bus.subscribe(
        "event:backpressure_*", lambda event: told.append((event.event_type, event.data["queued"]))
    )
    box = bus.mailbox("n", capacity=capacity)
    high, low = box.flow.limits.high, box.flow.limits.low
    for _ in range(20):
        publish_from(producers, -(-high // producers), bus)
        for _ in range(5):  # between the marks it is quiet
            box.receive_batch(box.stats.queued - low - 1, 0)
            publish_from(1, high - box.stats.queued, bus)
        box.receive_batch(box.stats.queued - low, 0)
    assert [name for name, _ in told] == [flow.STARTED, flow.RELIEVED] * 20
    assert all((queued >= high) is (name == flow.STARTED) for name, queued in told)
    assert all((queued <= low) is (name == flow.RELIEVED) for name, queued in told)
    bus.close(0)


def test_every_crossing_has_its_end_whoever_makes_it() -> None:
    """Four publish and one receives as they like: as many `relieved` as `started`."""
    bus, told = EventBus(), Counter[str]()
    bus.subscribe("event:backpressure_*", lambda event: told.update([event.event_type]))
    box, done = bus.mailbox("n", capacity=50), threading.Event()

    def receive() -> None:
        while not done.is_set() or box.stats.queued:
            box.receive_batch(40, 0.001)
            time.sleep(0.001)

    receiver = threading.Thread(target=receive)
    receiver.start()
    publish_from(4, 5_000, bus)
    done.set()
    receiver.join(30)
    assert told[flow.STARTED] == told[flow.RELIEVED] > 1


def fails(event: UniversalEvent) -> None:
    """Always."""
    raise ValueError(event.data)


async def awaited(event: UniversalEvent) -> None:
    """Fail in a loop."""
    fails(event)


@pytest.mark.parametrize(
    ("handler", "options"),
    [(fails, {}), (fails, {"delivery": "queued"}), (awaited, {})],
    ids=["inline", "queued", "async"],
)
def test_a_subscriber_that_always_raises_is_removed_after_so_many(
    handler: Callable[[UniversalEvent], Any], options: Any
) -> None:
    """All is counted up to there; of its dead letters the last hundred are kept; others go on."""
    bus, others = EventBus(), itertools.count()
    bus.subscribe("n", lambda event: next(others))
    handle = bus.subscribe("n", handler, max_errors=250, **options)
    for number in range(1_000):
        bus.publish(make("n", number))
        if number < 250:
            assert bus.flush(10)
    assert eventually(lambda: not handle.active)
    stats = handle.stats
    assert (stats.errors, stats.delivered) == (250, 250)
    assert stats.published == stats.delivered + stats.dropped + stats.rejected + stats.queued
    letters = handle.dead_letters
    assert len(letters) == MAX_DEAD_LETTERS
    assert [letter.event.data for letter in letters] == list(range(150, 250))
    assert {letter.error_type for letter in letters} == {"ValueError"}
    assert next(others) == 1_000
    assert handle not in bus.subscriptions()
    bus.close()


class Listener:
    """Somebody whose method is a handler."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    def hear(self, event: UniversalEvent) -> None:
        """Note it."""
        self.got.append(event.data)


@pytest.mark.parametrize("options", [{}, {"delivery": "queued"}], ids=["inline", "queued"])
def test_no_handler_is_lost_because_nobody_holds_it(options: Any) -> None:
    """Lambdas, nested functions and methods of objects that are forgotten hear on until the end."""
    bus, heard = EventBus(), list[Any]()
    listener = Listener()
    got, alive = listener.got, weakref.ref(listener)
    bus.subscribe("n", listener.hear, **options)
    bus.subscribe("n", lambda event: heard.append(event.data), **options)
    del listener
    gc.collect()
    for number in range(3):
        bus.publish(make("n", number))
        gc.collect()
    assert bus.flush(10)
    assert got == heard == [0, 1, 2]
    assert alive() is not None
    assert [handle.stats.delivered for handle in bus.subscriptions()] == [3, 3]
    bus.close()
    assert eventually(lambda: (gc.collect(), alive() is None)[1])
