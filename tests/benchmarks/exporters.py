"""What an exported span costs a process, in CPU of all its threads, and how many it can export.

`python -m tests.benchmarks.exporters` prints the table.

Every sample is a process of its own that makes spans with twelve attributes: first at a pace, when
it reads its own CPU clock from the first span to the end of the shutdown; then without a pause,
when it reads the wall's until all are delivered. The receiver lives in this process. Variants take
turns in random order; medians are printed, the costs also less what making the spans alone costs.
"""

import random
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

SPANS = 6000
WARM = 200
QUEUE = 2048  # spans; without a pause, there is room for all of them
PACE = 500  # spans made without a pause, then a hundredth of a second: a busy program, no flood


class _Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Stay quiet."""


def _nothing(_: str, queue: int) -> Any:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

    class Nothing(SpanExporter):
        def export(self, spans: Any) -> Any:
            return None

    return BatchSpanProcessor(Nothing(), queue)


def _sdk(endpoint: str, queue: int) -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return BatchSpanProcessor(OTLPSpanExporter(endpoint), queue)


def _ours(endpoint: str, queue: int) -> Any:
    from llmspell_exporters.otlp import LedgeredSpanExporter
    from llmspell_exporters.processors import LedgeredSpanProcessor

    return LedgeredSpanProcessor(LedgeredSpanExporter(endpoint=endpoint), queue=queue)


def _ours_official(endpoint: str, queue: int) -> Any:
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    processor = _ours(endpoint, queue)
    processor.span_exporter.pipe._encode = lambda spans: encode_spans(spans).SerializeToString()
    return processor


def _ours_in_sdk(endpoint: str, queue: int) -> Any:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return BatchSpanProcessor(_ours(endpoint, queue).span_exporter, queue)


VARIANTS = {
    "spans alone (batched, thrown away)": _nothing,
    "SDK batch processor, official exporter": _sdk,
    "SDK batch processor, our exporter": _ours_in_sdk,
    "our processor, official encoder": _ours_official,
    "our processor and exporter": _ours,
}


def measure(variant: str, endpoint: str) -> None:
    """Run in a process of its own: print microseconds of CPU per span, and spans per second."""
    print(cost(variant, endpoint), rate(variant, endpoint))


def cost(variant: str, endpoint: str) -> float:
    """Microseconds of CPU that a span costs in a busy program."""
    provider, tracer = _provider(variant, endpoint, QUEUE)
    started = time.process_time()
    for _ in range(SPANS // PACE):
        make(tracer, PACE)
        time.sleep(0.01)
    provider.shutdown()
    return (time.process_time() - started) / SPANS * 1e6


def rate(variant: str, endpoint: str) -> float:
    """Spans made and delivered per second, when one thread makes them without a pause."""
    provider, tracer = _provider(variant, endpoint, max(SPANS, QUEUE))
    started = time.monotonic()
    make(tracer, SPANS)
    provider.force_flush(60_000)
    taken = time.monotonic() - started
    provider.shutdown()
    return SPANS / taken


def _provider(variant: str, endpoint: str, queue: int) -> tuple[Any, Any]:
    """A provider whose imports, connection and caches are there, and its tracer."""
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(VARIANTS[variant](endpoint, queue))
    tracer = provider.get_tracer("benchmark")
    make(tracer, WARM)
    provider.force_flush()
    return provider, tracer


def make(tracer: Any, count: int) -> None:
    """End *count* spans like those of model calls."""
    for number in range(count):
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.response.model": "gpt-4o-2024-08-06",
            "gen_ai.response.id": f"chatcmpl-{random.getrandbits(64):x}",
            "gen_ai.usage.input_tokens": 100 + number % 1000,
            "gen_ai.usage.output_tokens": number % 300,
            "gen_ai.request.temperature": 0.7,
            "gen_ai.response.finish_reasons": ("stop",),
            "gen_ai.conversation.id": f"conversation-{number % 50}",
            "server.address": "api.openai.com",
            "server.port": 443,
        }
        tracer.start_span("chat gpt-4o", attributes=attributes).end()


def main(rounds: int = 9) -> None:
    """Print the table."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Sink) as sink:
        Thread(target=sink.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{sink.server_port}/v1/traces"
        samples: dict[str, list[tuple[float, ...]]] = {variant: [] for variant in VARIANTS}
        for _ in range(rounds):
            for variant in random.sample(list(VARIANTS), len(VARIANTS)):
                command = [sys.executable, "-m", "tests.benchmarks.exporters", variant, endpoint]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                samples[variant].append(tuple(map(float, done.stdout.split())))
        sink.shutdown()
    costs, rates = (
        {
            variant: statistics.median(each[which] for each in found)
            for variant, found in samples.items()
        }
        for which in (0, 1)
    )
    alone, official = (costs[variant] for variant in list(VARIANTS)[:2])
    print(f"{'µs of CPU per span, all threads':42} total  export  to the SDK's  spans/s")
    for variant, total in costs.items():
        net = total - alone
        share = net / (official - alone)
        print(f"{variant:42} {total:5.1f}  {net:6.1f}  {share:12.2f}  {rates[variant]:7,.0f}")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main() if len(sys.argv) == 1 else measure(*sys.argv[1:])
