"""Log records: failures, hooks' decisions, details; never a text that was not asked for."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry._logs import SeverityNumber

from llmspell_otel.telemetry import capture
from llmspell_otel.telemetry.capture import CaptureMode
from llmspell_otel.telemetry.pipeline import Options, Telemetry
from tests.telemetry.support import SECOND, START, Call, Signals, run

SECRET = "Ada's number is 4111"
ERROR = {
    "type": "rate_limit_exceeded",
    "exception_type": "openai.RateLimitError",
    "stacktrace": '  File "a.py", line 1, in ask\n',
    "message": SECRET,
}
MESSAGES = [{"role": "user", "parts": [{"type": "text", "content": SECRET}]}]

Build = Callable[..., Telemetry]


@pytest.fixture
def signals() -> Signals:
    """Pipelines of their own for each test."""
    return Signals()


@pytest.fixture
def build(signals: Signals) -> Iterator[Build]:
    """Makes telemetry into them, in a capture mode."""
    built: list[Telemetry] = []

    def make(mode: CaptureMode = CaptureMode.NO_CONTENT) -> Telemetry:
        built.append(Telemetry(signals.providers, options=Options(capture=mode)))
        return built[-1]

    yield make
    for telemetry in built:
        telemetry.close()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("model", "gen_ai.client.operation.exception"),
        ("tool", "gen_ai.execute_tool.exception"),
        ("agent", "gen_ai.invoke_agent.exception"),
        ("workflow", "gen_ai.invoke_workflow.exception"),
        ("stage", "llmspell.run_stage.exception"),
    ],
)
def test_a_failure_is_one_record(signals: Signals, build: Build, kind: str, name: str) -> None:
    """Named by the operation, WARN, in its span, timed, and without the error's text."""
    run(build(), Call(kind=kind, name="x", outcome="error", facts={"error": ERROR}))
    (record,) = signals.logs
    span = signals.only
    assert record.event_name == name
    assert record.severity_number is SeverityNumber.WARN
    assert record.severity_text is None
    assert record.timestamp == START + 2 * SECOND
    assert (record.trace_id, record.span_id) == (span.context.trace_id, span.context.span_id)
    assert record.attributes["error.type"] == (span.attributes or {})["error.type"]
    assert record.attributes["exception.type"] == "openai.RateLimitError"
    assert "ask" in record.attributes["exception.stacktrace"]
    assert SECRET not in str(dict(record.attributes))
    assert not span.events


@pytest.mark.parametrize("mode", [mode for mode in CaptureMode if mode.on])
def test_the_errors_text_is_content(signals: Signals, build: Build, mode: CaptureMode) -> None:
    """It is recorded while content capture is on."""
    run(build(mode), Call(outcome="error", facts={"error": ERROR}))
    failures = [each for each in signals.logs if each.event_name.endswith(".exception")]
    assert [each.attributes["exception.message"] for each in failures] == [SECRET]


def test_a_cancelled_call_is_no_problem(signals: Signals, build: Build) -> None:
    """The caller wanted it so: DEBUG."""
    run(build(), Call(outcome="cancelled", facts={"error": {"type": "asyncio.CancelledError"}}))
    (record,) = signals.logs
    assert record.severity_number is SeverityNumber.DEBUG


def test_success_says_nothing(signals: Signals, build: Build) -> None:
    """Spans say already that an operation started and completed."""
    decisions = [{"hook": "log", "point": "p", "result": "continue"}]
    run(build(), Call(), Call(kind="agent", facts={"decisions": decisions}))
    assert signals.logs == []


DECISIONS = [
    ({"result": "replace"}, "llmspell.hook.executed", SeverityNumber.DEBUG),
    ({"result": "cancel", "reason": SECRET}, "llmspell.hook.executed", SeverityNumber.DEBUG),
    ({"result": "retry"}, "llmspell.retry.scheduled", SeverityNumber.INFO),
    (
        {"result": "continue", "error": "ValueError"},
        "llmspell.hook.exception",
        SeverityNumber.WARN,
    ),
    (
        {"result": "cancel", "attributes": {"llmspell.rate_limiting.result": "rejected"}},
        "llmspell.rate_limiting.rejected",
        SeverityNumber.WARN,
    ),
    (
        {
            "result": "cancel",
            "attributes": {
                "llmspell.guardrail.name": "pii",
                "llmspell.guardrail.verdict.type": "deny",
            },
        },
        "llmspell.guardrail.result",
        SeverityNumber.WARN,
    ),
    (
        {
            "result": "continue",
            "attributes": {
                "llmspell.guardrail.name": "pii",
                "llmspell.guardrail.verdict.type": "allow",
            },
        },
        "llmspell.guardrail.result",
        SeverityNumber.INFO,
    ),
]


@pytest.mark.parametrize(("decision", "name", "severity"), DECISIONS)
def test_what_hooks_decide_is_recorded(
    signals: Signals, build: Build, decision: dict[str, Any], name: str, severity: SeverityNumber
) -> None:
    """Each decision that changed something, by its sort; a hook's own words are content."""
    full = {"hook": "h", "point": "tool:before_execution", "time": START + 1} | decision
    run(build(), Call(kind="tool", name="lookup", facts={"decisions": [full]}))
    (record,) = signals.logs
    assert (record.event_name, record.severity_number) == (name, severity)
    assert record.timestamp == START + 1
    attributes = dict(record.attributes)
    assert attributes["llmspell.hook.name"] == "h"
    assert attributes["llmspell.hook.point"] == "tool:before_execution"
    assert attributes["llmspell.hook.result"] == decision["result"]
    assert attributes["gen_ai.tool.name"] == "lookup"
    assert SECRET not in str(attributes)
    assert record.span_id == signals.only.context.span_id


def test_a_hooks_reason_is_content(signals: Signals, build: Build) -> None:
    """Recorded while content capture is on."""
    decision = {"hook": "h", "point": "p", "result": "cancel", "reason": SECRET}
    run(build(CaptureMode.SPAN_ONLY), Call(kind="tool", name="t", facts={"decisions": [decision]}))
    assert signals.logs[0].attributes["llmspell.hook.reason"] == SECRET


@pytest.mark.parametrize("mode", CaptureMode)
def test_details_of_an_inference(signals: Signals, build: Build, mode: CaptureMode) -> None:
    """One event in the event modes, with everything the span has and structured content."""
    call = Call(
        at_start={"gen_ai.provider.name": "openai"},
        at_end={"gen_ai.usage.input_tokens": 5},
        facts={"content": {"gen_ai.input.messages": MESSAGES}},
    )
    run(build(mode), call)
    details = [each for each in signals.logs if each.event_name.endswith(".details")]
    assert bool(details) is mode.on_event
    for record in details:
        assert record.severity_number is SeverityNumber.DEBUG
        attributes = dict(record.attributes)
        messages = attributes.pop("gen_ai.input.messages")
        assert messages[0]["parts"][0]["content"] == SECRET
        assert attributes == {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-5",
            "gen_ai.usage.input_tokens": 5,
        }


def test_details_without_content(
    signals: Signals, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event can be had while content stays off."""
    monkeypatch.setenv(capture.EMIT_EVENT, "true")
    run(build(), Call(facts={"content": {"gen_ai.input.messages": MESSAGES}}))
    (record,) = signals.logs
    assert record.event_name == "gen_ai.client.inference.operation.details"
    assert SECRET not in str(dict(record.attributes))


@pytest.mark.parametrize(
    ("state", "severity"),
    [
        ("open", SeverityNumber.WARN),
        ("forced_open", SeverityNumber.WARN),
        ("half_open", SeverityNumber.INFO),
        ("closed", SeverityNumber.INFO),
    ],
)
def test_breakers_say_when_they_change(
    signals: Signals, build: Build, state: str, severity: SeverityNumber
) -> None:
    """WARN when one opens, INFO when it recovers."""
    build().breaker_changed("guard", state)
    (record,) = signals.logs
    assert record.event_name == "llmspell.circuit_breaker.state_changed"
    assert record.severity_number is severity
    assert record.timestamp > START
    assert dict(record.attributes) == {
        "llmspell.circuit_breaker.name": "guard",
        "llmspell.circuit_breaker.state": state,
    }
