"""Telling hooks of a moment that no operation's way leads through: state, sessions, the system.

A notice is told to the hooks of its point, and published as an event under the point's
spelling. Callers guard it with ``if told(slot):``, so that it costs nothing when nobody listens.
"""

from collections.abc import Mapping
from typing import Any

from llmspell_otel.events import default_bus, make
from llmspell_otel.hooks.context import Component, HookContext, Subject
from llmspell_otel.hooks.driving import Flow, consult, drive, drive_async
from llmspell_otel.hooks.registry import Slot
from llmspell_otel.hooks.results import Result

ENGINE = Component("system", "llmspell_otel")
"""The component of notices about the engine itself."""


def told(slot: Slot) -> bool:
    """Whether anybody hears of *slot*: a hook, or a subscription to its event."""
    return bool(slot.hooks) or default_bus().wants(slot.point.spelling)


def noticed(  # noqa: PLR0913 - a moment's facts
    slot: Slot,
    component: Component,
    data: dict[str, Any],
    metadata: Mapping[str, Any] | None = None,
    *,
    operation: Subject | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Flow[Result | None]:
    """Tell of a moment; gives the result that decided it, or None.

    What hooks modify is applied to *data* in place.

    Args:
        slot: The hook point.
        component: Who is at work.
        data: What hooks may look at and modify.
        metadata: What they may look at.
        operation: The operation that the moment is part of; its ids join them.
        facts: What the event says in the place of *data*, where that holds content.
    """
    _publish(slot, component, data if facts is None else facts, metadata, operation)
    if not slot.hooks:
        return None
    context = HookContext(slot.point, component, data, dict(metadata or {}), operation=operation)
    return (yield from consult(slot, context))


def notify(
    slot: Slot,
    component: Component,
    data: dict[str, Any],
    metadata: Mapping[str, Any] | None = None,
    **options: Any,
) -> Result | None:
    """`noticed`, blocking where a hook is asynchronous."""
    return drive(noticed(slot, component, data, metadata, **options))


async def notify_async(
    slot: Slot,
    component: Component,
    data: dict[str, Any],
    metadata: Mapping[str, Any] | None = None,
    **options: Any,
) -> Result | None:
    """`noticed`, awaiting."""
    return await drive_async(noticed(slot, component, data, metadata, **options))


def _publish(
    slot: Slot,
    component: Component,
    facts: Mapping[str, Any],
    metadata: Mapping[str, Any] | None,
    operation: Subject | None,
) -> None:
    bus, spelling = default_bus(), slot.point.spelling
    if bus.wants(spelling):
        said = {"component": {"type": component.type, "name": component.name}}
        said |= {**(metadata or {}), **facts}
        correlation = operation.correlation_id if operation is not None else ""
        bus.publish(make(spelling, said, correlation))
