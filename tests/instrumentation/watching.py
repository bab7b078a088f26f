"""Telemetry as the adapters' tests look at it: real spans, through the real SDK."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from llmspell_otel.telemetry.capture import CaptureMode
from llmspell_otel.telemetry.spans import SpanBridge


class Watching(SpanBridge):
    """Makes spans of operations, with content, and keeps them in memory."""

    captures = True

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        super().__init__(self.provider, capture=CaptureMode.SPAN_ONLY)

    def price(self, attributes: Mapping[str, Any]) -> Decimal | None:
        """Nothing costs anything here."""
        del attributes
        return None

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """The spans that have ended."""
        return self.exporter.get_finished_spans()

    @property
    def names(self) -> list[str]:
        """Their names, in the order in which they ended."""
        return [span.name for span in self.spans]

    @property
    def only(self) -> dict[str, Any]:
        """The attributes of the one span there is."""
        (span,) = self.spans
        return dict(span.attributes or {})

    def named(self, name: str) -> ReadableSpan:
        """The one span of that *name*."""
        (span,) = [one for one in self.spans if one.name == name]
        return span
