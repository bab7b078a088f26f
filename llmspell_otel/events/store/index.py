"""The side to ask: a SQLite database in WAL mode, filled from the log in batches."""

import contextlib
import logging
import sqlite3
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from itertools import compress, count
from pathlib import Path
from typing import Any

from llmspell_otel.errors import JournalError
from llmspell_otel.events.ids import uuid7
from llmspell_otel.events.router import routes
from llmspell_otel.events.store import log
from llmspell_otel.events.store.identity import Identities, Mark, identities, marks
from llmspell_otel.events.store.keys import Facts, Group, Key, events, facts, groups, keys_of, text
from llmspell_otel.events.store.query import Query, wanted

_logger = logging.getLogger("llmspell_otel.events")

NAME = "events.sqlite"
VERSION = 2
BUSY_TIMEOUT = 5.0  # seconds that one process waits for another at most
_PAGES = (1, 4, 16)  # groups that are read at once: few if the first events are all that is wanted
_PAGE_BYTES = 16_384
_MANY = 500  # types in one question to the database
_CHECKPOINT_PAGES = 2_000  # 32 MiB: each checkpoint waits for the disk

# Read for ever: columns are added, never changed. `position` is the order of arrival. Events are
# kept in groups of some hundreds, and indexes say in which groups to look: each entry of an index
# costs as much as the event. `low` to `high` are sequences. `segments` says how far each file of
# the log has been taken in.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS groups (
    first INTEGER PRIMARY KEY,
    last INTEGER NOT NULL,
    oldest INTEGER NOT NULL,
    newest INTEGER NOT NULL,
    body TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS by_type (
    name TEXT NOT NULL, first INTEGER NOT NULL, events INTEGER NOT NULL,
    PRIMARY KEY (name, first)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS by_run (
    name TEXT NOT NULL, first INTEGER NOT NULL, events INTEGER NOT NULL,
    last INTEGER NOT NULL, oldest INTEGER NOT NULL,
    PRIMARY KEY (name, first)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS by_origin (
    origin INTEGER NOT NULL, high INTEGER NOT NULL, first INTEGER NOT NULL, low INTEGER NOT NULL,
    PRIMARY KEY (origin, high, first)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS by_given_id (
    id TEXT NOT NULL, first INTEGER NOT NULL, PRIMARY KEY (id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS segments (name TEXT PRIMARY KEY, read INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS positions (next INTEGER NOT NULL);
INSERT INTO positions SELECT 1 WHERE NOT EXISTS (SELECT * FROM positions);
CREATE VIEW IF NOT EXISTS events AS
SELECT
    groups.first + event.key AS position,
    json_extract(event.value, '$.event_type') AS event_type,
    json_extract(event.value, '$.timestamp') AS timestamp,
    json_extract(event.value, '$.correlation_id') AS correlation_id,
    event.value AS body
FROM groups, json_each(groups.body) AS event;
"""
_BY = ("by_type", "by_run", "by_origin", "by_given_id")

Run = tuple[str, int, int]
"""A correlation id, the number of its events, and its first time."""


class Index:
    """The database of one journal. A connection serves one thread; each call opens its own."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self.path = folder / NAME
        self._synchronous = "FULL" if durable else "NORMAL"

    @contextmanager
    def connect(self) -> Generator[sqlite3.Connection]:
        """A connection to the database, which is made if it is not there.

        Raises:
            sqlite3.Error: it cannot be opened, or is damaged.
            JournalError: another version of this library wrote it, in another format.
        """
        with closing(sqlite3.connect(self.path, timeout=BUSY_TIMEOUT, isolation_level=None)) as it:
            if not it.execute("PRAGMA user_version").fetchone()[0]:
                it.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
                it.execute("PRAGMA auto_vacuum = INCREMENTAL")
                it.execute("PRAGMA journal_mode = WAL")
                script = f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT"
                it.executescript(script)
            if (version := it.execute("PRAGMA user_version").fetchone()[0]) != VERSION:
                problem = f"has format {version}, this library reads {VERSION}"
                mend = "upgrade llmspell-otel" if version > VERSION else "move it away"
                raise JournalError(str(self.path), problem, mend)
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
            if it.in_transaction:
                it.execute("ROLLBACK")
            raise

    def take_in(self, it: sqlite3.Connection, path: Path, blocks: list[log.Block]) -> None:
        """Store the events of some *blocks* of the file *path*, each once.

        Raises:
            sqlite3.Error: the database cannot be written.
        """
        (position,) = it.execute("SELECT next FROM positions").fetchone()
        found = 0
        for group in groups(block.body for block in blocks):
            found += len(group.keys)
            position += self._take_in(it, position, group)
        if strange := sum(block.events for block in blocks) - found:
            form = "journal %s: %d lines are no events"
            _logger.warning(form, self.path.parent, strange)
        it.execute("UPDATE positions SET next = ?", (position,))
        it.execute("REPLACE INTO segments VALUES (?, ?)", (path.name, blocks[-1].end))

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

    def read_up_to(self, it: sqlite3.Connection, path: Path) -> int:
        """How far the file *path* has been taken in."""
        row = it.execute("SELECT read FROM segments WHERE name = ?", (path.name,)).fetchone()
        return int(row[0]) if row else 0

    def read_so_far(self, it: sqlite3.Connection) -> dict[str, int]:
        """How far each file of the log has been taken in, by its name."""
        return dict(it.execute("SELECT name, read FROM segments").fetchall())

    def newest(self, it: sqlite3.Connection) -> int:
        """The last position that was given; 0 if none was."""
        return int(it.execute("SELECT next - 1 FROM positions").fetchone()[0])

    def known(self, it: sqlite3.Connection, told: Identities, last: int = 1 << 62) -> set[Mark]:
        """The marks of events up to position *last* that some of those *told* may be copies of."""
        firsts: set[int] = set()
        for name in told.foreign:
            sql = "SELECT first FROM by_given_id WHERE id = ?"
            firsts.update(row[0] for row in it.execute(sql, (name,)))
        for span in told.spans:
            # Sequences grow with time: mostly there is no such group.
            sql = "SELECT first FROM by_origin WHERE origin = ? AND high >= ? AND low <= ?"
            firsts.update(row[0] for row in it.execute(sql, span))
        found: set[Mark] = set()
        for first in firsts:
            for (body,) in it.execute("SELECT body FROM groups WHERE first = ?", (first,)):
                found.update(marks(keys_of(body)) if first <= last else ())
        return found

    def select(
        self, it: sqlite3.Connection, query: Query, last: int = 1 << 62
    ) -> Iterator[tuple[int, str]]:
        """Position and body of every event up to position *last* that *query* asks for."""
        after = -1 if query.after is None else query.after
        met = wanted(query) if query.picks else None
        for first, group_last, body in self._groups(it, query, after, last):
            texts = events(body, group_last - first + 1)
            found = list(zip(count(first), texts))
            if met is not None:
                found = list(compress(found, map(met, keys_of(body))))
            if query.newest_first:
                found.reverse()
            yield from (row for row in found if after < row[0] <= last)

    def prune(self, it: sqlite3.Connection, before: int | None, keep: int | None) -> int:
        """Forget the oldest: those before the time *before*, and all but the latest *keep*."""
        first, last = it.execute("SELECT min(first), max(last) FROM groups").fetchone()
        if last is None:
            return 0
        edge = max(first, last - keep + 1) if keep is not None else first
        if before is not None:
            edge = max(edge, self._edge(it, before, last))
        if edge == first:
            return 0
        with self.transaction(it):
            gone = self._forget(it, edge)
        it.execute("PRAGMA incremental_vacuum").fetchall()
        return gone

    def summary(self, it: sqlite3.Connection) -> dict[str, Any]:
        """How many events there are, of which types, from when to when."""
        oldest, newest = it.execute("SELECT min(oldest), max(newest) FROM groups").fetchone()
        types = dict(it.execute("SELECT name, sum(events) FROM by_type GROUP BY name").fetchall())
        return {"events": sum(types.values()), "oldest": oldest, "newest": newest, "types": types}

    def runs(self, it: sqlite3.Connection, beginning: str = "") -> Iterator[Run]:
        """Runs whose correlation id has that *beginning*, the latest arrivals first."""
        sql = (
            "SELECT name, sum(events), min(oldest) FROM by_run WHERE name BETWEEN ? AND ?"
            " GROUP BY name ORDER BY max(last) DESC"
        )
        return it.execute(sql, (text(beginning), text(beginning) + chr(sys.maxunicode)))

    def run(self, it: sqlite3.Connection, name: str) -> tuple[int, int | None]:
        """How many events the run called *name* has, and its first time."""
        sql = "SELECT coalesce(sum(events), 0), min(oldest) FROM by_run WHERE name = ?"
        found, first = it.execute(sql, (text(name),)).fetchone()
        return found, first

    def _take_in(self, it: sqlite3.Connection, first: int, group: Group) -> int:
        """Store of a *group* what the database does not have already; how many events."""
        keys = group.keys
        told = identities(keys)
        known = self.known(it, told)
        if told.distinct and not known:
            return self._add(it, first, facts(keys), told, group.body)  # nearly always
        fresh: list[bool] = []
        for mark in marks(keys):
            fresh.append(mark not in known)
            known.add(mark)
        texts = compress(events(group.body, len(keys)), fresh)
        return self._add_some(it, first, list(compress(keys, fresh)), list(texts))

    def _add_some(
        self, it: sqlite3.Connection, first: int, keys: list[Key], texts: list[str]
    ) -> int:
        if not keys:
            return 0
        return self._add(it, first, facts(keys), identities(keys), f"[{','.join(texts)}]")

    def _add(
        self, it: sqlite3.Connection, first: int, known: Facts, told: Identities, body: str
    ) -> int:
        """Store a group of events from position *first* on; how many there are."""
        last = first + len(known.times) - 1
        row = (first, last, min(known.times), max(known.times), body)
        it.execute("INSERT INTO groups VALUES (?, ?, ?, ?, ?)", row)
        types = [(name, first, number) for name, number in Counter(known.types).items()]
        it.executemany("INSERT INTO by_type VALUES (?, ?, ?)", types)
        runs = [(name, first, *rest) for name, *rest in known.by_run(first)]
        it.executemany("INSERT INTO by_run VALUES (?, ?, ?, ?, ?)", runs)
        spans = [(origin, high, first, low) for origin, low, high in told.spans]
        it.executemany("INSERT INTO by_origin VALUES (?, ?, ?, ?)", spans)
        given = [(name, first) for name in told.foreign]
        it.executemany("INSERT INTO by_given_id VALUES (?, ?)", given)
        return last - first + 1

    def _forget(self, it: sqlite3.Connection, edge: int) -> int:
        """Delete what is before position *edge*; how many events that were."""
        sql = "SELECT first, last, body FROM groups WHERE first < ? AND last >= ?"
        cut = it.execute(sql, (edge, edge)).fetchone()
        sql = "SELECT coalesce(sum(last - first + 1), 0) FROM groups WHERE first < ?"
        (gone,) = it.execute(sql, (edge,)).fetchone()
        for table in ("groups", *_BY):
            it.execute(f"DELETE FROM {table} WHERE first < ?", (edge,))  # noqa: S608 - ours
        if cut is None:
            return int(gone)
        first, last, body = cut
        texts = events(body, last - first + 1)[edge - first :]
        self._add_some(it, edge, keys_of(body)[edge - first :], texts)
        return int(gone) - len(texts)

    def _edge(self, it: sqlite3.Connection, before: int, last: int) -> int:
        """The first position whose event is not older than *before*."""
        sql = "SELECT first, body FROM groups WHERE newest >= ? ORDER BY first LIMIT 1"
        row = it.execute(sql, (before,)).fetchone()
        if row is None:
            return last + 1
        late = (number for number, key in enumerate(keys_of(row[1])) if key.timestamp >= before)
        return int(row[0]) + next(late, 0)

    def _groups(
        self, it: sqlite3.Connection, query: Query, after: int, last: int
    ) -> Iterator[tuple[int, int, str]]:
        """First and last position, and body, of each group in which such events may be."""
        clauses, values = self._clauses(it, query)
        order, compare = ("DESC", "<") if query.newest_first else ("ASC", ">")
        edge = last + 1 if query.newest_first else after
        if not query.newest_first:
            sql = "SELECT max(first) FROM groups WHERE first <= ?"
            edge = (it.execute(sql, (after + 1,)).fetchone()[0] or 0) - 1
        # Page by page: no read lock is held while the caller thinks.
        for page in count():
            limit = _PAGES[min(page, len(_PAGES) - 1)]
            sql = (
                f"SELECT first, last, body FROM groups WHERE first {compare} ? AND last > ?"  # noqa: S608 - the parts are ours, the values are bound
                f" AND first <= ? {clauses} ORDER BY first {order} LIMIT {limit}"
            )
            rows = it.execute(sql, (edge, after, last, *values)).fetchall()
            yield from rows
            if len(rows) < limit:
                return
            edge = rows[-1][0 if query.newest_first else 1]

    def _clauses(self, it: sqlite3.Connection, query: Query) -> tuple[str, list[Any]]:
        clauses, values = "", list[Any]()
        if query.since is not None:
            clauses, values = f"{clauses} AND newest >= ?", [*values, query.since]
        if query.until is not None:
            clauses, values = f"{clauses} AND oldest < ?", [*values, query.until]
        if query.correlation_id:
            clauses += " AND first IN (SELECT first FROM by_run WHERE name = ?)"
            values.append(text(query.correlation_id))
        if query.patterns:
            kinds = routes(query.patterns)
            names = [name for (name,) in it.execute("SELECT DISTINCT name FROM by_type")]
            names = [name for name in names if kinds[name]]
            marked = ", ".join("?" * len(names))
            if len(names) <= _MANY:
                clauses += f" AND first IN (SELECT first FROM by_type WHERE name IN ({marked}))"  # noqa: S608 - only marks
                values += names
        return clauses, values
