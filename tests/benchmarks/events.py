"""What events cost, beside rivals and a hand-written floor: `python -m tests.benchmarks.events`.

Every case of a table runs once a round, in random order; the figures are medians of processor
time, which other programs on the machine disturb least. Ratios within a table are what counts.
"""

import asyncio
import gc
import itertools
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import median
from typing import Any

import blinker
from paho.mqtt.matcher import MQTTMatcher
from pyee.base import EventEmitter

try:  # it pins an old typing-extensions, so that it is no dependency of ours: see the Makefile
    import pymitter
except ImportError:
    pymitter = None

from llmspell_otel.events import EventBus, UniversalEvent, make
from llmspell_otel.events.journal import Journal

Case = Callable[[], object]

NAME = "tool:execution_complete"
DATA = {
    "operation": "00f067aa0ba902b7",
    "parent": "b7ad6b7169203331",
    "kind": "tool",
    "name": "search",
    "start_time": 1_790_000_000_000_000_000,
    "end_time": 1_790_000_002_000_000_000,
    "attributes": {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"},
    "attempts": 1,
    "outcome": "ok",
}
ROUNDS, CALLS = 15, 5_000


def handler(event: Any = None) -> None:
    """Do nothing with *event*."""


def bus_with(patterns: int) -> EventBus:
    """A bus with *patterns* subscriptions, one of which matches."""
    bus = EventBus()
    bus.subscribe("tool.*", handler)
    for number in range(patterns - 1):
        bus.subscribe(f"area{number}.*.part{number}", handler)
    return bus


def inline(patterns: int) -> Case:
    """Create an event and deliver it to the one subscriber that matches."""
    bus = bus_with(patterns)
    return lambda: bus.publish(make(NAME, DATA, "run"))


def unique(patterns: int) -> Case:
    """The same with a name that was never seen before."""
    bus, numbers = bus_with(patterns), itertools.count()
    bus.subscribe("unique.*", handler)
    return lambda: bus.publish(make(f"unique.{next(numbers)}", DATA, "run"))


def floor() -> Case:
    """The least that does the same by hand: an event, a lookup, a count, a guarded call."""
    cache: dict[str, tuple[Any, ...]] = {NAME: (handler,)}
    tick = itertools.count().__next__

    def publish(event: UniversalEvent) -> None:
        for each in cache[event.event_type]:
            tick()
            try:
                each(event)
            except ValueError:
                raise

    return lambda: publish(make(NAME, DATA, "run"))


def paho(patterns: int) -> Case:
    """Route only, with paho's trie of MQTT topics."""
    matcher = MQTTMatcher()
    matcher["tool/+"] = handler
    for number in range(patterns - 1):
        matcher[f"area{number}/+/part{number}"] = handler
    return lambda: [each(None) for each in matcher.iter_match("tool/execution_complete")]


def usual(patterns: int) -> Case:
    """The usual way: a list of patterns, `fnmatch` for each."""
    rows = [("tool:*", handler)]
    rows += [(f"area{number}:*:part{number}", handler) for number in range(patterns - 1)]
    return lambda: [each(None) for text, each in rows if fnmatchcase(NAME, text)]


def pyee_exact() -> Case:
    """Emit by exact name with pyee; no patterns, no record, no isolation."""
    emitter = EventEmitter()
    emitter.on(NAME, handler)
    return lambda: emitter.emit(NAME, DATA)


def pymitters() -> dict[str, Case]:
    """Emit with pymitter, whose patterns are `fnmatch` in each segment; no record, no isolation."""

    def case(patterns: int) -> Case:
        emitter = pymitter.EventEmitter(wildcard=True, delimiter=":")
        emitter.on("tool:*", handler)
        for number in range(patterns - 1):
            emitter.on(f"area{number}:*:part{number}", handler)
        return lambda: emitter.emit(NAME, DATA)

    counts = () if pymitter is None else (1, 100)
    return {f"pymitter, {count} patterns, no record": case(count) for count in counts}


def blinker_exact() -> Case:
    """Send by exact name with blinker; no patterns, no record, no isolation."""
    signal = blinker.Namespace().signal(NAME)
    signal.connect(handler)
    return lambda: signal.send(DATA)


def cases() -> dict[str, Case]:
    """What is measured; the first is the measure."""
    idle = bus_with(100)
    return {
        "one call of a function": handler,
        "wants(), nobody listens": lambda: idle.wants("nobody.listens"),
        "make an event": lambda: make(NAME, DATA, "run"),
        "floor: make, look up, count, guard": floor(),
        "ours, 1 pattern": inline(1),
        "ours, 100 patterns": inline(100),
        "ours, 10,000 patterns": inline(10_000),
        "ours, 10,000 patterns, unique names": unique(10_000),
        "pyee, exact names, no record": pyee_exact(),
        "blinker, exact names, no record": blinker_exact(),
        **pymitters(),
        "paho's matcher, 1 pattern, route only": paho(1),
        "paho's matcher, 10,000 patterns": paho(10_000),
        "list of fnmatch, 1 pattern": usual(1),
        "list of fnmatch, 100 patterns": usual(100),
    }


def measure(case: Case, calls: int = CALLS) -> float:
    """Nanoseconds of processor time a call."""
    repeat = itertools.repeat(None, calls)
    gc.collect()
    gc.disable()
    began = time.thread_time_ns()
    for _ in repeat:
        case()
    spent = time.thread_time_ns() - began
    gc.enable()
    return spent / calls


def table(rounds: int = ROUNDS) -> dict[str, float]:
    """The median of every case, all run once a round in random order."""
    all_cases = cases()
    found: dict[str, list[float]] = {name: [] for name in all_cases}
    for _ in range(rounds):
        for name in random.sample(list(all_cases), len(all_cases)):
            found[name].append(measure(all_cases[name]))
    return {name: median(values) for name, values in found.items()}


def rate(publish: Callable[[int], None], count: int) -> tuple[float, float]:
    """Events a second by the clock, and events a second of processor time."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    publish(count)
    return count / (time.perf_counter() - wall), count / (time.process_time() - cpu)


def across_threads(count: int) -> None:
    """One thread publishes, another handles; nothing may be lost."""
    bus, got = EventBus(), itertools.count()
    tick = got.__next__
    handle = bus.subscribe(
        "tool.*",
        lambda event: tick(),
        delivery="queued",
        capacity=100_000,
        overflow="block",
        block_timeout=60,
    )
    for _ in range(count):
        bus.publish(make(NAME, DATA, "run"))
    assert bus.flush(60)
    stats = handle.stats
    assert stats.published == stats.delivered == count == next(got)
    bus.close()


def to_a_task(count: int) -> None:
    """A publisher and an async handler in one loop; nothing may be lost."""

    async def main() -> None:
        bus, seen = EventBus(), itertools.count()

        async def take(event: UniversalEvent) -> None:
            next(seen)

        bus.subscribe("tool.*", take, capacity=count)
        for number in range(count):
            bus.publish(make(NAME, DATA, "run"))
            if not number % 64:
                await asyncio.sleep(0)
        assert await asyncio.to_thread(bus.flush, 60)
        assert next(seen) == count

    asyncio.run(main())


def inline_rate(count: int) -> None:
    """Create and deliver inline."""
    bus = bus_with(100)
    for _ in range(count):
        bus.publish(make(NAME, DATA, "run"))


def producers(count: int) -> None:
    """Four threads publish to one inline subscriber; the count is exact."""
    bus = EventBus()
    handle = bus.subscribe("tool.*", handler)

    def work() -> None:
        for _ in range(count // 4):
            bus.publish(make(NAME, DATA, "run"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert handle.stats.delivered == count // 4 * 4


def into_the_log(mode: Any) -> Callable[[int], None]:
    """Publish and commit; the database follows later."""

    def run(count: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            # Room for all of them: a disk that is slower than this loop must not drop any.
            bus, journal = EventBus(), Journal(Path(folder), mode=mode, max_waiting_bytes=2**30)
            journal._indexer.close(0)  # measured by itself
            journal.attach(bus)
            for _ in range(count):
                bus.publish(make(NAME, DATA, "run"))
            assert journal.flush(60)
            assert journal.stats.committed == count
            journal.close()

    return run


def into_the_database(count: int) -> None:
    """Publish, commit, and take everything into SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder))
        for number in range(count):
            journal.append(make(NAME, DATA, f"run-{number // 20}"))
        assert journal.catch_up(120)
        assert journal.summary()["events"] == count
        journal.close()


def main() -> None:
    """Print the tables."""
    print(
        f"Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs"
    )
    found = table()
    unit = next(iter(found.values()))
    print(f"{'case':44}{'ns':>9}{'calls':>9}")
    for name, value in found.items():
        print(f"{name:44}{value:9.0f}{value / unit:9.1f}")
    print(f"\n{'path':44}{'events/s':>12}{'per CPU s':>12}")
    for name, publish, count in (
        ("create + deliver inline, 100 patterns", inline_rate, 300_000),
        ("four threads, inline", producers, 300_000),
        ("create + queue + handle in another thread", across_threads, 300_000),
        ("create + queue + async handler, one loop", to_a_task, 200_000),
        ("create + encode + commit, process mode", into_the_log("process"), 300_000),
        ("create + encode + commit, power mode", into_the_log("power"), 300_000),
        ("create + encode + commit + SQLite, all indexes", into_the_database, 100_000),
    ):
        by_clock, by_cpu = max(rate(publish, count) for _ in range(3))
        print(f"{name:44}{by_clock:12,.0f}{by_cpu:12,.0f}")


if __name__ == "__main__":
    main()
