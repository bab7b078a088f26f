"""Queued subscriptions without a handler: the events wait until they are received."""

import contextlib
import threading
import weakref
from time import monotonic
from typing import TYPE_CHECKING, Self

from llmspell_otel.events.delivery import POLL, QueuedSubscription
from llmspell_otel.events.event import UniversalEvent
from llmspell_otel.events.limits import Limits
from llmspell_otel.events.subscription import Host, Order

if TYPE_CHECKING:
    import asyncio


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

    @property
    def handled(self) -> bool:
        """It waits for a receiver."""
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
        while not (batch := self.flow.take(limit)):
            left = None if deadline is None else deadline - monotonic()
            if not self.active or (left is not None and left <= 0):
                break
            with self._mail:
                # Mail that came since the look above has already rung: look again soon.
                self._mail.wait(POLL if self.stats.queued else left)
        return batch

    async def next(self) -> UniversalEvent | None:
        """The next event; None when the subscription has ended."""
        import asyncio  # dear, and loaded already where somebody awaits

        while not (batch := self.flow.take(1)):
            if not self.active:
                return None
            future = asyncio.get_running_loop().create_future()
            with self._mail:
                self._waiting.add(future)
            if self.stats.queued or not self.active:
                self.wake()
            await future
        return batch[0]


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
