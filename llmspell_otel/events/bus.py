"""The bus: takes events and hands each to whoever asked for its type."""

import itertools
from collections.abc import Iterable
from threading import Lock
from typing import Any, Literal, TypedDict, Unpack

from llmspell_otel.errors import EventError
from llmspell_otel.events.event import UniversalEvent, make
from llmspell_otel.events.pattern import Branch
from llmspell_otel.events.router import Node, Routes, branches
from llmspell_otel.events.subscription import (
    Deliver,
    Handler,
    InlineSubscription,
    Order,
    Subscription,
    Where,
    is_async,
)

Delivery = Literal["inline", "queued"]
MAX_ERRORS = 100


class Options(TypedDict, total=False):
    """What a subscriber may ask for.

    Attributes:
        delivery: `inline` runs the handler in the publisher's context; `queued` in its own.
        where: Delivers only events for which this is true.
        name: How logs, events and lists call the subscription.
        priority: Lower is served first among the subscribers of one event; 0 is usual.
        max_errors: Failures in a row after which it is removed; None for never. 100 if not said.
    """

    delivery: Delivery
    where: Where
    name: str
    priority: int
    max_errors: int | None


class EventBus:
    """Publishes events to subscriptions.

    Publishing takes no lock and costs the same whatever the number of other subscriptions.
    Subscribing and unsubscribing are safe at any time, from any thread, in the middle of a
    publish too: the running publish serves those it found, the next one sees the change.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._ages = itertools.count()
        self._root: Node[Subscription] = Node()
        self._branches: dict[Subscription, tuple[Branch, ...]] = {}
        self._routes: Routes[Deliver] = Routes(self._find)

    def wants(self, event_type: str) -> bool:
        """Whether anybody listens to *event_type*; ask before going to the trouble of an event."""
        return self._routes[event_type] != ()

    def publish(self, event: UniversalEvent) -> None:
        """Deliver *event* to everybody whose pattern matches. No handler's exception gets out."""
        for deliver in self._routes[event.event_type]:
            deliver(event)

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

        Raises:
            PatternError: a pattern is not in the grammar.
            EventError: an option is unknown or does not go with the others.
        """
        texts = (patterns,) if isinstance(patterns, str) else tuple(patterns)
        rows = branches(texts)
        if not rows:
            raise EventError("a subscription", "has no pattern", "give one, or `*` for everything")
        subscription = self._make(texts, handler, options)
        self._add(subscription, rows)
        return subscription

    def remove(self, subscription: Subscription) -> bool:
        """Deliver no further event to *subscription*; tell whether it was there."""
        with self._lock:
            rows = self._branches.pop(subscription, None)
            for row in rows or ():
                self._root.remove(row, subscription)
            self._routes = Routes(self._find)
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

    def _make(
        self, patterns: tuple[str, ...], handler: Handler | None, options: Options
    ) -> Subscription:
        if unknown := set(options) - Options.__annotations__.keys():
            known = ", ".join(sorted(Options.__annotations__))
            raise EventError(f"option {min(unknown)!r}", "is unknown", f"use one of {known}")
        if handler is None or not callable(handler):
            raise EventError("handler", f"{handler!r} cannot be called", "give a function")
        if is_async(handler):
            raise EventError("an async handler", "cannot run inline", "say delivery='queued'")
        age = next(self._ages)
        name = options.get("name") or str(getattr(handler, "__qualname__", f"subscription-{age}"))
        rank = (options.get("priority", 0), age)
        order = Order(name, rank, options.get("max_errors", MAX_ERRORS))
        subscription = InlineSubscription(self, patterns, order, handler)
        if where := options.get("where"):
            subscription.only(where)
        return subscription

    def _add(self, subscription: Subscription, rows: tuple[Branch, ...]) -> None:
        with self._lock:
            self._branches[subscription] = rows
            for row in rows:
                self._root.insert(row, subscription)
            # A publisher that walked the old trie writes its answer into the old cache.
            self._routes = Routes(self._find)

    def _find(self, event_type: str) -> tuple[Deliver, ...]:
        found = sorted(self._root.find(event_type), key=_rank)
        return tuple(subscription.deliver for subscription in found)


def _rank(subscription: Subscription) -> tuple[int, int]:
    return subscription.rank
