"""The universal event: one immutable record of something that happened."""

import itertools
from time import time_ns
from typing import Any, NamedTuple

from msgspec import Struct, field

from llmspell_otel.events.ids import derived, origin

SCHEMA_VERSION = "1.0"


class Metadata(NamedTuple):
    """What surrounds an event: who sent it, to whom, as part of what."""

    correlation_id: str
    source: str | None
    target: str | None
    tags: tuple[str, ...]
    priority: int
    ttl: float | None
    traceparent: str | None
    tracestate: str | None


class UniversalEvent(
    Struct,
    frozen=True,
    gc=False,
    omit_defaults=True,
    repr_omit_defaults=True,
    forbid_unknown_fields=True,
):
    """What happened, when, in what order, and as part of which trace.

    Making one costs about as much as six function calls; nothing is checked and `data` is not
    copied, so do not change it after publishing.

    Attributes:
        event_type: A name of segments parted by `.` or `:` (`tool:execution_complete`).
        data: Any JSON value. `payload` is the same.
        correlation_id: The UUID form of the OpenTelemetry trace id, or any other text.
        traceparent: W3C Trace Context header of the operation's span.
        tracestate: W3C vendor state that goes with it.
        source: The component that speaks.
        target: The component spoken to.
        tags: Free words to filter by.
        priority: Lower is more urgent; 0 is usual.
        ttl: Seconds of life after `timestamp`; None lives for ever.
        given_id: The id, if it came with another one than its own; encoded as `id`.
        timestamp: Nanoseconds since the Unix epoch, UTC.
        sequence: The order of making within the process. Trust it before the clock.
        origin: Forty-two bits that tell the process that made it from all others.
        language: Who made it: python, lua, javascript.
        schema_version: Version of this record's format.
        extra: Fields of a later format, kept as they came; None if there are none.
    """

    event_type: str
    data: Any = None
    correlation_id: str = ""
    traceparent: str | None = None
    tracestate: str | None = None
    source: str | None = None
    target: str | None = None
    tags: tuple[str, ...] = ()
    priority: int = 0
    ttl: float | None = None
    given_id: str | None = field(default=None, name="id")
    timestamp: int = field(default_factory=time_ns)
    sequence: int = field(default_factory=itertools.count(1).__next__)
    origin: int = field(default_factory=origin)
    language: str = "python"
    schema_version: str = SCHEMA_VERSION
    extra: dict[str, Any] | None = None

    def __hash__(self) -> int:
        return hash(self.sequence)

    @property
    def id(self) -> str:
        """A UUIDv7, unique everywhere, that follows from the time, the sequence and the origin."""
        return self.given_id or derived(self.timestamp, self.sequence, self.origin)

    @property
    def payload(self) -> Any:
        """The data, under the name that scripts use."""
        return self.data

    @property
    def metadata(self) -> Metadata:
        """The fields about the event, gathered into one view."""
        return Metadata(
            self.correlation_id,
            self.source,
            self.target,
            self.tags,
            self.priority,
            self.ttl,
            self.traceparent,
            self.tracestate,
        )


make = UniversalEvent
"""Make an event: `make(event_type, data, correlation_id=…, traceparent=…, …)`."""
