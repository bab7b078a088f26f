"""Metrics and cost: every instrument of the table, over real readers."""

from collections.abc import Iterator
from enum import Enum
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import Histogram, Sum

from llmspell_otel.telemetry import names, semconv
from llmspell_otel.telemetry.genai_prices import GenaiPrices
from llmspell_otel.telemetry.instruments import TABLE, Form, Instruments, Point
from llmspell_otel.telemetry.pipeline import Options, Telemetry
from llmspell_otel.telemetry.prices import Prices, default_prices
from tests.kit.named import named
from tests.telemetry.support import Call, Signals, run
from tests.telemetry.test_semconv import REGISTRY, TABLES

REQUEST = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-5",
    "gen_ai.request.temperature": 0.5,
    "server.address": "api.openai.com",
    "server.port": 443,
}
RESPONSE = {
    "gen_ai.response.model": "gpt-5-2025-08-07",
    "gen_ai.response.id": "resp_1",
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.output_tokens": 100,
}
LABELS = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-5",
    "gen_ai.response.model": "gpt-5-2025-08-07",
    "server.address": "api.openai.com",
    "server.port": 443,
}
UNKNOWN = LABELS | {"gen_ai.token.modality": "unknown"}


@pytest.fixture
def signals() -> Signals:
    """Pipelines of their own for each test."""
    return Signals()


@pytest.fixture
def telemetry(signals: Signals) -> Iterator[Telemetry]:
    """Telemetry into them, priced by a table."""
    prices = Prices({"gpt-5-2025-08-07": {"input": 1, "output": 10}})
    built = Telemetry(signals.providers, prices, Options(version="1.2.3"))
    yield built
    built.close()


def chat(**changed: Any) -> Call:
    """A finished chat."""
    return Call(**({"at_start": REQUEST, "at_end": RESPONSE} | changed))


def without_queue(points: dict[str, Any]) -> dict[str, Any]:
    """The points of operations only."""
    return {name: each for name, each in points.items() if ".event." not in name}


def test_the_table_is_the_registry() -> None:
    """Instrument, unit and buckets of every conventional metric are the registered ones."""
    table = {row.name: row for row in TABLE}
    for name, registered in REGISTRY["metrics"].items():
        row = table[name]
        assert (row.form, row.unit) == (registered["instrument"], registered["unit"]), name
        bounds = registered.get("boundaries")
        assert row.bounds == (None if bounds is None else TABLES[bounds]), name


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_every_row_keeps_the_naming_rules(row: Any) -> None:
    """Units carry no surprises into Prometheus, histograms have buckets, all are described."""
    assert row.description.endswith(".")
    assert (row.bounds is not None) is (row.form is Form.HISTOGRAM)
    assert row.unit == "s" or row.unit.startswith("{") or row.name == names.USAGE_COST
    assert not row.name.endswith("_total")


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_every_row_records(signals: Signals, row: Any) -> None:
    """A real SDK takes the instrument, its buckets and a point."""
    instruments = Instruments(signals.meters, also=[row.name])
    instruments.record([Point(row.name, 1, {"a": "b"})])
    metric = signals.metrics[row.name]
    assert metric.unit == row.unit
    assert isinstance(metric.data, Sum if row.form is Form.COUNTER else Histogram)
    if row.bounds is not None:
        assert metric.data.data_points[0].explicit_bounds == row.bounds
    assert instruments.guard.failures == 0


def test_a_chat(signals: Signals, telemetry: Telemetry) -> None:
    """Duration, tokens as totals and as distributions, and money: nothing more."""
    run(telemetry, chat())
    cost = {key: LABELS[key] for key in LABELS if not key.startswith("server")} | {
        "llmspell.cost.currency": "USD",
        "llmspell.cost.source": "user",
    }
    assert without_queue(signals.points) == {
        "gen_ai.client.inference.duration": [(LABELS, 2.0)],
        "gen_ai.client.inference.usage.input_tokens": [(UNKNOWN, 1000)],
        "gen_ai.client.inference.usage.output_tokens": [(UNKNOWN, 100)],
        "gen_ai.client.inference.operation.input_tokens": [(LABELS, 1000)],
        "gen_ai.client.inference.operation.output_tokens": [(LABELS, 100)],
        "llmspell.inference.cost": [(cost, 0.002)],
        "gen_ai.usage.cost": [(cost, 0.002)],
    }


def test_tokens_by_modality_and_subset(signals: Signals, telemetry: Telemetry) -> None:
    """What is not said to be of a modality is unknown; the parts add up to the total."""
    usage = RESPONSE | {
        "gen_ai.usage.audio.input_tokens": 300,
        "gen_ai.usage.text.input_tokens": 650,
        "gen_ai.usage.cache_read.input_tokens": 200,
        "gen_ai.usage.cache_write.input_tokens": 0,
        "gen_ai.usage.reasoning.output_tokens": 40,
    }
    run(telemetry, chat(at_end=usage))
    points = signals.points
    modality = "gen_ai.token.modality"
    read = {
        name: {attributes[modality]: value for attributes, value in points.get(name, [])}
        for name in (
            semconv.CLIENT_USAGE_INPUT_TOKENS,
            semconv.CLIENT_USAGE_CACHE_READ,
            semconv.CLIENT_USAGE_REASONING,
        )
    }
    assert list(read.values()) == [
        {"audio": 300, "text": 650, "unknown": 50},
        {"unknown": 200},
        {"unknown": 40},
    ]
    assert semconv.CLIENT_USAGE_CACHE_WRITE not in points


def test_a_failed_chat(signals: Signals, telemetry: Telemetry) -> None:
    """The same error type everywhere, and no tokens; the attempt is not priced."""
    error = {"type": "rate_limit_exceeded", "exception_type": "openai.RateLimitError"}
    run(telemetry, chat(at_end={}, outcome="error", facts={"error": error}))
    labels = {key: value for key, value in LABELS.items() if key != "gen_ai.response.model"}
    failing = labels | {"error.type": "rate_limit_exceeded"}
    unknown = labels | {"gen_ai.token.modality": "unknown"}
    assert without_queue(signals.points) == {
        "gen_ai.client.inference.duration": [(failing, 2.0)],
        "gen_ai.client.inference.usage.input_tokens": [(unknown, 0)],
        "gen_ai.client.inference.usage.output_tokens": [(unknown, 0)],
        "gen_ai.client.inference.operation.input_tokens": [(failing, 0)],
        "gen_ai.client.inference.operation.output_tokens": [(failing, 0)],
    }
    assert (signals.only.attributes or {})["error.type"] == "rate_limit_exceeded"


def test_a_stream(signals: Signals, telemetry: Telemetry) -> None:
    """The first chunk, and each interval after it."""
    chunks = {"count": 4, "first": 0.5, "intervals": [0.1, 0.2, 0.3]}
    run(telemetry, chat(facts={"chunks": chunks}))
    metrics = signals.metrics
    (first,) = metrics["gen_ai.client.inference.time_to_first_chunk"].data.data_points
    (each,) = metrics["gen_ai.client.inference.time_per_output_chunk"].data.data_points
    assert (first.sum, first.count) == (0.5, 1)
    assert (each.sum, each.count) == (pytest.approx(0.6), 3)
    assert dict(first.attributes) == LABELS


@pytest.mark.parametrize(
    ("kind", "operation", "expected"),
    [
        ("model", "embeddings", {"gen_ai.client.embeddings.duration": 2.0,
                                 "gen_ai.client.embeddings.operation.input_tokens": 1000}),
        ("model", "retrieval", {"gen_ai.client.operation.duration": 2.0}),
        ("model", "search_memory", {"gen_ai.client.operation.duration": 2.0}),
        ("agent", "create_agent", {"gen_ai.client.operation.duration": 2.0}),
        ("agent", "plan", {}),
    ],
)  # fmt: skip
def test_other_operations(
    signals: Signals, kind: str, operation: str, expected: dict[str, float]
) -> None:
    """Each has the one duration that the conventions give it."""
    telemetry = Telemetry(signals.providers)
    attributes = REQUEST | {"gen_ai.operation.name": operation}
    run(telemetry, Call(kind=kind, at_start=attributes, at_end=RESPONSE))
    telemetry.close()
    found = without_queue(signals.points)
    assert {name: points[0][1] for name, points in found.items()} == expected


def test_an_agent(signals: Signals, telemetry: Telemetry) -> None:
    """How long it ran, and how often it called models and tools."""
    run(telemetry, Call(kind="agent", name="Triage", facts={"calls": {"inference": 3, "tool": 2}}))
    name = {"gen_ai.agent.name": "Triage"}
    assert without_queue(signals.points) == {
        "gen_ai.invoke_agent.duration": [(name | {"gen_ai.operation.name": "invoke_agent"}, 2.0)],
        "gen_ai.invoke_agent.inference_calls": [(name, 3)],
        "gen_ai.invoke_agent.tool_calls": [(name, 2)],
    }


def test_a_remote_agent_is_a_client_operation(signals: Signals, telemetry: Telemetry) -> None:
    """An agent behind an address is measured as the call that it is."""
    run(telemetry, Call(kind="agent", name="R", at_start={"server.address": "a.b"}))
    assert set(without_queue(signals.points)) == {"gen_ai.client.operation.duration"}


def test_workflow_stage_and_tool(signals: Signals, telemetry: Telemetry) -> None:
    """One duration each."""
    run(
        telemetry,
        Call(kind="workflow", name="refund", operation="00000000000000a1"),
        Call(kind="stage", name="check", operation="00000000000000a2"),
        Call(
            kind="tool",
            name="lookup",
            operation="00000000000000a3",
            at_start={"gen_ai.tool.type": "function", "gen_ai.agent.name": "Triage"},
        ),
    )
    workflow = {"gen_ai.agent.name": "refund", "gen_ai.operation.name": "invoke_workflow"}
    tool = {
        "gen_ai.tool.name": "lookup",
        "gen_ai.tool.type": "function",
        "gen_ai.agent.name": "Triage",
    }
    assert without_queue(signals.points) == {
        "gen_ai.invoke_agent.duration": [(workflow, 2.0)],
        "llmspell.stage.duration": [({"llmspell.component.name": "check"}, 2.0)],
        "gen_ai.execute_tool.duration": [(tool, 2.0)],
    }


def test_a_tool_behind_a_protocol(signals: Signals, telemetry: Telemetry) -> None:
    """A Model Context Protocol call is measured as such beside the tool."""
    run(telemetry, Call(kind="tool", name="w", at_start={"mcp.method.name": "tools/call"}))
    assert signals.points["mcp.client.operation.duration"] == [
        ({"mcp.method.name": "tools/call", "gen_ai.tool.name": "w"}, 2.0)
    ]


def test_what_hooks_did(signals: Signals, telemetry: Telemetry) -> None:
    """Hook time, cache answers, retries, rate limits and guardrails, each in its instrument."""
    point = "tool:before_execution"
    decisions = [
        {"hook": "cache", "point": point, "result": "cache", "reason": "hit"},
        {"hook": "r", "point": "tool:error", "result": "retry", "reason": "as it says: Ada"},
        {
            "hook": "limit",
            "point": point,
            "result": "skipped",
            "attributes": {
                "llmspell.rate_limiting.policy": "per_user",
                "llmspell.rate_limiting.result": "acquired",
                "llmspell.rate_limiting.wait": 0.25,
            },
        },
        {
            "hook": "guard",
            "point": point,
            "result": "cancel",
            "duration": 0.5,
            "error": "TimeoutError",
            "attributes": {
                "llmspell.guardrail.name": "pii",
                "llmspell.guardrail.verdict.type": "deny",
            },
        },
    ]
    firings = [
        {"hook": "log", "point": point, "result": "continue", "duration": 1e-5},
        {"hook": "guard+log", "point": point, "result": "cancel", "duration": 0.5},
    ]
    facts = {"decisions": decisions, "hooks": firings, "attempts": 4}
    run(telemetry, Call(kind="tool", name="t", facts=facts))
    points = without_queue(signals.points)
    del points["gen_ai.execute_tool.duration"]
    hook = {"llmspell.hook.point": point}
    limit = {
        "llmspell.rate_limiting.policy": "per_user",
        "llmspell.rate_limiting.result": "acquired",
    }
    assert points == {
        "llmspell.hook.duration": [
            (hook | {"llmspell.hook.name": "log", "llmspell.hook.result": "continue"}, 1e-5),
            (
                hook | {"llmspell.hook.name": "guard+log", "llmspell.hook.result": "cancel"},
                0.5,
            ),
        ],
        "llmspell.cache.requests": [
            ({"llmspell.cache.name": "cache", "llmspell.cache.result": "hit"}, 1)
        ],
        "llmspell.retry.attempts": [
            ({"gen_ai.operation.name": "execute_tool", "llmspell.retry.reason": "_OTHER"}, 3)
        ],
        "llmspell.rate_limiting.requests": [(limit, 1)],
        "llmspell.rate_limiting.request.time_in_queue": [(limit, 0.25)],
        "llmspell.guardrail.duration": [
            (
                {"llmspell.guardrail.name": "pii", "llmspell.guardrail.verdict.type": "deny"},
                0.5,
            )
        ],
    }


def test_an_answer_of_a_hook_costs_nothing(signals: Signals, telemetry: Telemetry) -> None:
    """No model was asked: the stored answer's tokens are neither counted nor paid for again."""
    run(telemetry, chat(facts={"attempts": 0}))
    assert set(without_queue(signals.points)) == {"gen_ai.client.inference.duration"}


def test_an_unknown_model_is_counted_as_unpriced(signals: Signals, telemetry: Telemetry) -> None:
    """A missing price is visible."""
    run(telemetry, chat(at_end=RESPONSE | {"gen_ai.response.model": "mystery"}))
    labels = {"gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5"}
    assert signals.points["llmspell.inference.unpriced"] == [(labels, 1)]
    assert "llmspell.inference.cost" not in signals.points


def test_a_pending_price_is_settled_by_the_worker(signals: Signals) -> None:
    """Prices that were not loaded when the call ended are loaded, and the call is counted."""
    prices = default_prices()
    telemetry = Telemetry(signals.providers, prices)
    call = chat()
    assert telemetry.price(dict(call.at_start | call.at_end)) is None
    run(telemetry, call)
    telemetry.close()
    assert signals.points["llmspell.inference.cost"][0][1] == pytest.approx(0.00225)
    assert float(prices.totals["USD"]) == pytest.approx(0.00225)


def test_a_price_known_at_the_end_is_counted_once(signals: Signals) -> None:
    """On the span, in the running total and in the metric: the same sum."""
    prices = Prices(provider=GenaiPrices())
    prices.preload_now()
    telemetry = Telemetry(signals.providers, prices)
    attributes: dict[str, Any] = REQUEST | RESPONSE
    cost = telemetry.price(attributes)
    run(telemetry, chat(at_end=attributes, facts={"cost": str(cost)}))
    telemetry.close()
    assert (signals.only.attributes or {})["llmspell.cost.total"] == 0.00225
    assert signals.points["llmspell.inference.cost"][0][1] == 0.00225
    assert float(prices.totals["USD"]) == 0.00225


def test_attempts_that_were_paid_for_are_summed(signals: Signals, telemetry: Telemetry) -> None:
    """Three attempts cost three times; the event's sum prevails over the last one's price."""
    attributes: dict[str, Any] = REQUEST | RESPONSE
    telemetry.price(attributes)
    run(telemetry, chat(at_end=attributes, facts={"cost": "0.006", "attempts": 3}))
    assert (signals.only.attributes or {})["llmspell.cost.total"] == 0.006
    assert signals.points["llmspell.inference.cost"][0][1] == 0.006


def test_instruments_can_be_left_out_and_asked_for(signals: Signals) -> None:
    """The two token distributions are the ones most worth leaving out."""
    unwanted = [semconv.CLIENT_OPERATION_INPUT_TOKENS, semconv.CLIENT_OPERATION_OUTPUT_TOKENS]
    options = Options(also=[names.INFERENCE_OPERATION_COST], without=unwanted)
    telemetry = Telemetry(signals.providers, Prices({"gpt-5": {"input": 1}}), options)
    run(telemetry, chat())
    telemetry.close()
    assert set(unwanted).isdisjoint(signals.points)
    assert names.INFERENCE_OPERATION_COST in signals.points


def test_points_carry_their_span_as_exemplar(signals: Signals, telemetry: Telemetry) -> None:
    """A slow bucket leads to the very trace, though the point was made after the span's end."""
    run(telemetry, chat())
    (point,) = signals.metrics["gen_ai.client.inference.duration"].data.data_points
    (exemplar,) = point.exemplars
    context = signals.only.context
    assert (exemplar.span_id, exemplar.trace_id) == (context.span_id, context.trace_id)


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.request.model": ["a", "list"], "server.port": {"a": "map"}},
        {"gen_ai.usage.input_tokens": "many", "gen_ai.usage.output_tokens": -5},
        {"gen_ai.usage.input_tokens": True, "gen_ai.usage.audio.input_tokens": 10**30},
        {"gen_ai.operation.name": ["chat"]},
        {5: "five", "gen_ai.response.model": object()},
    ],
    ids=named,
)
def test_attributes_of_a_wrong_type_stay_out_of_metrics(
    signals: Signals, telemetry: Telemetry, attributes: dict[Any, Any]
) -> None:
    """A list or a map among metric attributes would make a series per value."""
    run(telemetry, chat(at_end=RESPONSE | attributes))
    assert semconv.CLIENT_INFERENCE_DURATION in signals.points
    assert telemetry.books.failed == telemetry.worker.guard.failures == 0
    for points in signals.points.values():
        for labels, value in points:
            assert value >= 0
            assert all(type(label) in {str, int, float, bool} for label in labels.values())


class Loud(str, Enum):  # noqa: UP042 - the older form prints as its own name
    """A model's name as some library has it."""

    MODEL = "gpt-5"


def test_members_of_enumerations_are_their_values(signals: Signals, telemetry: Telemetry) -> None:
    """An adapter may name operation and provider by this package's own enumerations."""
    request = REQUEST | {
        "gen_ai.operation.name": semconv.Operation.CHAT,
        "gen_ai.provider.name": semconv.Provider.OPENAI,
        "gen_ai.request.model": Loud.MODEL,
    }
    run(telemetry, chat(at_start=request))
    ((labels, _),) = signals.points["gen_ai.client.inference.duration"]
    assert labels == LABELS
    assert all(type(label) in {str, int} for label in labels.values())
    assert signals.only.name == "chat gpt-5"
    assert (signals.only.attributes or {}).items() >= REQUEST.items()


def test_breaker_states(signals: Signals, telemetry: Telemetry) -> None:
    """One for the state it is in, zero for the others."""
    telemetry.breaker_changed("guard", "open", "too many failures")
    name = {"llmspell.circuit_breaker.name": "guard"}
    found = {
        labels["llmspell.circuit_breaker.state"]: value
        for labels, value in signals.points["llmspell.circuit_breaker.status"]
        if labels.items() >= name.items()
    }
    assert found == {"closed": 0, "half_open": 0, "open": 1}


def test_the_queue_keeps_its_books_as_metrics(signals: Signals, telemetry: Telemetry) -> None:
    """Size, capacity, processed, and dropped by reason."""
    run(telemetry, chat())
    telemetry.close()
    telemetry.end(chat().ended())
    points = signals.points
    assert points["llmspell.event.queue.size"] == [({}, 0)]
    assert points["llmspell.event.queue.capacity"] == [({}, 8192)]
    assert points["llmspell.event.processed"] == [
        ({}, 1),
        ({"error.type": "queue_full"}, 0),
        ({"error.type": "already_shutdown"}, 1),
    ]
