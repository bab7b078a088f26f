"""Token buckets: exact, fractional, on a monotonic clock.

A bucket may go below zero: what is measured only after a call (tokens, dollars) is taken
then, and a reserved wait is a debt that time pays off. Libraries of limiters have neither.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from llmspell_otel.hooks.forks import watch_forks

CAPACITY: Final = 10_000
"""Buckets that are kept; the one that was idle longest goes first."""


@dataclass(frozen=True, slots=True)
class Limit:
    """*rate* tokens a second, and up to *burst* at once."""

    rate: float
    burst: float

    def wait(self, missing: float) -> float:
        """Seconds until *missing* tokens are there."""
        return max(0.0, missing / self.rate)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a bucket answered."""

    granted: bool
    tokens: float
    """Tokens left; below zero for a debt."""
    wait: float
    """Seconds: when granted, until the debt is paid; else, until it could be granted."""


class Buckets(Protocol):
    """Buckets by key."""

    def take(self, key: str, amount: float, limit: Limit, max_wait: float = 0.0) -> Grant:
        """Take *amount* if it is there, or will be within *max_wait* seconds."""
        ...

    def charge(self, key: str, amount: float, limit: Limit) -> Grant:
        """Take *amount*, come what may."""
        ...


def settle(tokens: float, elapsed: float, amount: float, limit: Limit, max_wait: float) -> Grant:
    """What becomes of a bucket that held *tokens* *elapsed* seconds ago and is asked for *amount*.

    More than a whole bucket is granted from a full one: it could never be otherwise.
    """
    held = min(limit.burst, tokens + max(0.0, elapsed) * limit.rate)
    wait = limit.wait(min(amount, limit.burst) - held)
    if wait <= max_wait:
        return Grant(granted=True, tokens=held - amount, wait=wait)
    return Grant(granted=False, tokens=held, wait=wait)


class MemoryBuckets:
    """Buckets of this process.

    Args:
        clock: monotonic seconds; should it step back all the same, nothing is refilled for it.
        capacity: buckets that are kept.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, capacity: int = CAPACITY
    ) -> None:
        self._clock = clock
        self._capacity = capacity
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self.after_fork()
        watch_forks(self)

    def after_fork(self) -> None:
        """Take a new lock."""
        self._lock = threading.Lock()

    def take(self, key: str, amount: float, limit: Limit, max_wait: float = 0.0) -> Grant:
        """Take *amount* if it is there, or will be within *max_wait* seconds."""
        with self._lock:
            now = self._clock()
            tokens, stamp = self._buckets.get(key, (limit.burst, now))
            grant = settle(tokens, now - stamp, amount, limit, max_wait)
            self._buckets[key] = (grant.tokens, now)
            self._buckets.move_to_end(key)
            while len(self._buckets) > self._capacity:
                self._buckets.popitem(last=False)
            return grant

    def charge(self, key: str, amount: float, limit: Limit) -> Grant:
        """Take *amount*, come what may."""
        return self.take(key, amount, limit, float("inf"))

    def __len__(self) -> int:
        return len(self._buckets)
