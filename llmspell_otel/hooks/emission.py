"""The three event points: asked around the bus's publishing, only while a hook is there.

While nobody is hooked the bus publishes by its own method, as if this module did not exist.
"""

from contextvars import ContextVar
from typing import Any, Final

import msgspec

from llmspell_otel.events import EventBus, UniversalEvent, default_bus
from llmspell_otel.events.subscription import HANDLER_ERROR, Subscription
from llmspell_otel.guard import guard
from llmspell_otel.hooks.context import Component, HookContext
from llmspell_otel.hooks.driving import consult, drive
from llmspell_otel.hooks.registry import Slot, registry
from llmspell_otel.hooks.results import Cancel, Replace, Result

BEFORE: Final = registry.slot("BeforeEventEmit")
AFTER: Final = registry.slot("AfterEventEmit")
FAILED: Final = registry.slot("EventHandlerError")

_emitting: ContextVar[bool] = ContextVar("llmspell_emitting", default=False)
_errors: list[Subscription] = []


def hooks_changed() -> None:
    """Put the asking `publish` in the bus's way, or take it out again."""
    bus = default_bus()
    for name, asking in _ASKING.items():
        if BEFORE.hooks or AFTER.hooks:
            bus.__dict__[name] = asking
        else:
            bus.__dict__.pop(name, None)
    bus.tell()
    if FAILED.hooks and not _errors:
        _errors.append(bus.subscribe(HANDLER_ERROR, _failed, name="event-points"))
    elif not FAILED.hooks and _errors:
        _errors.pop().unsubscribe()


def _publish(event: UniversalEvent) -> None:
    """Publish *event*, as hooks may have changed it, unless one cancelled it."""
    _emit(event, EventBus.publish)


def _publish_or_raise(event: UniversalEvent) -> None:
    _emit(event, EventBus.publish_or_raise)


def _wants(_event_type: str) -> bool:
    """Everybody's events are wanted: by the hooks."""
    return True


_ASKING: Final = {
    "publish": _publish,
    "publish_or_raise": _publish_or_raise,
    "wants": _wants,
}


def _emit(event: UniversalEvent, publish: Any) -> None:
    if _emitting.get():  # what hooks of these points publish goes out unasked
        publish(default_bus(), event)
        return
    token = _emitting.set(True)
    try:
        changed = (
            guard.contained("asking before an event", _asked, event) if BEFORE.hooks else event
        )
    finally:
        _emitting.reset(token)
    if changed is None:
        return
    publish(default_bus(), changed)
    if AFTER.hooks:
        token = _emitting.set(True)
        try:
            guard.contained("asking after an event", _ask, AFTER, changed)
        finally:
            _emitting.reset(token)


def _asked(event: UniversalEvent) -> UniversalEvent | None:
    data, result = _ask(BEFORE, event)
    if isinstance(result, Cancel):
        return None
    payload = result.value if isinstance(result, Replace) else data["payload"]
    if payload is event.data:
        return event
    return msgspec.structs.replace(event, data=payload)


def _ask(slot: Slot, event: UniversalEvent) -> tuple[dict[str, Any], Result | None]:
    data = {"event_type": event.event_type, "payload": event.data}
    context = HookContext(slot.point, Component("event", event.event_type), data)
    context.metadata["correlation_id"] = event.correlation_id
    return data, drive(consult(slot, context))


def _failed(event: UniversalEvent) -> None:
    """A handler raised: its subscription and the error's type are told, its text is not."""
    told = event.data
    data = {"event_type": told["event_type"], "error": told["error"]}
    context = HookContext(FAILED.point, Component("subscription", told["subscription"]), data)
    context.metadata |= {"event_id": told["event_id"], "correlation_id": event.correlation_id}
    drive(consult(FAILED, context))
