"""A small real OTLP receiver, over HTTP and gRPC, which keeps what it gets and can misbehave.

```python
with OtlpReceiver() as receiver:
    exporter = OTLPSpanExporter(endpoint=f"{receiver.http_endpoint}/v1/traces")
    ...
    receiver.wait_for(spans=1)
    assert receiver.span("chat gpt-4o").attributes["gen_ai.provider.name"] == "openai"
```
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from threading import Condition
from typing import Any, Self, TypeVar

from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb2

from tests.kit import otlp_records as records
from tests.kit.otlp_faults import Fault
from tests.kit.otlp_transport import GrpcListener, HttpListener

GOOD = Fault()
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Signal:
    """How one signal is read, answered, and what the count of its rejected records is called."""

    request: Callable[[], Any]
    response: Callable[[], Any]
    decode: Callable[[Any], Iterable[records.Origin]]
    rejected: str


SIGNALS = {
    "traces": Signal(
        trace_pb2.ExportTraceServiceRequest,
        trace_pb2.ExportTraceServiceResponse,
        records.spans_of,
        "rejected_spans",
    ),
    "metrics": Signal(
        metrics_pb2.ExportMetricsServiceRequest,
        metrics_pb2.ExportMetricsServiceResponse,
        records.metrics_of,
        "rejected_data_points",
    ),
    "logs": Signal(
        logs_pb2.ExportLogsServiceRequest,
        logs_pb2.ExportLogsServiceResponse,
        records.logs_of,
        "rejected_log_records",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One export request as it came in; *records* is empty if the receiver refused it."""

    signal: str
    protocol: str
    headers: Mapping[str, str]
    size: int
    at: float
    fault: Fault | None
    records: tuple[records.Origin, ...]


class OtlpReceiver:
    """Receives traces, metrics and logs on ephemeral loopback ports.

    Args:
        grpc: whether to listen on gRPC too; HTTP (protobuf, gzip and deflate) is always there.
    """

    def __init__(self, *, grpc: bool = True) -> None:
        self._changed = Condition()
        self._exports: list[Export] = []
        self._faults: deque[tuple[str | None, Fault]] = deque()
        self._standing: dict[str | None, Fault] = {}
        self._http = HttpListener(self._receive)
        self._grpc = GrpcListener(self._receive) if grpc else None

    def __enter__(self) -> Self:
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- where it listens ---------------------------------------------------------------------

    @property
    def http_endpoint(self) -> str:
        """The base URL for OTLP/HTTP; exporters add `/v1/traces` and so on."""
        return f"http://127.0.0.1:{self._http.port}"

    @property
    def grpc_endpoint(self) -> str:
        """The URL for OTLP/gRPC, without TLS."""
        if self._grpc is None:
            message = "this receiver was made with grpc=False"
            raise RuntimeError(message)
        return f"http://127.0.0.1:{self._grpc.port}"

    def environment(self, protocol: str = "http/protobuf") -> dict[str, str]:
        """The `OTEL_*` variables that send a process's three signals here."""
        endpoint = self.grpc_endpoint if protocol == "grpc" else self.http_endpoint
        return {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_LOGS_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        }

    # --- how it behaves -----------------------------------------------------------------------

    def misbehave(self, *faults: Fault, signal: str | None = None) -> None:
        """Answer the next exports (of *signal*) with *faults*, one each, then well again."""
        with self._changed:
            self._faults.extend((signal, fault) for fault in faults)

    def keep_misbehaving(self, fault: Fault, *, signal: str | None = None) -> None:
        """Answer every export (of *signal*) with *fault* until `behave` is called."""
        with self._changed:
            self._standing[signal] = fault

    def behave(self) -> None:
        """Forget all faults, and accept connections again."""
        with self._changed:
            self._faults.clear()
            self._standing.clear()
        self.accept()

    def refuse(self) -> None:
        """Refuse connections on the same ports, as a collector that is down does."""
        for listener in self._listeners():
            listener.stop()

    def accept(self) -> None:
        """Listen; does nothing where it already does."""
        for listener in self._listeners():
            listener.start()

    def close(self) -> None:
        """Stop listening, end what hangs, and give the ports back."""
        self.refuse()
        for listener in self._listeners():
            listener.release()

    # --- what it got --------------------------------------------------------------------------

    @property
    def exports(self) -> tuple[Export, ...]:
        """Every export request, refused ones too, in order of arrival."""
        with self._changed:
            return tuple(self._exports)

    def spans(self, name: str | None = None, **attributes: Any) -> list[records.Span]:
        """The spans received, by name and attributes (`__` stands for `.`), in order."""
        return _matching(self._received(records.Span), "name", name, attributes)

    def span(self, name: str | None = None, **attributes: Any) -> records.Span:
        """The one span that matches."""
        return _only("span", name, self.spans(name, **attributes), self._received(records.Span))

    def metrics(self, name: str | None = None) -> list[records.Metric]:
        """Every metric of every export, in order."""
        return _matching(self._received(records.Metric), "name", name, {})

    def metric(self, name: str) -> records.Metric:
        """The metric as last exported."""
        found = self.metrics(name)
        return _only("metric", name, found[-1:], self._received(records.Metric))

    def points(self, name: str, **attributes: Any) -> list[records.Point]:
        """The points of a metric as last exported, by attributes (`__` stands for `.`)."""
        return _matching(list(self.metric(name).points), "", None, attributes)

    def logs(self, event_name: str | None = None, **attributes: Any) -> list[records.Log]:
        """The log records received, by event name and attributes, in order."""
        return _matching(self._received(records.Log), "event_name", event_name, attributes)

    def clear(self) -> None:
        """Forget what was received."""
        with self._changed:
            self._exports.clear()

    def wait_for(
        self, spans: int = 0, *, metrics: int = 0, logs: int = 0, timeout: float = 5.0
    ) -> None:
        """Wait until at least so many records of each signal are there.

        Raises:
            TimeoutError: after *timeout* seconds; it says what is there.
        """
        self.wait_until(
            lambda seen: (
                len(seen.spans()) >= spans
                and len(seen.metrics()) >= metrics
                and len(seen.logs()) >= logs
            ),
            timeout=timeout,
        )

    def wait_until(self, condition: Callable[[Self], bool], *, timeout: float = 5.0) -> None:
        """Wait until *condition* holds of this receiver; it is asked after every export.

        Raises:
            TimeoutError: after *timeout* seconds; it says what is there.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self), timeout):
                raise TimeoutError(f"after {timeout} s the receiver has {self._summary()}")

    # --- within -------------------------------------------------------------------------------

    def _listeners(self) -> list[HttpListener | GrpcListener]:
        return [self._http] if self._grpc is None else [self._http, self._grpc]

    def _received(self, kind: type[R]) -> list[R]:
        with self._changed:
            return [
                each
                for export in self._exports
                for each in export.records
                if isinstance(each, kind)
            ]

    def _summary(self) -> str:
        names = [span.name for span in self.spans()]
        return (
            f"{len(names)} spans {names[:20]}, {len(self.metrics())} metrics, "
            f"{len(self.logs())} log records in {len(self.exports)} exports"
        )

    def _receive(
        self, signal: str, protocol: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[Fault, bytes]:
        """Keep one export and say how to answer it.

        Raises:
            ValueError: the body is not the message that the signal asks for.
        """
        request = SIGNALS[signal].request()
        try:
            request.ParseFromString(body)
            decoded = tuple(SIGNALS[signal].decode(request))
        except Exception as error:
            raise ValueError(str(error)) from error
        with self._changed:
            fault = self._next_fault(signal)
            export = Export(
                signal=signal,
                protocol=protocol,
                headers=headers,
                size=len(body),
                at=time.monotonic(),
                fault=fault,
                records=decoded if fault is None or fault.accepts else (),
            )
            self._exports.append(export)
            self._changed.notify_all()
        return fault or GOOD, _answer(SIGNALS[signal], fault or GOOD)

    def _next_fault(self, signal: str) -> Fault | None:
        for index, (meant, fault) in enumerate(self._faults):
            if meant in (None, signal):
                del self._faults[index]
                return fault
        return self._standing.get(signal) or self._standing.get(None)


def _answer(signal: Signal, fault: Fault) -> bytes:
    if fault.body is not None:
        return fault.body
    response = signal.response()
    if fault.rejected:
        setattr(response.partial_success, signal.rejected, fault.rejected)
    if fault.message:
        response.partial_success.error_message = fault.message
    encoded: bytes = response.SerializeToString()
    return encoded


def _matching(
    found: list[R], key: str, wanted: str | None, attributes: Mapping[str, Any]
) -> list[R]:
    expected = {name.replace("__", "."): value for name, value in attributes.items()}
    return [
        each
        for each in found
        if (wanted is None or getattr(each, key) == wanted)
        and all(
            each.attributes.get(name) == value  # type: ignore[attr-defined]
            for name, value in expected.items()
        )
    ]


def _only(kind: str, name: str | None, found: list[R], everything: list[Any]) -> R:
    if len(found) == 1:
        return found[0]
    there = sorted({each.name for each in everything})
    raise LookupError(f"{len(found)} {kind}s match {name!r}; received were {there}")
