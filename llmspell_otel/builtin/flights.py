"""Single flight: of many equal calls at the same time one is made, and the others wait for it."""

import asyncio
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from functools import partial
from typing import Any, Generic, TypeVar

from llmspell_otel.builtin.state import in_event_loop
from llmspell_otel.hooks.forks import watch_forks

_Landed = TypeVar("_Landed")


class Flight(Generic[_Landed]):
    """A call under way that others wait for, in threads and in tasks."""

    def __init__(self, key: str, operation: Any, ended: Callable[[Any], None]) -> None:
        self.key = key
        self.operation = weakref.ref(operation, ended)
        self.loop = asyncio.get_running_loop() if in_event_loop() else None
        self.outcome: Future[_Landed | None] | None = None

    def awaited(self) -> "Flight[_Landed]":
        """Make ready for somebody who waits; most flights have nobody."""
        if self.outcome is None:
            self.outcome = Future()
            # Running: a waiting task that is cancelled cannot cancel it for the others.
            self.outcome.set_running_or_notify_cancel()
        return self

    def wait(self, seconds: float) -> _Landed | None:
        """What the call gave, blocking; None if it gave nothing in time."""
        try:
            return self.outcome.result(seconds) if self.outcome is not None else None
        except Late:
            return None

    async def wait_async(self, seconds: float) -> _Landed | None:
        """The same, awaiting."""
        if self.outcome is None:
            return None
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self.outcome), seconds)
        except TimeoutError:
            return None


class Flights(Generic[_Landed]):
    """The calls under way, by key."""

    def __init__(self) -> None:
        self._flights: dict[str, Flight[_Landed]] = {}
        self.after_fork()
        watch_forks(self)

    def after_fork(self) -> None:
        """Take a new lock, and forget the calls of the parent's other threads."""
        # Reentrant: the collector may end an operation, and so land its flight, at any moment,
        # also while this very thread is about to join another.
        self._lock = threading.RLock()
        self._flights.clear()

    def join(self, key: str, operation: Any) -> tuple[Flight[_Landed], bool]:
        """The flight of *key*, and whether *operation* is the one that makes the call."""
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None:
                return flight.awaited(), False
            # A call that ends without a word, cancelled by another hook, must not keep others
            # waiting.
            flight = Flight(key, operation, partial(self._ended, key))
            self._flights[key] = flight
            return flight, True

    def _ended(self, key: str, operation: Any) -> None:
        flight = self._flights.get(key)
        if flight is not None and flight.operation is operation:
            self.land(flight, None)

    def land(self, flight: Flight[_Landed], outcome: _Landed | None) -> None:
        """End *flight*: those who wait for it get *outcome*; None sends them on their way."""
        with self._lock:
            if self._flights.get(flight.key) is flight:
                del self._flights[flight.key]
            if flight.outcome is not None and not flight.outcome.done():
                flight.outcome.set_result(outcome)

    def __len__(self) -> int:
        return len(self._flights)


def would_deadlock(flight: Flight[Any], operation: Any) -> bool:
    """Whether *flight* cannot land while *operation* waits for it.

    It is one of those around the operation, or lives in the event loop that waiting would block.
    """
    leader = flight.operation()
    above = operation
    while above is not None:
        if above is leader:
            return True
        above = getattr(above, "parent", None)
    blocks = "async" not in str(operation.aspect.shape)
    return (
        blocks
        and flight.loop is not None
        and in_event_loop()
        and (asyncio.get_running_loop() is flight.loop)
    )
