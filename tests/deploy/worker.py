"""A program with our exporter and a spool that makes spans until it is told to end.

    python worker.py PORT SERVICE SPOOL

It sends to the collector's gRPC PORT. At a line on stdin it shuts down, and writes its books to
stdout as JSON, with the ids of all its spans and the seconds that the slowest call was held up.
"""

import json
import sys
import threading
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from llmspell_exporters.ledger import ledger
from llmspell_exporters.otlp import LedgeredSpanExporter
from llmspell_exporters.processors import LedgeredSpanProcessor
from llmspell_exporters.spool import Spool
from tests.kit.held_up import held_up

CALLS = 8  # spans below each root
PAUSE = 0.2  # seconds between two roots


def main(port: str, service: str, spool: str) -> None:
    """Make spans until a line comes, then tell the books."""
    told = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), told.set()), daemon=True).start()
    exporter = LedgeredSpanExporter(
        endpoint=f"http://127.0.0.1:{port}", protocol="grpc", store=Spool(Path(spool))
    )
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(LedgeredSpanProcessor(exporter, delay=0.1))
    tracer = provider.get_tracer("worker")
    ids, slowest = [], 0.0
    while not told.wait(PAUSE):
        root = tracer.start_span("invoke_agent worker")
        with trace.use_span(root):
            spans = [*(tracer.start_span("chat trial") for _ in range(CALLS)), root]
        slowest = max(slowest, *(held_up(span.end) for span in spans))
        ids += [f"{span.get_span_context().span_id:016x}" for span in spans]
    provider.force_flush(60_000)
    provider.shutdown()
    found = ledger.snapshot()["traces"]
    books = {name: getattr(found, name) for name in ("made", "acknowledged", "spooled", "queued")}
    fates = {"rejected": dict(found.rejected), "lost": dict(found.lost)}
    sys.stdout.write(json.dumps({**books, **fates, "ids": ids, "slowest": slowest}))


if __name__ == "__main__":
    main(*sys.argv[1:])
