"""Where operations reach out: to events, and through them to telemetry; set once at start-up."""

from collections.abc import Callable, Mapping
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

    __slots__ = ("_bus", "_listeners", "_telemetry")

    def __init__(self) -> None:
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._telemetry: Telemetry | None = None
        self._bus = default_bus()
        self._bus.listen(self._tell)

    @property
    def bus(self) -> EventBus:
        """Where events go."""
        return self._bus

    @bus.setter
    def bus(self, bus: EventBus) -> None:
        self._bus = bus
        bus.listen(self._tell)
        self._tell()

    @property
    def telemetry(self) -> Telemetry | None:
        """What makes telemetry of events, if anything does."""
        return self._telemetry

    @telemetry.setter
    def telemetry(self, telemetry: Telemetry | None) -> None:
        self._telemetry = telemetry
        self._tell()

    def listen(self, listener: Callable[[], None]) -> None:
        """Call *listener* whenever somebody else may want to know of operations."""
        self._listeners = (*self._listeners, listener)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

    def observing(self) -> bool:
        """Whether telemetry makes something of operations."""
        return self.telemetry is not None and self.telemetry.active


ports = Ports()
