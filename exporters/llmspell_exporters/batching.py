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
from collections.abc import Sequence
from contextlib import suppress
from threading import Condition, RLock, Thread
from typing import Final, Generic, TypeVar

from opentelemetry.instrumentation.utils import suppress_instrumentation

from llmspell_exporters.otlp import Pipe
from llmspell_otel.guard import guard

R = TypeVar("R")

BOUND: Final = 0.05
"""Seconds for which nobody who makes a record is held up any longer."""
PATIENCE: Final = 0.04
"""Seconds that a full queue holds up who fills it, once, before records are lost.

Less than the bound: who has waited wants the interpreter, and the worker may have it.
"""


class Batcher(Generic[R]):
    """Collects records and hands them to a pipe in batches.

    Args:
        pipe: where batches go, and whose book is kept.
        queue: records that may wait.
        batch: records handed over together.
        delay: seconds after which a smaller batch is handed over.
        patience: seconds that `put` may wait for room.
    """

    def __init__(
        self, pipe: Pipe, *, queue: int, batch: int, delay: float, patience: float = PATIENCE
    ) -> None:
        self._pipe = pipe
        self._limit = max(queue, 1)
        self._size = min(max(batch, 1), self._limit)
        self._delay = delay
        self._patience = patience
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
        self._put = self._handed = 0  # records, ever
        self._wanted = 0  # how many of those put a flush waits for
        self._stuck = False
        self._closed = closed
        self._deadline = float("inf")
        self._thread: Thread | None = None

    def put(self, record: R) -> None:
        """Queue *record*; waits for at most `patience` if the queue is full, then counts a loss."""
        book = self._pipe.book
        book.make(1)
        with self._lock:  # the condition's own, entered without a detour
            if not self._closed and (len(self._queue) < self._limit or self._room()):
                self._queue.append(record)
                self._put += 1
                if self._thread is None:
                    self._start()
                if len(self._queue) == self._size:
                    self._changed.notify_all()
                return
            reason = "shutdown" if self._closed else "queue_full"
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
            left = len(self._queue)
            self._queue.clear()
        if left:
            self._pipe.book.lose(left, "shutdown")
        self._pipe.shutdown(self._deadline - time.monotonic())

    # --- with the lock held -------------------------------------------------------------------

    def _room(self) -> bool:
        """Wait for room, once: who is not helped is not held up again before things move."""
        if self._stuck:
            return False
        self._changed.notify_all()
        self._changed.wait_for(lambda: self._closed or self._free(), self._patience)
        self._stuck = not self._free()
        return not self._stuck and not self._closed

    def _free(self) -> bool:
        return len(self._queue) < self._limit

    def _start(self) -> None:
        name = f"llmspell-batch-{self._pipe.book.signal.value}"
        thread = Thread(target=self._run, name=name, daemon=True)
        with suppress(RuntimeError):  # too late for threads: `shutdown` does the work itself
            thread.start()
            self._thread = thread

    def _due(self) -> bool:
        return len(self._queue) >= self._size or self._handed < self._wanted or self._closed

    # --- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        with suppress_instrumentation():
            while batch := self._next():
                guard.contained("batching", self._pipe.enqueue, batch)
                with self._changed:
                    self._handed += len(batch)
                    self._changed.notify_all()

    def _next(self) -> Sequence[R]:
        """Wait for a batch; an empty one means that the work is over."""
        with self._changed:
            while True:
                self._changed.wait_for(self._due, self._delay if self._queue else None)
                if self._queue or self._closed:
                    break
            if time.monotonic() > self._deadline:
                return ()
            count = min(self._size, len(self._queue))
            self._stuck = False
            batch = [self._queue.popleft() for _ in range(count)]
            self._changed.notify_all()  # there is room now, not only when they are encoded
            return batch
