"""Telemetry as one thing: spans inline, everything else on the worker."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from llmspell_otel.telemetry import logs, names, semconv
from llmspell_otel.telemetry.capture import CaptureMode, capture_mode, emits_details
from llmspell_otel.telemetry.ids import context_of
from llmspell_otel.telemetry.instruments import Instruments, Point
from llmspell_otel.telemetry.logs import LogWriter
from llmspell_otel.telemetry.measure import costing, measured, unpriced, was_called
from llmspell_otel.telemetry.prices import Prices
from llmspell_otel.telemetry.providers import EVERYWHERE, Providers, Source, loggers, meters
from llmspell_otel.telemetry.rates import Price, has_usage
from llmspell_otel.telemetry.shape import attributes_of
from llmspell_otel.telemetry.spans import OperationEvent, SpanBridge
from llmspell_otel.telemetry.worker import CAPACITY, EXIT_TIMEOUT, Books, Worker

_PRICED: Final = semconv.INFERENCE | {semconv.Operation.EMBEDDINGS}
_DOLLARS: Final = "USD"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is recorded, and how much of it may wait."""

    version: str = ""
    """Of the instrumentation scope."""
    capture: CaptureMode | None = None
    """Where content goes; None is what the environment says."""
    also: Collection[str] = ()
    """Opt-in instruments that are wanted."""
    without: Collection[str] = ()
    """Instruments that are not wanted."""
    capacity: int = CAPACITY
    """Ended operations that may wait for the worker."""


USUAL: Final = Options()
"""Everything but what is opt-in, content as the environment says."""


class Telemetry:
    """Makes spans, log records, metrics and cost of operations' events.

    No method raises into its caller.

    Args:
        providers: where the signals go.
        prices: what model calls cost; None prices nothing.
        options: what is recorded.
    """

    def __init__(
        self,
        providers: Providers = EVERYWHERE,
        prices: Prices | None = None,
        options: Options = USUAL,
    ) -> None:
        version = options.version
        capture = capture_mode() if options.capture is None else options.capture
        self.prices = prices
        self.bridge = SpanBridge(providers.tracer, version=version, capture=capture)
        self.begin = self.bridge.begin
        self.new_trace_id = self.bridge.new_trace_id
        self.new_span_id = self.bridge.new_span_id
        # Events hold content for whoever wants it; each signal looks at the mode again.
        self.captures = capture.on or self.bridge.completion is not None
        self._content = capture.on
        self.random_ids = False
        """As `SpanBridge.random_ids`, as soon as the provider has been seen."""
        self.instruments = Instruments(
            providers.meter, version=version, also=options.also, without=options.without
        )
        self.writer = LogWriter(providers.logger, version=version)
        self.worker = Worker(self._process, capacity=options.capacity)
        self._details = emits_details(capture)
        self.active = False
        """Whether any signal goes anywhere; ask `look` while that is not known."""
        self._missing: list[Callable[[], bool]] = [
            lambda: self.bridge.active,
            *_awaited(meters(providers.meter), loggers(providers.logger)),
        ]
        self._breakers: dict[str, str] = {}
        self._watch()

    @property
    def books(self) -> Books:
        """What became of every ended operation on its way to metrics and log records."""
        return self.worker.books

    def end(self, event: OperationEvent) -> None:
        """End the operation's span, and leave the rest of its telemetry to the worker."""
        self.bridge.end(event)
        if self.active or self.look():
            self.worker.offer(event)

    def price(self, attributes: Mapping[str, Any]) -> Decimal | None:
        """What the finished model call with *attributes* cost in US dollars, if known by now.

        Call it once per call: it adds to the running totals, and notes the price among the
        *attributes* (`llmspell.cost.*`) if they are a dict.
        """
        priced = self.prices.price(attributes) if self.prices is not None else None
        if not isinstance(priced, Price):
            return None
        if isinstance(attributes, dict):
            attributes.update(priced.attributes)
        return priced.total if priced.currency == _DOLLARS else None

    def breaker_changed(self, name: str, state: str, reason: str | None = None) -> None:
        """Take note that the circuit breaker *name* is now in *state*, and say so in the log."""
        self._breakers[name] = state
        self.writer.write(
            logs.breaker_changed(
                name,
                state,
                reason=reason if self._content else None,
                timestamp=time.time_ns(),
            )
        )

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until all ended operations have become telemetry; false after *timeout* seconds."""
        return self.worker.flush(timeout)

    def close(self, timeout: float = EXIT_TIMEOUT) -> bool:
        """As `Worker.close`."""
        return self.worker.close(timeout)

    def look(self) -> bool:
        """Look for the providers that were missing so far; whether there is any."""
        missing = [is_there for is_there in self._missing if not is_there()]
        if len(missing) < len(self._missing):
            self._missing = missing
            self.active = True
            self.random_ids = self.bridge.random_ids
            self.worker.before_providers_shut_down()
        return self.active

    def _process(self, event: OperationEvent) -> None:
        if self._missing:
            self.look()
        data = event.data
        attributes = attributes_of(data)
        context = context_of(event.traceparent)
        try:
            self.instruments.record(self._points(data, attributes), context)
        finally:
            content, details = self._content, self._details
            for record in logs.told(data, attributes, content=content, details=details):
                self.writer.write(record, context)

    def _points(self, data: Mapping[str, Any], attributes: dict[str, Any]) -> Iterator[Point]:
        yield from measured(data, attributes)
        if attributes.get(semconv.OPERATION_NAME) in _PRICED and was_called(data):
            yield from self._cost(data, attributes)

    def _cost(self, data: Mapping[str, Any], attributes: dict[str, Any]) -> Iterator[Point]:
        if self.prices is None or not has_usage(attributes):
            return
        if names.COST_TOTAL not in attributes:
            # Prices were not loaded yet when the call ended, or the model has none.
            priced = self.prices.settle(attributes)
            if priced is None:
                yield unpriced(attributes)
                return
            attributes = attributes | priced.attributes
        total = float(data.get("cost") or attributes[names.COST_TOTAL])
        currency, source = (str(attributes.get(key)) for key in _MONEY)
        yield from costing(attributes, total, currency, source)

    def _watch(self) -> None:
        events, worker, breakers = "{event}", self.worker, self._breakers
        for name, field in ((names.QUEUE_SIZE, "queued"), (names.QUEUE_CAPACITY, "capacity")):
            self.instruments.observe(
                name, events, "The telemetry queue.", _Gauge(worker, field).read
            )
        self.instruments.observe_count(
            names.EVENTS_PROCESSED,
            events,
            "Ended operations, processed or dropped.",
            lambda: _processed(worker.books),
        )
        self.instruments.observe(
            names.BREAKER_STATUS,
            "{breaker}",
            "1 for the state that a breaker is in.",
            lambda: _status(breakers),
        )


_MONEY: Final = (names.COST_CURRENCY, names.COST_SOURCE)


def _awaited(*sources: Source) -> Iterator[Callable[[], bool]]:
    return (source.there for source in sources if not source.hopeless)


class _Gauge:
    """One field of a worker's books."""

    def __init__(self, worker: Worker, field: str) -> None:
        self._worker = worker
        self._field = field

    def read(self) -> list[tuple[float, dict[str, Any]]]:
        """Its value now."""
        return [(getattr(self._worker.books, self._field), {})]


def _processed(books: Books) -> list[tuple[float, dict[str, Any]]]:
    return [
        (books.processed, {}),
        (books.dropped_full, {semconv.ERROR_TYPE: "queue_full"}),
        (books.dropped_closed, {semconv.ERROR_TYPE: "already_shutdown"}),
    ]


def _status(breakers: Mapping[str, str]) -> list[tuple[float, dict[str, Any]]]:
    return [
        (int(state == now), {names.BREAKER_NAME: name, names.BREAKER_STATE: state})
        for name, now in list(breakers.items())
        for state in sorted({*names.BreakerState, now})
    ]
