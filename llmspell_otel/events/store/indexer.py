"""The thread that takes the log into the database, and forgets what is too old."""

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

from llmspell_otel.errors import JournalError
from llmspell_otel.events.store import log
from llmspell_otel.events.store.index import Index
from llmspell_otel.events.store.writer import LogWriter

PRUNE_INTERVAL = 60.0
PAUSE = 0.5  # seconds between two looks at the log
BATCH = 2_000  # events of a transaction, or the next block above
SHARE = 0.25  # of its time that the thread works at most, while publishers are busy too

_logger = logging.getLogger("llmspell_otel.events")


class Indexer:
    """Follows the log of every process that shares the folder.

    Attributes:
        taken: Events of this journal's own log that the database has.
        damage: Bytes of logs that could not be read.
    """

    def __init__(
        self,
        folder: Path,
        index: Index,
        writer: LogWriter,
        expire: Callable[[sqlite3.Connection], int],
        tell: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self._folder = folder
        self._index = index
        self._writer = writer
        self._expire = expire
        self._tell = tell
        self.forked()

    def forked(self) -> None:
        """Begin anew, with a fresh lock and no thread."""
        self._lock = threading.Lock()
        self._stop, self._bell = threading.Event(), threading.Event()
        self._hurry = _Hurry()
        self._thread: threading.Thread | None = None
        self._failing = False
        self._foreign: set[Path] = set()
        self._pruned = monotonic()
        self.taken = self.damage = 0

    def nudge(self) -> None:
        """There is something new; the thread starts with the first nudge."""
        if self._thread is None and not self._stop.is_set():
            name = "llmspell-journal-index"
            self._thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._thread.start()
        self._bell.set()

    def catch_up(self, timeout: float) -> bool:
        """Take in everything that is in the log now; tell whether that was done in time."""
        deadline = monotonic() + timeout
        with self._hurry:
            if not self._lock.acquire(timeout=timeout):
                return False
            try:
                return self._contained(_until(deadline))
            except _EnoughError:
                return False
            finally:
                self._lock.release()

    def close(self, timeout: float) -> None:
        """Stop the thread; what it has not taken in waits in the log for the next start."""
        self._stop.set()
        self._bell.set()
        self._hurry.wanted.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def damaged(self, error: Exception) -> None:
        """Set a damaged database aside; other troubles pass."""
        if type(error) is sqlite3.DatabaseError:
            self._index.set_aside(error)
            self._tell("journal:damaged", {"file": self._index.path.name})

    def _work(self) -> None:
        while not self._stop.is_set():
            self._bell.wait()
            self._bell.clear()
            self._stop.wait(PAUSE)
            with self._lock, contextlib.suppress(_EnoughError):
                if not self._stop.is_set() and not self._contained(self._rest):
                    self._bell.set()

    def _rest(self, elapsed: float) -> None:
        """Leave the processor to others for a while, unless somebody waits for the database."""
        self._hurry.rest(elapsed * (1 / SHARE - 1))
        if self._stop.is_set():
            raise _EnoughError

    def _contained(self, rest: Callable[[float], None]) -> bool:
        try:
            self._follow(rest)
        except (sqlite3.Error, OSError, JournalError) as error:
            if not self._failing:
                _logger.exception("journal %s cannot be indexed", self._folder)
            self._failing = True
            self.damaged(error)
            return False
        self._failing = False
        return True

    def _follow(self, rest: Callable[[float], None]) -> None:
        with self._index.connect() as it:
            for path in sorted(self._folder.glob(f"*{log.SUFFIX}")):
                if log.is_foreign(path):
                    self._leave(path)
                else:
                    self._file(it, path, rest)
            if monotonic() - self._pruned > PRUNE_INTERVAL:
                self._pruned = monotonic()
                self._expire(it)

    def _leave(self, path: Path) -> None:
        """Neither read nor delete *path*, and say so once."""
        if path not in self._foreign:
            self._foreign.add(path)
            text = "journal %s: %s is in another format and is left alone"
            _logger.warning(text, self._folder, path.name)

    def _file(self, it: sqlite3.Connection, path: Path, rest: Callable[[float], None]) -> None:
        own = path.name in self._writer.names
        whole = log.is_abandoned(path)
        try:
            read = log.read(path, self._index.read_up_to(it, path), whole=whole)
            for blocks in _batches(read):
                began = monotonic()
                self._take(it, path, blocks)
                self.taken += sum(block.events for block in blocks) if own else 0
                self._note(path, sum(block.damaged for block in blocks))
                rest(monotonic() - began)
        except FileNotFoundError:  # another process was faster
            return
        if whole:
            # Its writer may have promised to outlive a power cut, whatever this process does.
            log.sync_file(self._index.path.with_name(f"{self._index.path.name}-wal"))
            path.unlink(missing_ok=True)
            self._index.forget(it, path)

    def _take(self, it: sqlite3.Connection, path: Path, blocks: list[log.Block]) -> None:
        """Take in *blocks*, unless another process has done so."""
        with self._index.transaction(it):
            done = self._index.read_up_to(it, path)
            if left := [block for block in blocks if block.end > done]:
                self._index.take_in(it, path, left)

    def _note(self, path: Path, damaged: int) -> None:
        if damaged:
            self.damage += damaged
            text = "journal %s: %d bytes of %s are torn or damaged and were stepped over"
            _logger.warning(text, self._folder, damaged, path.name)
            self._tell("journal:damaged", {"file": path.name, "bytes": damaged})


def _batches(blocks: Iterator[log.Block]) -> Iterator[list[log.Block]]:
    """Enough *blocks* for a transaction at a time: a commit costs as much as many events."""
    batch: list[log.Block] = []
    events = 0
    for block in blocks:
        batch.append(block)
        events += block.events
        if events >= BATCH:
            yield batch
            batch, events = [], 0
    if batch:
        yield batch


class _EnoughError(Exception):
    """Leave off between two batches: it is late, or the journal closes."""


def _until(deadline: float) -> Callable[[float], None]:
    """No rest between two batches, and an end at *deadline*."""

    def rest(_elapsed: float) -> None:
        if monotonic() > deadline:
            raise _EnoughError

    return rest


class _Hurry:
    """How many wait for the database: while there are any, nobody rests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting = 0
        self.wanted = threading.Event()

    def rest(self, seconds: float) -> None:
        """Pause for *seconds*, or until somebody waits."""
        self.wanted.wait(seconds)

    def __enter__(self) -> None:
        with self._lock:
            self._waiting += 1
            self.wanted.set()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._waiting -= 1
            if not self._waiting:
                self.wanted.clear()
