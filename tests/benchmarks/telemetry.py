"""What telemetry costs, as ratios to a bare SDK span: run it with `python -m`."""

import gc
import time
from collections.abc import Callable
from statistics import median
from types import SimpleNamespace
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from llmspell_otel.telemetry.pipeline import Providers, Telemetry
from llmspell_otel.telemetry.prices import default_prices
from llmspell_otel.telemetry.spans import SpanBridge
from llmspell_otel.telemetry.worker import Worker

Step = Callable[[], object]

AT_START = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-5",
    "gen_ai.request.temperature": 0.5,
    "server.address": "api.openai.com",
    "server.port": 443,
}
AT_END = {
    "gen_ai.response.id": "resp_1",
    "gen_ai.response.model": "gpt-5-2025-08-07",
    "gen_ai.response.finish_reasons": ["stop"],
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.output_tokens": 100,
    "openai.api.type": "responses",
}
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def _events() -> tuple[Any, Any]:
    data = {
        "operation": "00f067aa0ba902b7",
        "parent": None,
        "kind": "model",
        "name": "gpt-5",
        "start_time": 1_790_000_000_000_000_000,
        "attributes": AT_START,
    }
    end = data | {
        "end_time": 1_790_000_002_000_000_000,
        "attributes": AT_START | AT_END,
        "attempts": 1,
        "outcome": "ok",
    }
    return tuple(
        SimpleNamespace(
            event_type=name, data=each, timestamp=1, traceparent=TRACEPARENT, tracestate=None
        )
        for name, each in (("model:call_started", data), ("model:call_complete", end))
    )


def cases() -> dict[str, Step]:
    """What is measured; the first is the measure."""
    provider = TracerProvider(shutdown_on_exit=False)
    tracer = provider.get_tracer("bench")
    bridge = SpanBridge(TracerProvider(shutdown_on_exit=False))
    dropping = SpanBridge(TracerProvider(shutdown_on_exit=False, sampler=ALWAYS_OFF))
    idle = SpanBridge()
    started, ended = _events()
    prices = default_prices()
    prices.preload_now()
    priced = AT_START | AT_END

    def bare() -> None:
        tracer.start_span("chat gpt-5").end()

    def direct() -> None:
        span = tracer.start_span("chat gpt-5", attributes=AT_START)
        span.set_attributes(AT_END)
        span.end()

    def bridged(of: SpanBridge) -> Step:
        def both() -> None:
            of.start(started)
            of.end(ended)

        return both

    return {
        "a bare span": bare,
        "a span with 12 attributes, without us": direct,
        "SpanBridge.start + end, 12 attributes": bridged(bridge),
        "the same, not sampled": bridged(dropping),
        "the same, no SDK": bridged(idle),
        "Prices.price": lambda: prices.price(priced),
        "new_trace_id + new_span_id": lambda: (bridge.new_trace_id(), bridge.new_span_id()),
    }


def offering() -> tuple[Step, Step]:
    """What the caller pays for the rest, and what the worker then does."""
    providers = Providers(
        TracerProvider(shutdown_on_exit=False),
        MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False),
        LoggerProvider(shutdown_on_exit=False),
    )
    telemetry = Telemetry(providers, default_prices())
    _, ended = _events()
    quiet = Worker(lambda _: None)
    quiet._woken = True  # no thread: the two sides are measured apart

    def work() -> None:
        telemetry._process(ended)

    def offer() -> None:
        quiet.offer(ended)
        quiet._queue.clear()

    return offer, work


def measure(steps: dict[str, Step], rounds: int = 7, times: int = 2000) -> dict[str, float]:
    """Microseconds of CPU of the calling thread per step, medians of interleaved rounds."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    gc.disable()
    try:
        for _ in range(rounds):
            for name, step in steps.items():
                began = time.thread_time_ns()
                for _ in range(times):
                    step()
                taken[name].append((time.thread_time_ns() - began) / times / 1000)
                gc.collect()
    finally:
        gc.enable()
    return {name: median(each) for name, each in taken.items()}


def report() -> str:
    """The table: microseconds, and bare spans."""
    offer, work = offering()
    steps = cases() | {"Worker.offer": offer, "one event on the worker": work}
    found = measure(steps)
    unit = next(iter(found.values()))
    lines = [f"{'case':<42}{'us':>8}{'bare spans':>12}"]
    lines += [f"{name:<42}{each:>8.2f}{each / unit:>12.2f}" for name, each in found.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    print(report())
