"""Delivery: encoded batches, sent in order by one thread, kept while the receiver cannot take them.

Who submits a batch never waits for the network. What the receiver cannot take now stays in
memory, or on disk if there is a spool, and is sent again when the receiver allows it.
"""

import logging
import os
import random
import time
import weakref
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Final, Protocol

from opentelemetry.instrumentation.utils import suppress_instrumentation

from llmspell_exporters.answers import Answer, Verdict
from llmspell_exporters.ledger import Book, Held, Signal
from llmspell_exporters.segments import Frame
from llmspell_otel.guard import guard

MEMORY: Final = 16 * 2**20
"""Bytes of encoded batches that one signal may keep in memory."""
_FIRST_WAIT: Final = 0.5  # seconds; doubled after every failure
_LONGEST_WAIT: Final = 10.0
_LONGEST_ASKED: Final = 3600.0  # seconds that a receiver may ask us to wait
_LAST_TRIES: Final = 2  # at shutdown, of a receiver that is not there
_TIMED_OUT: Final = frozenset({"timeout", "grpc_deadline_exceeded"})
_SLOWEST: Final = 3  # doublings of an attempt's time
_ABSENT: Final = frozenset({"unreachable", "grpc_unavailable", "file"})
_GRACE: Final = 0.2  # seconds for an aborted attempt to come back
_ADOPT_EVERY: Final = 30.0  # seconds between looks for what dead processes left behind
_logger = logging.getLogger("llmspell_exporters")


class Sender(Protocol):
    """Brings one encoded request to its receiver."""

    def send(self, body: bytes, deadline: float) -> Answer:
        """Try once, until *deadline* (monotonic); never raises."""
        ...

    def abort(self) -> None:
        """End an attempt under way, from another thread, and every later one."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...

    def reset(self) -> None:
        """Forget connections, in the child of a fork."""
        ...


class Store(Protocol):
    """Keeps encoded batches on disk; every method may raise OSError."""

    def write(self, signal: Signal, body: bytes, count: int) -> Frame:
        """Store one batch."""
        ...

    def read(self, place: Frame) -> bytes:
        """Read one batch back."""
        ...

    def done(self, place: Frame) -> None:
        """Mark one batch as settled."""
        ...

    def adopt(self, signal: Signal) -> Iterable[Frame]:
        """Take over what processes that are gone left behind, oldest first."""
        ...


@dataclass(slots=True, eq=False)
class Parcel:
    """One encoded request on its way; *body* is None while it lies on disk."""

    body: bytes | None
    count: int
    size: int
    place: Frame | None = None
    settled: bool = False
    taken: bool = False

    @property
    def held(self) -> Held:
        """In which of the books' two waiting rooms it is."""
        return Held.QUEUED if self.place is None else Held.SPOOLED


class Delivery:
    """Delivers one signal's batches.

    Args:
        sender: brings a batch to the receiver.
        book: where every record is accounted for.
        store: the disk spool, or None.
        timeout: seconds that one attempt may take.
        memory: bytes of batches kept in memory.
    """

    def __init__(
        self,
        sender: Sender,
        book: Book,
        *,
        store: Store | None = None,
        timeout: float = 10.0,
        memory: int = MEMORY,
    ) -> None:
        self._sender = sender
        self._book = book
        self._store = store
        self._timeout = timeout
        self._memory = memory
        self._reset()
        if hasattr(os, "register_at_fork"):
            reset = weakref.WeakMethod(self._after_fork)
            os.register_at_fork(after_in_child=lambda: (method := reset()) and method())
        self._adopt()
        # Not on demand: an interpreter on its way out starts no threads.
        self._start()

    def _reset(self) -> None:
        self._changed = Condition()
        self._pending: deque[Parcel] = deque()
        self._bytes = 0  # of pending parcels in memory
        self._failures = 0
        self._slowness = 0  # attempts in a row that ran out of time; each doubles the next one's
        self._not_before = 0.0
        self._asked_to_wait = False
        self._adopted_at = time.monotonic()
        self._deadline: float | None = None  # set when closing
        self._last_tries = 0  # failures while closing, but not those of a busy receiver
        self._closed = False
        self._thread: Thread | None = None
        self._words: deque[tuple[str, tuple[object, ...]]] = deque()

    def _after_fork(self) -> None:
        closed = self._closed
        self._reset()
        self._closed = closed
        self._sender.reset()

    # --- from other threads -------------------------------------------------------------------

    @property
    def failing(self) -> bool:
        """Whether the last attempt failed and is to be repeated."""
        return self._failures > 0

    def submit(self, body: bytes, count: int) -> Parcel:
        """Hand over one batch of *count* records, which are queued in the books."""
        parcel = Parcel(body, count, len(body))
        with self._changed:
            if self._closed:
                self._lose(parcel, "shutdown")
            elif self._keep(parcel):
                self._pending.append(parcel)
                self._start()
                self._changed.notify_all()
        return parcel

    def wait(self, parcel: Parcel, timeout: float) -> bool:
        """Wait for the end of *parcel*'s first attempt; whether it is taken or safely kept."""
        with self._changed:
            self._changed.wait_for(lambda: parcel.settled or self.failing, timeout)
            return parcel.taken or not parcel.settled

    def flush(self, timeout: float) -> bool:
        """Wait until nothing is pending; False if that takes more than *timeout* seconds."""
        with self._changed:
            if not self._asked_to_wait:
                self._not_before = 0.0
                self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._pending, timeout)

    def close(self, deadline: float) -> None:
        """Deliver what can be until *deadline* (monotonic); store or count the rest."""
        with self._changed:
            if self._closed:
                return
            self._closed, self._deadline = True, deadline
            if not self._asked_to_wait:  # no time for our own pauses; the receiver's are kept
                self._not_before, self._failures = 0.0, min(self._failures, 1)
            self._changed.notify_all()
            thread = self._thread
            if thread is not None:
                self._changed.wait_for(self._finished, max(deadline - time.monotonic(), 0))
        if thread is None:
            self._run()
        self._sender.abort()
        if thread is not None:
            thread.join(_GRACE)
        with self._changed:
            while self._pending:
                self._put_by(self._pending.popleft())
        self._sender.close()
        self._speak()

    # --- with the lock held -------------------------------------------------------------------

    def _keep(self, parcel: Parcel) -> bool:
        """Find room for a new parcel: in memory, on disk, or nowhere."""
        crowded = self.failing or self._bytes + parcel.size > self._memory // 2
        if self._store is not None and crowded and self._to_disk(parcel):
            return True
        if self._bytes + parcel.size > self._memory:
            self._lose(parcel, "backlog_full")
            return False
        self._bytes += parcel.size
        return True

    def _to_disk(self, parcel: Parcel) -> bool:
        if self._store is None or parcel.body is None or parcel.place is not None:
            return False
        try:
            parcel.place = self._store.write(self._book.signal, parcel.body, parcel.count)
        except OSError as error:
            self._say("spool", "llmspell: the spool cannot be written: %s", error)
            return False
        parcel.body = None
        self._book.spool(parcel.count)
        return True

    def _put_by(self, parcel: Parcel) -> None:
        """Shutting down: what is on disk stays there, what is not goes there or is lost."""
        if parcel.place is None and not self._to_disk(parcel):
            self._lose(parcel, "shutdown")

    def _lose(self, parcel: Parcel, reason: str, message: str = "") -> None:
        parcel.settled = True
        self._book.lose(parcel.count, reason, message, parcel.held)

    def _finished(self) -> bool:
        """Whether a shutdown can gain nothing by waiting any longer."""
        too_late = self._asked_to_wait and self._not_before > (self._deadline or 0)
        stored = self._last_tries > 0 and all(parcel.place for parcel in self._pending)
        return not self._pending or too_late or stored or self._last_tries >= _LAST_TRIES

    def _start(self) -> None:
        if self._thread is None:
            name = f"llmspell-export-{self._book.signal.value}"
            thread = Thread(target=self._run, name=name, daemon=True)
            with suppress(RuntimeError):  # too late for threads: `close` does the work itself
                thread.start()
                self._thread = thread

    def _adopt(self) -> None:
        """Take over what dead processes left behind; it is older than all that we have."""
        if self._store is None:
            return
        self._adopted_at = time.monotonic()
        try:
            found = list(self._store.adopt(self._book.signal))
        except OSError as error:
            self._say("spool", "llmspell: the spool cannot be read: %s", error)
            return
        for place in reversed(found):
            self._book.adopt(place.count)
            self._pending.appendleft(Parcel(None, place.count, place.size, place))

    # --- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        with suppress_instrumentation():
            while (parcel := self._next()) is not None:
                self._settle(parcel, self._attempt(parcel))
                self._speak()

    def _next(self) -> Parcel | None:
        """Wait for the first parcel to become due; None when the work is over."""
        with self._changed:
            while True:
                now = time.monotonic()
                if self._deadline is not None and (now >= self._deadline or self._finished()):
                    return None
                if self._pending and now >= self._not_before:
                    return self._pending[0]
                self._changed.wait(self._pause(now))
                if self._idle_long():
                    self._adopt()

    def _pause(self, now: float) -> float | None:
        pauses = [self._not_before - now] if self._pending else []
        pauses += [self._deadline - now] if self._deadline is not None else []
        pauses += [_ADOPT_EVERY] if self._store is not None else []
        return max(min(pauses), 0.001) if pauses else None

    def _idle_long(self) -> bool:
        idle = not self._pending and self._deadline is None and self._store is not None
        return idle and time.monotonic() >= self._adopted_at + _ADOPT_EVERY

    def _attempt(self, parcel: Parcel) -> Answer:
        started = time.monotonic()
        # A receiver that needs longer would otherwise get the same batch for ever.
        deadline = started + self._timeout * 2**self._slowness
        if self._deadline is not None:
            deadline = min(deadline, self._deadline)
        try:
            body = self._store.read(parcel.place) if self._store and parcel.place else parcel.body
        except OSError as error:
            return Answer(verdict=Verdict.UNREADABLE, reason="spool_damaged", message=str(error))
        try:
            answer = self._sender.send(body or b"", deadline)
        except Exception as error:  # a defect of ours must not end the thread
            guard.report("exporting", error)
            answer = Answer(verdict=Verdict.UNREADABLE, reason="internal_error")
        if answer.reason in _TIMED_OUT:
            self._slowness = min(self._slowness + 1, _SLOWEST)
        elif time.monotonic() < started + self._timeout:
            self._slowness = 0
        return answer

    def _settle(self, parcel: Parcel, answer: Answer) -> None:
        with self._changed:
            if not (self._pending and self._pending[0] is parcel):
                return  # closed meanwhile, and accounted for
            if answer.verdict is Verdict.AGAIN:
                self._defer(answer)
            else:
                self._conclude(parcel, answer)
            self._changed.notify_all()

    def _conclude(self, parcel: Parcel, answer: Answer) -> None:
        self._pending.popleft()
        if parcel.place is None:
            self._bytes -= parcel.size
        elif self._store is not None:
            try:
                self._store.done(parcel.place)
            except OSError as error:
                self._say("spool", "llmspell: a sent batch may be sent again: %s", error)
        if self.failing:
            again = "llmspell: %s are being exported again"
            self._words.append((again, (self._book.signal.records,)))
        self._failures, self._not_before, self._asked_to_wait = 0, 0.0, False
        parcel.settled, parcel.taken = True, answer.verdict is Verdict.TAKEN
        self._enter(parcel, answer)

    def _enter(self, parcel: Parcel, answer: Answer) -> None:
        """Enter in the books what the receiver said."""
        reason, message, held = answer.reason, answer.message, parcel.held
        if answer.verdict is Verdict.TAKEN:
            rejected = min(answer.rejected, parcel.count)
            if rejected:
                self._book.reject(rejected, reason, message, held)
            self._book.acknowledge(parcel.count - rejected, held)
        elif answer.verdict is Verdict.REFUSED:
            rejected = parcel.count
            self._book.reject(rejected, reason, message, held)
        else:
            rejected = parcel.count
            self._book.lose(rejected, reason, message, held)
        if rejected or message:
            form = "llmspell: the receiver did not take %d %s (%s): %s"
            self._say(reason, form, rejected, self._book.signal.records, reason, message)

    def _defer(self, answer: Answer) -> None:
        self._failures += 1
        absent = answer.reason in _ABSENT
        self._last_tries += self._deadline is not None and (absent or self._store is not None)
        growing = min(_FIRST_WAIT * 2 ** min(self._failures - 1, 10), _LONGEST_WAIT)
        pause = growing * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, no secret
        self._asked_to_wait = answer.retry_after is not None
        if answer.retry_after is not None:
            pause = min(answer.retry_after, _LONGEST_ASKED)
        self._not_before = time.monotonic() + pause
        if self._failures == 1 and self._deadline is None:
            form = "llmspell: %s cannot be exported now (%s: %s); they are kept and sent again"
            facts = (self._book.signal.records, answer.reason, answer.message)
            self._words.append((form, facts))
        for parcel in self._pending:
            if self._to_disk(parcel):
                self._bytes -= parcel.size

    def _say(self, topic: str, form: str, *facts: object) -> None:
        """Warn, at most once a minute for each topic."""
        now = time.monotonic()
        if now >= _said.get((self._book.signal, topic), 0.0):
            _said[self._book.signal, topic] = now + 60.0
            self._words.append((form, facts))

    def _speak(self) -> None:
        """Log what there is to say; without the lock, since a handler may export log records."""
        while self._words:
            form, facts = self._words.popleft()
            _logger.warning(form, *facts)


_said: dict[tuple[Signal, str], float] = {}
