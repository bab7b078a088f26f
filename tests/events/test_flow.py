"""Bounded queues: which events survive, exact books, water marks, gaps, urgency, expiry."""

import asyncio
import threading
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from llmspell_otel.events import EventBus, EventRejectedError, UniversalEvent, flow, make
from llmspell_otel.events.flow import Flow
from llmspell_otel.events.limiter import TokenBucket
from llmspell_otel.events.limits import Limits
from tests.events.kit import Gate, eventually

STRATEGIES = ["drop_oldest", "drop_newest", "block", "reject"]


@pytest.fixture
def bus() -> EventBus:
    """A bus of one's own."""
    return EventBus()


def test_drop_oldest_keeps_the_newest(bus: EventBus) -> None:
    """The oldest give way."""
    box = bus.mailbox("n", capacity=3)
    for number in range(10):
        bus.publish(make("n", number))
    assert [event.data for event in box.receive_batch(10, 0)] == [7, 8, 9]
    assert (box.stats.published, box.stats.delivered, box.stats.dropped) == (10, 3, 7)


def test_drop_newest_keeps_the_oldest(bus: EventBus) -> None:
    """The newcomer gives way."""
    box = bus.mailbox("n", capacity=3, overflow="drop_newest")
    for number in range(10):
        bus.publish(make("n", number))
    assert [event.data for event in box.receive_batch(10, 0)] == [0, 1, 2]
    assert (box.stats.published, box.stats.delivered, box.stats.dropped) == (10, 3, 7)


def test_reject_refuses_at_the_door(bus: EventBus) -> None:
    """`publish` never raises; `publish_or_raise` says so."""
    box = bus.mailbox("n", capacity=2, overflow="reject")
    for number in range(3):
        bus.publish(make("n", number))
    with pytest.raises(EventRejectedError, match="1 subscription"):
        bus.publish_or_raise(make("n", 3))
    assert [event.data for event in box.receive_batch(10, 0)] == [0, 1]
    bus.publish_or_raise(make("n", 4))
    assert (box.stats.published, box.stats.rejected, box.stats.queued) == (5, 2, 1)


def test_block_waits_for_room_and_loses_nothing(bus: EventBus) -> None:
    """A publisher is held back until the consumer has made room."""
    box = bus.mailbox("n", capacity=1, overflow="block", block_timeout=10)
    thread = threading.Thread(target=lambda: [bus.publish(make("n", n)) for n in range(50)])
    thread.start()
    got = [box.receive(10).data for _ in range(50)]  # type: ignore[union-attr]
    thread.join()
    assert got == list(range(50))
    assert (box.stats.published, box.stats.delivered) == (50, 50)


def test_block_gives_up_after_its_timeout(bus: EventBus) -> None:
    """The publisher waits no longer than it was told; the refused event is counted."""
    box = bus.mailbox("n", capacity=1, overflow="block", block_timeout=0.05)
    bus.publish(make("n", 1))
    began = time.monotonic()
    with pytest.raises(EventRejectedError):
        bus.publish_or_raise(make("n", 2))
    assert 0.04 < time.monotonic() - began < 2
    assert (box.stats.rejected, box.stats.queued) == (1, 1)


def test_a_handler_does_not_block_on_its_own_queue(bus: EventBus) -> None:
    """Publishing into one's own full queue is refused at once, not waited for."""
    began = time.monotonic()

    def echo(event: UniversalEvent) -> None:
        if event.data == "first":
            for _ in range(5):
                bus.publish(make("n", "more"))

    handle = bus.subscribe(
        "n", echo, delivery="queued", capacity=1, overflow="block", block_timeout=30
    )
    bus.publish(make("n", "first"))
    assert bus.flush(10)
    assert time.monotonic() - began < 10
    assert (handle.stats.delivered, handle.stats.rejected) == (2, 4)


def test_the_gap_names_the_first_and_last_lost(bus: EventBus) -> None:
    """The consumer is told once what it missed since it last looked."""
    gaps: list[dict[str, Any]] = []
    bus.subscribe("event:gap", lambda event: gaps.append(event.data))
    box = bus.mailbox("n", capacity=2, name="slow")
    events = [make("n", number) for number in range(6)]
    for event in events:
        bus.publish(event)
    assert gaps == []
    box.receive_batch(2, 0)
    expected = {
        "subscription": "slow",
        "first_sequence": events[0].sequence,
        "last_sequence": events[3].sequence,
        "lost": 4,
    }
    assert gaps == [expected]
    box.receive_batch(2, 0)
    assert gaps == [expected]


def test_water_marks_tell_once_per_crossing(bus: EventBus) -> None:
    """A saw-tooth between the marks says nothing; each full swing says one of each."""
    told: list[str] = []
    bus.subscribe("event:backpressure_*", lambda event: told.append(event.event_type))
    box = bus.mailbox("n", capacity=10)

    def level(target: int) -> None:
        while box.stats.queued < target:
            bus.publish(make("n"))
        while box.stats.queued > target:
            box.receive(0)

    for target in (7, 3, 7, 8, 10, 7, 9, 3, 8, 3, 2, 0, 7, 8, 2):
        level(target)
    started, relieved = flow.STARTED, flow.RELIEVED
    assert told == [started, relieved, started, relieved]


def test_the_urgent_go_first(bus: EventBus) -> None:
    """Lower priority numbers overtake; equals keep their order; the least urgent give way."""
    box = bus.mailbox("n", capacity=4)
    for number, priority in enumerate([0, 5, -1, 5, 0, -1, 9]):
        bus.publish(make("n", number, priority=priority))
    assert [event.data for event in box.receive_batch(10, 0)] == [2, 5, 0, 4]
    assert box.stats.dropped == 3
    bus.publish(make("n", "again"))
    assert box.receive(0).data == "again"  # type: ignore[union-attr]


def test_the_expired_are_dropped(bus: EventBus, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event whose life ended in the queue is dropped, by a clock that does not jump."""
    now = [1000.0]
    monkeypatch.setattr(flow, "monotonic", lambda: now[0])
    box = bus.mailbox("n")
    bus.publish(make("n", "short", ttl=1))
    bus.publish(make("n", "long", ttl=100, timestamp=0))  # the wall clock says: long dead
    bus.publish(make("n", "for ever"))
    now[0] += 1.5
    assert [event.data for event in box.receive_batch(10, 0)] == ["long", "for ever"]
    assert (box.stats.published, box.stats.delivered, box.stats.dropped) == (3, 2, 1)


def test_the_rate_is_limited(bus: EventBus, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than the rate passes, within five per cent, and the rest is counted."""
    from llmspell_otel.events import limiter

    now = [0.0]
    monkeypatch.setattr(limiter, "monotonic", lambda: now[0])
    handle = bus.subscribe("n", lambda event: None, rate_limit=100)
    for _ in range(10_000):  # ten seconds at a thousand a second
        bus.publish(make("n"))
        now[0] += 0.001
    stats = handle.stats
    assert stats.delivered == pytest.approx(100 + 1_000, rel=0.05)  # a burst and ten seconds
    assert stats.published == stats.delivered + stats.dropped == 10_000


def test_a_slow_rate_still_lets_one_pass() -> None:
    """Less than one a second begins with one."""
    bucket = TokenBucket(0.001)
    assert [bucket.admits(), bucket.admits()] == [True, False]


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("producers", [1, 4, 8])
@pytest.mark.parametrize("capacity", [1, 2, 1024])
@pytest.mark.parametrize("overflow", STRATEGIES)
def test_books_are_exact(overflow: Any, capacity: int, producers: int, kind: str) -> None:
    """A = D + X + R + Q at every look, and at rest D is what the handler counted, in order."""
    bus, got, each = EventBus(), [], 300

    def sync(event: UniversalEvent) -> None:
        got.append(event.data)

    async def awaited(event: UniversalEvent) -> None:
        got.append(event.data)

    handle = bus.subscribe(
        "n",
        sync if kind == "sync" else awaited,
        delivery="queued",
        capacity=capacity,
        overflow=overflow,
        block_timeout=30,
    )

    publish_from_threads(bus, handle, producers, each)
    assert bus.flush(30)
    stats = assert_balanced(handle)
    assert stats.queued == 0
    assert stats.published == producers * each
    assert stats.delivered == len(got)
    assert_in_order(got, producers)
    if overflow == "block":
        assert stats.delivered == producers * each
    if overflow == "drop_oldest" and producers == 1:
        assert got[-1] == (0, each - 1)
    bus.close()


def publish_from_threads(bus: EventBus, handle: Any, producers: int, each: int) -> None:
    """Publish *each* events from every one of *producers* threads, checking the books meanwhile."""

    def produce(producer: int) -> None:
        for number in range(each):
            bus.publish(make("n", (producer, number)))

    threads = [threading.Thread(target=produce, args=(p,)) for p in range(producers)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert_balanced(handle)
        time.sleep(0.001)


def assert_in_order(got: list[tuple[int, int]], producers: int) -> None:
    """Check that the events of each producer came in its order."""
    for producer in range(producers):
        mine = [number for who, number in got if who == producer]
        assert mine == sorted(mine)


def assert_balanced(handle: Any) -> Any:
    """Check the books of *handle* as of one moment and return them."""
    stats = handle.stats
    assert stats.published == stats.delivered + stats.dropped + stats.rejected + stats.queued
    assert stats.queued >= 0
    return stats


def test_a_slow_subscriber_costs_nobody_else(bus: EventBus) -> None:
    """One hangs with a full queue; the other gets everything, the publisher does not wait."""
    gate, got = Gate(), []
    slow = bus.subscribe("n", gate.wait, delivery="queued", capacity=10)
    bus.subscribe("n", lambda event: got.append(event.data), delivery="queued", capacity=100_000)
    began = time.monotonic()
    for number in range(5_000):
        bus.publish(make("n", number))
    assert time.monotonic() - began < 5
    assert eventually(lambda: len(got) == 5_000)
    assert got == list(range(5_000))
    assert_balanced(slow)
    assert slow.stats.dropped > 4_900
    gate.open()


class Books(RuleBasedStateMachine):
    """A model of the queue: what the strategies must keep, checked after every step."""

    @initialize(
        capacity=st.integers(1, 4),
        overflow=st.sampled_from(["drop_oldest", "drop_newest", "reject", "block"]),
    )
    def begin(self, capacity: int, overflow: Any) -> None:
        self.tells: list[str] = []
        limits = Limits(capacity, overflow, block_timeout=0)
        self.flow = Flow(limits, lambda: None, lambda name, data: self.tells.append(name))
        self.limits = limits
        self.model: list[UniversalEvent] = []
        self.counts: Counter[str] = Counter()
        self.pressed = False

    @rule(priority=st.integers(-1, 1))
    def offer(self, priority: int) -> None:
        event = make("n", priority=priority)
        self.counts["published"] += 1
        self.flow.offer(event)
        if len(self.model) < self.limits.capacity:
            self.model.append(event)
        elif self.limits.overflow == "drop_oldest":
            self.counts["dropped"] += 1
            self.model.append(event)
            least = max(each.priority for each in self.model)
            self.model.remove(next(each for each in self.model if each.priority == least))
        elif self.limits.overflow == "drop_newest":
            self.counts["dropped"] += 1
        else:
            self.counts["rejected"] += 1
        self.pressed = self.pressed or len(self.model) >= self.limits.high

    @precondition(lambda self: self.model)
    @rule(limit=st.integers(1, 5))
    def take(self, limit: int) -> None:
        batch = self.flow.take(limit)
        expected = sorted(self.model, key=lambda event: event.priority)[:limit]
        assert batch == expected
        for event in expected:
            self.model.remove(event)
        self.counts["delivered"] += len(batch)
        self.pressed = self.pressed and len(self.model) > self.limits.low

    @invariant()
    def balanced(self) -> None:
        if not hasattr(self, "flow"):
            return
        published, delivered, dropped, rejected, queued = self.flow.books()
        assert published == self.counts["published"]
        assert delivered == self.counts["delivered"]
        assert dropped == self.counts["dropped"]
        assert rejected == self.counts["rejected"]
        assert queued == len(self.model)
        started, relieved = map(self.tells.count, (flow.STARTED, flow.RELIEVED))
        assert started - relieved == self.pressed


Books.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestBooks = Books.TestCase


@given(st.lists(st.integers(0, 30), min_size=1, max_size=20), st.integers(1, 10))
def test_bursts_of_any_size_leave_the_newest(bursts: list[int], capacity: int) -> None:
    """Whatever the bursts, drop_oldest hands out the tail of each."""
    bus = EventBus()
    box = bus.mailbox("n", capacity=capacity)
    for burst in bursts:
        sent = list(range(burst))
        for number in sent:
            bus.publish(make("n", number))
        assert [event.data for event in box.receive_batch(100, 0)] == sent[-capacity:]
    bus.close()


def test_limits_hold_under_asyncio(bus: EventBus) -> None:
    """An async handler on the subscriber's own loop sees everything in order."""

    async def main() -> list[int]:
        got: list[int] = []

        async def handler(event: UniversalEvent) -> None:
            await asyncio.sleep(0)
            got.append(event.data)

        bus.subscribe("n", handler)
        for number in range(200):
            bus.publish(make("n", number))
        await bus.aclose(5)
        return got

    assert asyncio.run(main()) == list(range(200))
