"""OTLP exporters for the three signals, over HTTP and gRPC, with exact books.

They take the place of the official exporters under any OpenTelemetry SDK:

    OTEL_TRACES_EXPORTER=llmspell_otlp OTEL_METRICS_EXPORTER=llmspell_otlp …

The bytes are the official encoder's. The sending is ours: the official clients report a partial
success and an unreadable answer as success, give a batch up after ten seconds, and may hold a
process for thirty.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Unpack, cast

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    MetricExportResult,
    MetricsData,
)
from opentelemetry.sdk.metrics.view import Aggregation
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from llmspell_exporters import encoding
from llmspell_exporters.delivery import MEMORY, Delivery, Parcel, Sender, Store
from llmspell_exporters.destination import Destination, Overrides, Protocol, destination
from llmspell_exporters.exit_budget import Budget, budget, exiting
from llmspell_exporters.ledger import Ledger, Signal
from llmspell_exporters.ledger import ledger as process_ledger
from llmspell_exporters.temporality import preferred_aggregation, preferred_temporality

PATIENCE: Final = 2.5
"""Seconds that `export` waits for the receiver, so that the SDK's `force_flush` means something."""
_LOOK: Final = 0.05  # seconds between looks whether the interpreter is on its way out


class Options(Overrides, total=False):
    """How an exporter is made; whatever is left out comes from the environment.

    Attributes:
        sender: brings batches to their receiver; over HTTP or gRPC unless given.
        store: keeps batches on disk; None for none.
        memory: bytes of encoded batches kept in memory while the receiver cannot take them.
        ledger: whose books to keep; the process's own unless given.
        shutdown_budget: the deadline shared by all that shuts down; the process's unless given.
    """

    sender: Sender
    store: Store | None
    memory: int
    ledger: Ledger
    shutdown_budget: Budget


class Pipe:
    """One signal's way out: encode, account, deliver.

    Args:
        signal: traces, logs or metrics.
        encode: makes an OTLP request of a batch.
        options: see `Options`.
    """

    def __init__(
        self, signal: Signal, encode: Callable[[Any], bytes], **options: Unpack[Options]
    ) -> None:
        store = options.pop("store") if "store" in options else _spool()
        memory = options.pop("memory", MEMORY)
        sender = options.pop("sender", None)
        self._budget = options.pop("shutdown_budget", budget)
        self.ledger = options.pop("ledger", process_ledger)
        self.ledger.observe()
        self._keep_books()
        self.book = self.ledger.book(signal)
        self.to = destination(signal, **cast("Overrides", options))
        self._encode = encode
        self._closed = self._slow = False
        self.delivery = Delivery(
            sender or sender_to(self.to),
            self.book,
            store=store,
            timeout=self.to.timeout,
            memory=memory,
        )

    def enqueue(self, batch: Sequence[Any]) -> list[Parcel]:
        """Encode *batch*, whose records are queued in the books, and hand it over."""
        return self.submit(self.encoded(batch))

    def encoded(self, batch: Sequence[Any]) -> list[tuple[bytes, int]]:
        """*batch* as requests, each with how many records it has; nothing is handed over yet."""
        return list(encoding.encoded(self._encode, batch, self.book))

    def submit(self, parts: Sequence[tuple[bytes, int]]) -> list[Parcel]:
        """Hand over what is `encoded`."""
        self._keep_books()  # again, in the child of a fork
        return [self.delivery.submit(body, count) for body, count in encoding.joined(parts)]

    def export(self, batch: Any, count: int, timeout: float | None) -> bool:
        """Account for *batch* and hand it over; wait for its first attempt up to *timeout*.

        Returns:
            Whether the receiver has taken it, or it is kept and will be sent again.
        """
        self.book.make(count)
        if self._closed:
            self.book.lose(count, "shutdown")
            return False
        if isinstance(batch, MetricsData):
            self._keep_books()
            try:
                parcels = [self.delivery.submit(self._encode(batch), count)]
            except Exception as error:
                self.book.lose(count, "encode_error", f"{type(error).__name__}: {error}")
                return False
        else:
            parcels = self.enqueue(batch)
        kept = [self._wait(parcel, timeout or 0.0) for parcel in parcels]
        return bool(kept) and all(kept)

    def flush(self, timeout: float) -> bool:
        """Wait until everything is delivered; False if that takes more than *timeout* seconds."""
        return self.delivery.flush(timeout)

    def begin_shutdown(self) -> float:
        """Start or join the shutdown of all that shuts down together; its deadline, monotonic."""
        return self._budget.begin()

    def shutdown(self, timeout: float = math.inf) -> None:
        """Deliver what the shutdown budget allows; store or count the rest."""
        if not self._closed:
            self._closed = True
            self.delivery.close(min(self._budget.begin(), time.monotonic() + timeout))
            self._budget.end()

    def _keep_books(self) -> None:
        if self.ledger is process_ledger:
            with suppress(ImportError):  # no file locks on this system
                from llmspell_exporters.books import keeper

                keeper.start()

    def _wait(self, parcel: Parcel, timeout: float) -> bool:
        # Who waited in vain does not wait again before the receiver has said something.
        deadline = time.monotonic() + (0.0 if self._slow else timeout)
        while True:
            remaining = deadline - time.monotonic()
            kept = self.delivery.wait(parcel, max(min(remaining, _LOOK), 0.0))
            decided = parcel.settled or self.delivery.failing
            # The SDK joins this thread for up to 30 s at exit: our own budget is the shorter one.
            if decided or remaining <= 0 or exiting():
                self._slow = not decided
                return kept


def _spool() -> Store | None:
    try:
        from llmspell_exporters.spool import configured
    except ImportError:  # no file locks on this system
        return None
    return configured()


def sender_to(to: Destination) -> Sender:
    """What brings batches there, over HTTP or gRPC."""
    if to.protocol == "grpc":
        from llmspell_exporters.over_grpc import GrpcSender

        return GrpcSender(to)
    from llmspell_exporters.over_http import HttpSender

    return HttpSender(to)


class LedgeredSpanExporter(SpanExporter):
    """Exports spans; arguments as for `Pipe`."""

    protocol: Protocol | None = None

    def __init__(self, **options: Unpack[Options]) -> None:
        options.setdefault("protocol", self.protocol)
        self.pipe = Pipe(Signal.TRACES, encoding.spans_request, **options)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send *spans*; waits up to `PATIENCE` for the first attempt, and keeps what it can."""
        good = self.pipe.export(spans, len(spans), PATIENCE)
        return SpanExportResult.SUCCESS if good else SpanExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until everything is delivered, for at most *timeout_millis*."""
        return self.pipe.flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Deliver what the shutdown budget allows; store or count the rest."""
        self.pipe.shutdown()


class LedgeredLogExporter(LogRecordExporter):
    """Exports log records; arguments as for `Pipe`."""

    protocol: Protocol | None = None

    def __init__(self, **options: Unpack[Options]) -> None:
        options.setdefault("protocol", self.protocol)
        self.pipe = Pipe(Signal.LOGS, encoding.logs_request, **options)

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Send *batch*; waits up to `PATIENCE` for the first attempt, and keeps what it can."""
        good = self.pipe.export(batch, len(batch), PATIENCE)
        return LogRecordExportResult.SUCCESS if good else LogRecordExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until everything is delivered, for at most *timeout_millis*."""
        return self.pipe.flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Deliver what the shutdown budget allows; store or count the rest."""
        self.pipe.shutdown()


class LedgeredMetricExporter(MetricExporter):
    """Exports metrics; arguments as for `Pipe`, and the SDK's two preferences."""

    protocol: Protocol | None = None

    def __init__(
        self,
        *,
        preferred_temporality: Mapping[type, AggregationTemporality] | None = None,
        preferred_aggregation: Mapping[type, Aggregation] | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(
            preferred_temporality={**_temporality(), **(preferred_temporality or {})},
            preferred_aggregation={**_aggregation(), **(preferred_aggregation or {})},
        )
        options.setdefault("protocol", self.protocol)
        self.pipe = Pipe(Signal.METRICS, encoding.metrics_request, **options)

    def export(
        self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **_: Any
    ) -> MetricExportResult:
        """Hand *metrics_data* over; does not wait, since the reader flushes and shuts us down."""
        del timeout_millis
        good = self.pipe.export(metrics_data, encoding.count_points(metrics_data), None)
        return MetricExportResult.SUCCESS if good else MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Wait until everything is delivered, for at most *timeout_millis*."""
        return self.pipe.flush(timeout_millis / 1000)

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """Deliver what *timeout_millis* and the shutdown budget allow; store or count the rest."""
        self.pipe.shutdown(timeout_millis / 1000)


_temporality, _aggregation = preferred_temporality, preferred_aggregation


class HttpSpanExporter(LedgeredSpanExporter):
    """Exports spans over HTTP, whatever `OTEL_EXPORTER_OTLP_PROTOCOL` says."""

    protocol = "http/protobuf"


class HttpLogExporter(LedgeredLogExporter):
    """Exports log records over HTTP, whatever `OTEL_EXPORTER_OTLP_PROTOCOL` says."""

    protocol = "http/protobuf"


class HttpMetricExporter(LedgeredMetricExporter):
    """Exports metrics over HTTP, whatever `OTEL_EXPORTER_OTLP_PROTOCOL` says."""

    protocol = "http/protobuf"


class GrpcSpanExporter(LedgeredSpanExporter):
    """Exports spans over gRPC, whatever `OTEL_EXPORTER_OTLP_PROTOCOL` says."""

    protocol = "grpc"


class GrpcLogExporter(LedgeredLogExporter):
    """Exports log records over gRPC, whatever `OTEL_EXPORTER_OTLP_PROTOCOL` says."""

    protocol = "grpc"


class GrpcMetricExporter(LedgeredMetricExporter):
    """Exports metrics over gRPC, whatever `OTEL_EXPORTER_OTLP_PROTOCOL` says."""

    protocol = "grpc"
