"""The journal: commit, crash, query, retention, full and broken disks."""

import errno
import json
import logging
import os
import random
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from llmspell_otel.events import (
    Event,
    EventBus,
    EventError,
    JournalError,
    PatternError,
    default_bus,
    make,
)
from llmspell_otel.events.journal import Journal, Retention
from llmspell_otel.events.store import log, writer
from tests.events.kit import eventually


@pytest.fixture
def journal(tmp_path: Path) -> Any:
    """A journal that commits at once."""
    journal = Journal(tmp_path / "journal", interval=0.001)
    yield journal
    journal.close()


def fill(journal: Journal, count: int, event_type: str = "n", **fields: Any) -> None:
    """Keep *count* events with their numbers as data."""
    for number in range(count):
        journal.append(make(event_type, number, **fields))


def numbers(events: Any) -> list[Any]:
    """The data of *events*."""
    return [event.data for event in events]


def test_what_is_published_can_be_asked_for(tmp_path: Path) -> None:
    """Attached to a bus, the journal gives the very events back, also after a restart."""
    bus, journal = EventBus(), Journal(tmp_path)
    journal.attach(bus)
    sent = [
        make("tool:done", {"n": n, "é": "\ud800"}, "run", tags=("x",), ttl=9) for n in range(50)
    ]
    for event in sent:
        bus.publish(event)
    assert list(journal.query()) == sent
    journal.close()
    again = Journal(tmp_path)
    assert list(again.query("tool.*")) == sent
    assert (journal.stats.accepted, journal.stats.committed, journal.stats.waiting) == (50, 50, 0)
    again.close()


def test_only_the_patterns_asked_for_are_kept(tmp_path: Path) -> None:
    """A journal may keep some types only."""
    bus, journal = EventBus(), Journal(tmp_path)
    journal.attach(bus, ("tool:*", "cost:**"))
    for name in ("tool:done", "agent:done", "cost:recorded"):
        bus.publish(make(name))
    assert [event.event_type for event in journal.query()] == ["tool:done", "cost:recorded"]
    journal.close()


@pytest.mark.parametrize(
    ("patterns", "conditions", "expected"),
    [
        ((), {}, [0, 1, 2, 3, 4, 5]),
        (("a.*",), {}, [0, 1, 2]),
        (("*.error",), {}, [1, 4]),
        (("a.ok", "**.error"), {}, [0, 1, 2, 4]),
        (("nothing",), {}, []),
        ((), {"correlation_id": "one"}, [0, 1]),
        (("a.*",), {"correlation_id": "two"}, [2]),
        ((), {"since": 300}, [2, 3, 4, 5]),
        ((), {"until": 300}, [0, 1]),
        ((), {"since": 200, "until": 400}, [1, 2]),
        ((), {"limit": 2}, [0, 1]),
        ((), {"limit": 0}, []),
        ((), {"newest_first": True, "limit": 2}, [5, 4]),
        ((), {"where": {"data.n": 3}}, [3]),
        ((), {"where": {"data.n": ("=", 3)}}, [3]),
        ((), {"where": {"data.n": ("!=", 3)}}, [0, 1, 2, 4, 5]),
        ((), {"where": {"data.n": (">", 3)}}, [4, 5]),
        ((), {"where": {"data.n": (">=", 3), "data.odd": True}}, [3, 5]),
        ((), {"where": {"data.n": ("<", 1)}}, [0]),
        ((), {"where": {"data.n": ("<=", 1)}}, [0, 1]),
        ((), {"where": {"data.n": ("in", [1, 4])}}, [1, 4]),
        ((), {"where": {"data.name": ("contains", "mber 2")}}, [2]),
        ((), {"where": {"data.name": ("starts_with", "number")}}, [0, 1, 2, 3, 4, 5]),
        ((), {"where": {"data.name": (">", 3)}}, []),
        ((), {"where": {"data.extra": ("exists", True)}}, [5]),
        ((), {"where": {"data.extra": ("exists", False)}}, [0, 1, 2, 3, 4]),
        ((), {"where": {"data.extra.0.deep": 1}}, [5]),
        ((), {"where": {"data.n.x": 1}}, []),
        ((), {"where": {"source": "desk"}}, [0]),
        ((), {"where": {"metadata.source": "desk"}}, [0]),
        ((), {"where": {"payload.n": 2}}, [2]),
        ((), {"where": {"nothing": 2}}, []),
        (("a.*",), {"where": {"data.odd": True}, "newest_first": True}, [1]),
    ],
)
def test_a_query_finds_what_meets_all_conditions(
    journal: Journal, patterns: Any, conditions: Any, expected: list[int]
) -> None:
    """Type, run, time and fields, alone and together, in both orders."""
    types = ["a.ok", "a.error", "a.ok", "b.ok", "b.error", "c"]
    runs = ["one", "one", "two", "two", "", ""]
    for n, (name, run) in enumerate(zip(types, runs, strict=True)):
        data = {"n": n, "odd": n % 2 == 1, "name": f"number {n}"}
        data |= {"extra": [{"deep": 1}]} if n == 5 else {}
        source = "desk" if n == 0 else None
        journal.append(make(name, data, run, timestamp=100 * (n + 1), source=source))
    assert [event.data["n"] for event in journal.query(*patterns, **conditions)] == expected


def test_times_may_be_datetimes(journal: Journal) -> None:
    """With a time zone; without one it is an error, not a guess."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    journal.append(make("n", 1, timestamp=int(moment.timestamp()) * 10**9))
    assert numbers(journal.query(since=moment)) == [1]
    assert numbers(journal.query(until=moment)) == []
    with pytest.raises(EventError, match="no time zone"):
        journal.query(since=datetime(2026, 1, 1))  # noqa: DTZ001 - on purpose


def test_a_wrong_query_is_refused(journal: Journal) -> None:
    """At once, with one clear error."""
    with pytest.raises(PatternError):
        journal.query("a..b")
    with pytest.raises(EventError, match="condition on 'data'"):
        list(journal.query(where={"data": ("~", 1)}))


def test_a_query_of_a_run_uses_the_index(journal: Journal) -> None:
    """Finding twenty events among twenty thousand is much cheaper than reading them all."""
    for number in range(20_000):
        journal.append(make("n", number, f"run-{number // 20}"))
    journal.catch_up()

    def cost(**conditions: Any) -> float:
        began = time.process_time()
        list(journal.query(**conditions))
        return time.process_time() - began

    assert numbers(journal.query(correlation_id="run-500")) == list(range(10_000, 10_020))
    assert min(cost(correlation_id="run-500") for _ in range(3)) * 10 < cost()


def test_retention_by_count(tmp_path: Path) -> None:
    """The latest stay."""
    journal = Journal(tmp_path, retention=Retention(max_age=None, max_events=30))
    fill(journal, 100)
    assert journal.prune() == 70
    assert numbers(journal.query()) == list(range(70, 100))
    assert journal.prune() == 0
    journal.close()


def test_retention_by_age(tmp_path: Path) -> None:
    """The old go, and the summary follows."""
    journal = Journal(tmp_path, retention=Retention(max_age=3600))
    now = time.time_ns()
    for number in range(10):
        journal.append(make("n", number, timestamp=now - (10 - number) * 700 * 10**9))
    assert journal.prune() == 5
    assert numbers(journal.query()) == [5, 6, 7, 8, 9]
    assert journal.summary()["events"] == 5
    assert journal.prune() == 0
    journal.close()


def test_the_summary_counts_types_and_runs(journal: Journal) -> None:
    """What is in it, at a glance."""
    fill(journal, 3, "a", correlation_id="x", timestamp=5)
    fill(journal, 2, "b", correlation_id="y", timestamp=9)
    assert journal.summary() == {"events": 5, "oldest": 5, "newest": 9, "types": {"a": 3, "b": 2}}
    assert journal.runs() == [("y", 2, 9), ("x", 3, 5)]


def test_the_facade_asks_the_attached_journal(journal: Journal) -> None:
    """`Event.query` works once a journal is attached to the default bus."""
    default_bus().journal = None
    with pytest.raises(EventError, match="needs a journal"):
        Event.query("facade.*")
    with journal.attach(default_bus(), "facade.*"):
        Event.publish("facade.kept", {"n": 1})
        assert numbers(Event.query("facade.*", where={"data.n": 1})) == [{"n": 1}]
    default_bus().journal = None


def test_an_event_is_kept_once(journal: Journal) -> None:
    """The same event twice, as after a repeated delivery, is one."""
    event = make("n", 1)
    journal.append(event)
    journal.append(event)
    assert list(journal.query()) == [event]


CHILD = textwrap.dedent("""
    import sys
    from llmspell_otel.events import make
    from llmspell_otel.events.journal import Journal
    journal = Journal(sys.argv[1], mode=sys.argv[2], interval=0.001)
    number = 0
    while True:
        for _ in range(50):
            journal.append(make("n", number, sys.argv[3]))
            number += 1
        assert journal.flush()
        print(number, flush=True)
""")


def killed(folder: Path, name: str, seconds: float, mode: str = "process") -> int:
    """Run a writer for *seconds* after its first commit, kill it, tell what it acknowledged."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), mode, name], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(seconds)
    process.kill()
    lines = (first + process.stdout.read()).split("\n")
    process.wait()
    process.stdout.close()
    return int(lines[-2])


@pytest.mark.parametrize("mode", ["process", "power"])
def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path: Path, mode: str) -> None:
    """Killed at random moments: every acknowledged event is there, whole, once and in order."""
    acknowledged = {}
    for turn in range(4):
        name = f"run-{turn}"
        acknowledged[name] = killed(tmp_path, name, random.random() / 5, mode)
    began = time.monotonic()
    journal = Journal(tmp_path)
    assert time.monotonic() - began < 1
    for name, count in acknowledged.items():
        found = numbers(journal.query(correlation_id=name))
        assert found == list(range(len(found)))
        assert len(found) >= count
    assert eventually(lambda: journal.catch_up() and not list(tmp_path.glob("*.log")))
    journal.close()


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    """Three write at once, one of them here and asking: nothing is lost or damaged."""
    journal = Journal(tmp_path, interval=0.001)
    threads = []
    counts: dict[str, int] = {}
    for name in ("a", "b"):

        def work(name: str = name) -> None:
            counts[name] = killed(tmp_path, name, 0.5)

        threads.append(threading.Thread(target=work))
    for thread in threads:
        thread.start()
    fill(journal, 2_000, correlation_id="here")
    while any(thread.is_alive() for thread in threads):
        assert journal.catch_up()
    for name, count in counts.items():
        found = numbers(journal.query(correlation_id=name))
        assert found == list(range(len(found)))
        assert len(found) >= count
    assert numbers(journal.query(correlation_id="here")) == list(range(2_000))
    journal.close()


def test_a_forked_child_keeps_a_log_of_its_own(tmp_path: Path) -> None:
    """Both sides write on; every event is there once."""
    code = textwrap.dedent("""
        import os, sys
        from llmspell_otel.events import make
        from llmspell_otel.events.journal import Journal
        journal = Journal(sys.argv[1], interval=0.001)
        for number in range(500):
            journal.append(make("n", number, "parent"))
        pid = os.fork()
        name = "parent" if pid else "child"
        for number in range(500, 1000):
            journal.append(make("n", number, name))
        assert journal.flush()
        if not pid:
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    """)
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60)
    journal = Journal(tmp_path)
    assert sorted(numbers(journal.query(correlation_id="parent"))) == list(range(1_000))
    assert numbers(journal.query(correlation_id="child")) == list(range(500, 1_000))
    journal.close()


def test_the_end_of_the_process_commits(tmp_path: Path) -> None:
    """What was published last, also by a queued handler, is in the log without a flush."""
    code = textwrap.dedent("""
        import sys, time
        from llmspell_otel.events import Event, default_bus
        from llmspell_otel.events.journal import Journal
        journal = Journal(sys.argv[1], interval=10)
        journal.attach(default_bus())
        def slow(event):
            time.sleep(0.2)
            Event.publish("late")
        Event.subscribe("n", slow, delivery="queued")
        Event.publish("n")
    """)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    journal = Journal(tmp_path)
    assert [event.event_type for event in journal.query()] == ["n", "late"]
    journal.close()


def test_a_torn_end_is_cut(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever byte the last write ended at, the events before it are there."""
    whole = log.Writer(tmp_path / "x.log")
    whole.write([encoded(number) for number in range(3)])
    first = whole.size
    whole.write([encoded(number) for number in range(3, 6)])
    whole.close()
    data = (tmp_path / "x.log").read_bytes()
    (tmp_path / "x.log").unlink()
    for cut in range(first, len(data), 41):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "x.log").write_bytes(data[:cut])
        journal = Journal(folder)
        assert numbers(journal.query()) == [0, 1, 2]
        assert journal.stats.damaged == cut - first
        journal.close()
    assert "were stepped over" in caplog.text


def test_damage_in_the_middle_is_stepped_over(tmp_path: Path) -> None:
    """One flipped byte costs its block, and the books say how many bytes."""
    writer_ = log.Writer(tmp_path / "x.log")
    ends = []
    for number in range(5):
        writer_.write([encoded(number)])
        ends.append(writer_.size)
    writer_.close()
    path = tmp_path / "x.log"
    data = bytearray(path.read_bytes())
    data[ends[1] + 30] ^= 0xFF
    path.write_bytes(data)
    bus, told = EventBus(), []
    bus.subscribe("journal:damaged", lambda event: told.append(event.data["bytes"]))
    journal = Journal(tmp_path)
    journal.attach(bus)
    assert numbers(journal.query()) == [0, 1, 3, 4]
    assert journal.stats.damaged == ends[2] - ends[1]
    assert sum(told) in {0, ends[2] - ends[1]}  # the thread may have met it before the bus
    journal.close()


def encoded(number: int) -> bytes:
    """An event as a line of the log."""
    from llmspell_otel.events.codec import encode

    return encode(make("n", number))


def test_a_damaged_database_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The journal goes on with a new one, keeps the old one, and says so."""
    journal = Journal(tmp_path)
    fill(journal, 10)
    assert journal.catch_up()
    journal.close()
    for end in ("-wal", "-shm"):
        (tmp_path / f"events.sqlite{end}").unlink(missing_ok=True)
    (tmp_path / "events.sqlite").write_bytes(b"garbage" * 1000)
    with caplog.at_level(logging.ERROR):
        journal = Journal(tmp_path)
    assert list(tmp_path.glob("events.sqlite.damaged-*"))
    assert "kept as" in caplog.text
    fill(journal, 3)
    # The log of the first journal had not been given up yet: even its events are back.
    assert numbers(journal.query()) in ([0, 1, 2], [*range(10), 0, 1, 2])
    journal.close()


class FullDisk:
    """Lets `os.write` fail for the log: from the n-th call on, until there is room again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: int, after: int = 0) -> None:
        self.left, self.full, self._error = after, True, error
        self._write = os.write
        monkeypatch.setattr(log.os, "write", self.write)

    def write(self, file: int, data: Any) -> int:
        """Write, or fail as a full disk does: with a part written first."""
        if self.full and self.left <= 0:
            self._write(file, bytes(data)[: len(data) // 2])
            raise OSError(self._error, "full")
        self.left -= 1
        return self._write(file, data)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("after", [0, 1, 2, 5])
def test_a_full_disk_is_told_and_survived(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: int,
    after: int,
) -> None:
    """At the n-th write: the host goes on, and when there is room again nothing is lost."""
    monkeypatch.setattr(writer, "RETRY", 0.01)
    bus, told = EventBus(), []
    bus.subscribe("journal:*", lambda event: told.append(event.event_type))
    journal = Journal(tmp_path, interval=0.001)
    journal.attach(bus, "n")
    disk = FullDisk(monkeypatch, error, after)
    for number in range(100):
        bus.publish(make("n", number))
        journal.flush(0.001)
    assert eventually(lambda: journal.stats.losing)
    disk.full = False
    assert journal.flush(10)
    assert numbers(journal.query()) == list(range(100))
    stats = journal.stats
    assert (stats.accepted, stats.committed, stats.dropped, stats.losing) == (100, 100, 0, False)
    assert eventually(lambda: told == ["journal:stalled", "journal:recovered"])
    assert caplog.text.count("takes nothing") == 1
    journal.close()


def test_a_real_limit_is_told_and_survived(tmp_path: Path) -> None:
    """The system itself cuts a write short: nothing raises, and all is there when it may go on."""
    code = textwrap.dedent("""
        import resource, sys, time
        from llmspell_otel.events import make
        from llmspell_otel.events.journal import Journal
        journal = Journal(sys.argv[1], interval=0.001)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
        for number in range(2_000):
            assert journal.append(make("n", number))
        assert not journal.flush(0.3)
        assert journal.stats.losing, journal.stats
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert journal.flush(20)
        assert [event.data for event in journal.query()] == list(range(2_000))
        stats = journal.stats
        assert (stats.committed, stats.dropped, stats.damaged) == (2_000, 0, 0), stats
        journal.close()
    """)
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=90)


def test_a_disk_that_stays_full_costs_events_but_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits is bounded; what is lost is counted; the end does not hang."""
    monkeypatch.setattr(writer, "RETRY", 0.01)
    disk = FullDisk(monkeypatch, errno.ENOSPC)
    journal = Journal(tmp_path, interval=0.001, max_waiting_bytes=10_000)
    fill(journal, 1_000)
    stats = journal.stats
    assert stats.accepted == 1_000 == stats.committed + stats.dropped + stats.waiting
    assert 0 < stats.waiting < 100
    disk.full = False
    assert journal.flush(10)
    kept = len(list(journal.query()))
    assert kept == journal.stats.committed == 1_000 - stats.dropped
    disk.full = True
    fill(journal, 5)
    began = time.monotonic()
    journal.close(0.2)
    assert time.monotonic() - began < 5
    stats = journal.stats
    assert (stats.waiting, stats.accepted) == (0, stats.committed + stats.dropped)


def test_a_failed_sync_writes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a sync that failed nobody knows what is on the disk: it is written to a new file."""
    monkeypatch.setattr(writer, "RETRY", 0.01)
    journal = Journal(tmp_path, mode="power", interval=0.001)
    sync, calls = os.fdatasync, [0]

    def flaky(file: int) -> None:
        calls[0] += 1
        if calls[0] % 3 == 2:
            raise OSError(errno.EIO, "bad")
        sync(file)

    monkeypatch.setattr(log.os, "fdatasync", flaky)
    for number in range(30):
        journal.append(make("n", number))
        journal.flush(5)
    assert journal.flush(10)
    assert numbers(journal.query()) == list(range(30))
    journal.close()


def test_power_mode_loses_nothing_that_was_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every unsynced byte gone, as after a power cut, the acknowledged events are there."""
    synced: dict[int, int] = {}
    sync = os.fdatasync

    def remember(file: int) -> None:
        sync(file)
        synced[os.fstat(file).st_ino] = os.fstat(file).st_size

    monkeypatch.setattr(log.os, "fdatasync", remember)
    before = Journal(tmp_path / "before", mode="power", interval=0.001)
    fill(before, 100)
    assert before.flush()
    acknowledged = before.stats.committed
    [path] = (tmp_path / "before").glob("*.log")
    size = synced[path.stat().st_ino]
    after = tmp_path / "after"
    after.mkdir()
    (after / path.name).write_bytes(path.read_bytes()[:size])
    journal = Journal(after)
    assert len(list(journal.query())) >= acknowledged == 100
    journal.close()
    before.close()


def test_process_mode_bounds_its_loss_by_the_interval(tmp_path: Path) -> None:
    """Without a flush, an event is committed within the interval."""
    journal = Journal(tmp_path, interval=0.05)
    journal.append(make("n"))
    assert eventually(lambda: journal.stats.committed == 1, 5)
    journal.close()


def test_large_data_is_cut_quickly(journal: Journal) -> None:
    """A hundred megabytes, a cycle, ten thousand levels: a marker, and hardly any time."""
    huge = {"text": "x" * 100_000_000, "more": [1, 2]}
    cycle: dict[str, Any] = {"a": 1}
    cycle["self"] = [cycle]
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    for data in (huge, cycle, deep, {"k" * 10_000_000: 1}, 10**20_000, ["x" * 100] * 100_000):
        began = time.process_time()
        assert journal.append(make("n", data))
        assert time.process_time() - began < 0.5
    for event in journal.query():
        assert len(json.dumps(event.data)) < 2 * 1_048_576
        assert "<" in json.dumps(event.data)


def test_hostile_text_stays_one_line(journal: Journal) -> None:
    """Newlines, escapes, NUL and bidi are data, in the log and back."""
    text = "a\nb\r\x1b[31m\x00\u202e\u2028\ud800"
    journal.append(make("n", {"t": text}, text))
    journal.flush()
    [path] = journal.path.glob("*.log")
    [block] = log.read(path)
    assert len(block.lines) == 1
    assert next(journal.query()).data == {"t": text}


@pytest.mark.parametrize("kind", ["file", "mode", "version"])
def test_a_journal_that_cannot_be_opened_says_why(tmp_path: Path, kind: str) -> None:
    """At the start, with one clear error."""
    options = {}
    if kind == "file":
        (tmp_path / "j").write_text("no folder")
    elif kind == "mode":
        options = {"mode": "magic"}
    else:
        (tmp_path / "j").mkdir()
        with sqlite3.connect(tmp_path / "j" / "events.sqlite") as it:
            it.execute("PRAGMA user_version = 99")
        it.close()
    with pytest.raises(JournalError):
        Journal(tmp_path / "j", **options)  # type: ignore[arg-type]


def test_stores_of_earlier_versions_are_readable(tmp_path: Path) -> None:
    """A folder written by version 1 of the format, byte for byte, reads as it did."""
    line = (
        b'{"event_type":"tool:done","data":{"n":1},"correlation_id":"run","id":'
        b'"01999999-0000-7000-8000-000000000001","timestamp":1767225600000000000,'
        b'"sequence":1,"language":"python","schema_version":"1.0","later":"kept"}'
    )
    block = b"\xf5LJB" + len(line).to_bytes(4, "little") + b"\xf8\xf9\x0f\xcf" + line
    (tmp_path / "old.log").write_bytes(b"llmspell-journal 1\n" + block)
    journal = Journal(tmp_path)
    [event] = journal.query("tool:*", correlation_id="run")
    assert (event.data, event.extra, event.sequence) == ({"n": 1}, {"later": "kept"}, 1)
    journal.close()
