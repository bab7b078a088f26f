"""Queued subscriptions: somebody takes the events from a queue; here, a thread."""

import logging
import threading
from collections.abc import Iterator
from time import monotonic, sleep
from typing import Any

from llmspell_otel.events.bell import Bell
from llmspell_otel.events.event import UniversalEvent, make
from llmspell_otel.events.flow import GAP, RELIEVED, Flow
from llmspell_otel.events.limits import Limits
from llmspell_otel.events.subscription import Handler, Host, Order, Stats, Subscription

BATCH = 64
_QUIET = 60.0  # seconds in which a subscription that loses events does not say so again
POLL = 0.002  # seconds between looks at a queue that has to run empty

_logger = logging.getLogger("llmspell_otel.events")


class QueuedSubscription(Subscription):
    """Takes events into a bounded queue; somebody else hands them on."""

    def __init__(self, host: Host, patterns: tuple[str, ...], order: Order, limits: Limits) -> None:
        super().__init__(host, patterns, order)
        self._losing = False
        self._quiet_until = 0.0
        self.flow = Flow(limits, self.wake, self._tell)
        self.deliver = self.flow.offer
        self._batch = min(BATCH, limits.capacity)

    def wake(self) -> None:
        """See to it that somebody looks into the queue."""
        raise NotImplementedError

    @property
    def stats(self) -> Stats:
        """The books as of one moment."""
        published, delivered, dropped, rejected, queued = self.flow.books()
        errors, filtered = self.failures.total, self._filtered.value
        limited = self._limited.value
        return Stats(
            published + limited, delivered, dropped + limited, rejected, queued, errors, filtered
        )

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until nothing is queued, at most *timeout* seconds; tell whether that is so."""
        deadline = monotonic() + timeout
        while self.stats.queued:
            if not self.drains or monotonic() >= deadline:
                return False
            sleep(POLL)
        return True

    @property
    def drains(self) -> bool:
        """Whether waiting here can help the queue run empty."""
        return True

    @property
    def handled(self) -> bool:
        """Whether a handler takes the events."""
        return True

    def close(self, timeout: float) -> None:
        """Take nothing more, hand out what waits for *timeout* seconds, drop the rest."""
        self.flow.close()
        if not self.flush(timeout) and self.handled:
            text = "subscription %r is closed with %d events undelivered"
            _logger.warning(text, self.name, self.stats.queued)
        self.flow.clear()

    def ended(self) -> None:
        """Drop what waits."""
        super().ended()
        self.flow.close()
        self.flow.clear()

    def forked(self) -> None:
        """Begin anew in a forked child: an empty queue, fresh locks, no worker."""
        super().forked()
        self.flow.reset()

    def _tell(self, event_type: str, data: dict[str, Any]) -> None:
        self._log(event_type, data)
        if self._host.wants(event_type):
            self._host.publish(make(event_type, {"subscription": self.name, **data}))

    def _log(self, event_type: str, data: dict[str, Any]) -> None:
        """One line when losing begins, one when the pressure is off; at most a pair a minute."""
        if self.flow.closed:
            return
        if event_type == GAP and not self._losing and monotonic() >= self._quiet_until:
            self._losing, self._quiet_until = True, monotonic() + _QUIET
            text = "subscription %r loses events (%d so far): its consumer is too slow"
            _logger.warning(text, self.name, data["lost"])
        elif event_type == RELIEVED and self._losing:
            self._losing = False
            lost = self.stats.dropped + self.stats.rejected
            _logger.warning("subscription %r keeps up again, %d events lost", self.name, lost)


class ThreadSubscription(QueuedSubscription):
    """Hands events to a handler in a thread of its own, which starts with the first event."""

    def __init__(
        self,
        host: Host,
        patterns: tuple[str, ...],
        order: Order,
        limits: Limits,
        handler: Handler,
    ) -> None:
        self._thread: threading.Thread | None = None
        self._bell = Bell()
        self.handler = handler
        super().__init__(host, patterns, order, limits)

    def wake(self) -> None:
        """Ring the worker, or hire one."""
        if self._thread is None:
            self._hire()
        self._bell.ring()

    def ended(self) -> None:
        """Drop what waits and let the worker go."""
        super().ended()
        self._bell.ring()

    def forked(self) -> None:
        """Forget the worker, which stayed in the parent."""
        super().forked()
        self._thread = None
        self._bell = Bell()

    @property
    def drains(self) -> bool:
        """Whether the worker can go on while this thread waits."""
        return threading.current_thread() is not self._thread

    def _hire(self) -> None:
        name = f"llmspell-events-{self.name}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread = self.flow.consumer = thread
        try:
            thread.start()
        except RuntimeError:  # the interpreter is leaving, or the system has no more threads
            self._thread = None
            _logger.exception("no thread for subscription %r", self.name)

    def _work(self) -> None:
        flow, bell = self.flow, self._bell
        while True:
            batch = flow.hand(self._batch)
            if batch is not None:
                self._hand_over(batch)
            elif self.active:
                bell.wait()
            else:
                return

    def _hand_over(self, batch: Iterator[UniversalEvent]) -> None:
        handler, failures = self.handler, self.failures
        for event in batch:  # it ends early when the subscription does
            try:
                handler(event)
            except BaseException as error:
                failures.record(event, error)
            else:
                if failures.failing:
                    failures.recovered()
