"""Queued subscriptions whose handlers are awaited. Imported with the first of them."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from llmspell_otel.events.background import background_loop
from llmspell_otel.events.delivery import QueuedSubscription
from llmspell_otel.events.event import UniversalEvent
from llmspell_otel.events.flow import Limits
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
