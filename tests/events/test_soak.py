"""Long runs, made short: memory stays flat, and the books stay exact."""

import time
from collections.abc import Callable

import pytest
from paho.mqtt.matcher import MQTTMatcher

from llmspell_otel.events import EventBus, UniversalEvent, make, router
from tests.benchmarks.soak import companies, held, sleepy


@pytest.mark.timeout(120)
def test_a_slow_subscriber_slows_nobody_else() -> None:
    """At a millisecond an event and ten times as many, the others' p99 stays within 1.5 times.

    Windows with and without it take turns, and the quietest of either are compared: other
    programs on the machine cost more. Five rounds at least, and more while it is not quiet. The
    whole minute is `python -m tests.benchmarks.soak slow`.
    """
    found: list[dict[str, tuple[float, float]]] = []
    for each in companies(40):
        found.append(each)
        (inline, queued), (inline_beside, queued_beside) = (
            [min(each[company][kind] for each in found) for kind in (0, 1)]
            for company in ("nobody", "a_slow_subscriber")
        )
        if inline_beside < 1.5 * inline and queued_beside < 1.5 * queued and len(found) >= 5:
            return
    pytest.fail(f"p99 of the quietest windows of {len(found)}: {found}")


@pytest.mark.timeout(300)
def test_a_slow_subscriber_holds_no_more_than_its_queue() -> None:
    """Ten times too slow and more, for half a million events: flat memory, exact books."""
    bus, counted = EventBus(), [0]

    def count(event: UniversalEvent) -> None:
        counted[0] += 1

    slow = bus.subscribe("tool:*", sleepy, delivery="queued", capacity=1_000)
    bus.subscribe("tool:*", count)
    total, marks = 500_000, []
    for number in range(total):
        bus.publish(make("tool:done", {"number": number, "text": "x" * 100}))
        if number and number % 100_000 == 0:
            marks.append(held())
    stats = slow.stats
    assert stats.published == total
    assert stats.published == stats.delivered + stats.dropped + stats.rejected + stats.queued
    assert counted == [total]
    assert max(marks) - min(marks) < 5
    bus.close(0.1)


def nothing(event: object) -> None:
    """Do nothing with *event*."""


def spent(function: Callable[[], object]) -> int:
    """Nanoseconds of this thread's processor time that *function* takes."""
    began = time.thread_time_ns()
    function()
    return time.thread_time_ns() - began


@pytest.mark.timeout(300)
def test_names_without_end_leave_nothing_behind() -> None:
    """A million names, each new: bounded cache, flat memory, and at most 143 calls' time each.

    That is 250,000 a second where a call takes 28 ns. Ten million are
    `python -m tests.benchmarks.soak names`.
    """
    bus = EventBus()
    handle = bus.subscribe(["tool.*.done", "**.error"], nothing)
    marks, calls, published = [], 0, 0
    for first in range(0, 1_000_000, 50_000):
        names = [f"tool.{number}.done" for number in range(first, first + 50_000)]
        calls += spent(lambda n=names: [nothing(x) for x in n])
        published += spent(lambda n=names: [bus.publish(make(x)) for x in n])
        marks.append(held())
    assert handle.stats.delivered == 1_000_000
    assert len(bus._routes) <= router.MAX_CACHED
    assert max(marks[4:]) - min(marks[4:]) < 5
    assert published < 143 * calls


@pytest.mark.parametrize("others", [0, 10_000])
def test_a_new_name_costs_no_more_than_a_well_kept_trie(others: int) -> None:
    """Finding whom a name that was never seen before means: within twice of paho's matcher.

    The two take turns; the quietest turn of either counts.
    """
    bus, matcher = EventBus(), MQTTMatcher()
    bus.subscribe("tool.*.done", nothing)
    matcher["tool/+/done"] = nothing
    for number in range(others):
        bus.subscribe(f"area{number}.*.part", nothing)
        matcher[f"area{number}/+/part"] = nothing
    ours, theirs = [], []
    for turn in range(10):
        names = [f"tool.{turn}x{number}.done" for number in range(5_000)]
        topics = [name.replace(".", "/") for name in names]
        ours.append(spent(lambda n=names: [bus.wants(x) for x in n]))
        theirs.append(spent(lambda n=topics: [[*matcher.iter_match(x)] for x in n]))
    assert min(ours) < 2 * min(theirs)


def test_coming_and_going_leaves_nothing_behind() -> None:
    """Five thousand subscriptions made and ended: the trie is as empty as at first."""
    bus = EventBus()
    for number in range(5_000):
        bus.subscribe([f"a{number}.**.b", "x[0-9]*.{y,z}"], lambda event: None).unsubscribe()
    assert bus._root.bare
    assert not bus._branches
