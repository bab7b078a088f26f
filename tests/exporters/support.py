"""Real SDK providers over the exporters under test, and what their books say."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from llmspell_exporters.exit_budget import Budget
from llmspell_exporters.ledger import Account, Ledger
from llmspell_exporters.otlp import LedgeredSpanExporter
from tests.kit.otlp import OtlpReceiver

PROTOCOLS = ["http/protobuf", "grpc"]


def endpoint(receiver: OtlpReceiver, protocol: str, signal: str = "traces") -> str:
    """Where the exporter of one signal finds the receiver."""
    if protocol == "grpc":
        return receiver.grpc_endpoint
    return f"{receiver.http_endpoint}/v1/{signal}"


def span_exporter(
    receiver: OtlpReceiver, protocol: str = "http/protobuf", **options: Any
) -> tuple[LedgeredSpanExporter, Ledger]:
    """An exporter of spans with books and a shutdown budget of its own."""
    options.setdefault("ledger", Ledger())
    options.setdefault("shutdown_budget", Budget(5.0))
    exporter = LedgeredSpanExporter(
        protocol=protocol, endpoint=endpoint(receiver, protocol), **options
    )
    return exporter, options["ledger"]


@contextmanager
def tracing(exporter: LedgeredSpanExporter) -> Iterator[TracerProvider]:
    """A provider with the SDK's own batch processor; shut down at the end."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=20))
    try:
        yield provider
    finally:
        provider.shutdown()


def make_spans(provider: TracerProvider, count: int) -> None:
    """End *count* spans, with the attributes of an ordinary call."""
    tracer = provider.get_tracer("tests.exporters")
    for number in range(count):
        attributes = {"gen_ai.operation.name": "chat", "number": number}
        tracer.start_span(f"span {number}", attributes=attributes).end()


def account(ledger: Ledger) -> Account:
    """The books of spans, which must balance."""
    found = ledger.snapshot()["traces"]
    assert found.balanced, found
    return found


def distinct(receiver: OtlpReceiver) -> int:
    """How many spans a store that reads by span id holds."""
    return len({span.span_id for span in receiver.spans()})
