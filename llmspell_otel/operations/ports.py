"""Where operations reach out: to events, and through them to telemetry; set once at start-up."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Protocol

from opentelemetry.context import Context
from opentelemetry.trace import SpanContext

from llmspell_otel.events import EventBus, UniversalEvent, default_bus

Placed = tuple[Context, SpanContext]
"""The context that carries a span, and the span's own."""


class Telemetry(Protocol):
    """What makes telemetry of operation events: inline where context needs it."""

    @property
    def captures(self) -> bool:
        """Whether content is wanted in events."""
        ...

    @property
    def active(self) -> bool:
        """Whether anything is made of the events at all; ask `look` while that is not known."""
        ...

    @property
    def random_ids(self) -> bool:
        """Whether any random ids will do; else ask for them."""
        ...

    def look(self) -> bool:
        """Whether anything is made of the events by now."""
        ...

    def begin(self, event: UniversalEvent, current: Context, /) -> Placed | None:
        """Start the span of a started operation in *current*; None if none was made."""
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
    """The engine's plugs; without telemetry nothing is in that one. Plugging in is told."""

    __slots__ = ("_listeners", "bus", "telemetry")
    _listeners: tuple[Callable[[], None], ...]
    bus: EventBus
    """Where events go."""
    telemetry: Telemetry | None
    """What makes telemetry of events, if anything does."""

    def __init__(self) -> None:
        self._listeners = ()
        self.telemetry = None
        self.bus = default_bus()

    def __setattr__(self, name: str, value: Any) -> None:
        # Read in every call and seldom written: so it is not the reading that does the work.
        object.__setattr__(self, name, value)
        if name == "bus":
            value.listen(self._tell)
        if name != "_listeners":
            self._tell()

    def listen(self, listener: Callable[[], None]) -> None:
        """Call *listener* whenever somebody else may want to know of operations."""
        self._listeners = (*self._listeners, listener)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()


ports = Ports()
