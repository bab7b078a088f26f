"""Events on their way to the log: collected, encoded by batches, and committed by a thread."""

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import Any

from llmspell_otel.events.bell import Bell
from llmspell_otel.events.codec import record
from llmspell_otel.events.event import UniversalEvent, make
from llmspell_otel.events.introduction import RESOURCE, told
from llmspell_otel.events.store import log
from llmspell_otel.events.store.packing import Chunk, pack

LOST = "journal:lost"
"""The type of the event with which a log tells that events are missing before it."""
SEGMENT_BYTES = 16 * 1_048_576
RETRY = 0.5  # seconds between two attempts while the disk takes nothing
BATCH = 64  # events that are encoded together
_PILE = 4 * BATCH  # that publishers let grow while another one encodes
_PATIENCE = 0.005  # seconds that one waits then
_BLOCK_BYTES = 2 * 1_048_576
_HURRY = 0.001  # seconds in which nobody makes a batch of events and a text of many megabytes

_logger = logging.getLogger("llmspell_otel.events")

Tell = Callable[[str, dict[str, Any]], None]


class LogWriter:
    """Events on their way to the log. The thread starts with the first one.

    Publishers only collect them; whoever makes a batch full encodes it, and the thread what is
    left when its interval is over.

    Attributes:
        append: Takes an event; tells whether it was accepted, or too much waits already.
        names: The files that this process has written.
        notes: Events in them that nobody gave to the writer: of losses, and of this process.
        after_commit: Called after each commit.
    """

    def __init__(  # noqa: PLR0913 - settings, all keyword-only
        self,
        folder: Path,
        *,
        durable: bool,
        interval: float,
        event_limit: int,
        limit: int,
        tell: Tell,
    ) -> None:
        self._folder = folder
        self._durable = durable
        self._interval = interval
        self._event_limit = event_limit
        self._limit = limit
        self._plenty = min(_BLOCK_BYTES, limit // 4)  # bytes that need not wait any longer
        self._tell = tell
        self.after_commit: Callable[[], None] = _nothing
        self._log: log.Writer | None = None
        self._fresh: list[UniversalEvent] = []  # not encoded yet; only ever cut at its beginning
        self.append = self._appender()
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._done = threading.Condition(self._lock)
        self._writing, self._hiring = threading.Lock(), threading.Lock()
        self._bell, self._urgent = Bell(), Bell()
        self._attention = True  # whether a publisher has more to do than to collect
        self._refusing = False
        self._fresh.clear()
        self._packed = 0.0  # when the last batch was encoded
        self._chunks: deque[Chunk] = deque()
        self._spare = self._limit  # bytes that may wait in them beside those that do
        self._committed: int = 0
        self._dropped: int = 0
        self._noted: int = 0  # of those, how many the log tells of
        self.notes: int = 0
        self._introduced: dict[str, Any] | None = None  # as the file in hand tells it
        self._closed: bool = False
        self._losing: bool = False
        self._thread: threading.Thread | None = None
        self._log = None
        self.names: set[str] = set()

    def _appender(self) -> Callable[[UniversalEvent], bool]:
        """A closure: its names are found fastest."""
        fresh, collect = self._fresh, self._fresh.append

        def append(event: UniversalEvent) -> bool:
            collect(event)  # one C call: no other thread gets in between
            # Only now: the thread looks for events after it has asked for attention.
            if self._attention or len(fresh) >= BATCH:
                return self._attend()
            return True

        return append

    def _attend(self) -> bool:
        """Wake the thread, encode a batch, or drop what there is no room for."""
        if self._attention and not self._closed:
            self._wake()
        # Publishers rarely wait for each other, and never for long: one may be the handler of a
        # signal, and have interrupted the very thread that it would wait for.
        patience = _PATIENCE if len(self._fresh) >= _PILE else 0
        if self._lock.acquire(timeout=patience):
            try:
                self._pack(BATCH)
            finally:
                self._lock.release()
        return not self._refusing

    def _pack(self, least: int = 1) -> None:
        """Encode what was collected, as far as it is *least* events. The lock is held."""
        while len(self._fresh) >= (1 if self._refusing else least):
            now, rate = monotonic(), len(self._fresh) / BATCH
            hurry, self._packed = now - self._packed < _HURRY * rate, now
            batch = self._fresh[:BATCH]
            found: list[Chunk] = [(b"", len(batch))]
            if not self._refusing:
                found = list(pack(batch, self._event_limit, self._spare, watched=not hurry))
            del self._fresh[: len(batch)]  # only now: an interrupt in between loses nothing
            for chunk, count in found:
                self._accept(chunk, count)

    def _accept(self, chunk: bytes | bytearray, count: int) -> None:
        if not chunk or len(chunk) > self._spare:
            self._dropped += count
            if chunk:
                self._refusing = self._attention = True
            return
        self._chunks.append((chunk, count))
        self._spare -= len(chunk)
        if self._limit - self._spare > self._plenty:
            self._urgent.ring()

    def flush(self, timeout: float) -> bool:
        """Commit what was accepted so far, within *timeout* seconds; tell whether it is."""
        with self._done:
            self._pack()
            wanted = self._committed + self._waiting()
            self._bell.ring()
            self._urgent.ring()
        if self._thread is None:
            self._round()
        with self._done:
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
            self._closed = self._refusing = self._attention = True
            lost = self._waiting()
            self._dropped += lost
            self._chunks.clear()
            self._fresh.clear()
        if not done:
            _logger.error("journal %s: closed with %d events lost", self._folder, lost)
        self._urgent.ring()
        self._bell.ring()
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
        if self._thread is None and self._hiring.acquire(blocking=False):
            self._hire()
        self._bell.ring()

    def _hire(self) -> None:
        thread = threading.Thread(target=self._work, name="llmspell-journal", daemon=True)
        try:
            self._thread = thread
            thread.start()
        except RuntimeError:  # the interpreter is leaving: `close` commits
            self._thread = None
            _logger.debug("journal %s: no thread any more", self._folder)
        self._hiring.release()

    def _work(self) -> None:
        while not self._closed:
            self._bell.wait()
            while self._busy():
                self._urgent.wait(self._interval)
                self._round()

    def _busy(self) -> bool:
        """Whether there is anything to do; else publishers have to wake the thread."""
        with self._lock:
            idle = not (self._chunks or self._fresh or self._losing)
            self._attention = idle or self._refusing
            # Once more: who collected an event before that has not woken the thread.
            return not self._closed and (not idle or bool(self._fresh))

    def _round(self) -> None:
        """Commit what waits now."""
        with self._writing:
            with self._lock:
                self._pack()
                due = len(self._chunks)
            while chunks := self._first(due):
                if not self._commit(chunks):
                    return
                due -= len(chunks)
            self._settle()

    def _waiting(self) -> int:
        return len(self._fresh) + sum(count for _, count in self._chunks)

    def _first(self, most: int) -> list[Chunk]:
        """The oldest chunks that wait, a block of them; they stay until they are committed."""
        found: list[Chunk] = []
        size = 0
        with self._lock:
            for chunk in islice(self._chunks, most):
                found.append(chunk)
                size += len(chunk[0])
                if size >= _BLOCK_BYTES:
                    break
        return found

    def _commit(self, chunks: list[Chunk]) -> bool:
        """Write *chunks* as a block; tell whether to go on at once."""
        try:
            self._write(chunks)
        except OSError as error:
            self._failed(error)
            return False
        lost = self._note_losses()
        with self._done:
            if self._chunks:  # else `close` has given it up meanwhile
                self._settled(chunks)
            slow, losing = lost > 0 and not self._losing, lost > 0 or self._losing
            # A pause between two bursts is no recovery: see `_settle`.
            self._losing = losing and bool(lost or self._chunks or self._fresh)
            recovered = losing and not self._losing
            self._done.notify_all()
        if slow:
            self._too_slow(lost)
        if recovered:
            self._recovered()
        self.after_commit()
        return True

    def _settled(self, chunks: list[Chunk]) -> None:
        """Note that *chunks* are committed. The lock is held."""
        for chunk, count in chunks:
            self._chunks.popleft()
            self._spare += len(chunk)
            self._committed += count
        self._refusing = self._closed

    def _settle(self) -> None:
        """Everything waiting is committed: see a little later whether losing has come to an end."""
        if not self._losing:
            return
        self._urgent.wait(RETRY)
        lost = self._note_losses()
        with self._lock:
            self._losing = bool(lost or self._chunks or self._fresh)
            recovered = not self._losing
        if recovered:
            self._recovered()

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
        writer.write([b"[%b]" % record(make(event_type, data))], 1)
        self.notes += 1

    def _write(self, chunks: list[Chunk]) -> None:
        writer = self._log
        if writer is None or writer.size >= SEGMENT_BYTES:
            writer = self._rotate()
        self._introduce(writer)
        writer.write([chunk for chunk, _ in chunks], sum(count for _, count in chunks))
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
        path = log.following(self._folder)
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
        self._urgent.wait(0)  # whoever rang so far does not hasten the next attempt
        self._urgent.wait(RETRY)

    def _too_slow(self, lost: int) -> None:
        text = "journal %s: the disk is slower than events come, %d lost so far"
        _logger.error(text, self._folder, self._dropped)
        self._tell("journal:stalled", {"lost": lost})

    def _recovered(self) -> None:
        _logger.warning("journal %s works again, %d events lost", self._folder, self._dropped)
        self._tell("journal:recovered", {"lost": self._dropped})


def _nothing() -> None:
    """Stand in until somebody follows the log."""
