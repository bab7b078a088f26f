"""OTLP in JSON, one request a line, in a file: for development, tests and the collector.

`OTEL_TRACES_EXPORTER=llmspell_file`, metrics and logs alike; `LLMSPELL_OTEL_FILE` names the file
(`llmspell-otel.jsonl`). The collector's `otlp_json_file` receiver reads it.
Source: https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/.
"""

import base64
import json
import os
from pathlib import Path
from threading import Lock
from typing import Any, Final, Unpack

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from llmspell_exporters.answers import Answer, Verdict, again
from llmspell_exporters.ledger import Signal
from llmspell_exporters.otlp import (
    LedgeredLogExporter,
    LedgeredMetricExporter,
    LedgeredSpanExporter,
    Options,
)

VARIABLE: Final = "LLMSPELL_OTEL_FILE"
DEFAULT: Final = "llmspell-otel.jsonl"
_REQUESTS: Final[dict[Signal, Any]] = {
    Signal.TRACES: ExportTraceServiceRequest,
    Signal.METRICS: ExportMetricsServiceRequest,
    Signal.LOGS: ExportLogsServiceRequest,
}
_IDS: Final = frozenset({"traceId", "spanId", "parentSpanId"})


def line(signal: Signal, body: bytes) -> bytes:
    """One encoded request as a line of OTLP's JSON: ids in hex, enums as numbers."""
    request = _REQUESTS[signal].FromString(body)
    plain = _with_hex_ids(MessageToDict(request, use_integers_for_enums=True))
    text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace") + b"\n"


def _with_hex_ids(value: Any) -> Any:
    # Attributes are lists of key and value, so no attribute's name is taken for an id.
    if isinstance(value, dict):
        return {
            key: base64.b64decode(each).hex() if key in _IDS else _with_hex_ids(each)
            for key, each in value.items()
        }
    return [_with_hex_ids(each) for each in value] if isinstance(value, list) else value


class FileSender:
    """Appends to a file; several processes may append to the same one."""

    def __init__(self, signal: Signal, path: str | Path | None = None) -> None:
        self._signal = signal
        self.path = Path(path or os.environ.get(VARIABLE, "").strip() or DEFAULT)
        self._torn = False
        self.reset()

    def reset(self) -> None:
        """Nothing is kept open; only the lock is new in the child of a fork."""
        self._lock = Lock()

    def send(self, body: bytes, deadline: float) -> Answer:
        """Append *body* as one line, in one write. Never raises."""
        del deadline
        try:
            with self._lock:
                self._append(line(self._signal, body))
        except OSError as error:
            return again("file", f"{self.path}: {error.strerror or error}")
        return Answer(verdict=Verdict.TAKEN)

    def _append(self, written: bytes) -> None:
        # What was torn by a full disk is ended, so that it spoils no line but its own.
        whole = b"\n" + written if self._torn else written
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            count = os.write(descriptor, whole)
        finally:
            os.close(descriptor)
        self._torn = count < len(whole)
        if self._torn:
            raise OSError(f"only {count} of {len(whole)} bytes were written")

    def abort(self) -> None:
        """A write cannot be ended early."""

    def close(self) -> None:
        """Nothing is kept open."""


class FileSpanExporter(LedgeredSpanExporter):
    """Writes spans; *path* names the file, other options are `Pipe`'s."""

    def __init__(self, path: str | Path | None = None, **options: Unpack[Options]) -> None:
        options.setdefault("store", None)
        options.setdefault("sender", FileSender(Signal.TRACES, path))
        super().__init__(**options)


class FileLogExporter(LedgeredLogExporter):
    """Writes log records; *path* names the file, other options are `Pipe`'s."""

    def __init__(self, path: str | Path | None = None, **options: Unpack[Options]) -> None:
        options.setdefault("store", None)
        options.setdefault("sender", FileSender(Signal.LOGS, path))
        super().__init__(**options)


class FileMetricExporter(LedgeredMetricExporter):
    """Writes metrics; *path* names the file, other options are `Pipe`'s."""

    def __init__(self, path: str | Path | None = None, **options: Unpack[Options]) -> None:
        options.setdefault("store", None)
        options.setdefault("sender", FileSender(Signal.METRICS, path))
        super().__init__(**options)
