"""Send spans by hand, batch by batch, and keep exact books of what was acknowledged."""

from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

from tests.deploy import servers


class Sender:
    """An SDK exporter that nothing retries for: each batch is acknowledged, or it is not."""

    def __init__(self, port: int, service: str, timeout: float = 10) -> None:
        self.service = service
        self.acknowledged: set[str] = set()
        self.refused: set[str] = set()
        resource = Resource.create({"service.name": service})
        self._tracer = TracerProvider(resource=resource).get_tracer("llmspell_otel")
        self._exporter = OTLPSpanExporter(f"http://127.0.0.1:{port}", True, timeout=timeout)

    def batch(
        self,
        size: int = 50,
        parent: ReadableSpan | None = None,
        failed: bool = False,
        **attributes: Any,
    ) -> list[ReadableSpan]:
        """One trace, or what hangs below *parent*: a span and its children."""
        named = {key.replace("__", "."): value for key, value in attributes.items()}
        above = trace.set_span_in_context(parent) if isinstance(parent, trace.Span) else None
        with self._tracer.start_as_current_span(
            "invoke_agent trial", above, attributes=named
        ) as root:
            spans = [
                self._tracer.start_span("chat trial", attributes=named) for _ in range(size - 1)
            ]
            if failed:
                root.set_status(trace.StatusCode.ERROR)
        for span in spans:
            span.end()
        return [span for span in (root, *spans) if isinstance(span, ReadableSpan)]

    def send(self, spans: list[ReadableSpan]) -> bool:
        """Export *spans* once; whether they were acknowledged."""
        ids = {f"{span.context.span_id:016x}" for span in spans if span.context}
        taken = self._exporter.export(spans) is SpanExportResult.SUCCESS
        (self.acknowledged if taken else self.refused).update(ids)
        return taken

    def close(self) -> None:
        """Let go of the connection."""
        self._exporter.shutdown()


def stored(query: int, service: str) -> list[str]:
    """The ids of all spans of *service* that Jaeger has, as often as it has them."""
    answer = servers.get(
        f"http://127.0.0.1:{query}/api/traces", service=service, limit="2000", lookback="1h"
    )
    return [span["spanID"] for trace in answer["data"] for span in trace["spans"]]


def arrived(query: int, sender: Sender, seconds: float = 60) -> set[str]:
    """What Jaeger has once all that was acknowledged is there, or the time is over."""

    def found() -> set[str]:
        return set(stored(query, sender.service))

    servers.eventually(lambda: found() >= sender.acknowledged, seconds, 0.5)
    return found()
