"""The support desk at a real OTLP receiver: all that is required, and nothing said aloud."""

import os
import subprocess
from dataclasses import dataclass
from typing import Any

import pytest

from docs.examples.support_desk.demo import COMMAND, HERE, PROVIDER
from docs.examples.support_desk.scenario import reply
from llmspell_otel.telemetry import semconv
from llmspell_otel.testing import ModelServer
from tests.kit.otlp import OtlpReceiver

pytest.importorskip("agents", reason="the support desk is a program of openai-agents")

SAID = ("teapot", "Ada", "A-1042", "analytical", "refund policy", "Deleting customers", "colleague")
"""Words of prompts, answers, tool arguments and reasons."""


@dataclass(frozen=True)
class Arrived:
    """What one run sent, and how it ended."""

    receiver: OtlpReceiver
    stderr: str


def run(protocol: str, **variables: str) -> tuple[OtlpReceiver, subprocess.CompletedProcess[str]]:
    """Run the support desk against a receiver; gives the receiver, closed."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    with ModelServer(reply) as server, OtlpReceiver() as receiver:
        environment = clean | server.environment | PROVIDER | receiver.environment(protocol)
        done = subprocess.run(
            COMMAND,
            env=environment | variables,
            cwd=HERE.parents[2],
            capture_output=True,
            text=True,
            check=False,
            timeout=110,
        )
    return receiver, done


@pytest.fixture(scope="module", params=["http/protobuf", "grpc"])
def arrived(request: pytest.FixtureRequest) -> Arrived:
    """The same run over either protocol."""
    receiver, done = run(request.param)
    assert done.returncode == 0, done.stderr
    return Arrived(receiver, done.stderr)


def test_it_is_one_trace_with_the_right_parents(arrived: Arrived) -> None:
    """Agent, turns, model calls, tools; the second agent below the first."""
    spans = {span.span_id: span for span in arrived.receiver.spans()}
    assert len({span.trace_id for span in spans.values()}) == 1

    def above(span: Any) -> str | None:
        return spans[span.parent_id].name if span.parent_id else None

    family = sorted((span.name, above(span)) for span in spans.values())
    assert family == sorted(
        [
            ("invoke_agent triage", None),
            *[("run_stage turn triage", "invoke_agent triage")] * 2,
            ("run_stage handoff refunds", "run_stage turn triage"),
            ("invoke_agent refunds", "invoke_agent triage"),
            *[("run_stage turn refunds", "invoke_agent refunds")] * 3,
            *[("chat gpt-5-mini", "run_stage turn triage")] * 2,
            *[("chat gpt-5-mini", "run_stage turn refunds")] * 3,
            ("execute_tool look_up_order", "run_stage turn triage"),
            ("execute_tool search_knowledge", "run_stage turn triage"),
            ("execute_tool search_knowledge", "run_stage turn refunds"),
            ("execute_tool refund_order", "run_stage turn refunds"),
            ("execute_tool send_email", "run_stage turn refunds"),
            ("execute_tool delete_customer", "run_stage turn refunds"),
        ]
    )


def test_model_calls_carry_what_the_conventions_ask_for(arrived: Arrived) -> None:
    """Every required, conditionally required and recommended attribute that applies."""
    for span in arrived.receiver.spans("chat gpt-5-mini"):
        told = span.attributes
        assert span.kind == "CLIENT"
        assert span.status == "UNSET"
        assert told[semconv.OPERATION_NAME] == "chat"
        assert told[semconv.PROVIDER_NAME] == "openai"
        assert told[semconv.REQUEST_MODEL] == "gpt-5-mini"
        assert told[semconv.SERVER_ADDRESS] == "127.0.0.1"
        assert isinstance(told[semconv.SERVER_PORT], int)
        assert told[semconv.REQUEST_STREAM] is True
        assert told["openai.api.type"] == "responses"
        assert told[semconv.RESPONSE_ID]
        assert told[semconv.RESPONSE_MODEL].startswith("gpt-5-mini")
        assert told[semconv.RESPONSE_FINISH_REASONS]
        assert told[semconv.RESPONSE_TIME_TO_FIRST_CHUNK] > 0
        assert told[semconv.USAGE_INPUT_TOKENS] > 0
        assert told[semconv.USAGE_OUTPUT_TOKENS] > 0
        assert told["llmspell.cost.total"] > 0
        assert told["llmspell.cost.currency"] == "USD"


def test_tools_and_agents_carry_what_the_conventions_ask_for(arrived: Arrived) -> None:
    """Names, types, call ids; the agent that runs the tool; no provider on internal agents."""
    for span in arrived.receiver.spans():
        told = span.attributes
        if told[semconv.OPERATION_NAME] == "execute_tool":
            assert span.kind == "INTERNAL"
            assert span.name == f"execute_tool {told[semconv.TOOL_NAME]}"
            assert told[semconv.TOOL_TYPE] == "function"
            assert told[semconv.TOOL_CALL_ID]
            assert told[semconv.TOOL_DESCRIPTION]
            assert told[semconv.AGENT_NAME] in ("triage", "refunds")
        if told[semconv.OPERATION_NAME] == "invoke_agent":
            assert span.kind == "INTERNAL"
            assert told[semconv.AGENT_NAME] in ("triage", "refunds")
            assert not {semconv.PROVIDER_NAME, semconv.SERVER_ADDRESS} & set(told)


def test_hooks_are_seen(arrived: Arrived) -> None:
    """What was retried, cached, changed and refused stands on the spans."""
    one = arrived.receiver.span
    assert one("execute_tool look_up_order").attributes["llmspell.retry.count"] == 2
    cached = [
        span.attributes.get("llmspell.cache.result")
        for span in arrived.receiver.spans("execute_tool search_knowledge")
    ]
    assert sorted(cached) == ["hit", "miss"]
    assert one("execute_tool send_email").attributes["llmspell.hook.result"] == "modified"
    denied = one("execute_tool delete_customer").attributes
    assert denied["llmspell.hook.name"] == "deny_dangerous"
    assert denied["llmspell.operation.outcome"] == "refused"


def test_nothing_that_was_said_is_recorded(arrived: Arrived) -> None:
    """No word of a prompt, answer, tool argument or error text in any signal, by default."""
    everything = "\n".join(
        [
            *(repr(span) for span in arrived.receiver.spans()),
            *(repr(metric) for metric in arrived.receiver.metrics()),
            *(repr(log) for log in arrived.receiver.logs()),
        ]
    )
    assert [word for word in SAID if word in everything] == []


SECONDS = tuple(0.01 * 2**k for k in range(14))
TOKENS = tuple(float(4**k) for k in range(14))
METRICS = {
    # name: unit, kind, bounds, points' labels
    "gen_ai.client.inference.duration": ("s", "histogram", SECONDS),
    "gen_ai.client.inference.time_to_first_chunk": ("s", "histogram", SECONDS),
    "gen_ai.client.inference.time_per_output_chunk": ("s", "histogram", SECONDS),
    "gen_ai.client.inference.usage.input_tokens": ("{token}", "sum", ()),
    "gen_ai.client.inference.usage.output_tokens": ("{token}", "sum", ()),
    "gen_ai.client.inference.usage.cache_read.input_tokens": ("{token}", "sum", ()),
    "gen_ai.client.inference.operation.input_tokens": ("{token}", "histogram", TOKENS),
    "gen_ai.client.inference.operation.output_tokens": ("{token}", "histogram", TOKENS),
    "gen_ai.invoke_agent.duration": (
        "s",
        "histogram",
        tuple(0.1 * 2**k for k in range(13)),
    ),
    "gen_ai.invoke_agent.inference_calls": (
        "{inference_call}",
        "histogram",
        tuple(float(2**k) for k in range(8)),
    ),
    "gen_ai.invoke_agent.tool_calls": (
        "{tool_call}",
        "histogram",
        tuple(float(2**k) for k in range(8)),
    ),
    "gen_ai.execute_tool.duration": ("s", "histogram", SECONDS),
    "llmspell.inference.cost": ("{USD}", "sum", ()),
}


@pytest.mark.parametrize("name", METRICS)
def test_metrics_have_their_units_and_buckets(arrived: Arrived, name: str) -> None:
    """As the conventions' tables say."""
    unit, kind, bounds = METRICS[name]
    metric = arrived.receiver.metric(name)
    assert (metric.unit, metric.kind) == (unit, kind)
    for point in metric.points:
        assert point.bounds == pytest.approx(bounds)


def test_metrics_add_up_to_what_the_spans_say(arrived: Arrived) -> None:
    """Tokens, calls and money are the same seen either way, and counted once."""
    chats = arrived.receiver.spans("chat gpt-5-mini")

    def total(key: str) -> float:
        return sum(span.attributes[key] for span in chats)

    def summed(name: str) -> float:
        return sum(point.value or 0 for point in arrived.receiver.points(name))

    assert summed("gen_ai.client.inference.usage.input_tokens") == total(semconv.USAGE_INPUT_TOKENS)
    assert summed("gen_ai.client.inference.usage.output_tokens") == total(
        semconv.USAGE_OUTPUT_TOKENS
    )
    assert summed("llmspell.inference.cost") == pytest.approx(total("llmspell.cost.total"))
    calls = arrived.receiver.points("gen_ai.client.inference.duration")
    assert sum(point.count or 0 for point in calls) == len(chats) == 5


def test_content_is_recorded_when_it_is_asked_for() -> None:
    """Structured messages on spans; what the policy masked stays masked."""
    receiver, done = run(
        "http/protobuf", OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT="SPAN_ONLY"
    )
    assert done.returncode == 0, done.stderr
    first, *_ = receiver.spans("chat gpt-5-mini")
    messages = first.attributes[semconv.INPUT_MESSAGES]
    assert messages[0]["role"] == "user"
    assert "teapot" in messages[0]["parts"][0]["content"]
    assert first.attributes[semconv.OUTPUT_MESSAGES]
    mail = receiver.span("execute_tool send_email").attributes
    assert "[address]" in mail[semconv.TOOL_CALL_ARGUMENTS]["body"]
    assert "analytical" not in repr(mail)
