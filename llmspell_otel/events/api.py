"""`Event`: the bus as scripts and applications use it, imported with its first use."""

import atexit
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from llmspell_otel.errors import EventError

if TYPE_CHECKING:
    from llmspell_otel.events.bus import EventBus
    from llmspell_otel.events.event import UniversalEvent
    from llmspell_otel.events.mailbox import Mailbox, Stream
    from llmspell_otel.events.subscribing import Options
    from llmspell_otel.events.subscription import Handler, Subscription

F = TypeVar("F", bound=Callable[..., Any])

_GIVEN_BY_US = {"given_id", "sequence", "origin", "schema_version", "extra"}


def default_bus() -> "EventBus":
    """The bus of this process: everything the engine publishes goes here."""
    from llmspell_otel.events import bus

    return bus.default_bus()


class Event:
    """Subscribe and publish on the default bus of the process."""

    @staticmethod
    def subscribe(
        pattern: str | Iterable[str],
        handler: "Handler | None" = None,
        **options: Unpack["Options"],
    ) -> "Subscription":
        """Deliver the events that match *pattern* to *handler*; see `EventBus.subscribe`."""
        return default_bus().subscribe(pattern, handler, **options)

    @staticmethod
    def on(pattern: str | Iterable[str], **options: Unpack["Options"]) -> Callable[[F], F]:
        """Subscribe the decorated function to *pattern*."""

        def decorate(handler: F) -> F:
            default_bus().subscribe(pattern, handler, **options)
            return handler

        return decorate

    @staticmethod
    def emit(event: Mapping[str, Any]) -> "UniversalEvent":
        """Publish an event given as `{"event_type": …, "payload": …}`, and return it.

        `data` may stand for `payload`; the other keys are fields of `UniversalEvent`.

        Raises:
            EventError: the type is missing or a key is unknown.
        """
        fields = dict(event)
        event_type = fields.pop("event_type", None)
        if "payload" in fields:
            fields.setdefault("data", fields.pop("payload"))
        return Event.publish(event_type, fields.pop("data", None), **fields)

    @staticmethod
    def publish(event_type: object, data: Any = None, **options: Any) -> "UniversalEvent":
        """Publish an event of *event_type* that carries *data*, and return it.

        *options* are fields of `UniversalEvent`: correlation_id, source, target, tags, ttl, ….

        Raises:
            EventError: *event_type* is not a non-empty text or an option is unknown.
        """
        make, bus, fields = _parts()
        if not isinstance(event_type, str) or not event_type:
            mend = "name it in segments, as `tool:execution_complete`"
            raise EventError(f"event_type {event_type!r}", "is not a non-empty text", mend)
        if unknown := options.keys() - fields:
            mend = f"use one of {', '.join(sorted(fields - {'event_type', 'data'}))}"
            raise EventError(f"option {min(unknown)!r}", "is no field of an event", mend)
        event = make(event_type, data, **options)
        bus().publish(event)
        return event

    @staticmethod
    def stream(pattern: str | Iterable[str], **options: Unpack["Options"]) -> "Stream":
        """Iterate: `async for event in Event.stream("agent.**")`; see `EventBus.stream`."""
        return default_bus().stream(pattern, **options)

    @staticmethod
    def receive(
        subscription: "Subscription", timeout: float | None = None
    ) -> "UniversalEvent | None":
        """The next event of a subscription without a handler; None after *timeout* seconds.

        Raises:
            EventError: *subscription* has a handler, which gets its events.
        """
        return _mailbox(subscription).receive(timeout)

    @staticmethod
    def receive_batch(
        subscription: "Subscription", limit: int, timeout: float | None = None
    ) -> "list[UniversalEvent]":
        """Up to *limit* events of a subscription without a handler; see `Mailbox.receive_batch`.

        Raises:
            EventError: *subscription* has a handler, which gets its events.
        """
        return _mailbox(subscription).receive_batch(limit, timeout)

    @staticmethod
    def query(*patterns: str, **conditions: Any) -> "Iterator[UniversalEvent]":
        """Events of the past that match; see `Journal.query`.

        Raises:
            EventError: no journal is attached to the bus, or a condition is wrong.
            PatternError: a pattern is not in the grammar.
        """
        journal = default_bus().journal
        if journal is None:
            mend = "attach one: `Journal(folder).attach(default_bus())`"
            raise EventError("a query", "needs a journal", mend)
        return journal.query(*patterns, **conditions)

    @staticmethod
    def get_stats() -> dict[str, int]:
        """The books of all subscriptions, added up, and their number."""
        from llmspell_otel.events.subscription import Stats

        books = [each.stats for each in default_bus().subscriptions()]
        names = Stats.__dataclass_fields__
        total = {name: sum(getattr(each, name) for each in books) for name in names}
        return {"subscriptions": len(books), **total}

    @staticmethod
    def unsubscribe(subscription: "Subscription") -> bool:
        """End *subscription*; tell whether this call ended it."""
        return subscription.unsubscribe()

    @staticmethod
    def unsubscribe_pattern(pattern: str) -> int:
        """End every subscription made with *pattern*; tell how many."""
        return default_bus().unsubscribe_pattern(pattern)

    @staticmethod
    def list_subscriptions() -> list[dict[str, Any]]:
        """Every subscription: its name, patterns and books."""
        return [
            {"name": each.name, "patterns": list(each.patterns), "stats": each.stats}
            for each in default_bus().subscriptions()
        ]


@cache
def _parts() -> "tuple[type[UniversalEvent], Callable[[], EventBus], frozenset[str]]":
    """What publishing takes: how an event is made, the bus, and what may be said of an event."""
    from llmspell_otel.events.bus import default_bus
    from llmspell_otel.events.event import UniversalEvent, make

    return make, default_bus, frozenset(UniversalEvent.__struct_fields__) - _GIVEN_BY_US


# Finalizers may publish when nothing can be imported any more.
atexit.register(_parts)


def _mailbox(subscription: "Subscription") -> "Mailbox":
    from llmspell_otel.events.mailbox import Mailbox

    if not isinstance(subscription, Mailbox):
        what = f"subscription {subscription.name!r}"
        raise EventError(what, "has a handler", "subscribe without one to receive")
    return subscription
