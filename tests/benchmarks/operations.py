"""What one call costs when it is seen and steered: `python -m tests.benchmarks.operations`.

Every case is run once a round, in random order, on the calling thread's own clock. Ratios are to a
bare SDK span (started and ended, without attributes) of the same round; what is shown is their
median. The telemetry worker's thread is not counted: it is off the request path.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from statistics import median

from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

from llmspell_otel import Hook, tool
from llmspell_otel.hooks import Registration
from llmspell_otel.hooks.breaker import BreakerProfile
from llmspell_otel.operations.call import Attributes, Call, Codec, Kind
from llmspell_otel.operations.drivers import invoke
from llmspell_otel.operations.operation import Aspect
from llmspell_otel.operations.ports import ports
from llmspell_otel.telemetry import Options, Providers, Telemetry, semconv

CHUNKS = 30
LENIENT = BreakerProfile(slow_call_duration=60)  # a preempted benchmark is no slow hook
Run = Callable[[int], None]


class Nowhere(SpanExporter):
    """Drops what it is given."""

    def export(self, spans: object) -> SpanExportResult:
        del spans
        return SpanExportResult.SUCCESS


def provider() -> TracerProvider:
    """The SDK with a batch processor, as a program would have it."""
    made = TracerProvider(shutdown_on_exit=False)
    made.add_span_processor(BatchSpanProcessor(Nowhere()))
    return made


def bare_sync(number: int) -> int:
    """Do next to nothing."""
    return number


async def bare_async(number: int) -> int:
    """Do next to nothing, asynchronously."""
    return number


def bare_stream(number: int) -> Iterator[int]:
    """Give thirty chunks."""
    yield from range(number)


tool_sync, tool_async, tool_stream = tool(bare_sync), tool(bare_async), tool(bare_stream)

ASKED: dict[str, AttributeValue] = {
    semconv.OPERATION_NAME: "chat",
    semconv.PROVIDER_NAME: "openai",
    semconv.REQUEST_MODEL: "gpt-5-mini",
    semconv.REQUEST_TEMPERATURE: 0.5,
    semconv.REQUEST_MAX_TOKENS: 1024,
    semconv.SERVER_ADDRESS: "api.openai.com",
    semconv.SERVER_PORT: 443,
}
SAID: dict[str, AttributeValue] = {
    semconv.RESPONSE_ID: "chatcmpl-7",
    semconv.RESPONSE_MODEL: "gpt-5-mini-2025-08-07",
    semconv.RESPONSE_FINISH_REASONS: ["stop"],
    semconv.USAGE_INPUT_TOKENS: 412,
    semconv.USAGE_OUTPUT_TOKENS: 118,
}


class ModelCodec(Codec):
    """A model's call that is read for nothing: twelve attributes, as a real one has."""

    def request(self, call: Call) -> dict[str, AttributeValue]:
        """Seven of them."""
        del call
        return ASKED

    def response(self, call: Call, result: object) -> dict[str, AttributeValue]:
        """The other five."""
        del call, result
        return SAID


_MODEL = Aspect(Kind.MODEL, ModelCodec())


def model_call(number: int) -> object:
    """One call of the model, seen."""
    return invoke(_MODEL, Call(bare_sync, None, (number,), {}))


TOOL: dict[str, AttributeValue] = {
    semconv.OPERATION_NAME: "execute_tool",
    semconv.TOOL_NAME: "bare_sync",
    semconv.TOOL_TYPE: "function",
    semconv.TOOL_DESCRIPTION: "Do next to nothing.",
}


def _by_hand(name: str, kind: SpanKind, asked: Attributes, said: Attributes) -> Run:
    """What a careful program would write: the same span, current during the call."""
    tracer = provider().get_tracer("by hand")

    def run(times: int) -> None:
        for _ in range(times):
            with tracer.start_as_current_span(name, kind=kind, attributes=asked) as span:
                bare_sync(1)
                if said:
                    span.set_attributes(said)

    return run


def _calls(function: Callable[..., object]) -> Run:
    def run(times: int) -> None:
        for _ in range(times):
            function(1)

    return run


def _awaits(function: Callable[..., object]) -> Run:
    async def turns(times: int) -> None:
        for _ in range(times):
            await function(1)  # type: ignore[misc]

    return lambda times: asyncio.run(turns(times))


def _streams(function: Callable[..., object]) -> Run:
    def run(times: int) -> None:
        for _ in range(times):
            for _chunk in function(CHUNKS):  # type: ignore[attr-defined]
                pass

    return run


def bare_span(times: int) -> None:
    """What everything is compared with: SDK spans, started and ended, without attributes."""
    tracer = _SPANS.get_tracer("bare")
    for _ in range(times):
        tracer.start_span("bare").end()


_SPANS = TracerProvider(shutdown_on_exit=False)


class Setting:
    """What is plugged in while a case runs."""

    def __init__(self, telemetry: Telemetry | None, hooks: int) -> None:
        self._telemetry = telemetry
        self._count = hooks
        self._hooks: list[Registration] = []

    def __enter__(self) -> None:
        ports.telemetry = self._telemetry
        self._hooks = [
            Hook.register("tool:before_execution", lambda _: None, breaker=LENIENT)
            for _ in range(self._count)
        ]

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.unregister()
        ports.telemetry = None


def cases() -> dict[str, tuple[Setting, Run]]:
    """Every case by its name."""
    spans = Telemetry(
        Providers(provider(), NoOpMeterProvider(), None), None, Options(version="benchmark")
    )
    everything = Telemetry(
        Providers(provider(), MeterProvider([InMemoryMetricReader()]), None), None, Options()
    )
    unconfigured = Telemetry()
    found: dict[str, tuple[Setting, Run]] = {}
    for shape, repeat, bare, ours in (
        ("sync", _calls, bare_sync, tool_sync),
        ("async", _awaits, bare_async, tool_async),
        ("streamed, 30 chunks", _streams, bare_stream, tool_stream),
    ):
        rows = {
            "bare call": (Setting(None, 0), bare),
            "ours, nobody looks": (Setting(None, 0), ours),
            "ours, no SDK configured": (Setting(unconfigured, 0), ours),
            "ours, spans, no hook": (Setting(spans, 0), ours),
            "ours, spans and metrics, no hook": (Setting(everything, 0), ours),
            "ours, spans and metrics, 1 hook": (Setting(everything, 1), ours),
            "ours, spans and metrics, 8 hooks": (Setting(everything, 8), ours),
            "ours, no SDK, 1 hook": (Setting(None, 1), ours),
        }
        for name, (setting, function) in rows.items():
            found[f"{shape} | {name}"] = (setting, repeat(function))
    by_hand = {
        "sync": _by_hand("execute_tool bare_sync", SpanKind.INTERNAL, TOOL, {}),
        "a model's call": _by_hand("chat gpt-5-mini", SpanKind.CLIENT, ASKED, SAID),
    }
    for name, run in by_hand.items():
        found[f"{name} | by hand, an SDK span"] = (Setting(None, 0), run)
    found["a model's call | ours, spans and metrics, no hook"] = (
        Setting(everything, 0),
        _calls(model_call),
    )
    return found


def _timed(run: Run, times: int) -> float:
    started = time.thread_time_ns()
    run(times)
    return (time.thread_time_ns() - started) / times


def measure(rounds: int, times: int) -> dict[str, tuple[float, float]]:
    """By case: median nanoseconds a call, and the median ratio to a bare span."""
    table = cases()
    nanoseconds: dict[str, list[float]] = {name: [] for name in table}
    ratios: dict[str, list[float]] = {name: [] for name in table}
    for name, (setting, run) in table.items():
        del name
        with setting:
            run(times)
    for _ in range(rounds):
        span = _timed(bare_span, times)
        order = list(table)
        random.shuffle(order)
        for name in order:
            setting, run = table[name]
            with setting:
                run(10)  # compile what the setting changed
                taken = _timed(run, times)
            nanoseconds[name].append(taken)
            ratios[name].append(taken / span)
    return {name: (median(nanoseconds[name]), median(ratios[name])) for name in table}


def main(rounds: int = 15, times: int = 300) -> None:
    """Print the table."""
    print("| shape | case | µs | bare spans |\n|---|---|--:|--:|")
    for name, (taken, ratio) in measure(rounds, times).items():
        print(f"| {name} | {taken / 1000:.2f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
