"""The bus: takes events and hands each to whoever asked for its type."""

import atexit
import itertools
import weakref
from collections.abc import Callable, Iterable
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Unpack, cast

from llmspell_otel.errors import EventError, EventRejectedError
from llmspell_otel.events.event import UniversalEvent, make
from llmspell_otel.events.forks import around
from llmspell_otel.events.mailbox import Mailbox, Stream
from llmspell_otel.events.pattern import Branch
from llmspell_otel.events.router import Node, Routes, branches
from llmspell_otel.events.subscribing import Options, build
from llmspell_otel.events.subscription import Deliver, Handler, Subscription, nobody

if TYPE_CHECKING:
    from llmspell_otel.events.journal import Journal

EXIT_TIMEOUT = 2.0

_buses: "weakref.WeakSet[EventBus]" = weakref.WeakSet()


class EventBus:
    """Publishes events to subscriptions.

    Publishing takes no lock and costs the same whatever the number of other subscriptions.
    Subscribing and unsubscribing are safe at any time, from any thread, in the middle of a
    publish too: the running publish serves those it found, the next one sees the change.

    Attributes:
        journal: The journal that was attached last, if any.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._ages = itertools.count()
        self._root: Node[Subscription] = Node()
        self._branches: dict[Subscription, tuple[Branch, ...]] = {}
        self._routes = Routes(self._root, _together)
        self.journal: Journal | None = None
        self._listeners: tuple[Callable[[], None], ...] = ()
        _buses.add(self)

    def wants(self, event_type: str) -> bool:
        """Whether anybody listens to *event_type*; ask before going to the trouble of an event."""
        return self._routes[event_type] is not nobody

    def publish(self, event: UniversalEvent) -> None:
        """Deliver *event* to everybody whose pattern matches. No handler's exception gets out."""
        self._routes[event.event_type](event)

    def publish_or_raise(self, event: UniversalEvent) -> None:
        """Publish *event*, and say so if a full queue refused it.

        Raises:
            EventRejectedError: a queue with overflow `reject`, or `block` after its timeout,
                refused the event. The other subscriptions have been served.
        """
        if refused := self._routes[event.event_type](event):
            raise EventRejectedError(event.event_type, int(refused))

    def emit(self, event_type: str, data: Any = None, **fields: Any) -> UniversalEvent | None:
        """Make an event and publish it, if anybody wants it; return it, else None.

        *fields* are those of `UniversalEvent`.
        """
        if not self.wants(event_type):
            return None
        event = make(event_type, data, **fields)
        self.publish(event)
        return event

    def subscribe(
        self,
        patterns: str | Iterable[str],
        handler: Handler | None = None,
        **options: Unpack[Options],
    ) -> Subscription:
        """Deliver to *handler* every event whose type matches one of *patterns*, once.

        Without a handler the events wait to be received (`Mailbox`).

        Raises:
            PatternError: a pattern is not in the grammar.
            EventError: an option is unknown or does not go with the others.
        """
        texts = (patterns,) if isinstance(patterns, str) else tuple(patterns)
        rows = branches(texts)
        if not rows:
            raise EventError("a subscription", "has no pattern", "give one, or `*` for everything")
        subscription = build(self, texts, handler, next(self._ages), options)
        with self._lock:
            self._branches[subscription] = rows
            for row in rows:
                self._root.insert(row, subscription)
            self._reroute()
        self.tell()
        return subscription

    def listen(self, listener: Callable[[], None]) -> None:
        """Call *listener* whenever what the bus `wants` may have changed."""
        with self._lock:
            self._listeners = (*self._listeners, listener)

    def tell(self) -> None:
        """Have whoever listens look anew at what the bus `wants`."""
        for listener in self._listeners:
            listener()

    def mailbox(self, patterns: str | Iterable[str], **options: Unpack[Options]) -> Mailbox:
        """Keep the events that match *patterns* until they are received.

        Raises:
            PatternError: a pattern is not in the grammar.
            EventError: an option is unknown or does not go with the others.
        """
        return cast("Mailbox", self.subscribe(patterns, None, **options))

    def stream(self, patterns: str | Iterable[str], **options: Unpack[Options]) -> Stream:
        """Iterate asynchronously over the events that match *patterns*.

        Raises:
            PatternError: a pattern is not in the grammar.
            EventError: an option is unknown or does not go with the others.
        """
        return Stream(self.mailbox(patterns, **options))

    def remove(self, subscription: Subscription) -> bool:
        """Deliver no further event to *subscription*; tell whether it was there."""
        with self._lock:
            rows = self._branches.pop(subscription, None)
            for row in rows or ():
                self._root.remove(row, subscription)
            self._reroute()
        self.tell()
        if rows is None:
            return False
        subscription.ended()
        return True

    def unsubscribe_pattern(self, pattern: str) -> int:
        """End every subscription that was made with *pattern*; tell how many."""
        return sum(self.remove(each) for each in self.subscriptions() if pattern in each.patterns)

    def subscriptions(self) -> tuple[Subscription, ...]:
        """Every subscription, oldest first."""
        with self._lock:
            return tuple(self._branches)

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until no handler has anything queued, at most *timeout* seconds; tell so."""
        deadline = monotonic() + timeout
        others = [each for each in self.subscriptions() if not isinstance(each, Mailbox)]
        return all(each.flush(max(0.0, deadline - monotonic())) for each in others)

    def close(self, timeout: float = EXIT_TIMEOUT) -> None:
        """End every subscription; what is queued is delivered within *timeout* seconds or dropped.

        Every event is accounted for in the subscriptions' books. The bus may be used again.
        """
        deadline = monotonic() + timeout
        subscriptions = self.subscriptions()
        for subscription in subscriptions:
            subscription.close(max(0.0, deadline - monotonic()))
        # Only now: what the last handlers publish still reaches the inline subscribers.
        for subscription in subscriptions:
            self.remove(subscription)

    async def aclose(self, timeout: float = EXIT_TIMEOUT) -> None:  # noqa: ASYNC109 - one deadline for all
        """`close`, without blocking the loop that handlers may need."""
        import asyncio  # dear, and loaded already where somebody awaits

        await asyncio.to_thread(self.close, timeout)

    def forked(self) -> None:
        """Begin anew in a forked child: fresh locks, empty queues, no workers."""
        self._lock = Lock()
        for subscription in self._branches:
            subscription.forked()

    def _reroute(self) -> None:
        # A publisher that walked the old trie writes its answer into the old cache.
        old, self._routes = self._routes, Routes(self._root, _together)
        old.retire()


def _together(found: list[Subscription]) -> Deliver:
    """Serve those who were *found*, each once and in their order; a single one without a detour."""
    in_order = sorted(dict.fromkeys(found), key=_rank) if len(found) > 1 else found
    each = tuple([subscription.deliver for subscription in in_order])
    if len(each) < 2:  # noqa: PLR2004 - one, or none
        return each[0] if each else nobody

    def deliver(event: UniversalEvent) -> int:
        refused = 0
        for one in each:
            if one(event):
                refused += 1
        return refused

    return deliver


def _rank(subscription: Subscription) -> tuple[int, int]:
    return subscription.rank


def _close_all() -> None:
    """At the end of the process: one deadline for all buses together."""
    deadline = monotonic() + EXIT_TIMEOUT
    for bus in list(_buses):
        bus.close(max(0.0, deadline - monotonic()))
    for callback in _last:
        callback()


def at_last(callback: Callable[[], object]) -> None:
    """Call *callback* at the end of the process, after every bus has handed out its queues."""
    _last.append(callback)


_last: list[Callable[[], object]] = []
_held: list[Lock] = []


def _before_fork() -> None:
    """Hold every bus still, so that a child never inherits a half-changed one."""
    # Bounded: a thread that forks while it subscribes must not wait for itself.
    locks = [bus._lock for bus in list(_buses)]  # noqa: SLF001 - the module that owns the class
    _held.extend(lock for lock in locks if lock.acquire(timeout=1))


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop().release()


def _after_fork_in_child() -> None:
    _held.clear()
    for bus in list(_buses):
        bus.forked()


_default = EventBus()


def default_bus() -> EventBus:
    """The bus of this process: everything the engine publishes goes here."""
    return _default


atexit.register(_close_all)
around(_before_fork, _after_fork_in_parent, _after_fork_in_child)
