"""`llmspell-otel events export --otlp`: recorded events, sent as the traces that they tell of."""

from collections.abc import Iterable, Sequence
from typing import Final

from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from llmspell_exporters.ledger import Ledger
from llmspell_exporters.otlp import LedgeredSpanExporter
from llmspell_otel import __version__
from llmspell_otel.cli.findings import Finding
from llmspell_otel.events import UniversalEvent
from llmspell_otel.telemetry import SpanBridge

BATCH: Final = 512  # spans in one request


def send(events: Iterable[UniversalEvent], service_name: str | None, timeout: float) -> Finding:
    """Send the spans of *events*, with the ids and times that they had.

    Where they go, and the resource that they belong to, is said by the standard variables. All are
    sent, whatever a sampler left out in its day. Nobody's provider is touched.

    Args:
        events: In the order of their arrival.
        service_name: What `OTEL_SERVICE_NAME` would say.
        timeout: Seconds that the receiver may keep each batch waiting.
    """
    exporter = LedgeredSpanExporter(ledger=Ledger(), store=None)
    sending = _Sending(exporter, timeout)
    named = Resource.create({SERVICE_NAME: service_name} if service_name else {})
    provider = TracerProvider(ALWAYS_ON, named, shutdown_on_exit=False)
    provider.add_span_processor(sending)
    bridge = SpanBridge(provider, version=__version__)
    bridge.replay(event for event in events if sending.going)
    provider.shutdown()
    account = exporter.pipe.book.account()
    good = account.acknowledged == account.made and sending.going
    said = "".join(f"; {message}" for message in account.messages.values())
    stopped = "" if sending.going else "; given up: the receiver does not take them"
    return Finding(f"{account} sent to {exporter.pipe.to}{said}{stopped}", good=good)


class _Sending(SpanProcessor):
    """Sends spans in batches, and makes none while the receiver is behind.

    Attributes:
        going: False once the receiver has kept a batch waiting for too long.
    """

    def __init__(self, exporter: LedgeredSpanExporter, timeout: float) -> None:
        self.going = True
        self._exporter = exporter
        self._timeout = timeout
        self._batch: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        """Keep *span* until its batch is full."""
        self._batch.append(span)
        if len(self._batch) >= BATCH:
            self._send(self._batch)
            self._batch = []

    def shutdown(self) -> None:
        """Send the rest."""
        self._send(self._batch)
        self._exporter.shutdown()

    def _send(self, batch: Sequence[ReadableSpan]) -> None:
        if batch and self.going:
            self._exporter.export(batch)
            self.going = self._exporter.force_flush(int(self._timeout * 1000))
