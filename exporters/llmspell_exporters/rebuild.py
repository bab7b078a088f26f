"""`llmspell-otel events export --otlp`: recorded events, sent as the traces that they tell of."""

import json
import logging
import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from llmspell_exporters.ledger import Ledger
from llmspell_exporters.otlp import LedgeredSpanExporter
from llmspell_otel import __version__
from llmspell_otel.cli.findings import Finding
from llmspell_otel.events import UniversalEvent
from llmspell_otel.telemetry import SpanBridge
from llmspell_otel.telemetry.capture import CAPTURE, CaptureMode

BATCH: Final = 512  # spans in one request

_Facts = Mapping[str, Any]


def send(
    events: Iterable[UniversalEvent],
    introductions: Iterable[UniversalEvent],
    service_name: str | None,
    timeout: float,
) -> Finding:
    """Send the spans of *events*, with the ids and times that they had.

    Where they go is said by the standard variables. All are sent, whatever a sampler left out in
    its day. Nobody's provider is touched.

    Args:
        events: In the order of their arrival.
        introductions: What the telemetry of the processes that made them said of itself. The
            resource of a process of which nothing is told is what the standard variables say.
        service_name: Overrides what is told, for all.
        timeout: Seconds that the receiver may keep each batch waiting.
    """
    exporter = LedgeredSpanExporter(ledger=Ledger(), store=None)
    sending = _Sending(exporter, timeout)
    rebuilders = Rebuilders(introductions, service_name, sending)
    with _heard() as complaints:
        for event in events:
            if not sending.going:
                break
            rebuilders.take(event)
        rebuilders.finish()
        sending.shutdown()
    account = exporter.pipe.book.account()
    if not account.made:
        return Finding("no spans: none of these events tells of an operation", good=False)
    said = "".join(f"; {message}" for message in account.messages.values())
    if not sending.going:
        reason = f" ({complaints[-1]})" if complaints else ""
        said += f"; given up: the receiver does not take them{reason}"
    good = account.acknowledged == account.made and sending.going
    return Finding(f"{account} sent to {exporter.pipe.to}{said}", good=good)


@contextmanager
def _heard() -> Generator[list[str]]:
    """What the exporter complains of, which the finding tells instead of a log."""
    logger, complaints = logging.getLogger("llmspell_exporters"), list[str]()

    def hear(record: logging.LogRecord) -> bool:
        facts = record.args if isinstance(record.args, tuple) else ()
        complaints.extend(str(fact) for fact in facts[-1:])
        return False

    logger.addFilter(hear)
    try:
        yield complaints
    finally:
        logger.removeFilter(hear)


class Rebuilders:
    """A bridge to spans for each process that made events; those alike share one."""

    def __init__(
        self,
        introductions: Iterable[UniversalEvent],
        service_name: str | None,
        processor: SpanProcessor,
    ) -> None:
        self._told = {event.origin: event.data for event in introductions}
        self._service_name = service_name
        self._processor = processor
        self._by_origin: dict[int, _Rebuilder] = {}
        self._by_facts: dict[str, _Rebuilder] = {}

    def take(self, event: UniversalEvent) -> None:
        """Let the spans of the process that made *event* go on by it."""
        rebuilder = self._by_origin.get(event.origin)
        if rebuilder is None:
            rebuilder = self._by_origin[event.origin] = self._of(event.origin)
        rebuilder.take(event)

    def finish(self) -> None:
        """End what has no end."""
        for rebuilder in self._by_facts.values():
            rebuilder.finish()

    def _of(self, origin: int) -> "_Rebuilder":
        told = self._told.get(origin)
        facts = told if isinstance(told, dict) else {}
        key = json.dumps(facts, sort_keys=True, default=str)
        if key not in self._by_facts:
            resource = _resource(facts, self._service_name)
            self._by_facts[key] = _Rebuilder(facts, resource, self._processor)
        return self._by_facts[key]


class _Rebuilder:
    """Makes spans anew that had one resource."""

    def __init__(self, facts: _Facts, resource: Resource, processor: SpanProcessor) -> None:
        provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
        provider.add_span_processor(processor)
        version = _mapping(facts.get("scope")).get("version", __version__)
        self._bridge = SpanBridge(provider, version=version, capture=_capture(facts))
        self._last = 0

    def take(self, event: UniversalEvent) -> None:
        if self._bridge.retell(event):
            self._last = max(self._last, event.timestamp)

    def finish(self) -> None:
        self._bridge.abandon(self._last)


def _resource(facts: _Facts, service_name: str | None) -> Resource:
    """As it was told, else as the standard variables say; *service_name* overrides either."""
    named = {SERVICE_NAME: service_name} if service_name else {}
    if not facts:
        return Resource.create(named)
    url = str(facts.get("schema_url") or "")
    return Resource({**_mapping(facts.get("attributes")), **named}, url)


def _capture(facts: _Facts) -> CaptureMode | None:
    """Where content went; None leaves it to the environment, which overrides what is told."""
    told = str(facts.get("content"))
    return None if os.environ.get(CAPTURE) or told not in set(CaptureMode) else CaptureMode(told)


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


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
        self._batch = []
        self._exporter.shutdown()

    def _send(self, batch: Sequence[ReadableSpan]) -> None:
        if batch and self.going:
            self._exporter.export(batch)
            self.going = self._exporter.force_flush(int(self._timeout * 1000))
