"""The OTLP-JSON file: every line is one request, as the specification writes it."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from llmspell_exporters.exit_budget import Budget
from llmspell_exporters.jsonfile import FileMetricExporter, FileSender, FileSpanExporter
from llmspell_exporters.ledger import Ledger, Signal
from tests.exporters.support import make_spans
from tests.exporters.test_spool import largest_file


def lines(path: Path) -> list[dict[str, Any]]:
    """The requests of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def spans_of(path: Path) -> list[dict[str, Any]]:
    """The spans of a file."""
    return [
        span
        for request in lines(path)
        for resource in request["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


def write_spans(path: Path, *batches: int) -> Ledger:
    """Write batches of spans to *path* through a real provider."""
    ledger = Ledger()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(FileSpanExporter(path, ledger=ledger)))
    for count in batches:
        make_spans(provider, count)
        provider.force_flush()
    provider.shutdown()
    return ledger


def test_a_request_is_one_line_with_hex_ids(tmp_path: Path) -> None:
    """Ids in hex, enums as numbers, 64-bit integers as strings: the proto3 JSON of OTLP."""
    ledger = write_spans(tmp_path / "out.jsonl", 2, 3)
    assert ledger.snapshot()["traces"].acknowledged == 5
    assert len(lines(tmp_path / "out.jsonl")) == 2
    span = spans_of(tmp_path / "out.jsonl")[0]
    assert len(bytes.fromhex(span["traceId"])) == 16
    assert len(bytes.fromhex(span["spanId"])) == 8
    assert span["kind"] == 1
    assert isinstance(span["startTimeUnixNano"], str)
    assert span["attributes"][1] == {"key": "number", "value": {"intValue": "0"}}


def test_it_reads_back_as_the_same_request(tmp_path: Path) -> None:
    """Put the ids back in base64 and protobuf's own reader finds the message that was sent."""
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    span.name, span.trace_id, span.span_id, span.parent_span_id = (
        "é\n\x00 \U0001f600",
        bytes(range(16)),
        bytes(8),
        b"\xff" * 8,
    )
    # An attribute called like an id, and bytes that are no id, stay as they are.
    span.attributes.add(key="traceId").value.bytes_value = b"\x00\x01"
    span.links.add(trace_id=b"\x01" * 16, span_id=b"\x02" * 8)
    sender = FileSender(Signal.TRACES, tmp_path / "out.jsonl")
    sender.send(request.SerializeToString(), 0.0)
    (plain,) = lines(tmp_path / "out.jsonl")

    def unhex(value: Any) -> Any:
        if isinstance(value, dict):
            ids = {"traceId", "spanId", "parentSpanId"}
            return {
                key: base64.b64encode(bytes.fromhex(each)).decode() if key in ids else unhex(each)
                for key, each in value.items()
            }
        return [unhex(each) for each in value] if isinstance(value, list) else value

    assert ParseDict(unhex(plain), ExportTraceServiceRequest()) == request


def test_metrics_are_written_too(tmp_path: Path) -> None:
    """A reader's last collection is in the file when the provider has shut down."""
    exporter = FileMetricExporter(
        tmp_path / "out.jsonl", ledger=Ledger(), shutdown_budget=Budget(5.0)
    )
    provider = MeterProvider([PeriodicExportingMetricReader(exporter)], shutdown_on_exit=False)
    provider.get_meter("t").create_counter("calls").add(3)
    provider.shutdown()
    (request,) = lines(tmp_path / "out.jsonl")
    (metric,) = request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]
    assert metric["name"] == "calls"
    assert metric["sum"]["dataPoints"][0]["asInt"] == "3"


def test_a_torn_line_spoils_no_other(tmp_path: Path) -> None:
    """A disk full in mid-line: the batch is written again, behind the torn line."""
    path = tmp_path / "out.jsonl"
    sender = FileSender(Signal.TRACES, path)
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(name="x" * 500)
    with largest_file(200):
        assert "200 of" in sender.send(request.SerializeToString(), 0.0).message
    sender.send(request.SerializeToString(), 0.0)
    torn, whole = path.read_text().splitlines()
    assert len(torn) == 200
    assert json.loads(whole)["resourceSpans"]


def test_a_file_that_cannot_be_written_is_counted(tmp_path: Path) -> None:
    """The program goes on; what was not written by the end is lost."""
    ledger = write_spans(tmp_path / "no such folder" / "out.jsonl", 4)
    assert ledger.snapshot()["traces"].lost == {"shutdown": 4}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_plain_program_uses_it_by_name(tmp_path: Path) -> None:
    """`OTEL_TRACES_EXPORTER=llmspell_file` and a path are all it takes."""
    program = """
from opentelemetry import trace
from opentelemetry.sdk._configuration import _initialize_components
_initialize_components()
trace.get_tracer("t").start_span("work").end()
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            "OTEL_TRACES_EXPORTER": "llmspell_file",
            "LLMSPELL_OTEL_FILE": str(tmp_path / "out.jsonl"),
            "PATH": "/usr/bin:/bin",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [span["name"] for span in spans_of(tmp_path / "out.jsonl")] == ["work"]
