"""What an exported span costs a process, in CPU of all its threads.

`python -m tests.benchmarks.exporters` prints the table.

Every sample is a process of its own that makes spans with twelve attributes, and reads its own CPU
clock from the first span to the end of the shutdown. The receiver lives in this process. Variants
take turns in random order; medians are printed, each also less what making the spans alone costs.
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


def _nothing(_: str) -> Any:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

    class Nothing(SpanExporter):
        def export(self, spans: Any) -> Any:
            return None

    return BatchSpanProcessor(Nothing())


def _sdk(endpoint: str) -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return BatchSpanProcessor(OTLPSpanExporter(endpoint))


def _ours(endpoint: str) -> Any:
    from llmspell_exporters.otlp import LedgeredSpanExporter
    from llmspell_exporters.processors import LedgeredSpanProcessor

    return LedgeredSpanProcessor(LedgeredSpanExporter(endpoint=endpoint))


def _ours_official(endpoint: str) -> Any:
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    processor = _ours(endpoint)
    processor.span_exporter.pipe._encode = lambda spans: encode_spans(spans).SerializeToString()
    return processor


def _ours_in_sdk(endpoint: str) -> Any:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return BatchSpanProcessor(_ours(endpoint).span_exporter)


VARIANTS = {
    "spans alone (batched, thrown away)": _nothing,
    "SDK batch processor, official exporter": _sdk,
    "SDK batch processor, our exporter": _ours_in_sdk,
    "our processor, official encoder": _ours_official,
    "our processor and exporter": _ours,
}


def measure(variant: str, endpoint: str) -> None:
    """Run in a process of its own: print microseconds of CPU per span."""
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(VARIANTS[variant](endpoint))
    tracer = provider.get_tracer("benchmark")
    make(tracer, 200)
    provider.force_flush()  # imports, connection and caches are there now
    started = time.process_time()
    for _ in range(SPANS // PACE):
        make(tracer, PACE)
        time.sleep(0.01)
    provider.shutdown()
    print((time.process_time() - started) / SPANS * 1e6)


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


def main(rounds: int = 9) -> dict[str, float]:
    """Print the table; the medians by variant, in microseconds."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Sink) as sink:
        Thread(target=sink.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{sink.server_port}/v1/traces"
        samples: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
        for _ in range(rounds):
            for variant in random.sample(list(VARIANTS), len(VARIANTS)):
                command = [sys.executable, "-m", "tests.benchmarks.exporters", variant, endpoint]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                samples[variant].append(float(done.stdout))
        sink.shutdown()
    medians = {variant: statistics.median(values) for variant, values in samples.items()}
    alone, official = medians[next(iter(VARIANTS))], medians[list(VARIANTS)[1]]
    print(f"{'µs of CPU per span, all threads':42} total  export  to the SDK's")
    for variant, median in medians.items():
        ratio = (median - alone) / (official - alone)
        print(f"{variant:42} {median:5.1f}  {median - alone:6.1f}  {ratio:6.2f}")
    return medians


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main() if len(sys.argv) == 1 else measure(*sys.argv[1:])
