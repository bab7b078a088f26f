"""What the log holds that the database does not have yet: questions are answered from both."""

import json
import os
import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import compress, repeat
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from llmspell_otel.events.store import log
from llmspell_otel.events.store.identity import Identities, Seen, identities, marks
from llmspell_otel.events.store.index import Index
from llmspell_otel.events.store.keys import Key, keyed, keys
from llmspell_otel.events.store.query import Query, wanted

_WINDOW = 100_000  # events that a copy is known among
_TOGETHER = 4_000  # of them that are looked for a copy together


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
        self._index = index
        self.position = index.newest(it)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def blocks(self, beginning: str = "") -> Iterator[Iterable[Key]]:
        """The keys of all events, block by block; duplicates are left out.

        With *beginning*, at least those of runs whose correlation id begins so. An event's second
        copy is known among a hundred thousand: a block that was written again after an error
        comes soon after.
        """
        once = _Once(self._it, self._index, self.position)
        for body in self._bodies(_needle(beginning)[:-1]):
            found = keys(body)
            yield compress(found, once.fresh(found))

    def select(self, query: Query) -> Iterator[str]:
        """The body of every event that *query* asks for, each once in the same way."""
        met, once = wanted(query), _Once(self._it, self._index, self.position)
        needle = _needle(query.correlation_id)
        for body in self._bodies(needle, newest_first=query.newest_first):
            found = [pair for pair in keyed(body) if met(pair[0])]
            if query.newest_first:
                found.reverse()
            fresh = once.fresh([key for key, _ in found])
            yield from (line for _, line in compress(found, fresh))

    def _capture(self, folder: Path, index: Index, opened: ExitStack) -> list[_Rest] | None:
        """The unread parts of all files; None if one was taken in and removed meanwhile."""
        paths = sorted(p for p in folder.glob(f"*{log.SUFFIX}") if not log.is_foreign(p))
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

    def _bodies(self, needle: bytes, *, newest_first: bool = False) -> Iterator[bytes]:
        """Lines of the log, many at a time, or one by one if the last may be all that is asked."""
        for rest in self._rests[:: -1 if newest_first else 1]:
            blocks = log.blocks(_content(rest), rest.start, whole=True)
            if newest_first:
                for block in reversed(list(blocks)):
                    yield from reversed(_lines(block.body, needle))
            else:
                for block in blocks:
                    yield b"\n".join(_lines(block.body, needle)) if needle else block.body


class _Once:
    """Knows events that were there before: in the database, or in this reading of the log."""

    def __init__(self, it: sqlite3.Connection, index: Index, position: int) -> None:
        self._it = it
        self._index = index
        self._position = position
        self._seen = deque([Seen()])

    def fresh(self, found: list[Key]) -> Iterable[bool]:
        """Which of *found* are there for the first time."""
        if not found:
            return ()
        told = identities(found)
        known = self._index.known(self._it, told, self._position)
        for seen in self._seen:
            if seen.may_have(told):
                known.update(marks(seen.keys))
        self._note(found, told)
        if told.distinct and not known:
            return repeat(True)  # nearly always
        fresh: list[bool] = []
        for mark in marks(found):
            fresh.append(mark not in known)
            known.add(mark)
        return fresh

    def _note(self, found: list[Key], told: Identities) -> None:
        if len(self._seen[-1].keys) + len(found) > _TOGETHER:
            self._seen.append(Seen())
            if sum(len(seen.keys) for seen in self._seen) > _WINDOW:
                self._seen.popleft()
        self._seen[-1].add(found, told)


def _opened(path: Path, opened: ExitStack) -> BinaryIO | None:
    try:
        return opened.enter_context(path.open("rb"))
    except FileNotFoundError:  # taken in, and removed, since the folder was listed
        return None


def _content(rest: _Rest) -> bytes:
    rest.file.seek(rest.start)
    return rest.file.read(rest.end - rest.start)


def _lines(body: bytes, needle: bytes) -> list[bytes]:
    return [line for line in body.split(b"\n") if needle in line] if needle in body else []


def _needle(run: str | None) -> bytes:
    """What stands in every line of that run; nothing if its name may be written in two ways."""
    plain = run and run.isascii() and run.isprintable()
    return json.dumps(run).encode() if plain else b""
