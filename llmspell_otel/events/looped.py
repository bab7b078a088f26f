"""Queued subscriptions whose handlers are awaited. Imported with the first of them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from llmspell_otel.events.background import background_loop
from llmspell_otel.events.delivery import QueuedSubscription
from llmspell_otel.events.event import UniversalEvent
from llmspell_otel.events.limits import Limits
from llmspell_otel.events.subscription import Host, Order

_logger = logging.getLogger("llmspell_otel.events")


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
        here = asyncio._get_running_loop() is self._loop  # noqa: SLF001 - None without a loop
        ask = self._loop.call_soon if here else self._loop.call_soon_threadsafe
        try:
            ask(self._start)
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
        flow, handler, failures = self.flow, self.handler, self.failures
        while (batch := flow.hand(self._batch)) is not None:
            try:
                for event in batch:  # it ends early when the subscription does
                    try:
                        await handler(event)
                    except (Exception, asyncio.CancelledError) as error:
                        self._failed(event, error)
                    else:
                        if failures.failing:
                            failures.recovered()
                flow.done()
                await asyncio.sleep(0)  # handlers that never wait leave the loop to others, too
            except asyncio.CancelledError:  # the loop is being torn down
                flow.clear()
                flow.done()
                self._leave()
                raise

    def _failed(self, event: UniversalEvent, error: BaseException) -> None:
        """Record *error*; a cancellation of the task itself goes on."""
        cancelled = isinstance(error, asyncio.CancelledError)
        if cancelled and (self._task is None or self._task.cancelling()):
            raise error
        self.failures.record(event, error)
