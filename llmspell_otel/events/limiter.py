"""A token bucket on the monotonic clock."""

from threading import Lock
from time import monotonic

from llmspell_otel.errors import EventError


class TokenBucket:
    """Admits *rate* events a second, and as many at once after a pause."""

    __slots__ = ("_lock", "_rate", "_size", "_then", "_tokens")

    def __init__(self, rate: float) -> None:
        if not rate > 0:
            raise EventError("rate_limit", f"is {rate!r}", "give events per second, above 0")
        self._rate = rate
        self._size = self._tokens = max(1.0, rate)
        self._then = monotonic()
        self._lock = Lock()

    def admits(self) -> bool:
        """Take a token if there is one."""
        with self._lock:
            now = monotonic()
            self._tokens = min(self._size, self._tokens + (now - self._then) * self._rate)
            self._then = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True
