"""The OTLP receiver, driven by the real OpenTelemetry exporters."""

import socket
import time
from collections.abc import Iterator
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc import _log_exporter as grpc_logs
from opentelemetry.exporter.otlp.proto.grpc import metric_exporter as grpc_metrics
from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc_traces
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http import _log_exporter as http_logs
from opentelemetry.exporter.otlp.proto.http import metric_exporter as http_metrics
from opentelemetry.exporter.otlp.proto.http import trace_exporter as http_traces
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from tests.kit import otlp_faults as faults
from tests.kit.otlp import OtlpReceiver

RESOURCE = Resource({"service.name": "desk"})
PROTOCOLS = ["http", "grpc"]


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    """Give a running receiver."""
    with OtlpReceiver() as running:
        yield running


def span_exporter(receiver: OtlpReceiver, protocol: str, timeout: float = 5) -> SpanExporter:
    """Make the real exporter for *protocol*."""
    if protocol == "grpc":
        return grpc_traces.OTLPSpanExporter(receiver.grpc_endpoint, insecure=True, timeout=timeout)
    return http_traces.OTLPSpanExporter(
        f"{receiver.http_endpoint}/v1/traces", timeout=timeout, compression=Compression.Gzip
    )


def export_one_span(receiver: OtlpReceiver, protocol: str, timeout: float = 5) -> SpanExportResult:
    """Export one span to the end."""
    exporter = span_exporter(receiver, protocol, timeout)
    provider = TracerProvider(resource=RESOURCE)
    span = provider.get_tracer("t").start_span("one")
    span.end()
    try:
        return exporter.export([span])
    finally:
        exporter.shutdown()
        provider.shutdown()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_spans_are_decoded(receiver: OtlpReceiver, protocol: str) -> None:
    """A span tree arrives with parents, kinds, status, events, links and nested attributes."""
    provider = TracerProvider(resource=RESOURCE)
    provider.add_span_processor(SimpleSpanProcessor(span_exporter(receiver, protocol)))
    tracer = provider.get_tracer("scope", "1.2", "https://schema", {"s": 1})
    with tracer.start_as_current_span("root") as root:
        link = trace.Link(root.get_span_context(), {"why": "test"})
        with tracer.start_as_current_span(
            "child", kind=trace.SpanKind.CLIENT, links=[link]
        ) as span:
            span.set_attributes({"text": "a", "n": 1, "f": 0.5, "b": True, "list": ["x", "y"]})
            span.set_attribute("map", {"inner": [1, {"deep": "z"}]})
            span.add_event("moment", {"k": "v"})
            span.set_status(trace.StatusCode.ERROR, "boom")
    provider.shutdown()
    receiver.wait_for(spans=2)

    child, root_span = receiver.span("child"), receiver.span("root")
    assert child.parent_id == root_span.span_id
    assert root_span.parent_id is None
    assert (child.trace_id, child.kind) == (root_span.trace_id, "CLIENT")
    assert (child.status, child.status_message) == ("ERROR", "boom")
    assert root_span.status == "UNSET"
    assert child.attributes == {
        "text": "a",
        "n": 1,
        "f": 0.5,
        "b": True,
        "list": ["x", "y"],
        "map": {"inner": [1, {"deep": "z"}]},
    }
    assert [(event.name, event.attributes) for event in child.events] == [("moment", {"k": "v"})]
    assert child.links[0].span_id == root_span.span_id
    assert child.links[0].attributes == {"why": "test"}
    assert child.resource["service.name"] == "desk"
    assert (child.scope.name, child.scope.version) == ("scope", "1.2")
    assert (child.scope.schema_url, child.scope.attributes) == ("https://schema", {"s": 1})
    assert 0 < child.seconds <= root_span.seconds
    assert receiver.spans(text="a") == [child]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_metrics_are_decoded(receiver: OtlpReceiver, protocol: str) -> None:
    """Sums, gauges and histograms arrive with units, bounds, buckets and exemplars."""
    exporter = (
        grpc_metrics.OTLPMetricExporter(receiver.grpc_endpoint, insecure=True)
        if protocol == "grpc"
        else http_metrics.OTLPMetricExporter(f"{receiver.http_endpoint}/v1/metrics")
    )
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("t")
    provider = MeterProvider([PeriodicExportingMetricReader(exporter, 60_000)], RESOURCE)
    meter = provider.get_meter("scope")
    counter = meter.create_counter("calls", "{call}", "How many")
    seconds = meter.create_histogram("dur", "s", explicit_bucket_boundaries_advisory=[0.1, 1.0])
    meter.create_gauge("level").set(2.5)
    counter.add(2, {"kind": "a"})
    counter.add(3, {"kind": "b.c"})
    with tracer.start_as_current_span("measured") as span:
        seconds.record(0.5)
    seconds.record(4.0)
    provider.shutdown()
    receiver.wait_for(metrics=3)

    calls = receiver.metric("calls")
    assert (calls.kind, calls.unit, calls.description) == ("sum", "{call}", "How many")
    assert (calls.monotonic, calls.temporality) == (True, "CUMULATIVE")
    assert [point.value for point in receiver.points("calls", kind="b.c")] == [3]
    (point,) = receiver.points("dur")
    assert (point.count, point.sum, point.min, point.max) == (2, 4.5, 0.5, 4.0)
    assert (point.bounds, point.buckets) == ((0.1, 1.0), (0, 1, 1))
    exemplar = point.exemplars[0]
    assert exemplar.value == 0.5
    assert exemplar.span_id == trace.format_span_id(span.get_span_context().span_id)
    assert receiver.points("level")[0].value == 2.5


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_logs_are_decoded(receiver: OtlpReceiver, protocol: str) -> None:
    """A log record arrives with its body, event name, severity and the span it belongs to."""
    exporter = (
        grpc_logs.OTLPLogExporter(receiver.grpc_endpoint, insecure=True)
        if protocol == "grpc"
        else http_logs.OTLPLogExporter(f"{receiver.http_endpoint}/v1/logs")
    )
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("t")
    provider = LoggerProvider(RESOURCE)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    with tracer.start_as_current_span("around") as span:
        provider.get_logger("scope").emit(
            timestamp=7,
            severity_number=SeverityNumber.WARN,
            body={"message": ["hello"]},
            event_name="desk.opened",
            attributes={"who": "me"},
        )
    provider.shutdown()
    receiver.wait_for(logs=1)

    (log,) = receiver.logs("desk.opened", who="me")
    assert (log.body, log.severity, log.time) == ({"message": ["hello"]}, 13, 7)
    assert log.span_id == trace.format_span_id(span.get_span_context().span_id)
    assert receiver.logs("another") == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("status", [429, 503])
def test_retryable_errors_are_retried(receiver: OtlpReceiver, protocol: str, status: int) -> None:
    """After 429 or 503 with a wait, the exporter waits that long and the second try is kept."""
    receiver.misbehave(faults.error(status, retry_after=1 if protocol == "http" else 0.2))
    assert export_one_span(receiver, protocol) is SpanExportResult.SUCCESS
    first, second = receiver.exports
    assert (len(first.records), len(second.records)) == (0, 1)
    assert second.at - first.at > 0.15
    assert [span.name for span in receiver.spans()] == ["one"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_bad_requests_are_not_retried(receiver: OtlpReceiver, protocol: str) -> None:
    """400 fails the export at once, and nothing is kept."""
    receiver.keep_misbehaving(faults.error(400), signal="traces")
    assert export_one_span(receiver, protocol) is SpanExportResult.FAILURE
    assert len(receiver.exports) == 1
    assert receiver.spans() == []
    receiver.behave()
    assert export_one_span(receiver, protocol) is SpanExportResult.SUCCESS


def test_faults_of_one_signal_leave_the_others_alone(receiver: OtlpReceiver) -> None:
    """A fault meant for logs does not touch traces."""
    receiver.misbehave(faults.error(503), signal="logs")
    assert export_one_span(receiver, "http") is SpanExportResult.SUCCESS


def test_a_refused_connection_is_refused_and_comes_back(receiver: OtlpReceiver) -> None:
    """While it refuses, nobody answers on either port; afterwards the same ports work."""
    ports = [
        int(url.rpartition(":")[2]) for url in (receiver.http_endpoint, receiver.grpc_endpoint)
    ]
    receiver.refuse()
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=1)
    receiver.accept()
    for protocol in PROTOCOLS:
        assert export_one_span(receiver, protocol) is SpanExportResult.SUCCESS


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_hanging_receiver_runs_into_the_timeout(receiver: OtlpReceiver, protocol: str) -> None:
    """A hang lasts past the exporter's timeout, and closing the receiver does not wait for it."""
    receiver.keep_misbehaving(faults.hang(60))
    begun = time.monotonic()
    assert export_one_span(receiver, protocol, timeout=0.4) is SpanExportResult.FAILURE
    receiver.close()
    assert time.monotonic() - begun < 5
    assert receiver.spans() == []


def post(receiver: OtlpReceiver, body: bytes, **headers: str) -> tuple[int, bytes]:
    """Post raw bytes, and give back what came."""
    headers = {"Content-Type": "application/x-protobuf"} | headers
    request = Request(f"{receiver.http_endpoint}/v1/traces", body, headers)
    try:
        with urlopen(request, timeout=5) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        with error:
            return error.code, error.read()


def test_partial_success_is_said(receiver: OtlpReceiver) -> None:
    """A partial success carries the count and the reason."""
    receiver.misbehave(faults.partial(3, "too old"))
    status, body = post(receiver, b"")
    answer = partial_success(body)
    assert (status, answer.rejected_spans, answer.error_message) == (200, 3, "too old")


def partial_success(body: bytes) -> trace_service_pb2.ExportTracePartialSuccess:
    """Decode what the receiver said of an export that it took."""
    return trace_service_pb2.ExportTraceServiceResponse.FromString(body).partial_success


def test_garbage_is_answered_with_200(receiver: OtlpReceiver) -> None:
    """The body of a garbage answer is what was asked for, though the export is kept."""
    receiver.misbehave(faults.garbage(b"<html>"))
    assert post(receiver, b"") == (200, b"<html>")
    assert receiver.exports[0].headers["content-type"] == "application/x-protobuf"


def test_a_dripping_answer_takes_its_time(receiver: OtlpReceiver) -> None:
    """A drip sends the whole answer, one byte after the other."""
    receiver.misbehave(faults.drip(0.02))
    begun = time.monotonic()
    status, body = post(receiver, b"")
    assert (status, partial_success(body).error_message) == (200, "thank you")
    assert time.monotonic() - begun >= 0.02 * len(body)


def test_a_dropped_connection_has_no_answer(receiver: OtlpReceiver) -> None:
    """A disconnect gives the sender an error instead of an answer."""
    receiver.misbehave(faults.disconnect())
    with pytest.raises(ConnectionError):
        post(receiver, b"")


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"\xff\xff\xff", {}, 400),
        (b"not gzip", {"Content-Encoding": "gzip"}, 400),
        (b"", {"Content-Encoding": "br"}, 415),
        (b"{}", {"Content-Type": "application/json"}, 415),
    ],
)
def test_malformed_exports_are_refused(
    receiver: OtlpReceiver, body: bytes, headers: dict[str, str], status: int
) -> None:
    """What is not an export message in a known encoding is refused, and not kept."""
    assert post(receiver, body, **headers)[0] == status
    assert receiver.exports == ()


def test_waiting_in_vain_says_what_is_there(receiver: OtlpReceiver) -> None:
    """A wait that times out names the spans that did arrive."""
    export_one_span(receiver, "http")
    with pytest.raises(TimeoutError, match=r"1 spans \['one'\]"):
        receiver.wait_for(spans=2, timeout=0.05)
    with pytest.raises(LookupError, match=r"received were \['one'\]"):
        receiver.span("two")
