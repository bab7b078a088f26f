"""Where operations reach out: to events, and through them to telemetry; set once at start-up."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Protocol

from opentelemetry.context import Context

from llmspell_otel.events import EventBus, UniversalEvent, default_bus


class Telemetry(Protocol):
    """What makes telemetry of operation events: inline where context needs it."""

    @property
    def captures(self) -> bool:
        """Whether content is wanted in events."""
        ...

    @property
    def active(self) -> bool:
        """Whether anything is made of the events at all."""
        ...

    def start(self, event: UniversalEvent) -> Context:
        """Start the span of a started operation; gives the context that carries it.

        The current context itself means that no span was made.
        """
        ...

    def end(self, event: UniversalEvent) -> None:
        """End that span, and make everything else of the event later."""
        ...

    def price(self, attributes: Mapping[str, Any]) -> Decimal | None:
        """What the finished model call with *attributes* cost in US dollars, if known by now.

        The price is noted among the *attributes* too.
        """
        ...

    def new_trace_id(self) -> int:
        """A fresh trace id."""
        ...

    def new_span_id(self) -> int:
        """A fresh span id."""
        ...


class Ports:
    """The engine's plugs; without telemetry nothing is in that one."""

    __slots__ = ("bus", "telemetry")

    def __init__(self) -> None:
        self.bus: EventBus = default_bus()
        self.telemetry: Telemetry | None = None

    def observing(self) -> bool:
        """Whether telemetry makes something of operations."""
        return self.telemetry is not None and self.telemetry.active


ports = Ports()
