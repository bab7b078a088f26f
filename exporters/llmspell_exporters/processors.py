"""Batch processors for spans and log records, in place of the SDK's, with exact books.

Read the same variables (`OTEL_BSP_*`, `OTEL_BLRP_*`) but `…_EXPORT_TIMEOUT`, which the SDK does
not use either.
"""

import copy
from typing import Any, Final, TypedDict, Unpack

from opentelemetry.context import Context
from opentelemetry.sdk._logs import LogRecordProcessor, ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from llmspell_exporters.batching import AHEAD, Batcher
from llmspell_exporters.exit_budget import number
from llmspell_exporters.otlp import LedgeredLogExporter, LedgeredSpanExporter, Pipe

QUEUE: Final = 2048
BATCH: Final = 512


class Limits(TypedDict, total=False):
    """A batch processor's limits; what is left out comes from the environment.

    Attributes:
        queue: records that may wait.
        batch: records sent together.
        delay: seconds after which a smaller batch is sent.
        ahead: bytes that threads that find a full queue may encode ahead of the worker.
    """

    queue: int
    batch: int
    delay: float
    ahead: int


def _batcher(pipe: Pipe, prefix: str, delay_ms: float, **limits: Unpack[Limits]) -> Batcher[Any]:
    limits.setdefault("queue", int(number(f"{prefix}_MAX_QUEUE_SIZE", QUEUE)))
    limits.setdefault("batch", int(number(f"{prefix}_MAX_EXPORT_BATCH_SIZE", BATCH)))
    limits.setdefault("delay", number(f"{prefix}_SCHEDULE_DELAY", delay_ms) / 1000)
    limits.setdefault("ahead", AHEAD)
    return Batcher(pipe, **limits)


class LedgeredSpanProcessor(SpanProcessor):
    """Exports sampled spans in batches.

    Args:
        exporter: one of `llmspell_exporters.otlp`.
        limits: see `Limits`.
    """

    def __init__(self, exporter: LedgeredSpanExporter, **limits: Unpack[Limits]) -> None:
        self.span_exporter = exporter
        self._batcher: Batcher[ReadableSpan] = _batcher(exporter.pipe, "OTEL_BSP", 5000, **limits)

    def on_end(self, span: ReadableSpan) -> None:
        """Queue *span*."""
        if span.context is not None and span.context.trace_flags.sampled:
            self._batcher.put(span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Deliver all that has ended; False if that takes more than *timeout_millis*."""
        return self._batcher.flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Deliver what the shutdown budget allows; store or count the rest."""
        self._batcher.shutdown()


class LedgeredLogProcessor(LogRecordProcessor):
    """Exports log records in batches.

    Args:
        exporter: one of `llmspell_exporters.otlp`.
        limits: see `Limits`.
    """

    def __init__(self, exporter: LedgeredLogExporter, **limits: Unpack[Limits]) -> None:
        self._batcher: Batcher[ReadableLogRecord] = _batcher(
            exporter.pipe, "OTEL_BLRP", 1000, **limits
        )

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Queue *log_record*, without the context it holds on to."""
        record = copy.copy(log_record.log_record)
        record.context = Context()
        self._batcher.put(
            ReadableLogRecord(
                log_record=record,
                resource=log_record.resource or Resource.create({}),
                instrumentation_scope=log_record.instrumentation_scope,
                limits=log_record.limits,
            )
        )

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Deliver all that was emitted; False if that takes more than *timeout_millis*."""
        return self._batcher.flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Deliver what the shutdown budget allows; store or count the rest."""
        self._batcher.shutdown()


def span_processor(span_exporter: SpanExporter, *args: Any, **options: Any) -> SpanProcessor:
    """The processor that fits *span_exporter*: ours for ours, the SDK's for any other.

    It has the shape that the SDK's configurator wants for `export_span_processor`.
    """
    if isinstance(span_exporter, LedgeredSpanExporter):
        return LedgeredSpanProcessor(span_exporter)
    return BatchSpanProcessor(span_exporter, *args, **options)


def log_processor(exporter: LogRecordExporter, *args: Any, **options: Any) -> LogRecordProcessor:
    """The processor that fits *exporter*: ours for ours, the SDK's for any other.

    It has the shape that the SDK's configurator wants for `export_log_record_processor`.
    """
    if isinstance(exporter, LedgeredLogExporter):
        return LedgeredLogProcessor(exporter)
    return BatchLogRecordProcessor(exporter, *args, **options)
