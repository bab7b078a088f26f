"""What the log holds that the database does not have yet: questions are answered from both."""

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import compress, repeat
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from llmspell_otel.events.router import routes
from llmspell_otel.events.store import log
from llmspell_otel.events.store.index import Index, Query
from llmspell_otel.events.store.keys import Key, keyed, keys, text

_WINDOW = 50_000  # ids in one generation of those that duplicates are known by; there are two
_FOR_EVER = 1 << 63
_TOGETHER = 500  # ids in one question to the database


class _Rest(NamedTuple):
    """A file of the log, and the part of it that the database does not have."""

    file: BinaryIO
    start: int
    end: int


class Backlog:
    """The log beyond the database, as of the moment that the transaction of *it* begins to read.

    Its files stay open: that another process takes them in and removes them does not matter.

    Attributes:
        position: The last one that the database had.

    Raises:
        OSError: a file cannot be read.
        sqlite3.Error: the database cannot be read.
    """

    def __init__(self, folder: Path, index: Index, it: sqlite3.Connection) -> None:
        self._it = it
        self._files = ExitStack()
        with ExitStack() as opened:
            while (files := self._capture(folder, index, opened)) is None:
                it.execute("ROLLBACK")
                it.execute("BEGIN")
            self._rests = files
            self._files = opened.pop_all()
        self.position, self._newest = index.newest(it)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def blocks(self) -> Iterator[Iterable[Key]]:
        """The keys of all events, block by block; duplicates are left out.

        An event's second copy is known among a hundred thousand: a block that was written again
        after an error comes soon after.
        """
        once = _Once(self._it, self.position, self._newest)
        for body in self._bodies(Query()):
            found = keys(body)
            yield compress(found, once.fresh(found))

    def select(self, query: Query) -> Iterator[str]:
        """The body of every event that *query* asks for, each once in the same way."""
        wanted, once = _wanted(query), _Once(self._it, self.position, self._newest)
        for body in self._bodies(query):
            found = [pair for pair in keyed(body) if wanted(pair[0])]
            if query.newest_first:
                found.reverse()
            fresh = once.fresh([key for key, _ in found])
            yield from (line for _, line in compress(found, fresh))

    def _capture(self, folder: Path, index: Index, opened: ExitStack) -> list[_Rest] | None:
        """The unread parts of all files; None if one was taken in and removed meanwhile."""
        paths = sorted(folder.glob(f"*{log.SUFFIX}"))
        files = [(path, file) for path in paths if (file := _opened(path, opened))]
        done = index.read_so_far(self._it)
        rests = []
        for path, file in files:
            status = os.fstat(file.fileno())
            if path.name not in done and not status.st_nlink:
                return None
            start = done.get(path.name, 0)
            if start < status.st_size:
                rests.append(_Rest(file, start, status.st_size))
        return rests

    def _bodies(self, query: Query) -> Iterator[bytes]:
        needle = _needle(query.correlation_id)
        step = -1 if query.newest_first else 1
        for rest in self._rests[::step]:
            for block in list(log.blocks(_content(rest), rest.start, whole=True))[::step]:
                if not needle:
                    yield block.body
                elif needle in block.body:
                    yield b"\n".join(line for line in block.body.split(b"\n") if needle in line)


class _Once:
    """Knows events that were there before: in the database, or in this reading of the log."""

    def __init__(self, it: sqlite3.Connection, position: int, newest: str) -> None:
        self._it = it
        self._position = position
        self._newest = newest
        self._seen: set[str] = set()
        self._older: set[str] = set()

    def fresh(self, found: list[Key]) -> Iterable[bool]:
        """Which of *found* are there for the first time."""
        ids = [key.id for key in found]
        unique = set(ids)
        fresh: Iterable[bool] = repeat(True)
        if (
            len(unique) < len(ids)
            or min(unique, default=self._newest) <= self._newest
            or not self._seen.isdisjoint(unique)
            or not self._older.isdisjoint(unique)
        ):
            fresh = self._looked_up(ids)
        self._seen |= unique
        if len(self._seen) >= _WINDOW:
            self._older, self._seen = self._seen, set()
        return fresh

    def _looked_up(self, ids: list[str]) -> list[bool]:
        known = self._had([name for name in ids if name <= self._newest])
        known.update(name for name in ids if name in self._seen or name in self._older)
        fresh: list[bool] = []
        for name in ids:
            fresh.append(name not in known)
            known.add(name)
        return fresh

    def _had(self, ids: list[str]) -> set[str]:
        """Which of *ids* the database had. Ids grow with time: mostly it is not asked."""
        had: set[str] = set()
        for first in range(0, len(ids), _TOGETHER):
            some = ids[first : first + _TOGETHER]
            marks = ", ".join("?" * len(some))
            sql = f"SELECT id FROM events WHERE id IN ({marks}) AND position <= ?"  # noqa: S608 - only marks
            had.update(row[0] for row in self._it.execute(sql, (*some, self._position)))
        return had


def _opened(path: Path, opened: ExitStack) -> BinaryIO | None:
    try:
        return opened.enter_context(path.open("rb"))
    except FileNotFoundError:  # taken in, and removed, since the folder was listed
        return None


def _content(rest: _Rest) -> bytes:
    rest.file.seek(rest.start)
    return rest.file.read(rest.end - rest.start)


def _needle(run: str | None) -> bytes:
    """What stands in every line of that run; nothing if its name may be written in two ways."""
    plain = run is not None and run.isascii() and run.isprintable()
    return json.dumps(run).encode() if plain else b""


def _wanted(query: Query) -> Callable[[Key], bool]:
    """Whether an event with that key is asked for."""
    kinds = routes(query.patterns or ("*",))
    run = None if query.correlation_id is None else text(query.correlation_id)
    since = query.since if query.since is not None else -_FOR_EVER
    until = query.until if query.until is not None else _FOR_EVER

    def wanted(key: Key) -> bool:
        return (
            since <= key.timestamp < until
            and (run is None or run == key.correlation_id)
            and kinds[key.event_type]
        )

    return wanted
