"""Long runs, made short: memory stays flat, and the books stay exact."""

import gc
import os
import time

import psutil
import pytest

from llmspell_otel.events import EventBus, UniversalEvent, make, router


def held() -> float:
    """MiB of memory that the process holds."""
    gc.collect()
    return float(psutil.Process(os.getpid()).memory_info().rss) / 1_048_576


@pytest.mark.timeout(300)
def test_a_slow_subscriber_holds_no_more_than_its_queue() -> None:
    """Ten times too slow, for half a million events: flat memory, exact books, others served."""
    bus, counted = EventBus(), [0]

    def count(event: UniversalEvent) -> None:
        counted[0] += 1

    slow = bus.subscribe(
        "tool:*", lambda event: time.sleep(0.001), delivery="queued", capacity=1_000
    )
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
    assert max(marks) - min(marks) < 8
    bus.close(0.1)


@pytest.mark.timeout(300)
def test_names_without_end_leave_nothing_behind() -> None:
    """Half a million names, each new: the cache keeps its bound and memory is flat."""
    bus = EventBus()
    handle = bus.subscribe(["tool.*.done", "**.error"], lambda event: None)
    marks = []
    for number in range(500_000):
        bus.publish(make(f"tool.{number}.done"))
        if number and number % 100_000 == 0:
            marks.append(held())
    assert handle.stats.delivered == 500_000
    assert len(bus._routes) <= router.MAX_CACHED
    assert max(marks) - min(marks) < 8


def test_coming_and_going_leaves_nothing_behind() -> None:
    """Five thousand subscriptions made and ended: the trie is as empty as at first."""
    bus = EventBus()
    for number in range(5_000):
        bus.subscribe([f"a{number}.**.b", "x[0-9]*.{y,z}"], lambda event: None).unsubscribe()
    assert bus._root.bare
    assert not bus._branches
