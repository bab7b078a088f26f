"""The wall clock jumps by an hour, back and forth: order, lives, rates and breakers do not care."""

import itertools
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from llmspell_otel.events import make
from llmspell_otel.events.journal import Journal
from llmspell_otel.events.store import log, writer
from llmspell_otel.events.timeline import build
from tests.events.test_journal import numbers

HOUR = 3_600_000_000_000

JUMPING = """
    import itertools, sys, time

    real, jumps, jumping = time.time_ns, itertools.cycle((0, 1, -1, 1, 1, -1, -1)), []

    def wall():
        return real() + (next(jumps) * 3_600_000_000_000 if jumping else 0)

    time.time_ns, time.time = wall, lambda: wall() / 1e9
    # From here on everything that reads the wall clock reads this one.
"""


def run(code: str, *arguments: str) -> None:
    """Run *code* in a process whose wall clock jumps as soon as it says so."""
    words = [sys.executable, "-W", "error", "-c", textwrap.dedent(JUMPING) + textwrap.dedent(code)]
    done = subprocess.run([*words, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_order_is_that_of_publishing(tmp_path: Path) -> None:
    """For handlers, queues, the journal's log and database, and a timeline; identifiers differ."""
    run(
        """
        from llmspell_otel.events import EventBus, make
        from llmspell_otel.events.journal import Journal
        from llmspell_otel.events.store import writer

        writer.SEGMENT_BYTES = 10_000
        jumping.append(True)
        bus, journal, inline, queued = EventBus(), Journal(sys.argv[1]), [], []
        journal.attach(bus)
        bus.subscribe("n", inline.append)
        bus.subscribe("n", queued.append, delivery="queued")
        for number in range(2_000):
            bus.publish(make("n", number))
            if number % 100 == 0:
                assert journal.flush()
        assert bus.flush()
        times = [event.timestamp for event in inline]
        assert max(times) - min(times) > 7_000 * 10**9
        assert queued == inline == sorted(inline, key=lambda event: event.sequence)
        assert [event.data for event in inline] == list(range(2_000))
        assert len({event.id for event in inline}) == 2_000
        assert [event.data for event in journal.query()] == list(range(2_000))
        assert journal.catch_up()
        assert list(journal.query()) == inline
        latest = journal.query(newest_first=True, limit=3)
        assert [event.data for event in latest] == [1_999, 1_998, 1_997]
        journal.close()
        """,
        str(tmp_path),
    )
    journal = Journal(tmp_path)
    assert numbers(journal.query()) == list(range(2_000))
    journal.close()


def test_lives_rates_and_breakers_go_by_another_clock() -> None:
    """An hour forth ends no life and fills no bucket; an hour back keeps no breaker open."""
    run("""
        import logging
        from llmspell_otel import Hook, tool
        from llmspell_otel.events import EventBus, make
        from llmspell_otel.hooks.breaker import BreakerProfile

        logging.disable()  # it says that events expire, and a hook fails
        bus = EventBus()
        jumping.append(True)
        box = bus.mailbox("n")
        for number in range(50):
            bus.publish(make("n", number, ttl=600))
            bus.publish(make("n", "short", ttl=0.05))
        time.sleep(0.2)
        assert [event.data for event in box.receive_batch(200, 0)] == list(range(50))
        assert box.stats.dropped == 50

        limited = bus.subscribe("n", lambda event: None, rate_limit=100)
        began = time.monotonic()
        while time.monotonic() - began < 0.5:
            bus.publish(make("n"))
        assert 100 <= limited.stats.delivered <= 1.1 * (100 + 100 * (time.monotonic() - began))
        assert limited.stats.dropped > 0

        @tool
        def double(number):
            return 2 * number

        asked = []

        def broken(context):
            asked.append(context)
            raise ValueError

        profile = BreakerProfile(failure_threshold=2, open_duration=1.0)
        Hook.register("tool:before_execution", broken, breaker=profile)
        assert [double(n) for n in range(2)] == [0, 2]
        opened = time.monotonic()
        while time.monotonic() - opened < 0.8:
            double(1)
        assert len(asked) == 2, len(asked)
        time.sleep(0.4)
        double(1)
        assert len(asked) == 3, len(asked)
    """)


def test_a_new_log_sorts_after_the_old_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock goes back an hour with every file, in one process and from one to the next."""
    clock = itertools.count(1_800_000_000_000_000_000, -HOUR)
    monkeypatch.setattr(log, "time_ns", clock.__next__)
    monkeypatch.setattr(writer, "SEGMENT_BYTES", 1)
    for process in range(3):
        journal = Journal(tmp_path, interval=0.001)
        journal._indexer.close(0)
        for number in range(5):
            journal.append(make("n", 5 * process + number))
            assert journal.flush()
        journal.close()
    assert len(list(tmp_path.glob("*.log"))) == 15
    journal = Journal(tmp_path)
    for _ in ("from the log", "from the database"):
        assert numbers(journal.query()) == list(range(15))
        assert journal.catch_up()
    journal.close()


def test_calls_stand_as_they_began_whatever_their_times_say() -> None:
    """The second of two calls began, by the clock, an hour before the first."""
    start = 1_800_000_000_000_000_000
    events = [
        make(
            f"tool:execution_{moment}",
            {"operation": f"{call:016x}", "kind": "tool", "name": f"call {call}"},
            timestamp=start - call * HOUR,
        )
        for call in (1, 2, 3)
        for moment in ("started", "complete")
    ]
    assert [each.name for each in build(events).roots] == ["call 1", "call 2", "call 3"]
