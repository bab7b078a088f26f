"""Operations' events as the engine records them, and real SDK pipelines to see them in."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from llmspell_otel.telemetry.pipeline import Providers, Telemetry

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
START = 1_790_000_000_000_000_000
SECOND = 1_000_000_000

STARTED = {"model": "model:call_started"}
COMPLETE = {"model": "model:call_complete"}
FAILED = {"model": "model:call_error"}


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event with the fields that telemetry reads."""

    event_type: str
    data: dict[str, Any]
    timestamp: int
    traceparent: str | None
    tracestate: str | None = None
    correlation_id: str | None = None


@dataclass(kw_only=True)
class Call:
    """One operation: its start event, and its end event."""

    kind: str = "model"
    name: str = "gpt-5"
    operation: str = "00f067aa0ba902b7"
    parent: str | None = None
    trace: str = TRACE
    flags: str = "01"
    start: int = START
    seconds: float = 2.0
    at_start: dict[str, Any] = field(default_factory=dict)
    at_end: dict[str, Any] = field(default_factory=dict)
    outcome: str = "ok"
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def traceparent(self) -> str:
        """This operation's own."""
        return f"00-{self.trace}-{self.operation}-{self.flags}"

    def started(self, **facts: Any) -> Event:
        """The event of its start."""
        data = self._data() | {"attributes": self.at_start} | facts
        named = STARTED.get(self.kind, f"{self.kind}:execution_started")
        return Event(
            event_type=named, data=data, timestamp=self.start, traceparent=self.traceparent
        )

    def ended(self, **facts: Any) -> Event:
        """The event of its end."""
        end = self.start + int(self.seconds * SECOND)
        data = self._data() | {
            "attributes": self.at_start | self.at_end,
            "end_time": end,
            "outcome": self.outcome,
            "attempts": 1,
        }
        table, word = (COMPLETE, "complete") if self.outcome == "ok" else (FAILED, "error")
        named = table.get(self.kind, f"{self.kind}:execution_{word}")
        return Event(
            event_type=named,
            data=data | self.facts | facts,
            timestamp=end,
            traceparent=self.traceparent,
        )

    def events(self) -> Iterator[Event]:
        """Both."""
        yield self.started()
        yield self.ended()

    def _data(self) -> dict[str, Any]:
        return {
            "operation": self.operation,
            "parent": self.parent,
            "kind": self.kind,
            "name": self.name,
            "start_time": self.start,
        }


class Traces:
    """A real tracer provider, and the spans that came out of it."""

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False, **options)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """What was exported, in order of ending."""
        return self.exporter.get_finished_spans()

    @property
    def only(self) -> ReadableSpan:
        """The one span that was exported."""
        (span,) = self.spans
        return span


class Signals(Traces):
    """Real providers for all three signals, and what came out of them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.records = InMemoryLogRecordExporter()
        self.loggers = LoggerProvider(shutdown_on_exit=False)
        self.loggers.add_log_record_processor(SimpleLogRecordProcessor(self.records))

    @property
    def providers(self) -> Providers:
        """For `Telemetry`."""
        return Providers(self.provider, self.meters, self.loggers)

    @property
    def metrics(self) -> dict[str, Any]:
        """Every metric that was collected, by name."""
        data = self.reader.get_metrics_data()
        return {
            metric.name: metric
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    @property
    def points(self) -> dict[str, list[tuple[dict[str, Any], float]]]:
        """By metric: its attributes and its value, the sum of a histogram."""
        return {
            name: [
                (dict(point.attributes), getattr(point, "value", getattr(point, "sum", None)))
                for point in metric.data.data_points
            ]
            for name, metric in self.metrics.items()
        }

    @property
    def logs(self) -> list[Any]:
        """Every log record that was exported."""
        return [each.log_record for each in self.records.get_finished_logs()]


def run(telemetry: Telemetry, *calls: Call) -> None:
    """Have *telemetry* see *calls* from start to end, and wait until it is done with them."""
    for call in calls:
        telemetry.bridge.start(call.started())
        telemetry.end(call.ended())
    assert telemetry.flush(10)
