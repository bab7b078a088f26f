"""A plain program with the OpenTelemetry SDK that emits what a fleet of agents emits.

    python emitter.py LEDGER SECONDS

It sends every shape of span, instrument and record of the project over OTLP (endpoint from the
environment) for SECONDS, and writes to LEDGER what it sent, to be compared with what arrived.
"""

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode

from llmspell_otel.telemetry.names import HOOK_SECONDS, MONEY

SECONDS_A = [0.01 * 2.0**k for k in range(14)]
SECONDS_C = [0.1 * 2.0**k for k in range(13)]
TOKENS_B = [4.0**k for k in range(14)]
CALLS_D = [2.0**k for k in range(8)]
COMMON = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai"}


class Fleet:
    """One service's providers, instruments and the ledger of what was sent."""

    def __init__(self, service: str) -> None:
        self.resource = Resource.create(
            {
                "service.name": service,
                "service.namespace": "trial",
                "service.version": "1.0",
                "service.instance.id": f"{service}-1",
                "deployment.environment.name": "test",
            }
        )
        self.spans: list[ReadableSpan] = []
        self.records: list[dict[str, Any]] = []
        self.totals: dict[str, float] = {}
        reader = PeriodicExportingMetricReader(
            OTLPMetricExporter(insecure=True), export_interval_millis=1000
        )
        self.metering = MeterProvider([reader], resource=self.resource)
        # The global one, and first: it is where the SDK's metrics of itself go.
        metrics.set_meter_provider(self.metering)
        self.tracing = TracerProvider(resource=self.resource)
        self.tracing.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(insecure=True)))
        self.logging = LoggerProvider(resource=self.resource)
        self.logging.add_log_record_processor(
            BatchLogRecordProcessor(OTLPLogExporter(insecure=True))
        )
        self.tracer = self.tracing.get_tracer("llmspell_otel")
        self.logger = self.logging.get_logger("llmspell_otel")
        self._instruments()

    def _instruments(self) -> None:
        meter = self.metering.get_meter("llmspell_otel")
        histograms = {
            "gen_ai.client.inference.duration": ("s", SECONDS_A),
            "gen_ai.client.embeddings.duration": ("s", SECONDS_A),
            "gen_ai.client.inference.time_to_first_chunk": ("s", SECONDS_A),
            "gen_ai.client.inference.time_per_output_chunk": ("s", SECONDS_A),
            "gen_ai.client.inference.operation.input_tokens": ("{token}", TOKENS_B),
            "gen_ai.client.inference.operation.output_tokens": ("{token}", TOKENS_B),
            "gen_ai.invoke_agent.duration": ("s", SECONDS_C),
            "gen_ai.invoke_agent.inference_calls": ("{inference_call}", CALLS_D),
            "gen_ai.invoke_agent.tool_calls": ("{tool_call}", CALLS_D),
            "gen_ai.execute_tool.duration": ("s", SECONDS_A),
            "llmspell.stage.duration": ("s", SECONDS_C),
            "llmspell.hook.duration": ("s", list(HOOK_SECONDS)),
            "llmspell.guardrail.duration": ("s", SECONDS_A),
            "llmspell.inference.operation.cost": ("{USD}", list(MONEY)),
            "llmspell.rate_limiting.request.time_in_queue": ("s", SECONDS_A),
        }
        counters = {
            **{
                f"gen_ai.client.inference.usage.{kind}_tokens": "{token}"
                for kind in (
                    *("input", "output", "cache_read.input", "cache_write.input"),
                    "reasoning.output",
                )
            },
            "llmspell.inference.cost": "{USD}",
            "llmspell.inference.unpriced": "{operation}",
            "llmspell.cache.requests": "{request}",
            "llmspell.cache.saved.cost": "{USD}",
            "llmspell.cache.saved.time": "s",
            "llmspell.rate_limiting.requests": "{request}",
            "llmspell.retry.attempts": "{attempt}",
            "llmspell.event.processed": "{event}",
            "llmspell.export.records": "{record}",
        }
        self.histogram = {
            name: meter.create_histogram(
                name, unit, name, explicit_bucket_boundaries_advisory=bounds
            )
            for name, (unit, bounds) in histograms.items()
        }
        self.counter = {
            name: meter.create_counter(name, unit, name) for name, unit in counters.items()
        }
        queue = meter.create_up_down_counter("llmspell.event.queue.size", "{event}", "queued")
        room = meter.create_up_down_counter("llmspell.event.queue.capacity", "{event}", "room")
        waiting = meter.create_up_down_counter("llmspell.export.pending", "{record}", "waiting")
        waiting.add(3, {"llmspell.export.signal": "spans", "llmspell.export.state": "memory"})
        queue.add(12)
        room.add(1024)
        meter.create_observable_up_down_counter(
            "llmspell.circuit_breaker.status", [self._breaker], "1", "breaker"
        )

    def _breaker(self, _options: CallbackOptions) -> list[Observation]:
        return [
            Observation(
                int(state == "closed"),
                {
                    "llmspell.circuit_breaker.name": "budget",
                    "llmspell.circuit_breaker.state": state,
                },
            )
            for state in ("closed", "open", "half_open")
        ]

    def count(self, name: str, amount: float, **attributes: Any) -> None:
        """Add to a counter and to the ledger."""
        self.counter[name].add(amount, {key.replace("__", "."): v for key, v in attributes.items()})
        self.totals[name] = self.totals.get(name, 0) + amount

    def record(self, name: str, value: float, attributes: dict[str, Any]) -> None:
        """Record in a histogram, in the context of the current span, and count the point."""
        self.histogram[name].record(value, attributes)
        self.totals[name] = self.totals.get(name, 0) + 1

    def ended(self, span: Any) -> None:
        """End *span* and note it."""
        span.end()
        self.spans.append(span)

    def say(self, event: str, severity: SeverityNumber, **attributes: Any) -> None:
        """Emit one event as a log record, tied to the current span."""
        context = trace.get_current_span().get_span_context()
        self.records.append({"event": event, "trace": f"{context.trace_id:032x}"})
        self.logger.emit(
            LogRecord(
                timestamp=time.time_ns(),
                event_name=event,
                severity_number=severity,
                body=event,
                attributes={key.replace("__", "."): v for key, v in attributes.items()},
            )
        )

    def close(self) -> None:
        """Flush everything."""
        self.tracing.shutdown()
        self.metering.shutdown()
        self.logging.shutdown()


def model_call(fleet: Fleet, model: str, *, fails: bool) -> None:
    """One streamed chat completion: its span, eight points, its cost, its failure's record."""
    about = {**COMMON, "gen_ai.request.model": model, "server.address": "api.openai.com"}
    tokens = random.randint(200, 4000), random.randint(20, 800)
    span = fleet.tracer.start_span(f"chat {model}", kind=SpanKind.CLIENT, attributes=about)
    with trace.use_span(span, end_on_exit=False):
        answered = {**about, "gen_ai.response.model": f"{model}-2026-08-01"}
        failure = {"error.type": "rate_limit_exceeded"} if fails else {}
        seconds = random.uniform(0.2, 4)
        fleet.record("gen_ai.client.inference.duration", seconds, answered | failure)
        fleet.record("gen_ai.client.inference.time_to_first_chunk", seconds / 5, answered)
        fleet.record("gen_ai.client.inference.time_per_output_chunk", 0.03, answered)
        for kind, amount in zip(("input", "output"), tokens, strict=True):
            fleet.record(f"gen_ai.client.inference.operation.{kind}_tokens", amount, answered)
        if fails:
            span.set_attribute("error.type", "rate_limit_exceeded")
            span.set_status(Status(StatusCode.ERROR, "429"))
            fleet.say(
                "gen_ai.client.operation.exception",
                SeverityNumber.WARN,
                exception__type="openai.RateLimitError",
                exception__message="429",
            )
        _usage(fleet, span, answered, tokens)
    fleet.ended(span)


def _usage(fleet: Fleet, span: Any, about: dict[str, Any], tokens: tuple[int, int]) -> None:
    cost = tokens[0] * 1.25e-6 + tokens[1] * 1e-5
    span.set_attributes(
        {
            "gen_ai.usage.input_tokens": tokens[0],
            "gen_ai.usage.output_tokens": tokens[1],
            "gen_ai.response.finish_reasons": ["stop"],
            "llmspell.cost.total": cost,
            "llmspell.cost.currency": "USD",
        }
    )
    named = {key.replace(".", "__"): value for key, value in about.items()}
    kinds = ("input", "output", "cache_read.input", "cache_write.input", "reasoning.output")
    amounts = (*tokens, tokens[0] // 2, 16, tokens[1] // 3)
    for kind, amount in zip(kinds, amounts, strict=True):
        fleet.count(
            f"gen_ai.client.inference.usage.{kind}_tokens",
            amount,
            gen_ai__token__modality="text",
            **named,
        )
    priced = {
        "llmspell.cost.currency": "USD",
        "llmspell.cost.source": "genai-prices",
        "gen_ai.agent.name": "support",
    }
    fleet.record("llmspell.inference.operation.cost", cost, about | priced)
    fleet.count(
        "llmspell.inference.cost",
        cost,
        **named,
        **{key.replace(".", "__"): value for key, value in priced.items()},
    )


def tool_call(fleet: Fleet, tool: str, *, fails: bool) -> None:
    """One tool: its span, its point, a hook and a guardrail that watched it."""
    about: dict[str, Any] = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": tool,
        "gen_ai.tool.type": "function",
        "gen_ai.agent.name": "support",
    }
    span = fleet.tracer.start_span(f"execute_tool {tool}", attributes=about)
    with trace.use_span(span, end_on_exit=False):
        del about["gen_ai.operation.name"]
        failure = {"error.type": "TimeoutError"} if fails else {}
        if fails:
            span.set_attribute("error.type", "TimeoutError")
            span.set_status(Status(StatusCode.ERROR))
        fleet.record("gen_ai.execute_tool.duration", random.uniform(0.01, 0.6), about | failure)
        result = random.choice(("continue", "modified", "cancel", "retry"))
        span.set_attribute("llmspell.hook.result", result)
        hook = {"llmspell.hook.name": "budget", "llmspell.hook.point": "before_tool_execution"}
        fleet.record("llmspell.hook.duration", 8e-5, hook | {"llmspell.hook.result": result})
        if fails:
            raised = {"llmspell.hook.result": "continue", "error.type": "ValueError"}
            fleet.record("llmspell.hook.duration", 1e-4, hook | raised)
        verdict = {"llmspell.guardrail.name": "pii", "llmspell.guardrail.verdict.type": "allow"}
        fleet.record("llmspell.guardrail.duration", 0.02, verdict)
        fleet.say("llmspell.hook.executed", SeverityNumber.DEBUG, llmspell__hook__name="budget")
    fleet.ended(span)


def agent_run(fleet: Fleet, number: int) -> None:
    """A workflow with one stage and one agent, which calls a model, a tool and the model."""
    fails = number % 7 == 3
    workflow = fleet.tracer.start_span(
        "invoke_workflow refunds",
        attributes={"gen_ai.operation.name": "invoke_workflow", "gen_ai.agent.name": "refunds"},
    )
    with trace.use_span(workflow, end_on_exit=False):
        stage = fleet.tracer.start_span(
            "run_stage triage", attributes={"gen_ai.operation.name": "run_stage"}
        )
        with trace.use_span(stage, end_on_exit=False):
            _agent(fleet, fails=fails)
            fleet.record("llmspell.stage.duration", 1.5, {"llmspell.component.name": "triage"})
        fleet.ended(stage)
        fleet.record("gen_ai.invoke_agent.duration", 2.0, {"gen_ai.agent.name": "refunds"})
    fleet.ended(workflow)
    _steering(fleet, number)


def _agent(fleet: Fleet, *, fails: bool) -> None:
    about = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "support"}
    span = fleet.tracer.start_span("invoke_agent support", attributes=about)
    with trace.use_span(span, end_on_exit=False):
        model_call(fleet, "gpt-5", fails=fails)
        tool_call(fleet, "lookup_order", fails=fails)
        model_call(fleet, "gpt-5-mini", fails=False)
        failure = {"error.type": "TimeoutError"} if fails else {}
        if fails:
            span.set_attribute("error.type", "TimeoutError")
            span.set_status(Status(StatusCode.ERROR))
        name = {"gen_ai.agent.name": "support"}
        fleet.record("gen_ai.invoke_agent.duration", random.uniform(1, 9), name | failure)
        fleet.record("gen_ai.invoke_agent.inference_calls", 2, name)
        fleet.record("gen_ai.invoke_agent.tool_calls", 1, name)
    fleet.ended(span)


def _steering(fleet: Fleet, number: int) -> None:
    hit = "hit" if number % 3 else "miss"
    fleet.count(
        "llmspell.cache.requests", 1, llmspell__cache__name="answers", llmspell__cache__result=hit
    )
    if hit == "hit":
        fleet.count("llmspell.cache.saved.cost", 0.002, llmspell__component__type="model")
        fleet.count("llmspell.cache.saved.time", 1.5, llmspell__component__type="model")
    limited = "rejected" if number % 5 == 0 else "acquired"
    policy = {
        "llmspell.rate_limiting.policy": "per_model",
        "llmspell.rate_limiting.result": limited,
    }
    fleet.count(
        "llmspell.rate_limiting.requests", 1, **{k.replace(".", "__"): v for k, v in policy.items()}
    )
    fleet.record("llmspell.rate_limiting.request.time_in_queue", 0.05, policy)
    fleet.count(
        "llmspell.retry.attempts",
        1,
        gen_ai__operation__name="chat",
        llmspell__retry__reason="rate_limit_exceeded",
    )
    fleet.count("llmspell.event.processed", 9)
    exported = {"llmspell__export__signal": "spans", "llmspell__export__outcome": "acknowledged"}
    fleet.count("llmspell.export.records", 40, **exported)
    lost = {"llmspell__export__outcome": "lost", "error__type": "timeout"}
    fleet.count("llmspell.export.records", 1, **exported | lost)
    fleet.count("llmspell.event.processed", 1, error__type="queue_full")
    embedded = COMMON | {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.request.model": "text-embedding-4",
    }
    fleet.record("gen_ai.client.embeddings.duration", 0.1, embedded)
    fleet.count(
        "llmspell.inference.unpriced",
        1,
        gen_ai__provider__name="ollama",
        gen_ai__request__model="llama-4",
    )


def _spans(fleet: Fleet) -> list[dict[str, Any]]:
    return [
        {
            "trace": f"{span.context.trace_id:032x}",
            "span": f"{span.context.span_id:016x}",
            "parent": f"{span.parent.span_id:016x}" if span.parent else None,
            "name": span.name,
            "attributes": {
                key: list(value) if isinstance(value, tuple) else value
                for key, value in (span.attributes or {}).items()
            },
        }
        for span in fleet.spans
        if span.context is not None
    ]


def main(ledger: Path, seconds: float) -> None:
    """Run agents for *seconds*, then flush and write the *ledger*."""
    fleet = Fleet("trial-desk")
    deadline, number = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        agent_run(fleet, number)
        number += 1
        time.sleep(0.1)
    fleet.close()
    ledger.write_text(
        json.dumps({"spans": _spans(fleet), "totals": fleet.totals, "records": fleet.records})
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
