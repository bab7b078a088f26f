"""Long runs, with exact books: `python -m tests.benchmarks.soak [slow|kills|names|events] [SHARE]`.

A subscriber that is ten times too slow for a minute, two hundred kills, ten million names, ten
million events: what is lost, what others pay, and the memory held after each tenth. SHARE, a part
of one, makes it shorter.
"""

import gc
import itertools
import os
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

import psutil

from llmspell_otel.events import EventBus, UniversalEvent, make, router
from llmspell_otel.events.journal import Journal, Retention
from tests.benchmarks.events import DATA, NAME, bus_with, handler
from tests.events.kills import killed, unkept

MILLIONS = 10_000_000
WINDOW = 0.5  # seconds of publishing between two changes of company
WARMING = 0.1


def held() -> float:
    """MiB of memory that the process holds."""
    gc.collect()
    return float(psutil.Process(os.getpid()).memory_info().rss) / 1_048_576


def sleepy(event: UniversalEvent) -> None:
    """Take a millisecond for an event."""
    time.sleep(0.001)


def p99(values: list[int]) -> float:
    """The 99th percentile."""
    return quantiles(values, n=100)[98]


class Watch:
    """Two subscribers, one inline and one with a queue, and how long events take to them."""

    def __init__(self, bus: EventBus) -> None:
        self.bus = bus
        self.inline: list[int] = []
        self.queued: list[int] = []
        bus.subscribe("tool:*", self._note(self.inline))
        bus.subscribe("tool:*", self._note(self.queued), delivery="queued")

    def _note(self, noted: list[int]) -> Callable[[UniversalEvent], None]:
        return lambda event: noted.append(time.perf_counter_ns() - event.data)

    def window(self, seconds: float) -> tuple[int, float, float]:
        """Publish ten events a millisecond; how many, and the p99 of either in nanoseconds."""
        self.inline.clear()
        self.queued.clear()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for _ in range(10):
                self.bus.publish(make("tool:done", time.perf_counter_ns()))
            time.sleep(0.001)
        while len(self.queued) < len(self.inline):
            time.sleep(0.001)
        return len(self.inline), p99(self.inline), p99(self.queued)


@contextmanager
def nobody(watch: Watch) -> Generator[None]:
    """No company: what the two take by themselves."""
    watch.window(WARMING)
    yield


@contextmanager
def a_slow_subscriber(watch: Watch) -> Generator[None]:
    """One that takes a millisecond for each event, of which ten come; its books must balance."""
    slow = watch.bus.subscribe("tool:*", sleepy, delivery="queued", capacity=100)
    warmed, *_ = watch.window(WARMING)
    yield
    stats = slow.stats
    assert stats.published == warmed + len(watch.inline)
    assert stats.dropped > stats.published / 2
    assert stats.published == stats.delivered + stats.dropped + stats.rejected + stats.queued
    slow.unsubscribe()


@contextmanager
def a_thread(watch: Watch) -> Generator[None]:
    """A thread that sleeps for milliseconds too, and has nothing to do with events."""
    done = threading.Event()

    def sleep() -> None:
        while not done.is_set():
            time.sleep(0.001)

    thread = threading.Thread(target=sleep)
    thread.start()
    watch.window(WARMING)
    yield
    done.set()
    thread.join()


COMPANY = (nobody, a_slow_subscriber, a_thread)


def companies(rounds: int) -> Iterator[dict[str, tuple[float, float]]]:
    """The p99 of the inline and of the queued one, in every company, round by round."""
    bus = EventBus()
    watch = Watch(bus)
    for _ in range(rounds):
        found = {}
        for company in COMPANY:
            with company(watch):
                _, inline, queued = watch.window(WINDOW)
                found[company.__name__] = (inline, queued)
        yield found
    bus.close(0.1)


def unique(number: int) -> str:
    """A name that was never seen before."""
    return f"unique.{number}.done"


def names(count: int) -> Iterator[tuple[int, float]]:
    """Publish *count* events, each with a new name; (published, MiB held) after each tenth."""
    bus = EventBus()
    handle = bus.subscribe(["unique.*.done", "**.error"], handler)
    seconds = naming = 0.0
    for first in range(0, count, count // 10):
        numbers = range(first, first + count // 10)
        seconds += timed(lambda it=numbers: deque(map(bus.publish, map(make, map(unique, it))), 0))
        naming += timed(lambda it=numbers: deque(map(unique, it), 0))
        assert len(bus._routes) <= router.MAX_CACHED
        yield numbers.stop, held()
    assert handle.stats.delivered == handle.stats.published == count
    alone = count / (seconds - naming)
    print(f"{count / seconds:,.0f} a second of processor time, {alone:,.0f} but for naming them")


def timed(run: Callable[[], object]) -> float:
    """Seconds of processor time that *run* takes."""
    began = time.thread_time()
    run()
    return time.thread_time() - began


def events(count: int) -> Iterator[tuple[int, float]]:
    """The same with inline, queued and slow subscribers, and one new name in ten."""
    bus = bus_with(100)
    bus.subscribe("tool.**", handler, delivery="queued", capacity=1_000)
    bus.subscribe("tool.*", sleepy, delivery="queued", capacity=1_000)
    for number in range(count):
        bus.publish(make(f"tool.name{number}" if number % 10 == 0 else NAME, DATA, "run"))
        if number % (count // 10) == count // 10 - 1:
            yield number + 1, held()
    busy = [each.stats for each in bus.subscriptions() if "area" not in each.patterns[0]]
    assert [each.published for each in busy] == [count] * 3
    for stats in busy:
        assert stats.published == stats.delivered + stats.dropped + stats.rejected + stats.queued
    bus.close(0.5)


def kills(count: int) -> tuple[int, float]:
    """Kill *count* writers at random moments; acknowledged events, and seconds to open again."""
    with tempfile.TemporaryDirectory() as folder:
        modes = itertools.cycle(("process", "power"))
        kept = {f"run-{n}": killed(Path(folder), f"run-{n}", next(modes)) for n in range(count)}
        began = time.perf_counter()
        journal = Journal(folder, retention=Retention(None, None))
        opened = time.perf_counter() - began
        for _ in ("from the log", "from the database"):
            assert unkept(journal, kept) == []
            assert journal.catch_up(300)
        assert journal.stats.committed == 0
        events = journal.summary()["events"]
        journal.close()
    assert opened <= max(1.0, events / 1_000_000)
    return sum(kept.values()), opened


def _slow(share: float) -> None:
    began = held()
    rounds = list(companies(max(1, round(120 * share))))
    print(f"p99 of {len(rounds)} windows of {WINDOW} s in each company, µs: median, least")
    for number, kind in enumerate(("inline", "queued")):
        for company in COMPANY:
            found = [each[company.__name__][number] / 1e3 for each in rounds]
            print(f"{kind:8}beside {company.__name__:20}{median(found):9.0f}{min(found):9.0f}")
    print(f"MiB held: {began:.1f} before, {held():.1f} after")


def _long(run: Callable[[int], Iterator[tuple[int, float]]], share: float) -> None:
    began, count = time.perf_counter(), round(MILLIONS * share)
    marks = [f"{held:.1f}" for _, held in run(count)]
    seconds = time.perf_counter() - began
    print(f"{run.__name__}: {count:,} in {seconds:.0f} s; MiB held: {'  '.join(marks)}")


def main(chosen: str = "", share: float = 1.0) -> None:
    """Run what is *chosen*, or everything."""
    if chosen in ("", "slow"):
        _slow(share)
    if chosen in ("", "kills"):
        count = max(1, round(200 * share))
        acknowledged, opened = kills(count)
        print(f"{count} kills: all of {acknowledged:,} acknowledged events kept", end="")
        print(f", opened in {opened * 1e3:.0f} ms")
    for run in (names, events):
        if chosen in ("", run.__name__):
            _long(run, share)


if __name__ == "__main__":
    main("".join(sys.argv[1:2]), float("".join(sys.argv[2:3]) or 1))
