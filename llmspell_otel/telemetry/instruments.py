"""The instruments: a table of every metric, and the one class that records into them."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from opentelemetry import metrics
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from llmspell_otel.guard import Guard
from llmspell_otel.telemetry import names, semconv
from llmspell_otel.telemetry.values import Primitive


class Form(StrEnum):
    """How an instrument adds up."""

    HISTOGRAM = "histogram"
    COUNTER = "counter"


@dataclass(frozen=True, slots=True)
class Instrument:
    """One row of the table."""

    name: str
    form: Form
    unit: str
    description: str
    bounds: tuple[float, ...] | None = None
    opt_in: bool = False
    """Recorded only if asked for by name."""


class Point(NamedTuple):
    """One measurement: what, how much, of whom."""

    instrument: str
    value: float
    attributes: Mapping[str, Primitive]


def _seconds(name: str, description: str, bounds: tuple[float, ...]) -> Instrument:
    return Instrument(name, Form.HISTOGRAM, "s", description, bounds)


def _histogram(
    name: str, unit: str, description: str, bounds: tuple[float, ...], *, opt_in: bool = False
) -> Instrument:
    return Instrument(name, Form.HISTOGRAM, unit, description, bounds, opt_in)


def _counter(name: str, unit: str, description: str) -> Instrument:
    return Instrument(name, Form.COUNTER, unit, description)


TABLE: Final = (
    _seconds(semconv.CLIENT_INFERENCE_DURATION, "Duration of a model inference.", semconv.SECONDS),
    _seconds(
        semconv.CLIENT_EMBEDDINGS_DURATION, "Duration of an embeddings call.", semconv.SECONDS
    ),
    _seconds(semconv.CLIENT_OPERATION_DURATION, "Duration of another GenAI call.", semconv.SECONDS),
    _seconds(
        semconv.CLIENT_TIME_TO_FIRST_CHUNK,
        "Time from a streamed request to the first chunk of its answer.",
        semconv.SECONDS,
    ),
    _seconds(
        semconv.CLIENT_TIME_PER_OUTPUT_CHUNK,
        "Time between one chunk of a streamed answer and the next.",
        semconv.SECONDS,
    ),
    _counter(semconv.CLIENT_USAGE_INPUT_TOKENS, "{token}", "Input tokens, cached ones included."),
    _counter(semconv.CLIENT_USAGE_OUTPUT_TOKENS, "{token}", "Output tokens, reasoning included."),
    _counter(semconv.CLIENT_USAGE_CACHE_READ, "{token}", "Input tokens read from a cache."),
    _counter(semconv.CLIENT_USAGE_CACHE_WRITE, "{token}", "Input tokens written to a cache."),
    _counter(semconv.CLIENT_USAGE_REASONING, "{token}", "Output tokens spent on reasoning."),
    _histogram(
        semconv.CLIENT_OPERATION_INPUT_TOKENS,
        "{token}",
        "Input tokens of one inference.",
        semconv.TOKENS,
    ),
    _histogram(
        semconv.CLIENT_OPERATION_OUTPUT_TOKENS,
        "{token}",
        "Output tokens of one inference.",
        semconv.TOKENS,
    ),
    _histogram(
        semconv.CLIENT_EMBEDDINGS_INPUT_TOKENS,
        "{token}",
        "Input tokens of one embeddings call.",
        semconv.TOKENS,
    ),
    _seconds(
        semconv.INVOKE_AGENT_DURATION,
        "Duration of an agent's or a workflow's run.",
        semconv.AGENT_SECONDS,
    ),
    _histogram(
        semconv.INVOKE_AGENT_INFERENCE_CALLS,
        "{inference_call}",
        "Model calls that an agent made in one run.",
        semconv.CALLS,
    ),
    _histogram(
        semconv.INVOKE_AGENT_TOOL_CALLS,
        "{tool_call}",
        "Tool calls that an agent made in one run.",
        semconv.CALLS,
    ),
    _seconds(semconv.EXECUTE_TOOL_DURATION, "Duration of a tool call.", semconv.SECONDS),
    _seconds(
        semconv.MCP_CLIENT_OPERATION_DURATION,
        "Duration of a Model Context Protocol request.",
        semconv.SESSION_SECONDS,
    ),
    _seconds(names.STAGE_DURATION, "Duration of a workflow's stage.", semconv.AGENT_SECONDS),
    _seconds(names.HOOK_DURATION, "Duration of one hook's answer.", names.HOOK_SECONDS),
    _counter(names.INFERENCE_COST, "{USD}", "Money spent on model calls."),
    _histogram(
        names.USAGE_COST,
        # Dashboards of other tools read this one, and expect the bare unit in its name.
        "USD",
        "Money spent on one model call.",
        names.MONEY,
    ),
    _histogram(
        names.INFERENCE_OPERATION_COST,
        "{USD}",
        "Money spent on one model call.",
        names.MONEY,
        opt_in=True,
    ),
    _counter(names.INFERENCE_UNPRICED, "{operation}", "Model calls whose price is unknown."),
    _counter(names.CACHE_REQUESTS, "{request}", "Questions to a response cache."),
    _counter(names.RATE_LIMITING_REQUESTS, "{request}", "Requests to a rate limit."),
    _seconds(
        names.RATE_LIMITING_TIME_IN_QUEUE, "Time spent waiting for a rate limit.", semconv.SECONDS
    ),
    _counter(names.RETRY_ATTEMPTS, "{attempt}", "Attempts after the first."),
    _seconds(names.GUARDRAIL_DURATION, "Duration of a guardrail's judgement.", semconv.SECONDS),
)
"""Every synchronous instrument. The observable ones are named in `Instruments`."""

Measure = Callable[[], Iterable[tuple[float, Mapping[str, Primitive]]]]
"""What an observable instrument asks: values, each with its attributes."""


class Instruments:
    """Records points, containing whatever goes wrong.

    Args:
        meter_provider: where points go; by default the global provider, even a later one.
        version: the version of the instrumentation scope.
        also: opt-in instruments that are wanted.
        without: instruments that are not wanted.
    """

    def __init__(
        self,
        meter_provider: MeterProvider | None = None,
        *,
        version: str = "",
        also: Collection[str] = (),
        without: Collection[str] = (),
    ) -> None:
        self.guard = Guard()
        self._meter = metrics.get_meter(names.SCOPE, version, meter_provider, semconv.SCHEMA_URL)
        self._made: dict[str, Callable[..., None]] = {}
        self._recorders: dict[str, Callable[..., None]] = {}
        self._usual = (frozenset(also), frozenset(without))
        self.choose()

    def choose(self, also: Collection[str] = (), without: Collection[str] = ()) -> None:
        """Record into those *also* wanted, not into those *without*, beside the usual choice."""
        wanted, unwanted = self._usual[0] | set(also), self._usual[1] | set(without)
        self._recorders = {
            row.name: self._kept(row)
            for row in TABLE
            if row.name not in unwanted and (not row.opt_in or row.name in wanted)
        }

    def _kept(self, row: Instrument) -> Callable[..., None]:
        if row.name not in self._made:
            self._made[row.name] = self._recorder(row)
        return self._made[row.name]

    def record(self, points: Iterable[Point], context: Context | None = None) -> None:
        """Record *points*, with the span in *context* as their exemplar."""
        for name, value, attributes in points:
            recorder = self._recorders.get(name)
            if recorder is None:
                continue
            try:
                recorder(value, attributes, context)
            except Exception as error:
                self.guard.report(f"recording {name}", error)

    def observe(self, name: str, unit: str, description: str, measure: Measure) -> None:
        """Ask *measure* for an up-down value whenever metrics are collected."""
        self._meter.create_observable_up_down_counter(
            name, [self._contained(name, measure)], unit, description
        )

    def observe_count(self, name: str, unit: str, description: str, measure: Measure) -> None:
        """Ask *measure* for a running total whenever metrics are collected."""
        self._meter.create_observable_counter(
            name, [self._contained(name, measure)], unit, description
        )

    def _recorder(self, row: Instrument) -> Callable[..., None]:
        if row.form is Form.COUNTER:
            return self._meter.create_counter(row.name, row.unit, row.description).add
        bounds = row.bounds
        return self._meter.create_histogram(
            row.name, row.unit, row.description, explicit_bucket_boundaries_advisory=bounds
        ).record

    def _contained(
        self, name: str, measure: Measure
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(options: CallbackOptions) -> list[Observation]:
            del options
            try:
                return [Observation(value, dict(attributes)) for value, attributes in measure()]
            except Exception as error:
                self.guard.report(f"observing {name}", error)
                return []

        return observe
