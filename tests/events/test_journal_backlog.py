"""A journal that is opened over a log that no database has seen yet."""

import logging
import sqlite3
import time
from pathlib import Path

import pytest

from llmspell_otel.events import make
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
        count = it.execute("SELECT count(*) FROM events").fetchone()[0]
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


def test_a_query_sees_the_whole_backlog_at_once(folder: Path, lazy: None) -> None:
    """However much the thread would rest: whoever asks gets everything, once and in order."""
    journal = Journal(folder)
    assert eventually(lambda: indexed(folder) > 0)
    assert indexed(folder) < COUNT
    assert [event.data["number"] for event in journal.query()] == list(range(COUNT))
    assert not list(folder.glob("*.log"))
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


def test_who_will_not_wait_is_told_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Catching up keeps its time, and a query that could not wait says what it lacks."""
    monkeypatch.setattr(indexer, "PAUSE", 60.0)
    journal = Journal(folder)
    assert not journal.catch_up(0.0)
    assert 0 < indexed(folder) < COUNT
    late = journal.catch_up
    monkeypatch.setattr(journal, "catch_up", lambda: late(0.0))
    with caplog.at_level(logging.WARNING):
        assert len(list(journal.query())) < COUNT
    assert "an answer lacks what the log still holds" in caplog.text
    monkeypatch.undo()
    assert len(list(journal.query())) == COUNT
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
