"""`Event`: the bus as scripts and applications use it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, Unpack

from llmspell_otel.errors import EventError
from llmspell_otel.events.bus import EventBus, Options
from llmspell_otel.events.event import UniversalEvent, make
from llmspell_otel.events.subscription import Handler, Subscription

F = TypeVar("F", bound=Handler)

_GIVEN_BY_US = {"id", "sequence", "schema_version", "extra"}
_FIELDS = set(UniversalEvent.__struct_fields__) - _GIVEN_BY_US

_bus = EventBus()


def default_bus() -> EventBus:
    """The bus of this process: everything the engine publishes goes here."""
    return _bus


class Event:
    """Subscribe and publish on the default bus of the process."""

    @staticmethod
    def subscribe(
        pattern: str | Iterable[str],
        handler: Handler | None = None,
        **options: Unpack[Options],
    ) -> Subscription:
        """Deliver the events that match *pattern* to *handler*; see `EventBus.subscribe`."""
        return default_bus().subscribe(pattern, handler, **options)

    @staticmethod
    def on(pattern: str | Iterable[str], **options: Unpack[Options]) -> Callable[[F], F]:
        """Subscribe the decorated function to *pattern*."""

        def decorate(handler: F) -> F:
            default_bus().subscribe(pattern, handler, **options)
            return handler

        return decorate

    @staticmethod
    def emit(event: Mapping[str, Any]) -> UniversalEvent:
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
    def publish(event_type: object, data: Any = None, **options: Any) -> UniversalEvent:
        """Publish an event of *event_type* that carries *data*, and return it.

        *options* are fields of `UniversalEvent`: correlation_id, source, target, tags, ttl, ….

        Raises:
            EventError: *event_type* is not a non-empty text or an option is unknown.
        """
        if not isinstance(event_type, str) or not event_type:
            mend = "name it in segments, as `tool:execution_complete`"
            raise EventError(f"event_type {event_type!r}", "is not a non-empty text", mend)
        if unknown := options.keys() - _FIELDS:
            mend = f"use one of {', '.join(sorted(_FIELDS - {'event_type', 'data'}))}"
            raise EventError(f"option {min(unknown)!r}", "is no field of an event", mend)
        event = make(event_type, data, **options)
        default_bus().publish(event)
        return event

    @staticmethod
    def unsubscribe(subscription: Subscription) -> bool:
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
