"""The fast encoder writes the official encoder's bytes, over whatever a program may record."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from llmspell_exporters import fast_encoding, wire

UINT64 = st.integers(0, 2**64 - 1)
# A length takes one byte to 127 and two from 128; random text seldom comes near.
TEXT = st.one_of(st.text(max_size=12), st.sampled_from(["x" * 127, "x" * 128, "é" * 64, "\0"]))
SCALARS = st.one_of(
    st.none(), st.booleans(), TEXT, st.integers(-(2**63), 2**63 - 1), st.floats(), st.binary()
)
KEYS = st.text(max_size=4)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.lists(inner, max_size=2),
        st.dictionaries(KEYS, inner, max_size=2),
    ),
    max_leaves=4,
)
ATTRIBUTES = st.dictionaries(KEYS, VALUES, max_size=4)
CONTEXTS = st.builds(
    SpanContext,
    trace_id=st.integers(1, 2**128 - 1),
    span_id=st.integers(1, 2**64 - 1),
    is_remote=st.booleans(),
    trace_flags=st.just(TraceFlags(1)),
    trace_state=st.sampled_from([None, trace.TraceState([("vendor", "x")])]),
)
SCOPES = st.one_of(
    st.none(),
    st.builds(
        InstrumentationScope,
        name=st.sampled_from(["a", "b", ""]),
        version=st.sampled_from([None, "", "1.0"]),
        schema_url=st.sampled_from([None, "https://schema"]),
        attributes=st.just({"scope.key": 1}),
    ),
)
RESOURCES = st.builds(
    Resource,
    st.sampled_from([{}, {"service.name": "a"}, {"service.name": "b", "list": ("x", "y")}]),
    st.sampled_from(["", "https://schema"]),
)
EVENTS = st.builds(Event, name=TEXT, attributes=ATTRIBUTES, timestamp=UINT64)
LINKS = st.builds(Link, context=CONTEXTS, attributes=ATTRIBUTES)
STATUSES = st.one_of(
    st.builds(Status, st.just(StatusCode.ERROR), st.one_of(st.none(), TEXT)),
    st.sampled_from([Status(StatusCode.UNSET), Status(StatusCode.OK)]),
)
SPANS = st.builds(
    ReadableSpan,
    name=TEXT,
    context=CONTEXTS,
    parent=st.one_of(st.none(), CONTEXTS),
    resource=RESOURCES,
    attributes=ATTRIBUTES,
    events=st.lists(EVENTS, max_size=2),
    links=st.lists(LINKS, max_size=2),
    kind=st.sampled_from(SpanKind),
    status=STATUSES,
    start_time=st.one_of(st.just(0), UINT64),
    end_time=st.one_of(st.none(), UINT64),
    instrumentation_scope=SCOPES,
)
RECORDS = st.builds(
    LogRecord,
    timestamp=st.one_of(st.none(), UINT64),
    observed_timestamp=st.one_of(st.just(0), UINT64),
    severity_text=st.one_of(st.none(), TEXT),
    severity_number=st.one_of(st.none(), st.sampled_from(SeverityNumber)),
    body=VALUES,
    attributes=ATTRIBUTES,
    event_name=st.one_of(st.none(), TEXT),
)
LOGS = st.builds(
    ReadableLogRecord, log_record=RECORDS, resource=RESOURCES, instrumentation_scope=SCOPES
)


def official_spans(spans: Any) -> bytes:
    """The oracle for spans."""
    request: bytes = encode_spans(spans).SerializeToString()
    return request


def official_logs(records: Any) -> bytes:
    """The oracle for log records."""
    request: bytes = encode_logs(records).SerializeToString()
    return request


@settings(max_examples=150, deadline=None)
@given(st.lists(SPANS, max_size=3))
def test_spans_are_the_same_bytes(spans: list[ReadableSpan]) -> None:
    """Any mixture of values, parents, events, links, resources and scopes."""
    assert fast_encoding.spans_request(spans) == official_spans(spans)


@settings(max_examples=150, deadline=None)
@given(st.lists(LOGS, max_size=3))
def test_log_records_are_the_same_bytes(records: list[ReadableLogRecord]) -> None:
    """Any mixture of bodies, severities, times, resources and scopes."""
    assert fast_encoding.logs_request(records) == official_logs(records)


@given(st.integers(0, 2**64 - 1))
def test_varints_read_back(number: int) -> None:
    """The base-128 digits give the number again, with none to spare."""
    encoded = wire.varint(number)
    assert sum((byte & 127) << 7 * place for place, byte in enumerate(encoded)) == number
    assert all(byte > 127 for byte in encoded[:-1])
    assert encoded[-1] < 128


class _Keeping(SpanExporter):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Any) -> Any:
        self.spans.extend(spans)

    def shutdown(self) -> None: ...


def test_real_spans_take_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ordinary spans of a real SDK never need the official encoder, and are its bytes."""
    keeping = _Keeping()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(keeping))
    tracer = provider.get_tracer("test", "1", attributes={"scope": True})
    with tracer.start_as_current_span("invoke_agent desk") as outer:
        for number in (1, 127, 128, 16383, 16384, -1):
            attributes = {"n": number, "s": "x" * abs(number), "f": 0.5, "b": False, "l": ("a",)}
            with tracer.start_as_current_span("chat", attributes=attributes) as span:
                span.add_event("retry", {"attempt": number})
                span.set_status(StatusCode.ERROR, "too slow")
        outer.set_attribute("messages", [{"role": "user", "parts": [{"content": "é" * 300}]}])
    provider.shutdown()
    expected = official_spans(keeping.spans)

    def never(_: Any) -> None:
        pytest.fail("the official encoder was asked")

    monkeypatch.setattr(fast_encoding, "encode_spans", never)
    assert fast_encoding.spans_request(keeping.spans) == expected


@pytest.mark.parametrize(
    "value", [2**63, -(2**63) - 1, "half a \ud800", {1: "key"}, {"": 1}, object(), frozenset("a")]
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_is_unusual_is_left_to_the_official_encoder(value: Any) -> None:
    """Values that protobuf or OTLP cannot hold are dropped as the official encoder drops them."""
    context = SpanContext(1, 2, is_remote=False)
    span = ReadableSpan(
        "s", context, attributes={"good": 1, "odd": value}, start_time=1, end_time=2
    )
    assert fast_encoding.spans_request([span]) == official_spans([span])


def test_the_caches_are_bounded() -> None:
    """Names and values without end do not fill the memory, nor change the bytes."""
    context = SpanContext(1, 2, is_remote=False)
    for number in range(3 * wire._CACHE_SIZE):
        wire.attributes(b"\x4a", {f"key {number}": f"value {number}"}, [])
    assert len(wire._keys) <= wire._CACHE_SIZE
    assert len(wire._strings) <= wire._CACHE_SIZE
    span = ReadableSpan("s", context, attributes={"key 1": "value 1"}, start_time=1, end_time=2)
    assert fast_encoding.spans_request([span]) == official_spans([span])
