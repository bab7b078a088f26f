"""Where state is kept: in memory, or in a SQLite file that survives the process."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from llmspell_otel.hooks.forks import watch_forks

if TYPE_CHECKING:
    import sqlite3

NEW: Final = 0
"""The revision of an entry that is not there."""


@dataclass(frozen=True, slots=True)
class Row:
    """One entry as it is kept: JSON, how often it was written, by which schema version."""

    data: bytes
    revision: int
    version: int


class Backend(Protocol):
    """Keeps rows by scope and key. Every method is atomic, across threads and processes."""

    blocks: bool
    """Whether calls wait for a disk, so that an event loop had better not make them."""

    def read(self, scope: str, key: str) -> Row | None:
        """The row, if it is there."""
        ...

    def write(
        self, scope: str, key: str, data: bytes, version: int, expected: int | None
    ) -> int | None:
        """Write; gives the new revision. None if the row is not at the *expected* revision."""
        ...

    def delete(self, scope: str, key: str) -> bool:
        """Take the row out; False if it was not there."""
        ...

    def rows(self, scope: str) -> dict[str, Row]:
        """Every row of *scope*, by key."""
        ...

    def replace(self, scope: str, rows: Mapping[str, Row], keep: str) -> None:
        """Let *scope* hold *rows* and, of what it holds, the keys that begin with *keep*."""
        ...


class MemoryBackend:
    """Keeps rows as long as the process lives."""

    blocks = False

    def __init__(self) -> None:
        self._scopes: dict[str, dict[str, Row]] = {}
        self.after_fork()
        watch_forks(self)

    def after_fork(self) -> None:
        """Take a new lock."""
        self._lock = threading.Lock()

    def read(self, scope: str, key: str) -> Row | None:
        """As `Backend.read`."""
        return self._scopes.get(scope, {}).get(key)

    def write(
        self, scope: str, key: str, data: bytes, version: int, expected: int | None
    ) -> int | None:
        """As `Backend.write`."""
        with self._lock:
            held = self._scopes.setdefault(scope, {})
            found = held[key].revision if key in held else NEW
            if expected is not None and expected != found:
                return None
            held[key] = Row(data, found + 1, version)
            return found + 1

    def delete(self, scope: str, key: str) -> bool:
        """As `Backend.delete`."""
        with self._lock:
            return self._scopes.get(scope, {}).pop(key, None) is not None

    def rows(self, scope: str) -> dict[str, Row]:
        """As `Backend.rows`."""
        with self._lock:
            return dict(self._scopes.get(scope, {}))

    def replace(self, scope: str, rows: Mapping[str, Row], keep: str) -> None:
        """As `Backend.replace`."""
        with self._lock:
            held = self._scopes.get(scope, {})
            kept = {key: row for key, row in held.items() if key.startswith(keep)}
            self._scopes[scope] = {**rows, **kept}


_TABLE: Final = """
CREATE TABLE IF NOT EXISTS state (
  scope TEXT NOT NULL, key TEXT NOT NULL, data BLOB NOT NULL,
  revision INTEGER NOT NULL, version INTEGER NOT NULL,
  PRIMARY KEY (scope, key)
) WITHOUT ROWID
"""
_WRITE: Final = """
INSERT INTO state VALUES (?1, ?2, ?3, 1, ?4)
ON CONFLICT DO UPDATE SET data = ?3, revision = revision + 1, version = ?4
RETURNING revision
"""


class SqliteBackend:
    """Keeps rows in the SQLite file at *path* (write-ahead log, one connection per process)."""

    blocks = True

    def __init__(self, path: str | Path) -> None:
        self._path = str(path)
        self._connection: sqlite3.Connection | None = None
        self.after_fork()
        watch_forks(self)
        with self._lock:
            self._connected()

    def after_fork(self) -> None:
        """Open anew: a connection must not be used on both sides of a fork."""
        self._lock = threading.Lock()
        self._inherited, self._connection = self._connection, None

    def _connected(self) -> "sqlite3.Connection":
        if self._connection is None:
            import sqlite3  # a program without such a file can do without it

            made = sqlite3.connect(
                self._path, timeout=10, isolation_level=None, check_same_thread=False
            )
            made.execute("PRAGMA journal_mode = WAL")
            made.execute("PRAGMA synchronous = NORMAL")
            made.execute(_TABLE)
            self._connection = made
        return self._connection

    def read(self, scope: str, key: str) -> Row | None:
        """As `Backend.read`."""
        with self._lock:
            found = self._connected().execute(
                "SELECT data, revision, version FROM state WHERE scope = ? AND key = ?",
                (scope, key),
            )
            row = found.fetchone()
        return None if row is None else Row(*row)

    def write(
        self, scope: str, key: str, data: bytes, version: int, expected: int | None
    ) -> int | None:
        """As `Backend.write`."""
        with self._lock:
            connection = self._connected()
            if expected == NEW:
                written = connection.execute(
                    "INSERT OR IGNORE INTO state VALUES (?, ?, ?, 1, ?) RETURNING revision",
                    (scope, key, data, version),
                ).fetchone()
            elif expected is not None:
                written = connection.execute(
                    "UPDATE state SET data = ?, revision = revision + 1, version = ?"
                    " WHERE scope = ? AND key = ? AND revision = ? RETURNING revision",
                    (data, version, scope, key, expected),
                ).fetchone()
            else:
                written = connection.execute(_WRITE, (scope, key, data, version)).fetchone()
        return None if written is None else int(written[0])

    def delete(self, scope: str, key: str) -> bool:
        """As `Backend.delete`."""
        with self._lock:
            done = self._connected().execute(
                "DELETE FROM state WHERE scope = ? AND key = ?", (scope, key)
            )
            return done.rowcount > 0

    def rows(self, scope: str) -> dict[str, Row]:
        """As `Backend.rows`."""
        with self._lock:
            found = self._connected().execute(
                "SELECT key, data, revision, version FROM state WHERE scope = ? ORDER BY key",
                (scope,),
            )
            return {key: Row(*rest) for key, *rest in found.fetchall()}

    def replace(self, scope: str, rows: Mapping[str, Row], keep: str) -> None:
        """As `Backend.replace`."""
        with self._lock:
            connection = self._connected()
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.execute(
                    "DELETE FROM state WHERE scope = ? AND substr(key, 1, ?) <> ?",
                    (scope, len(keep), keep),
                )
                connection.executemany(
                    "INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?, ?)",
                    [
                        (scope, key, row.data, row.revision, row.version)
                        for key, row in rows.items()
                    ],
                )
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
