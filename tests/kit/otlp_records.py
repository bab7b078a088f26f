"""What an OTLP receiver received, as plain records, decoded from the official messages."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

Attributes: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The instrumentation scope of a record."""

    name: str
    version: str
    attributes: Attributes
    schema_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who sent a record: its resource and its scope."""

    resource: Attributes
    scope: Scope
    resource_schema_url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanEvent:
    """A span event; *time* in nanoseconds since the epoch."""

    name: str
    time: int
    attributes: Attributes


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link to another span; ids in lower-case hex."""

    trace_id: str
    span_id: str
    attributes: Attributes


@dataclass(frozen=True, slots=True, kw_only=True)
class Span(Origin):
    """A span; ids in lower-case hex, *parent_id* None for a root, times in nanoseconds."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str | None
    kind: str
    start: int
    end: int
    attributes: Attributes
    events: tuple[SpanEvent, ...] = ()
    links: tuple[Link, ...] = ()
    status: str = "UNSET"
    status_message: str = ""
    trace_state: str = ""

    @property
    def seconds(self) -> float:
        """How long the span lasted."""
        return (self.end - self.start) / 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemplar:
    """A measurement that stands for others; ids None where there was no span."""

    value: float
    time: int
    trace_id: str | None
    span_id: str | None
    attributes: Attributes


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A metric point; *value* for sums and gauges, the rest for histograms."""

    attributes: Attributes
    start: int
    time: int
    value: float | None = None
    count: int | None = None
    sum: float | None = None
    min: float | None = None
    max: float | None = None
    bounds: tuple[float, ...] = ()
    buckets: tuple[int, ...] = ()
    scale: int | None = None
    exemplars: tuple[Exemplar, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric(Origin):
    """One metric of one export; *kind* is the message's field, such as `sum` or `histogram`."""

    name: str
    unit: str
    description: str
    kind: str
    points: tuple[Point, ...]
    temporality: str | None = None
    monotonic: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Log(Origin):
    """A log record or event; *time* in nanoseconds, ids None outside a span."""

    body: Any
    event_name: str
    severity: int
    severity_text: str
    time: int
    observed_time: int
    trace_id: str | None
    span_id: str | None
    attributes: Attributes = field(default_factory=dict)


def value_of(value: AnyValue) -> Any:
    """Decode one attribute value into Python's own types."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [value_of(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return attributes_of(value.kvlist_value.values)
    return getattr(value, kind)


def attributes_of(pairs: Iterable[KeyValue]) -> Attributes:
    """Decode attributes; a key sent twice is an error of the sender."""
    decoded: Attributes = {}
    for pair in pairs:
        if pair.key in decoded:
            message = f"attribute {pair.key!r} was sent twice"
            raise ValueError(message)
        decoded[pair.key] = value_of(pair.value)
    return decoded


def spans_of(request: ExportTraceServiceRequest) -> Iterator[Span]:
    """Decode the spans of one export."""
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(**_origin(resource, scope), **_span(span))


def metrics_of(request: ExportMetricsServiceRequest) -> Iterator[Metric]:
    """Decode the metrics of one export."""
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                yield Metric(**_origin(resource, scope), **_metric(metric))


def logs_of(request: ExportLogsServiceRequest) -> Iterator[Log]:
    """Decode the log records of one export."""
    for resource in request.resource_logs:
        for scope in resource.scope_logs:
            for record in scope.log_records:
                yield Log(**_origin(resource, scope), **_log(record))


def _origin(resource: Any, scope: Any) -> dict[str, Any]:
    return {
        "resource": attributes_of(resource.resource.attributes),
        "resource_schema_url": resource.schema_url,
        "scope": _scope(scope.scope, scope.schema_url),
    }


def _scope(scope: InstrumentationScope, schema_url: str) -> Scope:
    return Scope(
        name=scope.name,
        version=scope.version,
        attributes=attributes_of(scope.attributes),
        schema_url=schema_url,
    )


def _span(span: trace_pb2.Span) -> Mapping[str, Any]:
    return {
        "name": span.name,
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent_id": span.parent_span_id.hex() or None,
        "kind": trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        "start": span.start_time_unix_nano,
        "end": span.end_time_unix_nano,
        "attributes": attributes_of(span.attributes),
        "events": tuple(_event(event) for event in span.events),
        "links": tuple(_link(link) for link in span.links),
        "status": trace_pb2.Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
        "status_message": span.status.message,
        "trace_state": span.trace_state,
    }


def _event(event: trace_pb2.Span.Event) -> SpanEvent:
    return SpanEvent(
        name=event.name,
        time=event.time_unix_nano,
        attributes=attributes_of(event.attributes),
    )


def _link(link: trace_pb2.Span.Link) -> Link:
    return Link(
        trace_id=link.trace_id.hex(),
        span_id=link.span_id.hex(),
        attributes=attributes_of(link.attributes),
    )


def _metric(metric: metrics_pb2.Metric) -> Mapping[str, Any]:
    kind = metric.WhichOneof("data")
    if kind is None:
        message = f"metric {metric.name!r} was sent without data"
        raise ValueError(message)
    data = getattr(metric, kind)
    temporality = getattr(data, "aggregation_temporality", None)
    return {
        "name": metric.name,
        "unit": metric.unit,
        "description": metric.description,
        "kind": kind,
        "points": tuple(_point(point) for point in data.data_points),
        "temporality": temporality
        and metrics_pb2.AggregationTemporality.Name(temporality).removeprefix(
            "AGGREGATION_TEMPORALITY_"
        ),
        "monotonic": getattr(data, "is_monotonic", None),
    }


def _point(point: Any) -> Point:
    return Point(
        attributes=attributes_of(point.attributes),
        start=point.start_time_unix_nano,
        time=point.time_unix_nano,
        value=_number(point),
        count=getattr(point, "count", None),
        sum=_optional(point, "sum"),
        min=_optional(point, "min"),
        max=_optional(point, "max"),
        bounds=tuple(getattr(point, "explicit_bounds", ())),
        buckets=tuple(getattr(point, "bucket_counts", ())),
        scale=getattr(point, "scale", None),
        exemplars=tuple(_exemplar(each) for each in getattr(point, "exemplars", ())),
    )


def _optional(message: Any, name: str) -> Any:
    """An optional field's value, or None where it is unset or the message has no such field."""
    known = name in message.DESCRIPTOR.fields_by_name
    return getattr(message, name) if known and message.HasField(name) else None


def _number(message: Any) -> Any:
    value = _optional(message, "as_int")
    return _optional(message, "as_double") if value is None else value


def _exemplar(exemplar: metrics_pb2.Exemplar) -> Exemplar:
    return Exemplar(
        value=_number(exemplar),
        time=exemplar.time_unix_nano,
        trace_id=exemplar.trace_id.hex() or None,
        span_id=exemplar.span_id.hex() or None,
        attributes=attributes_of(exemplar.filtered_attributes),
    )


def _log(record: logs_pb2.LogRecord) -> Mapping[str, Any]:
    return {
        "body": value_of(record.body),
        "event_name": record.event_name,
        "severity": record.severity_number,
        "severity_text": record.severity_text,
        "time": record.time_unix_nano,
        "observed_time": record.observed_time_unix_nano,
        "trace_id": record.trace_id.hex() or None,
        "span_id": record.span_id.hex() or None,
        "attributes": attributes_of(record.attributes),
    }
