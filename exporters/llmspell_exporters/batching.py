"""A bounded queue in front of an exporter, whose every record is accounted for.

The SDK's batch processor drops the oldest record of a full queue, counts what it drops wrongly
when threads meet, ignores the timeout of a flush, and stops for ten seconds at a receiver that
does not answer. Here the worker never waits for the network, so a full queue means that the
processor is short of time, not the receiver.
"""

import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from threading import Condition, RLock, Thread
from typing import Final, Generic, TypeVar

from opentelemetry.instrumentation.utils import suppress_instrumentation

from llmspell_exporters.otlp import Pipe
from llmspell_otel.guard import guard

R = TypeVar("R")

BOUND: Final = 0.05
"""Seconds for which nobody who makes a record is held up any longer."""
SHARE: Final = 16
"""Records that who finds the queue full encodes by himself, his own among them."""
AHEAD: Final = 16 * 2**20
"""Bytes encoded so that may wait for the worker, before records are lost."""


class Batcher(Generic[R]):
    """Collects records and hands them to a pipe in batches.

    Args:
        pipe: where batches go, and whose book is kept.
        queue: records that may wait.
        batch: records handed over together.
        delay: seconds after which a smaller batch is handed over.
        ahead: bytes that makers may encode ahead of the worker.
    """

    def __init__(
        self, pipe: Pipe, *, queue: int, batch: int, delay: float, ahead: int = AHEAD
    ) -> None:
        self._pipe = pipe
        self._limit = max(queue, 1)
        self._size = min(max(batch, 1), self._limit)
        self._delay = delay
        self._ahead = ahead
        self._reset()
        if hasattr(os, "register_at_fork"):
            reset = weakref.WeakMethod(self._reset)
            os.register_at_fork(after_in_child=lambda: (method := reset()) and method())

    def _reset(self) -> None:
        """Start empty, as the child of a fork does: the parent sends what is the parent's."""
        closed = getattr(self, "_closed", False)
        self._lock = RLock()
        self._changed = Condition(self._lock)
        self._queue: deque[R] = deque()
        self._parts: list[tuple[bytes, int]] = []  # encoded by makers
        self._helped = self._bytes = 0  # records and bytes of these
        self._put = self._handed = 0  # records, ever
        self._wanted = 0  # how many of those put a flush waits for
        self._closed = closed
        self._deadline = float("inf")
        self._thread: Thread | None = None

    def put(self, record: R) -> None:
        """Queue *record*; who finds the queue full encodes a few records, as the worker would.

        So makers are slowed down to what the process has time for, a millisecond at a time.
        """
        book = self._pipe.book
        book.make(1)
        with self._lock:  # the condition's own, entered without a detour
            if not self._closed and len(self._queue) < self._limit:
                self._queue.append(record)
                self._put += 1
                if self._thread is None:
                    self._start()
                if len(self._queue) == self._size:
                    self._changed.notify_all()
                return
            share = self._share(record)
            reason = "shutdown" if self._closed else "queue_full"
        if share:
            self._help(share)
        else:
            book.lose(1, reason)

    def flush(self, timeout: float) -> bool:
        """Deliver all that was put before; False if that takes more than *timeout* seconds."""
        deadline = time.monotonic() + timeout
        with self._changed:
            target = self._wanted = self._put
            self._changed.notify_all()
            handed = self._changed.wait_for(lambda: self._handed >= target, timeout)
        return handed and self._pipe.flush(max(deadline - time.monotonic(), 0.0))

    def shutdown(self) -> None:
        """Hand over what is queued and shut the pipe down, within the shutdown budget."""
        with self._changed:
            if self._closed:
                return
            self._closed, self._deadline = True, self._pipe.begin_shutdown()
            self._changed.notify_all()
            thread = self._thread
        if thread is None:
            self._run()
        else:
            thread.join(max(self._deadline - time.monotonic(), 0.0))
        with self._changed:
            left = len(self._queue) + sum(count for _, count in self._parts)
            self._queue.clear()
            self._parts = []
        if left:
            self._pipe.book.lose(left, "shutdown")
        self._pipe.shutdown(self._deadline - time.monotonic())

    def _help(self, share: Sequence[R]) -> None:
        """Encode the *share*, and leave it to the worker to hand it over: that may take long."""
        parts = guard.contained("batching", self._pipe.encoded, share) or []
        with self._changed:
            if not self._closed:
                self._parts += parts
                self._helped += len(share)
                self._bytes += sum(len(body) for body, _ in parts)
                self._changed.notify_all()
                return
        self._pipe.book.lose(sum(count for _, count in parts), "shutdown")

    # --- with the lock held -------------------------------------------------------------------

    def _share(self, record: R) -> Sequence[R]:
        """The oldest few of the full queue, and *record*; nothing where there is no room for it."""
        if self._closed or self._bytes >= self._ahead:
            return ()
        self._put += 1
        oldest = [self._queue.popleft() for _ in range(min(SHARE - 1, len(self._queue)))]
        return [*oldest, record]

    def _start(self) -> None:
        name = f"llmspell-batch-{self._pipe.book.signal.value}"
        thread = Thread(target=self._run, name=name, daemon=True)
        with suppress(RuntimeError):  # too late for threads: `shutdown` does the work itself
            thread.start()
            self._thread = thread

    def _due(self) -> bool:
        asked = self._handed < self._wanted and len(self._queue) > 0
        return asked or len(self._queue) >= self._size or self._helped > 0 or self._closed

    # --- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        with suppress_instrumentation():
            while work := self._next():
                records, hand_over = work
                guard.contained("batching", hand_over)
                with self._changed:
                    self._handed += records
                    self._changed.notify_all()

    def _next(self) -> tuple[int, Callable[[], object]] | None:
        """Wait for work: how many records, and what hands them over; None when it is over."""
        with self._changed:
            while True:
                self._changed.wait_for(self._due, self._delay if self._queue else None)
                if self._queue or self._helped or self._closed:
                    break
            if time.monotonic() > self._deadline:
                return None
            if self._helped:
                parts, records = self._parts, self._helped
                self._parts, self._helped, self._bytes = [], 0, 0
                return records, partial(self._pipe.submit, parts)
            batch = [self._queue.popleft() for _ in range(min(self._size, len(self._queue)))]
            return (len(batch), partial(self._pipe.enqueue, batch)) if batch else None
