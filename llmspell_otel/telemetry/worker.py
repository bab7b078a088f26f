"""The telemetry worker: a bounded queue of ended operations, and the thread that works it off."""

import atexit
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from opentelemetry import context as context_api

from llmspell_otel.guard import Guard
from llmspell_otel.telemetry.spans import OperationEvent

CAPACITY: Final = 8192
"""Ended operations that may wait."""
LINGER: Final = 0.05
"""Seconds for which a batch gathers: one wake-up serves many operations."""
EXIT_TIMEOUT: Final = 5.0
"""Seconds that the end of the process waits for the queue."""

_QUEUE_FULL: Final = "queue_full"
_SHUT_DOWN: Final = "already_shutdown"

_logger: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What became of every event: ``offered == processed + dropped + queued``, at all times."""

    offered: int
    processed: int
    failed: int
    """Those of the processed ones of which something could not be made."""
    dropped_full: int
    dropped_closed: int
    queued: int
    capacity: int

    @property
    def dropped(self) -> int:
        """Dropped for whatever reason."""
        return self.dropped_full + self.dropped_closed


class Worker:
    """Has *process* make something of every offered event, on a thread of its own.

    The thread starts with the first event. At the end of the process the queue is worked off
    before the SDK's providers shut down. A forked child begins with an empty queue, empty books
    and a thread of its own; the parent's are untouched.

    Args:
        process: called with one event after another, never concurrently.
        capacity: how many events may wait; further ones are dropped, and counted.
    """

    def __init__(
        self, process: Callable[[OperationEvent], None], *, capacity: int = CAPACITY
    ) -> None:
        self.guard = Guard()
        self._process = process
        self._capacity = capacity
        self._closed = False
        self.begin_anew()
        _LIVING.add(self)

    def begin_anew(self) -> None:
        """Begin with nothing queued, nothing counted, no thread: what a forked child does."""
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._queue = deque[OperationEvent]()
        self._thread: threading.Thread | None = None
        self._woken: bool = False
        self._hurry: bool = False
        self._full: bool = False
        self._offered: int = 0
        self._processed: int = 0
        self._failed: int = 0
        self._taken: int = 0
        self._dropped_full: int = 0
        self._dropped_closed: int = 0

    @property
    def books(self) -> Books:
        """A consistent view of the counts."""
        with self._lock:
            return Books(
                offered=self._offered,
                processed=self._processed,
                failed=self._failed,
                dropped_full=self._dropped_full,
                dropped_closed=self._dropped_closed,
                queued=len(self._queue) + self._taken,
                capacity=self._capacity,
            )

    def offer(self, event: OperationEvent) -> bool:
        """Queue *event*; false if it was dropped. Never waits, never raises."""
        with self._lock:
            self._offered += 1
            if self._closed:
                self._dropped_closed += 1
                return False
            waiting = len(self._queue) + self._taken
            if room := waiting < self._capacity:
                self._queue.append(event)
                if not self._woken:
                    self._wake()
            else:
                self._dropped_full += 1
            # Full at the brim, free again at half: one message each, not one per event.
            changed = waiting <= self._capacity // 2 if self._full else not room
            if changed:
                self._full = not self._full
        if changed:
            self._tell()
        return room

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until all that is queued now is processed; false after *timeout* seconds."""
        deadline = time.monotonic() + timeout
        with self._lock:
            target = self._offered - self._dropped_full - self._dropped_closed
            self._hurry = True
            self._changed.notify_all()
        if self._thread is threading.current_thread():
            return False
        if not self._alive():
            self._work_here()
        with self._lock:
            while self._processed < target and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            return self._processed >= target

    def close(self, timeout: float = EXIT_TIMEOUT) -> bool:
        """Work off the queue, for at most *timeout* seconds, and take no more events.

        Returns:
            Whether everything was processed; what was not is counted as dropped.
        """
        with self._lock:
            self._closed = True
        done = self.flush(timeout)
        with self._lock:
            self._dropped_closed += len(self._queue)
            self._queue.clear()
            self._changed.notify_all()
        atexit.unregister(self._at_exit)
        return done

    def before_providers_shut_down(self) -> None:
        """Take the place at process exit that comes before every provider registered so far.

        Exit handlers run in reverse order, so whoever sees a new provider asks for this again.
        """
        atexit.unregister(self._at_exit)
        atexit.register(self._at_exit)

    def _at_exit(self) -> None:
        self.close(EXIT_TIMEOUT)

    def _wake(self) -> None:
        self._woken = True
        # A provider may have been set since; ours has to come before it at the end.
        self.before_providers_shut_down()
        if self._alive():
            self._changed.notify_all()
            return
        thread = threading.Thread(target=self._run, name="llmspell-telemetry", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # an interpreter that is ending starts no threads
            self.guard.report("starting the telemetry worker", error)
        else:
            self._thread = thread

    def _alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        token = context_api.attach(_suppressed())
        try:
            while self._gather():
                self._work()
        finally:
            context_api.detach(token)
            self._woken = False

    def _work_here(self) -> None:
        """Work the queue off on the calling thread, as no thread of ours runs."""
        token = context_api.attach(_suppressed())
        try:
            self._work()
        finally:
            context_api.detach(token)

    def _gather(self) -> bool:
        with self._lock:
            while not self._queue:
                if self._closed:
                    return False
                self._woken = self._hurry = False
                self._changed.wait()
            if not (self._hurry or self._closed):
                self._changed.wait_for(lambda: self._hurry or self._closed, LINGER)
            return True

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    return
                event = self._queue.popleft()
                self._taken = 1
            failed = False
            try:
                self._process(event)
            except Exception as error:
                failed = True
                self.guard.report("processing an event", error)
            with self._lock:
                self._taken = 0
                self._processed += 1
                self._failed += failed
                self._changed.notify_all()

    def _tell(self) -> None:
        if self._full:
            _logger.warning(
                "llmspell: the telemetry queue is full (%d); events are dropped and counted",
                self._capacity,
            )
        else:
            _logger.info("llmspell: the telemetry queue takes events again")


_LIVING: Final[weakref.WeakSet[Worker]] = weakref.WeakSet()


def _forked() -> None:
    for worker in list(_LIVING):
        worker.begin_anew()


def _suppressed() -> context_api.Context:
    """A context in which instrumentations leave the exporters' own calls alone."""
    context = context_api.set_value("suppress_instrumentation", value=True)
    key = vars(context_api).get("_SUPPRESS_INSTRUMENTATION_KEY")
    return context if key is None else context_api.set_value(key, value=True, context=context)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
