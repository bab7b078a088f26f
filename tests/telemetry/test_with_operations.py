"""With the real engine: decorated functions in, spans and metrics out, and the same by replay."""

import asyncio
from collections.abc import Iterator
from itertools import pairwise

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from llmspell_otel.events import EventBus, UniversalEvent
from llmspell_otel.events.timeline import build
from llmspell_otel.operations import agent, stage, tool, workflow
from llmspell_otel.operations.ports import ports
from llmspell_otel.telemetry.pipeline import Telemetry
from llmspell_otel.telemetry.providers import Providers
from llmspell_otel.telemetry.spans import SpanBridge
from tests.telemetry.support import Signals, Traces
from tests.telemetry.test_spans_unhappy import Foreign


@tool
def lookup(order: str) -> str:
    """Find an order."""
    if order == "none":
        raise KeyError(order)
    return f"order {order}"


@stage
def check(order: str) -> str:
    """Check an order."""
    return lookup(order)


@workflow
def refund(order: str) -> str:
    """Refund an order."""
    return check(order)


@agent
async def triage(order: str) -> str:
    """Decide about an order."""
    await asyncio.sleep(0)
    return refund(order)


@pytest.fixture
def signals() -> Iterator[Signals]:
    """The engine's telemetry, into pipelines of our own."""
    signals = Signals()
    before, ports.telemetry = ports.telemetry, Telemetry(signals.providers)
    yield signals
    ports.telemetry.close()
    ports.telemetry = before


@pytest.fixture
def recorded() -> Iterator[list[UniversalEvent]]:
    """What the bus was told, as a journal would keep it."""
    events: list[UniversalEvent] = []
    before, ports.bus = ports.bus, EventBus()
    ports.bus.subscribe("**", events.append)
    yield events
    ports.bus = before


def flat(traces: Traces) -> list[tuple[object, ...]]:
    """Everything by which two spans are the same."""
    return [
        (
            span.name,
            span.kind,
            span.context.trace_id,
            span.context.span_id,
            span.parent.span_id if span.parent else None,
            span.start_time,
            span.end_time,
            dict(span.attributes or {}),
            span.status.status_code,
        )
        for span in traces.spans
    ]


def test_an_agent_and_what_it_calls(signals: Signals) -> None:
    """One trace: agent, workflow, stage, tool, each the child of the one before."""
    with signals.provider.get_tracer("user").start_as_current_span("request") as request:
        assert asyncio.run(triage("7")) == "order 7"
        assert trace.get_current_span() is request
    spans = {span.name: span for span in signals.spans}
    chain = ["request", "invoke_agent triage", "invoke_workflow refund", "run_stage check"]
    chain.append("execute_tool lookup")
    assert set(spans) == set(chain)
    for above, below in pairwise(chain):
        parent = spans[below].parent
        assert parent is not None
        assert parent.span_id == spans[above].context.span_id
    assert isinstance(ports.telemetry, Telemetry)
    assert ports.telemetry.flush(5)
    points = signals.points
    assert points["gen_ai.invoke_agent.tool_calls"] == [({"gen_ai.agent.name": "triage"}, 1)]
    assert len(points["gen_ai.execute_tool.duration"]) == 1


@pytest.mark.parametrize("order", ["7", "none"])
def test_what_the_journal_holds_gives_the_same_spans(
    signals: Signals, recorded: list[UniversalEvent], order: str
) -> None:
    """Live and replayed: equal in names, ids, parents, times, attributes and status."""
    if order == "none":
        with pytest.raises(KeyError):
            refund(order)
    else:
        refund(order)
    again = Traces()
    SpanBridge(again.provider).replay(recorded)
    assert len(signals.spans) == 3
    assert flat(again) == flat(signals)


def test_a_provider_that_chooses_ids_leaves_one_call_one_call(
    recorded: list[UniversalEvent],
) -> None:
    """Both events of a call have the ids of its span, so a timeline shows the call once."""
    provider = Foreign()
    before, ports.telemetry = ports.telemetry, Telemetry(Providers(provider))
    try:
        assert refund("7") == "order 7"
    finally:
        ports.telemetry.close()
        ports.telemetry = before
    timeline = build(recorded)
    spans = {span.name: trace.format_span_id(span.context.span_id) for span in provider.inner.spans}
    assert [(each.kind, each.id, each.outcome) for each in timeline.operations] == [
        ("workflow", spans["invoke_workflow refund"], "ok"),
        ("stage", spans["run_stage check"], "ok"),
        ("tool", spans["execute_tool lookup"], "ok"),
    ]
    assert len({event.correlation_id for event in recorded}) == 1
    assert len(recorded) == 6


def test_who_begins_to_listen_while_a_span_starts_is_told_of_the_end_alone(
    signals: Signals,
) -> None:
    """What is published has an id, also where a subscription came between making and publishing."""
    told: list[UniversalEvent] = []

    class Listening(SpanProcessor):
        """Subscribes as soon as a span starts."""

        def on_start(self, span: object, parent_context: object = None) -> None:
            ports.bus.subscribe("**", told.append)

    before, ports.bus = ports.bus, EventBus()
    assert isinstance(signals.providers.tracer, TracerProvider)
    signals.providers.tracer.add_span_processor(Listening())
    try:
        refund("A-1")
    finally:
        ports.bus = before
    assert told
    assert all(event.correlation_id for event in told)
    assert "workflow:execution_started" not in {event.event_type for event in told}
