"""A journal that is opened over a log that no database has seen yet."""

import sqlite3
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from llmspell_otel.events import UniversalEvent, make
from llmspell_otel.events.codec import encode
from llmspell_otel.events.journal import Journal
from llmspell_otel.events.store import indexer
from llmspell_otel.events.store.index import NAME
from tests.events.kit import eventually

COUNT = 40_000


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log of many events, as a process leaves it that had no time to index."""
    folder = tmp_path_factory.mktemp("left")
    journal = Journal(folder)
    journal._indexer.close(0)
    for number in range(COUNT):
        journal.append(make("n:done", {"number": number, "text": "x" * 200}, f"run-{number // 20}"))
    assert journal.flush(30)
    journal.close()
    return folder


@pytest.fixture
def folder(left: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    for file in left.glob("*.log"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


@pytest.fixture
def lazy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that fills the database begins at once, and then rests nearly always."""
    monkeypatch.setattr(indexer, "PAUSE", 0.0)
    monkeypatch.setattr(indexer, "SHARE", 1e-6)


def indexed(folder: Path) -> int:
    """How many events the database has."""
    with sqlite3.connect(folder / NAME) as it:
        count = it.execute("SELECT coalesce(sum(last - first + 1), 0) FROM groups").fetchone()[0]
    it.close()
    return int(count)


def test_opening_does_not_wait_for_the_backlog(folder: Path, lazy: None) -> None:
    """The journal opens, and commits what is new, while nearly everything old is still to do."""
    began = time.process_time()
    journal = Journal(folder)
    journal.append(make("n:new", {"number": COUNT}))
    assert journal.flush()
    assert time.process_time() - began < 0.5
    assert indexed(folder) < COUNT / 2
    assert journal.stats.committed == 1
    journal.close()


def answers(journal: Journal) -> list[object]:
    """What questions of every sort are answered."""
    asked: list[Iterable[UniversalEvent]] = [
        journal.query(),
        journal.query(newest_first=True),
        journal.query("*.done", correlation_id="run-1999"),
        journal.query("other"),
        journal.query(correlation_id=""),
        journal.query(where={"data.number": (">=", COUNT - 3)}),
        journal.query(newest_first=True, limit=3),
    ]
    summary, runs = journal.summary(), journal.runs(5)
    by_beginning = sorted(journal.runs(100_000, "run-19"))
    return [summary, runs, by_beginning, *([e.data["number"] for e in found] for found in asked)]


def test_answers_do_not_wait_for_the_backlog(folder: Path, lazy: None) -> None:
    """Whatever is asked: the same before, while and after the database takes in the log."""
    journal = Journal(folder)
    assert eventually(lambda: indexed(folder) > 0)
    early = answers(journal)
    assert indexed(folder) < COUNT
    summary, runs, by_beginning, everything, backwards, run, none, no_run, few, latest = early
    assert everything == list(range(COUNT)) == list(reversed(backwards))  # type: ignore[call-overload]
    assert [run, none, no_run, few, latest] == [
        list(range(39_980, COUNT)),
        [],
        [],
        [COUNT - 3, COUNT - 2, COUNT - 1],
        [COUNT - 1, COUNT - 2, COUNT - 3],
    ]
    assert isinstance(summary, dict)
    assert summary["types"] == {"n:done": COUNT}
    assert [name for name, *_ in runs] == [f"run-{n}" for n in range(1_999, 1_994, -1)]  # type: ignore[attr-defined]
    assert len(by_beginning) == 111  # type: ignore[arg-type] # run-19, run-190 to 199, run-1900 to 1999
    assert journal.catch_up()
    assert indexed(folder) == COUNT
    assert answers(journal) == early
    journal.close()


def test_answers_stay_exact_while_the_log_is_taken_in(folder: Path) -> None:
    """Asked again and again while blocks move and files vanish, every answer has all, once."""
    journal, counts = Journal(folder), list[int]()
    taking = threading.Thread(target=journal.catch_up)
    taking.start()
    while taking.is_alive():
        counts.append(journal.summary()["events"])
        counts.append(len({event.id for event in journal.query("n:*")}))
    taking.join()
    assert set(counts) == {COUNT}
    assert not list(folder.glob("*.log"))
    journal.close()


def test_the_latest_events_cost_next_to_nothing(folder: Path, lazy: None) -> None:
    """Of a log that nobody has seen, the last ten are read at a fraction of taking it in."""
    journal = Journal(folder)
    asked = []
    for _ in range(3):
        began = time.process_time()
        assert len(list(journal.query(newest_first=True, limit=10))) == 10
        asked.append(time.process_time() - began)
    began = time.process_time()
    assert journal.catch_up()
    assert min(asked) < 0.4 * (time.process_time() - began)
    journal.close()


@pytest.mark.parametrize("known", [True, False])
def test_an_event_kept_twice_is_found_once(tmp_path: Path, *, known: bool) -> None:
    """Be its first copy in the log too, or in the database already, and in one block or two."""
    journal = Journal(tmp_path)
    journal._indexer.close(0)
    first, second = make("a", 1), make("a", 2)
    for event in (second, first, first):
        journal.append(event)
    assert journal.flush()
    if known:
        again = Journal(tmp_path)
        assert again.catch_up()
        again.close()
        assert indexed(tmp_path) == 2
    journal.append(first)
    assert journal.flush()
    assert journal.append(make("a", 3))
    assert [event.data for event in journal.query()] == [2, 1, 3]
    assert journal.summary()["events"] == 3
    journal.close()


def test_following_begins_at_once_and_misses_nothing(folder: Path, lazy: None) -> None:
    """The latest of a backlog, and then what comes while it is taken in, each once."""
    journal = Journal(folder)
    shown = journal.follow("n:*", latest=2)
    assert [event.data["number"] for event in next(shown)] == [COUNT - 2, COUNT - 1]
    assert indexed(folder) < COUNT
    other = Journal(folder)
    seen = []
    for number in range(30):
        other.append(make("n:more", number))
        other.append(make("not:asked", number))
        if number % 10 == 9:
            assert other.flush()
            seen += [event.data for event in next(shown)]
    assert seen == list(range(30))
    assert next(shown) == []
    other.close()
    journal.close()


def test_closing_leaves_the_rest_for_the_next_start(folder: Path, lazy: None) -> None:
    """Close does not wait either; what was taken in and what was not are all there, once."""
    journal = Journal(folder)
    assert eventually(lambda: indexed(folder) > 0)
    journal.close()
    assert journal._indexer._thread is not None
    assert not journal._indexer._thread.is_alive()
    assert indexed(folder) < COUNT
    again = Journal(folder)
    assert [event.data["number"] for event in again.query()] == list(range(COUNT))
    again.close()


def test_catching_up_keeps_its_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves off between two batches, says so, and goes on where it was."""
    monkeypatch.setattr(indexer, "PAUSE", 60.0)
    journal = Journal(folder)
    assert not journal.catch_up(0.0)
    assert 0 < indexed(folder) < COUNT
    assert journal.catch_up()
    assert indexed(folder) == COUNT
    journal.close()


def test_catching_up_costs_little_more_than_sqlite(folder: Path, tmp_path: Path) -> None:
    """At most 1.5 times the processor time of handing SQLite finished rows, by hand."""
    events = [make("n:done", {"text": "x" * 220}, f"run-{n // 20}") for n in range(COUNT)]
    rows = [
        (e.id, 1, e.timestamp, e.sequence, e.correlation_id, encode(e).decode()) for e in events
    ]
    with sqlite3.connect(tmp_path / "by-hand.sqlite", isolation_level=None) as it:
        it.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
            "CREATE TABLE events (position INTEGER PRIMARY KEY, id TEXT UNIQUE, type INTEGER,"
            " timestamp INTEGER, sequence INTEGER, correlation_id TEXT, body TEXT);"
            "CREATE INDEX by_correlation ON events (correlation_id, position);"
            "CREATE INDEX by_type ON events (type, position);"
        )
        began = time.process_time()
        for first in range(0, COUNT, 2_000):
            it.execute("BEGIN")
            insert = "INSERT OR IGNORE INTO events VALUES (NULL, ?, ?, ?, ?, ?, ?)"
            it.executemany(insert, rows[first : first + 2_000])
            it.execute("COMMIT")
        by_hand = time.process_time() - began
    it.close()
    journal = Journal(folder)
    began = time.process_time()
    assert journal.catch_up()
    assert time.process_time() - began < 1.5 * by_hand
    assert indexed(folder) == COUNT
    journal.close()
