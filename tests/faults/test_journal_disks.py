"""The journal on disks that fail, fill up or lose power, and in the hands of many processes."""

import errno
import os
import random
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llmspell_otel.events import EventBus, make
from llmspell_otel.events.journal import Journal
from llmspell_otel.events.store import log, writer
from llmspell_otel.events.store.index import NAME, Index
from tests.events.kit import eventually
from tests.events.test_journal import fill, numbers


class Disk:
    """What of a folder would outlive a power cut: bytes and names that were synced, no others."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._lock = threading.Lock()
        self._sizes: dict[int, int] = {}
        self._names: dict[int, set[str]] = {}
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, name, self._noting(getattr(os, name)))

    def _noting(self, sync: Callable[[int], None]) -> Callable[[int], None]:
        def noting(file: int) -> None:
            sync(file)
            found = os.fstat(file)
            with self._lock:
                if stat.S_ISDIR(found.st_mode):
                    self._names[found.st_ino] = set(os.listdir(file))
                else:
                    self._sizes[found.st_ino] = found.st_size

        return noting

    def synced(self, path: Path) -> int:
        """How many bytes of the file *path* are safe."""
        return self._sizes.get(path.stat().st_ino, 0)

    def cut(self, folder: Path, to: Path) -> Path:
        """Copy to the new folder *to* what is left of *folder* when the power goes now."""
        with self._lock:  # nobody acknowledges anything meanwhile
            kept = self._names.get(folder.stat().st_ino, set())
            files = {name: self.synced(folder / name) for name in kept if name.endswith(".log")}
        to.mkdir()
        for name, size in files.items():
            (to / name).write_bytes((folder / name).read_bytes()[:size])
        return to


def without_database(folder: Path, **options: Any) -> Journal:
    """A journal whose log stays where it is: SQLite's own syncs cannot be seen from here."""
    journal = Journal(folder, interval=0.001, **options)
    journal._indexer.close(0)
    return journal


@pytest.mark.parametrize("turn", range(5))
def test_a_power_cut_takes_nothing_that_was_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turn: int
) -> None:
    """Mode `power`, cut at twenty random moments: each acknowledged event is there, in order."""
    monkeypatch.setattr(writer, "SEGMENT_BYTES", 20_000)
    disk, dice = Disk(monkeypatch), random.Random(turn)
    folder = tmp_path / "disk"
    journal = without_database(folder, mode="power")
    published, left = 0, list[tuple[int, Path]]()
    for _ in range(20):
        for _ in range(dice.randrange(1, 400)):
            journal.append(make("n", published))
            published += 1
        if dice.random() < 0.5:
            assert journal.flush()
            assert journal.stats.committed == published
        else:
            time.sleep(dice.random() * 0.005)
        acknowledged = journal.stats.committed
        left.append((acknowledged, disk.cut(folder, tmp_path / f"left {len(left)}")))
    assert journal.flush()
    journal.close()
    assert len(list(folder.glob("*.log"))) > 3
    assert any(acknowledged < published for acknowledged, _ in left)
    for acknowledged, path in left:
        again = Journal(path)
        found = numbers(again.query("n"))
        assert found == list(range(len(found)))
        assert len(found) >= acknowledged
        again.close()


def test_without_syncs_a_power_cut_takes_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mode `process` promises to outlive the process only; and the test above can fail."""
    disk = Disk(monkeypatch)
    journal = without_database(tmp_path / "disk")
    fill(journal, 100)
    assert journal.flush()
    assert list(disk.cut(tmp_path / "disk", tmp_path / "left").iterdir()) == []
    journal.close()


def test_a_log_goes_when_the_database_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes in what another process left, in mode `power` or not, syncs before it deletes.

    Else a look at the journal would give up what its writer had made safe from a power cut.
    """
    left = without_database(tmp_path, mode="power")
    fill(left, 100)
    assert left.flush()
    left.close()
    disk, unlink, safe = Disk(monkeypatch), Path.unlink, list[bool]()

    def watched(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == log.SUFFIX:
            written = tmp_path / f"{NAME}-wal"
            safe.append(disk.synced(written) == written.stat().st_size > 0)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", watched)
    journal = Journal(tmp_path)
    assert journal.catch_up()
    assert safe == [True]
    assert numbers(journal.query("n")) == list(range(100))
    journal.close()


SLOWLY = textwrap.dedent("""
    import sys, time
    from llmspell_otel.events import make
    from llmspell_otel.events.journal import Journal
    journal, number = Journal(sys.argv[1]), 0
    while True:
        journal.append(make("n", number))
        print(number, time.monotonic(), flush=True)
        number += 1
        time.sleep(0.002)
""")


@pytest.mark.parametrize("turn", range(3))
def test_a_killed_process_loses_what_it_published_within_the_interval(
    tmp_path: Path, turn: int
) -> None:
    """Nothing is flushed; what is older than the interval, and half a second of grace, is there."""
    with subprocess.Popen(
        [sys.executable, "-c", SLOWLY, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(0.8 + turn / 10)
        killed = time.monotonic()
        process.kill()
        lines = [line.split() for line in (first + process.stdout.read()).splitlines()[:-1]]
    old = [int(number) for number, at in lines if float(at) < killed - 0.05 - 0.5]
    assert len(old) > 20
    journal = Journal(tmp_path)
    found = numbers(journal.query("n"))
    assert found == list(range(len(found)))
    assert len(found) > old[-1]
    journal.close()


class Failing:
    """Fails some calls of a function of `os` that the writing thread makes, from the n-th on."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, name: str, first: int, times: int, error: int
    ) -> None:
        self._call, self._error = getattr(os, name), error
        self._failing = range(first, first + times)
        self._calls = 0
        self.failed = 0
        monkeypatch.setattr(os, name, self)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the function, or fail."""
        if threading.current_thread().name == "llmspell-journal":
            self._calls += 1
            if self._calls - 1 in self._failing:
                self.failed += 1
                if self._call.__name__ == "write":  # as a full disk does: a part is written first
                    file, data = arguments
                    self._call(file, bytes(data)[: len(data) // 2])
                raise OSError(self._error, os.strerror(self._error))
        return self._call(*arguments, **named)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=["full", "broken"])
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("name", ["open", "write", "rename", "fsync", "fdatasync"])
def test_any_call_may_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, times: int, error: int
) -> None:
    """The n-th, for every n, once or several times: the host goes on, and all is there at last."""
    monkeypatch.setattr(writer, "RETRY", 0.001)
    monkeypatch.setattr(writer, "SEGMENT_BYTES", 500)
    failed = 0
    for first in range(12):
        with pytest.MonkeyPatch.context() as patch:
            failing = Failing(patch, name, first, times, error)
            told = publish_forty(tmp_path / str(first))
        assert bool(told) is bool(failing.failed)
        failed += failing.failed
        again = Journal(tmp_path / str(first))
        assert numbers(again.query("n")) == list(range(40))
        assert again.catch_up()
        assert again.stats.damaged == 0
        again.close()
    assert failed > times


def publish_forty(folder: Path) -> list[str]:
    """Keep forty events; what the journal tells of itself, which has to end well."""
    bus, told = EventBus(), list[str]()
    bus.subscribe("journal:*", lambda event: told.append(event.event_type))
    journal = without_database(folder, mode="power")
    journal.attach(bus, "n")
    for number in range(40):
        bus.publish(make("n", number))
        if number % 4 == 0:
            journal.flush(0.01)
    assert journal.flush(20)
    stats = journal.stats
    assert (stats.accepted, stats.committed, stats.dropped) == (40, 40, 0)
    assert eventually(lambda: not journal.stats.losing)
    assert eventually(lambda: told == ["journal:stalled", "journal:recovered"] * (len(told) // 2))
    journal.close()
    return told


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
def test_a_device_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel itself refuses every byte; when there is another disk, all is there."""
    monkeypatch.setattr(writer, "RETRY", 0.01)
    opened = os.open

    def open_full(path: Any, flags: int, *mode: int) -> int:
        if flags & os.O_CREAT:
            return opened("/dev/full", os.O_WRONLY)
        return opened(path, flags, *mode)

    journal = without_database(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", open_full)
        fill(journal, 100)
        assert not journal.flush(0.1)
        assert journal.stats.losing
        assert not list(tmp_path.glob("*.log"))
    assert journal.flush(10)
    assert numbers(journal.query("n")) == list(range(100))
    assert journal.stats.dropped == 0
    journal.close()


def test_a_database_without_room_keeps_nobody_from_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`max_page_count` is reached: events are kept and found in the log, and taken in later."""
    connect, most = Index.connect, [40]

    @contextmanager
    def bounded(index: Index) -> Generator[sqlite3.Connection]:
        with connect(index) as it:
            it.execute(f"PRAGMA max_page_count = {most[0]}")
            yield it

    monkeypatch.setattr(Index, "connect", bounded)
    journal = Journal(tmp_path, interval=0.001)
    for number in range(5_000):
        assert journal.append(make("n", {"number": number, "text": "x" * 200}))
    assert journal.flush()
    assert not journal.catch_up(5)
    assert [event.data["number"] for event in journal.query("n")] == list(range(5_000))
    assert caplog.text.count("cannot be indexed") == 1
    stats = journal.stats
    assert (stats.committed, stats.dropped) == (5_000, 0)
    most[0] = 1 << 30
    assert eventually(lambda: journal.catch_up(5))
    assert journal.stats.lag == 0
    assert [event.data["number"] for event in journal.query("n")] == list(range(5_000))
    journal.close()
    with sqlite3.connect(tmp_path / NAME) as it:
        assert it.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    it.close()


@pytest.mark.parametrize("version", ["1", "3", "10"])
def test_a_log_of_another_version_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, version: str
) -> None:
    """It is neither read as if it were damaged nor deleted; its reader may come back."""
    written = f"llmspell-journal {version}\n".encode() + b"\xf5LJB whatever follows"
    (tmp_path / "0.log").write_bytes(written)
    journal = Journal(tmp_path, interval=0.001)
    fill(journal, 10)
    for _ in range(2):
        assert numbers(journal.query()) == list(range(10))
        assert journal.catch_up()
    assert journal.stats.damaged == 0
    assert caplog.text.count("0.log is in another format and is left alone") == 1
    journal.close()
    assert (tmp_path / "0.log").read_bytes() == written


TOGETHER = textwrap.dedent("""
    import sys, time
    from llmspell_otel.events import make
    from llmspell_otel.events.journal import Journal
    journal, longest = Journal(sys.argv[1], interval=0.001), 0.0
    for number in range(int(sys.argv[3])):
        began = time.monotonic()
        journal.append(make("n", number, sys.argv[2]))
        if number % 100 == 99:
            assert journal.flush(10)
        if number % 1_000 == 999:
            assert sum(1 for _ in journal.query("n", correlation_id=sys.argv[2])) == number + 1
        longest = max(longest, time.monotonic() - began)
    print(longest)
    began = time.monotonic()
    journal.close()
    print(time.monotonic() - began)
""")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("writers", [2, 8])
def test_many_processes_share_a_folder(tmp_path: Path, writers: int) -> None:
    """They write, commit and ask at once: nobody waits five seconds, nothing is lost or damaged."""
    each = 3_000
    words = [sys.executable, "-c", TOGETHER, str(tmp_path)]
    children = [
        subprocess.Popen([*words, f"run-{n}", str(each)], stdout=subprocess.PIPE, text=True)
        for n in range(writers)
    ]
    journal, longest = Journal(tmp_path), 0.0
    while any(child.poll() is None for child in children):
        began = time.monotonic()
        journal.summary()
        longest = max(longest, time.monotonic() - began)
        time.sleep(0.05)
    waits = [float(wait) for child in children for wait in child.communicate()[0].split()]
    assert [child.returncode for child in children] == [0] * writers
    assert len(waits) == 2 * writers
    assert max(*waits, longest) < 5
    assert journal.catch_up()
    assert journal.summary()["events"] == writers * each
    for n in range(writers):
        assert numbers(journal.query(correlation_id=f"run-{n}")) == list(range(each))
    assert journal.stats.damaged == 0
    journal.close()
    with sqlite3.connect(tmp_path / NAME) as it:
        assert it.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    it.close()
