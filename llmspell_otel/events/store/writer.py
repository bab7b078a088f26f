"""The thread that commits: takes encoded events from memory and appends them to the log."""

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmspell_otel.events.codec import record
from llmspell_otel.events.event import make
from llmspell_otel.events.ids import uuid7
from llmspell_otel.events.introduction import RESOURCE, told
from llmspell_otel.events.store import log

LOST = "journal:lost"
"""The type of the event with which a log tells that events are missing before it."""
SEGMENT_BYTES = 16 * 1_048_576
RETRY = 0.5  # seconds between two attempts while the disk takes nothing
_BLOCK_BYTES = 1_048_576
_END = b"\n"

_logger = logging.getLogger("llmspell_otel.events")

Tell = Callable[[str, dict[str, Any]], None]


class LogWriter:
    """Events on their way to the log. The thread starts with the first one.

    Attributes:
        names: The files that this process has written.
        notes: Lines in them that nobody gave to the writer: of losses, and of this process.
        after_commit: Called after each commit.
    """

    def __init__(
        self, folder: Path, *, durable: bool, interval: float, limit: int, tell: Tell
    ) -> None:
        self._folder = folder
        self._durable = durable
        self._interval = interval
        self._limit = limit
        self._tell = tell
        self.after_commit: Callable[[], None] = _nothing
        self._log: log.Writer | None = None
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._done = threading.Condition(self._lock)
        self._bell, self._urgent = threading.Event(), threading.Event()
        self._blocks: deque[tuple[bytearray, int]] = deque()  # lines, and how many
        self._open = bytearray()  # lines, each with its end
        self._spare = self._limit  # bytes that may wait beside the closed blocks
        self._committed: int = 0
        self._dropped: int = 0
        self._noted: int = 0  # of those, how many the log tells of
        self.notes: int = 0
        self._introduced: dict[str, Any] | None = None  # as the file in hand tells it
        self._idle: bool = True
        self._closed: bool = False
        self._losing: bool = False
        self._thread: threading.Thread | None = None
        self._log = None
        self.names: set[str] = set()

    def append(self, line: bytes | bytearray) -> bool:
        """Accept *line*, unless too much waits already."""
        with self._lock:
            lines = self._open
            if len(lines) + len(line) > self._spare:
                self._dropped += 1
                return False
            lines += line
            lines += _END
            if len(lines) >= _BLOCK_BYTES:
                self._close_block()
            idle, self._idle = self._idle, False
        if idle:
            self._wake()
        return True

    def flush(self, timeout: float) -> bool:
        """Commit what was accepted so far, within *timeout* seconds; tell whether it is."""
        with self._done:
            wanted = self._committed + self._waiting()
            self._urgent.set()
            return self._done.wait_for(lambda: self._committed >= wanted, timeout)

    def books(self) -> tuple[int, int, int, bool]:
        """Accepted, committed and dropped events, and whether the disk takes nothing."""
        with self._lock:
            accepted = self._committed + self._dropped + self._waiting()
            return accepted, self._committed, self._dropped, self._losing

    def close(self, timeout: float) -> None:
        """Commit what waits, within *timeout* seconds, and give up the rest."""
        done = self.flush(timeout)
        with self._lock:
            self._closed, self._spare = True, -1
            lost = self._waiting()
            self._dropped += lost
            self._blocks.clear()
            self._open = bytearray()
        if not done:
            _logger.error("journal %s: closed with %d events lost", self._folder, lost)
        self._urgent.set()
        self._bell.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.1, timeout))
        if done and self._log is not None:
            self._note_losses()
            writer, self._log = self._log, None
            writer.close()

    def forked(self) -> None:
        """Leave everything to the parent, whose file this process must not write."""
        if self._log is not None:
            self._log.close()  # the lock stays with the parent, which has the file open too
        self._forget()

    def _wake(self) -> None:
        if self._thread is None:
            self._hire()
        self._bell.set()

    def _hire(self) -> None:
        thread = threading.Thread(target=self._work, name="llmspell-journal", daemon=True)
        try:
            thread.start()
            self._thread = thread
        except RuntimeError:  # the interpreter is leaving: `close` commits
            _logger.debug("journal %s: no thread any more", self._folder)

    def _work(self) -> None:
        while not self._closed:
            self._bell.wait()
            self._bell.clear()
            self._urgent.wait(self._interval)
            self._urgent.clear()
            while block := self._first():
                if not self._commit(*block):
                    break
            else:
                self._settle()

    def _close_block(self) -> None:
        lines, self._open = self._open, bytearray()
        count = lines.count(_END)
        lines.pop()  # the last end: ends stand between the lines
        self._blocks.append((lines, count))
        self._spare -= len(lines)

    def _waiting(self) -> int:
        return self._open.count(_END) + sum(count for _, count in self._blocks)

    def _first(self) -> tuple[bytearray, int] | None:
        """The oldest block that waits; it stays until it is committed."""
        with self._lock:
            if not self._blocks and self._open:
                self._close_block()
            if not self._blocks:
                self._idle = True
                return None
            return self._blocks[0]

    def _commit(self, lines: bytearray, count: int) -> bool:
        """Write a block; tell whether to go on at once."""
        try:
            self._write(lines)
        except OSError as error:
            self._failed(error)
            return False
        lost = self._note_losses()
        with self._done:
            if self._blocks:  # else `close` has given it up meanwhile
                self._blocks.popleft()
                self._spare += len(lines)
                self._committed += count
            slow, losing = lost > 0 and not self._losing, lost > 0 or self._losing
            # A pause between two bursts is no recovery: see `_settle`.
            self._losing = losing and bool(lost or self._blocks or self._open)
            recovered = losing and not self._losing
            self._done.notify_all()
        if slow:
            self._too_slow(lost)
        if recovered:
            self._recovered()
        self.after_commit()
        return True

    def _settle(self) -> None:
        """Everything waiting is committed: see a little later whether losing has come to an end."""
        if not self._losing:
            return
        self._urgent.wait(RETRY)
        lost = self._note_losses()
        with self._lock:
            self._losing = bool(lost or self._open)
            recovered = not self._losing
        if recovered:
            self._recovered()
        else:
            self._bell.set()

    def _note_losses(self) -> int:
        """Have the log tell of the events dropped since it last did; how many these are."""
        lost = self._dropped - self._noted
        if lost and self._log is not None:
            with contextlib.suppress(OSError):
                self._note(self._log, LOST, {"journal": self._folder.name, "lost": lost})
                self._noted += lost
        return lost

    def _introduce(self, writer: log.Writer) -> None:
        """Have the file tell, before any event, what telemetry says of this process."""
        known = told()
        if known is not None and known != self._introduced:
            self._note(writer, RESOURCE, known)
            self._introduced = known

    def _note(self, writer: log.Writer, event_type: str, data: dict[str, Any]) -> None:
        writer.write(record(make(event_type, data)))
        self.notes += 1

    def _write(self, lines: bytearray) -> None:
        writer = self._log
        if writer is None or writer.size >= SEGMENT_BYTES:
            writer = self._rotate()
        self._introduce(writer)
        writer.write(lines)
        if self._durable:
            try:
                writer.sync()
            except OSError:
                # Nobody knows what the device kept: write the block again, to another file.
                writer.broken = True
                raise

    def _rotate(self) -> log.Writer:
        if self._log is not None:
            self._log.close()
            self._log = None
        path = self._folder / f"{uuid7()}{log.SUFFIX}"
        writer = self._log = log.Writer(path)
        self._introduced = None
        self.names.add(path.name)
        if self._durable:
            log.sync_folder(self._folder)
        return writer

    def _failed(self, error: OSError) -> None:
        with self._lock:
            first, self._losing = not self._losing, True
        if self._log is not None and self._log.broken:
            self._log.close()
            self._log = None
        if first:
            _logger.error("journal %s takes nothing: %s", self._folder, error)
            self._tell("journal:stalled", {"error": {"type": type(error).__name__}})
        self._urgent.clear()
        self._urgent.wait(RETRY)
        self._bell.set()

    def _too_slow(self, lost: int) -> None:
        text = "journal %s: the disk is slower than events come, %d lost so far"
        _logger.error(text, self._folder, self._dropped)
        self._tell("journal:stalled", {"lost": lost})

    def _recovered(self) -> None:
        _logger.warning("journal %s works again, %d events lost", self._folder, self._dropped)
        self._tell("journal:recovered", {"lost": self._dropped})


def _nothing() -> None:
    """Stand in until somebody follows the log."""
