"""The side to ask: a SQLite database in WAL mode, filled from the log in batches."""

import contextlib
import logging
import sqlite3
import sys
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from llmspell_otel.errors import JournalError
from llmspell_otel.events.ids import uuid7
from llmspell_otel.events.router import MAX_CACHED, Pattern
from llmspell_otel.events.store import log
from llmspell_otel.events.store.keys import keyed, text

_logger = logging.getLogger("llmspell_otel.events")

NAME = "events.sqlite"
VERSION = 1
BUSY_TIMEOUT = 5.0  # seconds that one process waits for another at most
_PAGE = 1_000
_PAGE_BYTES = 16_384  # a page of the database holds some thirty events
_CHECKPOINT_PAGES = 2_000  # 32 MiB: each checkpoint waits for the disk
_TOGETHER = 50  # events in one statement: each statement costs as much as an event

# Read for ever: columns are added, never changed. `position` is the order of arrival; one type
# has one number; `segments` says how far each file of the log has been taken in.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS types (type INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS events (
    position INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    type INTEGER NOT NULL,
    timestamp INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    correlation_id TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS segments (name TEXT PRIMARY KEY, read INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_correlation ON events (correlation_id, position);
CREATE INDEX IF NOT EXISTS by_type ON events (type, position);
"""
_INSERT = "INSERT OR IGNORE INTO events VALUES (NULL, ?, ?, ?, ?, ?, ?)"
_INSERT_TOGETHER = _INSERT + ", (NULL, ?, ?, ?, ?, ?, ?)" * (_TOGETHER - 1)


_Row = tuple[str, int, int, int, str, str]
Run = tuple[str, int, int]
"""A correlation id, the number of its events, and its first time."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which events are asked for; every condition that is given must hold.

    Attributes:
        patterns: One of them matches the type; none asks for all types.
        correlation_id: The run they belong to.
        since: Not before this time, nanoseconds since the Unix epoch.
        until: Before this time.
        after: Arrived after this position.
        newest_first: The latest arrivals first.
    """

    patterns: tuple[str, ...] = ()
    correlation_id: str | None = None
    since: int | None = None
    until: int | None = None
    after: int | None = None
    newest_first: bool = False


class Index:
    """The database of one journal. A connection serves one thread; each call opens its own."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self.path = folder / NAME
        self._synchronous = "FULL" if durable else "NORMAL"
        self._types: dict[str, int] = {}

    @contextmanager
    def connect(self) -> Generator[sqlite3.Connection]:
        """A connection to the database, which is made if it is not there.

        Raises:
            sqlite3.Error: it cannot be opened, or is damaged.
            JournalError: a later version of this library wrote it.
        """
        with closing(sqlite3.connect(self.path, timeout=BUSY_TIMEOUT, isolation_level=None)) as it:
            if not it.execute("PRAGMA user_version").fetchone()[0]:
                it.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
                it.execute("PRAGMA auto_vacuum = INCREMENTAL")
                it.execute("PRAGMA journal_mode = WAL")
                it.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = 1; COMMIT")
            if (version := it.execute("PRAGMA user_version").fetchone()[0]) > VERSION:
                problem = f"has format {version}, this library reads up to {VERSION}"
                raise JournalError(str(self.path), problem, "upgrade llmspell-otel")
            it.execute(f"PRAGMA synchronous = {self._synchronous}")
            it.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            yield it

    @contextmanager
    def transaction(self, it: sqlite3.Connection) -> Generator[None]:
        """Everything within happens, or nothing; other processes wait.

        Raises:
            sqlite3.Error: the database cannot be written.
        """
        it.execute("BEGIN IMMEDIATE")
        try:
            yield
            it.execute("COMMIT")
        except BaseException:
            self._types.clear()  # the numbers given within are not true any more
            if it.in_transaction:
                it.execute("ROLLBACK")
            raise

    def take_in(self, it: sqlite3.Connection, path: Path, block: log.Block) -> None:
        """Store the events of one *block* of the file *path*, each once.

        Raises:
            sqlite3.Error: the database cannot be written.
        """
        rows = self._rows(it, block)
        whole = len(rows) - len(rows) % _TOGETHER
        chunks = (rows[first : first + _TOGETHER] for first in range(0, whole, _TOGETHER))
        it.executemany(_INSERT_TOGETHER, map(list, map(chain.from_iterable, chunks)))
        it.executemany(_INSERT, rows[whole:])
        it.execute("REPLACE INTO segments VALUES (?, ?)", (path.name, block.end))

    def forget(self, it: sqlite3.Connection, path: Path) -> None:
        """The file *path* is gone."""
        it.execute("DELETE FROM segments WHERE name = ?", (path.name,))

    def set_aside(self, error: Exception) -> None:
        """Keep the damaged database under another name, and begin a new one."""
        aside = self.path.with_name(f"{self.path.name}.damaged-{uuid7()}")
        _logger.error("journal %s: %s; kept as %s", self.path.parent, error, aside.name)
        with contextlib.suppress(OSError):
            self.path.rename(aside)
        for end in ("-wal", "-shm"):
            self.path.with_name(self.path.name + end).unlink(missing_ok=True)
        self._types.clear()

    def read_up_to(self, it: sqlite3.Connection, path: Path) -> int:
        """How far the file *path* has been taken in."""
        row = it.execute("SELECT read FROM segments WHERE name = ?", (path.name,)).fetchone()
        return int(row[0]) if row else 0

    def read_so_far(self, it: sqlite3.Connection) -> dict[str, int]:
        """How far each file of the log has been taken in, by its name."""
        return dict(it.execute("SELECT name, read FROM segments").fetchall())

    def newest(self, it: sqlite3.Connection) -> tuple[int, str]:
        """The last position, and the greatest id; 0 and nothing if there are no events."""
        sql = "SELECT (SELECT max(position) FROM events), (SELECT max(id) FROM events)"
        position, name = it.execute(sql).fetchone()  # apart, each is found at once
        return position or 0, name or ""

    def select(
        self, it: sqlite3.Connection, query: Query, last: int = 1 << 62
    ) -> Iterator[tuple[int, str]]:
        """Position and body of every event up to position *last* that *query* asks for."""
        clauses, values = self._clauses(it, query)
        order = "DESC" if query.newest_first else "ASC"
        compare = "<" if query.newest_first else ">"
        start = query.after
        if start is None:
            start = last + 1 if query.newest_first else -1
        # Page by page: no read lock is held while the caller thinks.
        while True:
            sql = (
                f"SELECT position, body FROM events WHERE position {compare} ? {clauses}"  # noqa: S608 - the parts are ours, the values are bound
                f" ORDER BY position {order} LIMIT {_PAGE}"
            )
            page = it.execute(sql, (start, *values)).fetchall()
            yield from (row for row in page if row[0] <= last)
            if len(page) < _PAGE or page[-1][0] > last:
                return
            start = page[-1][0]

    def prune(self, it: sqlite3.Connection, before: int | None, keep: int | None) -> int:
        """Forget the oldest: those before the time *before*, and all but the latest *keep*."""
        first, last = it.execute("SELECT min(position), max(position) FROM events").fetchone()
        if last is None:
            return 0
        edge = max(first, last - keep + 1) if keep is not None else first
        if before is not None:
            edge = max(edge, self._edge(it, before, edge, last))
        gone = it.execute("DELETE FROM events WHERE position < ?", (edge,)).rowcount
        if gone:
            it.execute("PRAGMA incremental_vacuum").fetchall()
        return gone

    def summary(self, it: sqlite3.Connection) -> dict[str, Any]:
        """How many events there are, of which types, from when to when."""
        total, oldest, newest = it.execute(
            "SELECT count(*), min(timestamp), max(timestamp) FROM events"
        ).fetchone()
        types = it.execute(
            "SELECT name, count(*) FROM events JOIN types USING (type)"
            " GROUP BY type ORDER BY 2 DESC, 1"
        ).fetchall()
        return {"events": total, "oldest": oldest, "newest": newest, "types": dict(types)}

    def runs(self, it: sqlite3.Connection, beginning: str = "") -> Iterator[Run]:
        """Runs whose correlation id has that *beginning*, the latest arrivals first."""
        sql = (
            "SELECT correlation_id, count(*), min(timestamp) FROM events"
            " WHERE correlation_id > '' AND correlation_id BETWEEN ? AND ?"
            " GROUP BY correlation_id ORDER BY max(position) DESC"
        )
        return it.execute(sql, (text(beginning), text(beginning) + chr(sys.maxunicode)))

    def run(self, it: sqlite3.Connection, name: str) -> tuple[int, int | None]:
        """How many events the run called *name* has, and its first time."""
        sql = "SELECT count(*), min(timestamp) FROM events WHERE correlation_id = ?"
        count, first = it.execute(sql, (text(name),)).fetchone()
        return count, first

    def _edge(self, it: sqlite3.Connection, before: int, low: int, high: int) -> int:
        """The first position whose event is not older than *before*, by bisection."""
        sql = "SELECT timestamp FROM events WHERE position >= ? ORDER BY position LIMIT 1"
        while low <= high:
            middle = (low + high) // 2
            if it.execute(sql, (middle,)).fetchone()[0] < before:
                low = middle + 1
            else:
                high = middle - 1
        return low

    def _rows(self, it: sqlite3.Connection, block: log.Block) -> list[_Row]:
        pairs = keyed(block.body)
        if strange := block.events - len(pairs):
            form = "journal %s: %d lines are no events"
            _logger.warning(form, self.path.parent, strange)
        kinds = {name: self._type(it, name) for name in {key.event_type for key, _ in pairs}}
        return [
            (key.id, kinds[key.event_type], key.timestamp, key.sequence, key.correlation_id, body)
            for key, body in pairs
        ]

    def _type(self, it: sqlite3.Connection, name: str) -> int:
        kind = self._types.get(name)
        if kind is None:
            it.execute("INSERT OR IGNORE INTO types (name) VALUES (?)", (name,))
            row = it.execute("SELECT type FROM types WHERE name = ?", (name,)).fetchone()
            if len(self._types) >= MAX_CACHED:
                self._types.clear()
            kind = self._types[name] = int(row[0])
        return kind

    def _clauses(self, it: sqlite3.Connection, query: Query) -> tuple[str, list[Any]]:
        clauses, values = "", []
        for clause, value in (
            ("correlation_id = ?", query.correlation_id and text(query.correlation_id)),
            ("timestamp >= ?", query.since),
            ("timestamp < ?", query.until),
        ):
            if value is not None:
                clauses += f" AND {clause}"
                values.append(value)
        if query.patterns:
            patterns = [Pattern(text) for text in query.patterns]
            known = it.execute("SELECT type, name FROM types").fetchall()
            kinds = [str(k) for k, name in known if any(p.matches(name) for p in patterns)]
            clauses += f" AND type IN ({', '.join(kinds)})"
        return clauses, values
