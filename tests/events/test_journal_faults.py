"""The journal under faults: kills, forks, shared folders, full and broken disks, damage."""

import errno
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from llmspell_otel.cli import main
from llmspell_otel.events import (
    EventBus,
    make,
)
from llmspell_otel.events.codec import record
from llmspell_otel.events.journal import Journal
from llmspell_otel.events.store import log, writer
from tests.events.kills import killed, unkept
from tests.events.kit import eventually
from tests.events.test_journal import fill, numbers


@pytest.mark.parametrize("mode", ["process", "power"])
def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path: Path, mode: str) -> None:
    """Killed at random moments: every acknowledged event is there, whole, once and in order."""
    kept = {f"run-{turn}": killed(tmp_path, f"run-{turn}", mode) for turn in range(4)}
    began = time.monotonic()
    journal = Journal(tmp_path)
    assert time.monotonic() - began < 1
    assert unkept(journal, kept) == []
    assert eventually(lambda: journal.catch_up() and not list(tmp_path.glob("*.log")))
    journal.close()


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    """Three write at once, one of them here and asking: nothing is lost or damaged."""
    journal = Journal(tmp_path, interval=0.001)
    threads = []
    counts: dict[str, int] = {}
    for name in ("a", "b"):

        def work(name: str = name) -> None:
            counts[name] = killed(tmp_path, name)

        threads.append(threading.Thread(target=work))
    for thread in threads:
        thread.start()
    fill(journal, 2_000, correlation_id="here")
    while any(thread.is_alive() for thread in threads):
        assert journal.catch_up()
    assert unkept(journal, counts) == []
    assert numbers(journal.query(correlation_id="here")) == list(range(2_000))
    journal.close()


def test_a_forked_child_keeps_a_log_of_its_own(tmp_path: Path) -> None:
    """Both sides write on; every event is there once."""
    code = textwrap.dedent("""
        import os, sys
        from llmspell_otel.events import make
        from llmspell_otel.events.journal import Journal
        journal = Journal(sys.argv[1], interval=10)
        for number in range(500):
            journal.append(make("n", number, "parent"))
        pid = os.fork()
        name = "parent" if pid else "child"
        for number in range(500, 1000):
            journal.append(make("n", number, name))
        assert journal.flush()
        assert journal.stats.committed == (1_000 if pid else 500)
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
    whole.write([encoded(number) for number in range(3)], 3)
    first = whole.size
    whole.write([encoded(number) for number in range(3, 6)], 3)
    whole.close()
    data = (tmp_path / "x.log").read_bytes()
    (tmp_path / "x.log").unlink()
    for cut in range(first, len(data), 41):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "x.log").write_bytes(data[:cut])
        journal = Journal(folder)
        assert numbers(journal.query()) == [0, 1, 2]
        assert journal.catch_up()
        assert journal.stats.damaged == cut - first
        assert numbers(journal.query()) == [0, 1, 2]
        journal.close()
    assert "were stepped over" in caplog.text


def test_damage_in_the_middle_is_stepped_over(tmp_path: Path) -> None:
    """One flipped byte costs its block, and the books say how many bytes."""
    writer_ = log.Writer(tmp_path / "x.log")
    ends = []
    for number in range(5):
        writer_.write([encoded(number)], 1)
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
    assert journal.catch_up()
    assert numbers(journal.query("n")) == [0, 1, 3, 4]
    assert journal.stats.damaged == ends[2] - ends[1]
    assert sum(told) in {0, ends[2] - ends[1]}  # the thread may have met it before the bus
    journal.close()


def encoded(number: int) -> bytes:
    """An event as a line of the log."""
    return b"[%b]" % record(make("n", number))


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
    assert 0 < stats.waiting < 120  # 10,000 bytes, of which an event takes about a hundred
    disk.full = False
    assert journal.flush(10)
    kept = len(list(journal.query("n")))
    assert kept == journal.stats.committed == 1_000 - stats.dropped
    assert sum(event.data["lost"] for event in journal.query("journal:lost")) == stats.dropped
    disk.full = True
    fill(journal, 5)
    began = time.monotonic()
    journal.close(0.2)
    assert time.monotonic() - began < 5
    stats = journal.stats
    assert (stats.waiting, stats.accepted) == (0, stats.committed + stats.dropped)


def test_a_disk_that_is_too_slow_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It fails at nothing, but takes less than comes: said once, counted, and kept in the log."""
    sync = os.fdatasync

    def slow(file: int) -> None:
        time.sleep(0.02)
        sync(file)

    monkeypatch.setattr(log.os, "fdatasync", slow)
    bus, told = EventBus(), []
    bus.subscribe("journal:*", told.append)
    journal = Journal(tmp_path, mode="power", interval=0.001, max_waiting_bytes=20_000)
    journal.attach(bus, "n")
    for number in range(20_000):
        bus.publish(make("n", number))
    assert eventually(lambda: journal.stats.losing)
    assert journal.flush(10)
    assert eventually(lambda: not journal.stats.losing)
    stats = journal.stats
    assert stats.accepted == 20_000 == stats.committed + stats.dropped
    assert stats.dropped > 0
    assert len(list(journal.query("n"))) == stats.committed
    assert sum(event.data["lost"] for event in journal.query("journal:lost")) == stats.dropped
    assert eventually(lambda: [each.event_type for each in told][-1:] == ["journal:recovered"])
    assert [each.event_type for each in told] == ["journal:stalled", "journal:recovered"]
    assert told[-1].data["lost"] == stats.dropped
    assert caplog.text.count("the disk is slower than events come") == 1
    assert journal.catch_up()
    assert journal.stats.lag == 0
    journal.close()
    shown = CliRunner().invoke(main, ["events", "stats", "--journal", str(tmp_path)])
    assert f"{stats.dropped} more were lost" in shown.output


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
