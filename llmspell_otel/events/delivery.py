"""Queued subscriptions: a thread, an event loop or a receiver takes the events from a queue."""

import asyncio
import contextlib
import logging
import threading
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from time import monotonic, sleep
from typing import Any, Self

from llmspell_otel.events.background import background_loop
from llmspell_otel.events.event import UniversalEvent, make
from llmspell_otel.events.flow import GAP, RELIEVED, Flow, Limits
from llmspell_otel.events.subscription import Handler, Host, Order, Stats, Subscription

BATCH = 64
_QUIET = 60.0  # seconds in which a subscription that loses events does not say so again
_POLL = 0.002  # seconds between looks at a queue that has to run empty

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
            sleep(_POLL)
        return True

    @property
    def drains(self) -> bool:
        """Whether waiting here can help the queue run empty."""
        return True

    def close(self, timeout: float) -> None:
        """Take nothing more, hand out what waits for *timeout* seconds, drop the rest."""
        self.flow.close()
        if not self.flush(timeout) and not isinstance(self, Mailbox):
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
        self._bell = threading.Event()
        self.handler = handler
        super().__init__(host, patterns, order, limits)

    def wake(self) -> None:
        """Ring the worker, or hire one."""
        if self._thread is None:
            self._hire()
        self._bell.set()

    def ended(self) -> None:
        """Drop what waits and let the worker go."""
        super().ended()
        self._bell.set()

    def forked(self) -> None:
        """Forget the worker, which stayed in the parent."""
        super().forked()
        self._thread = None
        self._bell = threading.Event()

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
            batch = flow.take(self._batch)
            if batch:
                self._hand_over(batch)
            elif self.active:
                bell.wait()
                bell.clear()
            else:
                return

    def _hand_over(self, batch: list[UniversalEvent]) -> None:
        flow, handler, failures = self.flow, self.handler, self.failures
        for index, event in enumerate(batch):
            if not self.active:
                flow.lose(batch[index:])
                return
            try:
                handler(event)
            except BaseException as error:
                failures.record(event, error)
            else:
                if failures.failing:
                    failures.recovered()
            flow.delivered += 1  # this thread alone counts deliveries


class LoopSubscription(QueuedSubscription):
    """Awaits an async handler on an event loop: the subscriber's own, or the background loop."""

    def __init__(
        self,
        host: Host,
        patterns: tuple[str, ...],
        order: Order,
        limits: Limits,
        handler: Callable[[UniversalEvent], Awaitable[Any]],
    ) -> None:
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = background_loop()
        self._task: asyncio.Task[None] | None = None
        self.handler = handler
        super().__init__(host, patterns, order, limits)

    def wake(self) -> None:
        """Ask the loop for a task, from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._start)
        except RuntimeError:
            self._leave()

    @property
    def drains(self) -> bool:
        """Whether the loop can go on while this thread waits."""
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        return here is not self._loop and not self._loop.is_closed()

    def forked(self) -> None:
        """Go on with the child's own background loop."""
        super().forked()
        self._loop, self._task = background_loop(), None

    def _leave(self) -> None:
        if self._host.remove(self):
            _logger.warning("subscription %r ends: its event loop is closed", self.name)

    def _start(self) -> None:
        self._task = self._loop.create_task(self._drain())

    async def _drain(self) -> None:
        while batch := self.flow.take(self._batch):
            waiting = deque(batch)
            try:
                while waiting:
                    await self._hand_over(waiting.popleft())
            except asyncio.CancelledError:  # the loop is being torn down
                self.flow.lose(list(waiting))
                self._leave()
                raise

    async def _hand_over(self, event: UniversalEvent) -> None:
        try:
            await self.handler(event)
        except asyncio.CancelledError as error:
            if self._task is None or self._task.cancelling():
                raise
            self.failures.record(event, error)
        except Exception as error:
            self.failures.record(event, error)
        else:
            if self.failures.failing:
                self.failures.recovered()
        finally:
            self.flow.settle(1)


class Mailbox(QueuedSubscription):
    """Keeps events until somebody receives them."""

    def __init__(self, host: Host, patterns: tuple[str, ...], order: Order, limits: Limits) -> None:
        self._mail = threading.Condition()
        self._waiting: set[asyncio.Future[None]] = set()
        super().__init__(host, patterns, order, limits)

    def wake(self) -> None:
        """Wake whoever waits for mail, in threads and in event loops."""
        if self.flow.abandoned:
            self._host.remove(self)
        with self._mail:
            self._mail.notify_all()
            waiting, self._waiting = self._waiting, set()
        for future in waiting:
            _resolve(future)

    @property
    def drains(self) -> bool:
        """Nobody hands out mail but its receiver."""
        return False

    def ended(self) -> None:
        """Drop what waits, and let the receivers go."""
        super().ended()
        self.wake()

    def forked(self) -> None:
        """Forget the parent's receivers."""
        super().forked()
        self._mail, self._waiting = threading.Condition(), set()

    def receive(self, timeout: float | None = None) -> UniversalEvent | None:
        """The next event; None if none comes within *timeout* seconds, or the end has come."""
        batch = self.receive_batch(1, timeout)
        return batch[0] if batch else None

    def receive_batch(self, limit: int, timeout: float | None = None) -> list[UniversalEvent]:
        """Up to *limit* events: those that wait, else the first that come within *timeout*."""
        deadline = None if timeout is None else monotonic() + timeout
        while not (batch := self._taken(limit)):
            left = None if deadline is None else deadline - monotonic()
            if not self.active or (left is not None and left <= 0):
                break
            with self._mail:
                # Mail that came since the look above has already rung: look again soon.
                self._mail.wait(_POLL if self.stats.queued else left)
        return batch

    async def next(self) -> UniversalEvent | None:
        """The next event; None when the subscription has ended."""
        while not (batch := self._taken(1)):
            if not self.active:
                return None
            future = asyncio.get_running_loop().create_future()
            with self._mail:
                self._waiting.add(future)
            if self.stats.queued or not self.active:
                self.wake()
            await future
        return batch[0]

    def _taken(self, limit: int) -> list[UniversalEvent]:
        batch = self.flow.take(limit)
        self.flow.settle(len(batch))
        return batch


class Stream:
    """Events as an asynchronous iterator: `async for event in Event.stream("agent.**")`.

    It ends with `close()`, with its `with` block, or when nobody holds it any more.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        self.subscription = mailbox
        weakref.finalize(self, mailbox.flow.abandon)

    def close(self) -> None:
        """End the stream; a waiting consumer leaves its loop."""
        self.subscription.unsubscribe()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> UniversalEvent:
        event = await self.subscription.next()
        if event is None:
            raise StopAsyncIteration
        return event

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


def _resolve(future: "asyncio.Future[None]") -> None:
    def done() -> None:
        if not future.done():
            future.set_result(None)

    with contextlib.suppress(RuntimeError):  # its loop is closed: nobody waits there any more
        future.get_loop().call_soon_threadsafe(done)
