"""Queues while others meddle: events get in without a lock, and nothing may be overlooked."""

import itertools
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llmspell_otel.events import EventBus, UniversalEvent, flow, make
from llmspell_otel.events.flow import REFUSED, STARTED, Flow
from llmspell_otel.events.limits import Limits
from llmspell_otel.events.subscription import Stats, Subscription
from tests.events.kit import Gate, eventually
from tests.events.test_flow import STRATEGIES, assert_balanced, assert_in_order
from tests.events.test_process import run

Meddle = Callable[[str, Callable[[], object]], None]


@pytest.fixture
def meddle(monkeypatch: pytest.MonkeyPatch) -> Meddle:
    """Has somebody else act just `before` or `after` an event is put in, or when one is `taken`."""
    acts: dict[str, list[Callable[[], object]]] = {"before": [], "after": [], "taken": []}

    def act(moment: str) -> None:
        due, acts[moment] = acts[moment], []
        for each in due:
            each()

    class Lane(deque[Any]):
        def append(self, entry: Any) -> None:
            act("before")
            super().append(entry)
            act("after")

        def popleft(self) -> Any:
            entry = super().popleft()
            act("taken")
            return entry

    monkeypatch.setattr(flow, "deque", Lane)
    return lambda moment, what: acts[moment].append(what)


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


class Rig:
    """A flow, how often its consumer was woken, and what was told."""

    def __init__(self, capacity: int = 10, overflow: Any = "drop_oldest") -> None:
        self.wakes = 0
        self.told: list[str] = []
        limits = Limits(capacity, overflow, block_timeout=0)
        self.flow = Flow(limits, self._wake, lambda name, data: self.told.append(name))
        self.offer("first")
        assert self.wakes == 1  # from here on the consumer is awake
        assert [event.data for event in self.flow.take(1)] == ["first"]

    def offer(self, data: Any, priority: int = 0) -> bool | None:
        return self.flow.offer(make("n", data, priority=priority))

    def fill(self) -> None:
        """Offer as much as there is room for."""
        for number in range(self.flow.limits.capacity):
            self.offer(number)

    def _wake(self) -> None:
        self.wakes += 1


MOMENTS = pytest.mark.parametrize("moment", ["before", "after"])


@MOMENTS
def test_a_queue_closed_meanwhile_keeps_nothing(meddle: Meddle, moment: str) -> None:
    """An event that comes as the queue is closed and cleared is dropped and counted."""
    rig = Rig()
    meddle(moment, rig.flow.close)
    meddle(moment, rig.flow.clear)
    assert rig.offer("late") is (False if moment == "before" else None)
    assert rig.flow.books() == (2, 1, 1, 0, 0)


@MOMENTS
def test_an_abandoned_queue_is_tidied_up(meddle: Meddle, moment: str) -> None:
    """An event that comes as the queue is abandoned is dropped, and wakes whoever tidies up."""
    rig = Rig()
    meddle(moment, rig.flow.abandon)
    assert rig.offer("late") is False
    assert rig.wakes == 2
    assert rig.flow.books() == (2, 1, 1, 0, 0)


def test_a_consumer_that_lies_down_meanwhile_is_woken(meddle: Meddle) -> None:
    """The consumer finds nothing just before the event is there: it is woken."""
    rig = Rig()
    meddle("before", lambda: rig.flow.take(1))
    rig.offer("it")
    assert rig.wakes == 2
    assert rig.flow.books() == (2, 1, 0, 0, 1)


def test_a_consumer_that_takes_the_event_at_once_is_not_woken(meddle: Meddle) -> None:
    """The consumer has it and lies down before the publisher looks again."""
    rig = Rig()
    meddle("after", lambda: rig.flow.take(1))
    meddle("after", lambda: rig.flow.take(1))
    rig.offer("it")
    assert rig.wakes == 1
    assert rig.flow.books() == (2, 2, 0, 0, 0)


@pytest.mark.parametrize("capacity", [2, 3, 10])
@pytest.mark.parametrize("overflow", STRATEGIES)
def test_a_queue_filled_meanwhile_holds_no_more(
    meddle: Meddle, overflow: Any, capacity: int
) -> None:
    """Others fill the queue after the publisher saw room: the strategy decides all the same."""
    rig = Rig(capacity, overflow)
    meddle("before", rig.fill)
    answer = rig.offer("late")
    told, dropped, rejected = {
        "drop_oldest": (None, 1, 0),
        "drop_newest": (False, 1, 0),
        "block": (REFUSED, 0, 1),
        "reject": (REFUSED, 0, 1),
    }[overflow]
    assert answer is told
    assert rig.flow.books() == (capacity + 2, 1, dropped, rejected, capacity)
    kept = [event.data for event in rig.flow.take(100)]
    everything = [*range(capacity), "late"]
    assert kept == (everything[1:] if overflow == "drop_oldest" else everything[:-1])
    assert rig.told.count(STARTED) == 1


@pytest.mark.parametrize("capacity", [1, 2, 10])
@pytest.mark.parametrize("overflow", STRATEGIES)
def test_who_interrupts_a_publisher_may_publish(
    meddle: Meddle, overflow: Any, capacity: int
) -> None:
    """A signal's handler publishes into the queue whose lock its own thread holds."""
    rig = Rig(capacity, overflow)
    assert rig.flow.take(1) == []  # nobody is awake: publishers need the lock
    meddle("before", lambda: rig.offer("of the handler"))
    rig.offer("interrupted")
    rig.fill()
    assert rig.wakes == 2
    published, delivered, dropped, rejected, queued = rig.flow.books()
    assert (published, delivered) == (capacity + 3, 1)
    assert dropped + rejected + queued == capacity + 2
    assert queued <= capacity + 1


@pytest.mark.parametrize("overflow", STRATEGIES)
def test_several_who_get_in_at_once_hold_no_more_than_fits(overflow: Any) -> None:
    """Three saw the last place: all are in before the first looks again, and others come too."""
    rig = Rig(2, overflow)
    rig.fill()
    late = [make("n", name) for name in ("a", "b", "c")]
    rig.flow._lane.extend(late)
    for event in late:
        rig.flow.look_again(event)
        rig.offer("more")
        rig.offer("yet more")
    published, delivered, dropped, rejected, queued = rig.flow.books()
    assert (published, delivered, queued) == (12, 1, 2)
    assert dropped + rejected == 9
    assert len(rig.flow.take(100)) == 2


def test_two_who_cross_the_mark_tell_it_once(meddle: Meddle) -> None:
    """Both saw a calm queue; together they reach the high mark."""
    rig = Rig(10)
    for number in range(6):
        rig.offer(number)
    meddle("before", lambda: rig.offer("other"))
    assert not rig.told
    rig.offer("it")
    assert rig.told == [STARTED]
    rig.fill()
    assert rig.told == [STARTED]


@MOMENTS
def test_an_urgent_event_meanwhile_goes_first(meddle: Meddle, moment: str) -> None:
    """A lane for urgent events appears: the usual event is in the books and comes second."""
    rig = Rig()
    meddle(moment, lambda: rig.offer("urgent", priority=-1))
    rig.offer("usual")
    assert rig.flow.books() == (3, 1, 0, 0, 2)
    assert [event.data for event in rig.flow.take(9)] == ["urgent", "usual"]


def test_what_is_in_hand_is_queued_until_the_next() -> None:
    """The books follow the consumer event by event, and what it has not begun can be dropped."""
    rig = Rig()
    for number in range(4):
        rig.offer(number)
    hand = rig.flow.hand(3)
    assert hand is not None
    assert rig.flow.books() == (5, 1, 0, 0, 4)
    next(hand)
    assert rig.flow.books() == (5, 1, 0, 0, 4)
    next(hand)
    assert rig.flow.books() == (5, 2, 0, 0, 3)
    rig.flow.close()
    rig.flow.clear()
    assert rig.flow.books() == (5, 2, 2, 0, 1)
    assert list(hand) == []
    assert rig.flow.books() == (5, 2, 2, 0, 1)
    rig.flow.done()
    assert rig.flow.books() == (5, 3, 2, 0, 0)


def test_a_finalizer_may_clear_what_is_being_taken(meddle: Meddle) -> None:
    """The consumer's own thread clears the queue while it takes: nothing is counted twice."""
    rig = Rig()
    for number in range(4):
        rig.offer(number)
    meddle("taken", rig.flow.clear)
    assert [event.data for event in rig.flow.take(9)] == [0]
    assert rig.flow.books() == (5, 2, 3, 0, 0)


def test_what_is_taken_but_not_begun_can_be_dropped() -> None:
    """Nothing is left when the end comes between taking and beginning."""
    rig = Rig()
    rig.fill()
    hand = rig.flow.hand(3)
    rig.flow.clear()
    assert rig.flow.books() == (11, 1, 10, 0, 0)
    assert list(hand or "?") == []


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("producers", [1, 3, 8])
@pytest.mark.parametrize("capacity", [1, 2, 10, 1024])
@pytest.mark.parametrize("overflow", STRATEGIES)
def test_hasty_threads_lose_nothing_unseen(overflow: Any, capacity: int, producers: int) -> None:
    """Threads that interrupt each other everywhere: every event is in the books, in order."""
    bus, got, each = EventBus(), [], 400
    limits: dict[str, Any] = {
        "capacity": capacity, "overflow": overflow, "block_timeout": 30, "delivery": "queued",
    }  # fmt: skip
    handle = bus.subscribe("n", lambda event: got.append(event.data), **limits)
    box = bus.mailbox("n", capacity=capacity, overflow=overflow, block_timeout=0)
    publish(bus, producers, each, lambda: (assert_balanced(handle), assert_balanced(box)))
    assert bus.flush(30)
    stats = assert_balanced(handle)
    assert stats.published == producers * each
    assert (stats.queued, stats.delivered) == (0, len(got))
    assert_in_order(got, producers)
    if overflow == "block":
        assert stats.delivered == producers * each
    kept = [event.data for event in box.receive_batch(100_000, 0)]
    assert len(kept) == capacity if capacity < producers * each else producers * each
    assert_in_order(kept, producers)
    assert assert_balanced(box).published == producers * each
    bus.close()


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_lanes_that_come_and_go_break_no_consumer(kind: str) -> None:
    """Urgent and less urgent events among the usual ones, again and again across the marks."""
    got: list[Any] = []

    def sync(event: UniversalEvent) -> None:
        got.append(event.data)

    async def awaited(event: UniversalEvent) -> None:
        got.append(event.data)

    for capacity in (1, 2, 10) * 4:
        bus = EventBus()
        got.clear()
        handle = bus.subscribe(
            "n",
            sync if kind == "sync" else awaited,
            delivery="queued",
            capacity=capacity,
            overflow="block",
            block_timeout=5,
        )
        publish(bus, 4, 100, lambda handle=handle: assert_balanced(handle), priorities=(0, -1, 3))
        assert bus.flush(5)
        assert handle.stats == Stats(published=400, delivered=400)
        assert sorted(got) == [(who, number) for who in range(4) for number in range(100)]
        bus.close()


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("overflow", STRATEGIES)
def test_closing_in_the_middle_of_a_burst_accounts_for_all(overflow: Any, kind: str) -> None:
    """Publishers run on while the bus closes: what got in is delivered, dropped or rejected."""
    for capacity in (1, 2, 10, 1024):
        bus, got, came = EventBus(), [], itertools.count()

        def sync(event: UniversalEvent, got: list[Any] = got) -> None:
            got.append(event.data)

        async def awaited(event: UniversalEvent, got: list[Any] = got) -> None:
            got.append(event.data)

        handle = bus.subscribe(
            "n",
            sync if kind == "sync" else awaited,
            delivery="queued",
            capacity=capacity,
            overflow=overflow,
            where=lambda event, came=came: next(came) >= 0,
        )
        publish(bus, 3, 300, lambda bus=bus: bus.close(0.001))
        assert eventually(lambda handle=handle: not handle.stats.queued)
        stats = handle.stats
        assert stats.published == next(came) == stats.delivered + stats.dropped + stats.rejected
        assert stats.delivered == len(got)
        assert_in_order(got, 3)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_no_event_is_overlooked_as_the_consumer_lies_down(kind: str) -> None:
    """One to three events at a time, each handled before the next come."""
    bus, got = EventBus(), []

    def sync(event: UniversalEvent) -> None:
        got.append(event.data)

    async def awaited(event: UniversalEvent) -> None:
        got.append(event.data)

    bus.subscribe("n", sync if kind == "sync" else awaited, delivery="queued")
    sent: list[int] = []
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        for _ in range(1 + len(sent) % 3):
            sent.append(len(sent))
            bus.publish(make("n", sent[-1]))
        assert spin(lambda: len(got) == len(sent))
    assert bus.flush()
    assert got == sent
    bus.close()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_handler_that_ends_its_subscription_gets_nothing_more(kind: str) -> None:
    """The rest of what it had in hand is dropped."""
    bus, got, gate = EventBus(), [], Gate()
    handles: list[Subscription] = []

    def stop(event: UniversalEvent) -> None:
        gate.wait(event)  # until all are there
        got.append(event.data)
        if event.data == 3:
            handles.pop().unsubscribe()

    async def stop_later(event: UniversalEvent) -> None:
        stop(event)

    handle = bus.subscribe("n", stop if kind == "sync" else stop_later, delivery="queued")
    handles.append(handle)
    for number in range(20):
        bus.publish(make("n", number))
    gate.open()
    assert eventually(lambda: handle.stats.delivered == 4)
    assert got == [0, 1, 2, 3]
    assert handle.stats == Stats(published=20, delivered=4, dropped=16)


def test_a_fork_in_the_middle_of_a_burst_tears_nothing() -> None:
    """Threads publish as fast as they can while the process forks: both sides' books are exact."""
    done = run("""
        import os, sys, threading
        from llmspell_otel.events import EventBus, make

        sys.setswitchinterval(1e-6)
        bus, got = EventBus(), []
        handle = bus.subscribe(
            "n", lambda event: got.append(event.data), delivery="queued", capacity=50,
            overflow="block", block_timeout=30,
        )
        box = bus.mailbox("n", capacity=10)
        stop, sent = threading.Event(), [0, 0, 0]

        def publish(which):
            while not stop.is_set():
                bus.publish(make("n", (which, sent[which])))
                sent[which] += 1

        threads = [threading.Thread(target=publish, args=(n,), daemon=True) for n in range(3)]
        for thread in threads:
            thread.start()
        for child in range(15):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    assert handle.stats.published == box.stats.published == 0
                    got.clear()
                    for number in range(200):
                        bus.publish(make("n", number))
                    assert bus.flush(10)
                    assert got == list(range(200)), got
                    stats = box.stats
                    assert (stats.published, stats.dropped, stats.queued) == (200, 190, 10), stats
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitpid(pid, 0)[1] == 0
        stop.set()
        for thread in threads:
            thread.join()
        assert bus.flush(10)
        stats = handle.stats
        assert stats.published == stats.delivered == len(got) == sum(sent), (stats, sent)
        assert box.stats.published == sum(sent) == box.stats.dropped + 10
        bus.close()
        print("fine")
    """)
    assert done.stdout == "fine\n", done.stderr


def publish(
    bus: EventBus,
    producers: int,
    each: int,
    meanwhile: Callable[[], object],
    priorities: tuple[int, ...] = (0,),
) -> None:
    """Publish *each* events from every one of *producers* threads; call *meanwhile* meanwhile."""

    def produce(producer: int) -> None:
        for number in range(each):
            priority = priorities[number % len(priorities)]
            bus.publish(make("n", (producer, number), priority=priority))

    threads = [threading.Thread(target=produce, args=(number,)) for number in range(producers)]
    for thread in threads:
        thread.start()
    meanwhile()
    while any(thread.is_alive() for thread in threads):
        meanwhile()
        time.sleep(0.0005)
    for thread in threads:
        thread.join()


def spin(condition: Callable[[], bool]) -> bool:
    """Whether *condition* comes true within five seconds, asked all the time."""
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0)
    return condition()
