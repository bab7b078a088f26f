"""A subscription: patterns, a handler, and exact books of what became of every event."""

import contextlib
import functools
import inspect
import itertools
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol, Self

from llmspell_otel.events.event import UniversalEvent, make
from llmspell_otel.events.limiter import TokenBucket

Handler = Callable[[UniversalEvent], Any]
Deliver = Callable[[UniversalEvent], int | None]
"""Hands an event on; answers how many subscriptions refused it: a single one, True if it did."""
Where = Callable[[UniversalEvent], Any]

HANDLER_ERROR = "event:handler_error"
MAX_DEAD_LETTERS = 100
MAX_NESTED = 8
_DELIVER = "_inline.<locals>.deliver"

_logger = logging.getLogger("llmspell_otel.events")


@dataclass(frozen=True, slots=True)
class Stats:
    """The books of one subscription. Always `published == delivered + dropped + rejected + queued`.

    Attributes:
        published: Events that matched the patterns and passed the filter.
        delivered: Events that the handler is done with, or that were received.
        dropped: Events given up: overflow, end of life, rate limit, close.
        rejected: Events refused at the door.
        queued: Events waiting, or being handled.
        errors: Deliveries whose handler raised; counted as delivered too.
        filtered: Events that matched the patterns but not the filter.
    """

    published: int = 0
    delivered: int = 0
    dropped: int = 0
    rejected: int = 0
    queued: int = 0
    errors: int = 0
    filtered: int = 0


class Counter:
    """A count that threads may raise together without a lock."""

    __slots__ = ("_ticks", "tick")

    def __init__(self) -> None:
        self._ticks = itertools.count()
        self.tick = self._ticks.__next__

    @property
    def value(self) -> int:
        """How often it was raised."""
        # `count(3)` is the one view of the number that does not raise it.
        return int(repr(self._ticks)[len("count(") : -1])


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event whose handler raised."""

    event: UniversalEvent
    error_type: str


@dataclass(frozen=True, slots=True)
class Order:
    """What a subscriber asked for, but for the patterns and the handler.

    Attributes:
        name: How logs, events and lists call the subscription.
        rank: Its place among the subscribers of one event: priority, then age.
        max_errors: Failures in a row after which it is removed; None for never.
    """

    name: str
    rank: tuple[int, int]
    max_errors: int | None


class Host(Protocol):
    """What a subscription needs of its bus."""

    def wants(self, event_type: str) -> bool:
        """Whether anybody listens to *event_type*."""
        ...

    def publish(self, event: UniversalEvent) -> None:
        """Deliver *event*."""
        ...

    def remove(self, subscription: "Subscription") -> bool:
        """Deliver no further event to *subscription*."""
        ...


class Failures:
    """What becomes of a handler's exceptions: counted, told once, announced, kept for a while."""

    def __init__(self, subscription: "Subscription", host: Host, limit: int | None) -> None:
        self._subscription = subscription
        self._host = host
        self._limit = limit
        self._lock = Lock()
        self._row = 0
        self.total = 0
        self.failing = False
        self.letters: deque[DeadLetter] = deque(maxlen=MAX_DEAD_LETTERS)

    def record(self, event: UniversalEvent, error: BaseException) -> None:
        """Take note that the handler raised *error* over *event*.

        Raises:
            RecursionError: *error* itself, while deliveries are nested: only the outermost has
                the room on the stack to deal with it.
        """
        runaway = isinstance(error, RecursionError) and _runaway(error)
        name = type(error).__name__
        with self._lock:
            self.total += 1
            self._row += 1
            first, self.failing = not self.failing, True
            spent = self._limit is not None and self._row == self._limit
            self.letters.append(DeadLetter(event, name))
        if first:
            shown = None if runaway else error  # a thousand frames tell no more than the name
            _logger.error("the handler of %r failed", self._subscription.name, exc_info=shown)
        if spent or runaway:
            self._give_up(name)
        self._announce(event, name)

    def forked(self) -> None:
        """Leave the parent's lock, which another thread may hold for ever in a forked child."""
        self._lock = Lock()

    def recovered(self) -> None:
        """Take note that the handler works again."""
        with self._lock:
            was, self.failing, self._row = self.failing, False, 0
        if was:
            _logger.warning("the handler of %r works again", self._subscription.name)

    def _give_up(self, error_type: str) -> None:
        if self._host.remove(self._subscription):
            text = "subscription %r was removed after %d failures in a row, the last a %s"
            _logger.error(text, self._subscription.name, self._row, error_type)

    def _announce(self, event: UniversalEvent, error_type: str) -> None:
        # An error over an error event is not announced: that would never end.
        if event.event_type == HANDLER_ERROR or not self._host.wants(HANDLER_ERROR):
            return
        data = {
            "subscription": self._subscription.name,
            "event_id": event.id,
            "event_type": event.event_type,
            "error": {"type": error_type},
        }
        told = make(HANDLER_ERROR, data, event.correlation_id, event.traceparent)
        # Under this delivery another one passes its recursion on, and there it would get out.
        with contextlib.suppress(RecursionError):
            self._host.publish(told)


def _runaway(error: RecursionError) -> bool:
    """Whether handlers publish into themselves: many deliveries lie under this one.

    Raises:
        RecursionError: *error*, while this delivery lies under another.
    """
    frame, around = inspect.currentframe(), 0
    while frame is not None:
        around += frame.f_code.co_qualname == _DELIVER
        frame = frame.f_back
    if around > 1:
        raise error
    trace, under = error.__traceback__, 0
    while trace is not None:
        under += trace.tb_frame.f_code.co_qualname == _DELIVER
        trace = trace.tb_next
    return under > MAX_NESTED


class Subscription:
    """A standing order for events. Close it with `unsubscribe()`, or use it as a context manager.

    The bus keeps it, and its handler, until then: no reference to it is needed.
    """

    def __init__(self, host: Host, patterns: tuple[str, ...], order: "Order") -> None:
        self.name = order.name
        self.patterns = patterns
        self.rank = order.rank
        self.active = True
        self.failures = Failures(self, host, order.max_errors)
        self.deliver: Deliver = nobody
        self._host = host
        self._filtered = Counter()
        self._limited = Counter()

    @property
    def stats(self) -> Stats:
        """The books as they stand."""
        raise NotImplementedError

    @property
    def dead_letters(self) -> tuple[DeadLetter, ...]:
        """The latest events whose handler raised, at most a hundred."""
        return tuple(self.failures.letters)

    def unsubscribe(self) -> bool:
        """Take no further events; tell whether this call ended the subscription."""
        return self._host.remove(self)

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until nothing is queued, at most *timeout* seconds; tell whether that is so."""
        del timeout
        return True

    def close(self, timeout: float) -> None:
        """Hand out what waits for at most *timeout* seconds and drop the rest."""

    def ended(self) -> None:
        """Let go of what the subscription holds; the bus calls this once."""
        self.active = False

    def forked(self) -> None:
        """Begin anew in a forked child."""
        self.failures.forked()

    def at_most(self, rate: float) -> None:
        """Deliver at most *rate* events a second, in bursts of as many; drop the others."""
        deliver, tick, bucket = self.deliver, self._limited.tick, TokenBucket(rate)

        def door(event: UniversalEvent) -> int | None:
            if bucket.admits():
                return deliver(event)
            tick()
            return False

        self.deliver = door

    def only(self, where: Where) -> None:
        """Deliver only the events for which *where* is true."""
        deliver, tick, failures = self.deliver, self._filtered.tick, self.failures

        def door(event: UniversalEvent) -> int | None:
            try:
                wanted = where(event)
            except Exception as error:
                failures.record(event, error)
                wanted = False
            if wanted:
                return deliver(event)
            tick()
            return False

        self.deliver = door

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.unsubscribe()

    def __repr__(self) -> str:
        state = "active" if self.active else "ended"
        return f"<{type(self).__name__} {self.name!r} on {', '.join(self.patterns)}: {state}>"


class InlineSubscription(Subscription):
    """Delivers in the publisher's thread and context, in order, before `publish` returns."""

    def __init__(
        self, host: Host, patterns: tuple[str, ...], order: "Order", handler: Handler
    ) -> None:
        super().__init__(host, patterns, order)
        self._delivered = Counter()
        self.handler = handler
        self.deliver = _inline(handler, self.failures, self._delivered.tick)

    @property
    def stats(self) -> Stats:
        """The books as they stand; what is published is delivered at once."""
        delivered, limited = self._delivered.value, self._limited.value
        return Stats(
            published=delivered + limited,
            delivered=delivered,
            dropped=limited,
            errors=self.failures.total,
            filtered=self._filtered.value,
        )


def _inline(handler: Handler, failures: Failures, tick: Callable[[], int]) -> Deliver:
    """Deliver to *handler*, counted and contained. A closure: its names are found fastest."""

    def deliver(event: UniversalEvent) -> None:
        tick()
        try:
            handler(event)
        except Exception as error:
            failures.record(event, error)
        else:
            if failures.failing:
                failures.recovered()

    return deliver


def nobody(event: UniversalEvent) -> None:
    """Deliver to nobody."""


def is_async(handler: Handler) -> bool:
    """Whether *handler* has to be awaited."""
    inner = handler.func if isinstance(handler, functools.partial) else handler
    call = getattr(type(inner), "__call__", None)  # noqa: B004 - its kind is asked, not its presence
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(call)
