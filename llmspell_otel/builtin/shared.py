"""Redis, as built-in hooks use it: asked briefly, left alone while it does not answer."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from llmspell_otel.builtin.bucket import Grant, Limit, MemoryBuckets
from llmspell_otel.errors import SettingsError
from llmspell_otel.hooks.forks import watch_forks

_logger = logging.getLogger("llmspell_otel.builtin")
_Answer = TypeVar("_Answer")


class Redis:
    """A connection that may be gone.

    After a failure it is not asked again for *pause* seconds, so that a server that is slow
    or away costs one time-out now and then, and not one for each call. One warning tells that
    it is away, and one line that it is back.

    Args:
        what: whose it is, for messages: ``builtin.caching``.
        url: as redis-py takes it: ``redis://host:6379/0``.
        timeout: seconds that one answer may take.
        pause: seconds.

    Raises:
        SettingsError: redis-py is not installed, or the address is none.
    """

    def __init__(
        self,
        what: str,
        url: str,
        timeout: float = 0.25,
        pause: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._pause = pause
        self._clock = clock
        self._resume_at = float("-inf")
        self.away = False
        self._client = _client(what, url, timeout)
        self.after_fork()
        watch_forks(self)

    def after_fork(self) -> None:
        """Take a new lock."""
        self._lock = threading.Lock()

    @property
    def is_asked(self) -> bool:
        """Whether it would be asked now; False while it is left alone."""
        return self._clock() >= self._resume_at

    def ask(self, question: Callable[[Any], _Answer]) -> _Answer | None:
        """What *question* gets from the client; None while Redis does not answer."""
        if not self.is_asked:
            return None
        try:
            answer = question(self._client)
        except Exception as error:
            self._lost(error)
            return None
        if self.away:
            self._back()
        return answer

    def _lost(self, error: Exception) -> None:
        with self._lock:
            self._resume_at = self._clock() + self._pause
            first, self.away = not self.away, True
        if first:
            _logger.warning(
                "%s: Redis does not answer (%s: %s); this process goes on by itself until it does",
                self._what,
                type(error).__name__,
                error,
            )

    def _back(self) -> None:
        with self._lock:
            was, self.away = self.away, False
        if was:
            _logger.info("%s: Redis answers again", self._what)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _client(what: str, url: str, timeout: float) -> Any:
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError:
        problem = "needs redis-py, which is not installed"
        raise SettingsError(
            f"{what}.redis", problem, "pip install 'llmspell-otel[redis]'"
        ) from None
    try:
        return redis.Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError as error:
        raise SettingsError(f"{what}.redis", f"is {url!r}: {error}", _MEND) from None


_MEND: Final = "write redis://host:6379/0"

# The same steps as `bucket.settle`, with the server's own clock, in one round trip.
_SETTLE: Final = """
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local amount, max_wait = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'stamp')
local tokens, stamp = tonumber(kept[1]) or burst, tonumber(kept[2]) or now
local held = math.min(burst, tokens + math.max(0, now - stamp) * rate)
local wait = math.max(0, (math.min(amount, burst) - held) / rate)
local granted = wait <= max_wait
if granted then held = held - amount end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.17g', held),
    'stamp', string.format('%.17g', now))
redis.call('PEXPIRE', KEYS[1], math.min(86400000, math.ceil((burst - held) / rate * 1000) + 1000))
return {granted and 1 or 0, string.format('%.17g', held), string.format('%.17g', wait)}
"""
_FOREVER: Final = 1e300


class SharedBuckets:
    """Buckets that several processes take from; while Redis is away, each has its own.

    Args:
        redis: where they are.
        prefix: what their keys begin with.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix
        self._own = MemoryBuckets()

    def take(self, key: str, amount: float, limit: Limit, max_wait: float = 0.0) -> Grant:
        """Take *amount* if it is there, or will be within *max_wait* seconds."""
        told = self._redis.ask(
            lambda client: client.eval(
                _SETTLE,
                1,
                f"{self._prefix}{key}",
                repr(limit.rate),
                repr(limit.burst),
                repr(amount),
                repr(min(max_wait, _FOREVER)),
            )
        )
        if told is None:
            return self._own.take(key, amount, limit, max_wait)
        granted, tokens, wait = told
        return Grant(granted=bool(granted), tokens=float(tokens), wait=float(wait))

    def charge(self, key: str, amount: float, limit: Limit) -> Grant:
        """Take *amount*, come what may."""
        return self.take(key, amount, limit, _FOREVER)
