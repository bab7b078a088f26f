"""Completion hooks of other packages."""

import logging
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from llmspell_otel.telemetry import completion
from llmspell_otel.telemetry.capture import CaptureMode
from llmspell_otel.telemetry.pipeline import Options, Telemetry
from tests.telemetry.support import Call, Signals, run

MESSAGES = [{"role": "user", "parts": [{"type": "text", "content": "hello"}]}]
ANSWERS = [{"role": "assistant", "parts": [{"type": "text", "content": "hi"}]}]
CALL = Call(
    facts={"content": {"gen_ai.input.messages": MESSAGES, "gen_ai.output.messages": ANSWERS}}
)

given: list[dict[str, Any]] = []


class Keeping:
    """Keeps what it is given, and marks the span as an uploader does."""

    def on_completion(self, **given_to_it: Any) -> None:
        """Keep it."""
        given.append(given_to_it)
        given_to_it["span"].set_attribute("gen_ai.input.messages_ref", "s3://bucket/1")


class Failing:
    """Fails."""

    def on_completion(self, **given_to_it: Any) -> None:
        """Fail."""
        raise ValueError


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Names a class of this module as the installed and chosen hook."""

    def name(cls: str) -> None:
        entry = EntryPoint("upload", f"{__name__}:{cls}", completion.GROUP)
        monkeypatch.setattr(
            completion, "entry_points", lambda group, name: [entry] * (name == "upload")
        )
        # The module is imported by file here, so its name resolves to nothing by itself.
        monkeypatch.setattr(EntryPoint, "load", lambda _: globals()[cls])
        monkeypatch.setenv(completion.HOOK, "upload")

    given.clear()
    return name


@pytest.mark.parametrize("sampled", [True, False])
def test_the_hook_is_given_the_content(named: Any, *, sampled: bool) -> None:
    """Whatever the capture mode and the sampler say; the span itself shows none of it."""
    named("Keeping")
    signals = Signals() if sampled else Signals(sampler=ALWAYS_OFF)
    telemetry = Telemetry(signals.providers, options=Options(capture=CaptureMode.NO_CONTENT))
    assert telemetry.captures
    run(telemetry, CALL)
    telemetry.close()
    (kept,) = given
    assert (kept["inputs"], kept["outputs"]) == (MESSAGES, ANSWERS)
    assert (kept["system_instruction"], kept["tool_definitions"]) == ([], [])
    assert len(signals.spans) == sampled
    for span in signals.spans:
        attributes = span.attributes or {}
        assert attributes["gen_ai.input.messages_ref"] == "s3://bucket/1"
        assert "gen_ai.input.messages" not in attributes


def test_a_failing_hook_is_contained(named: Any) -> None:
    """The span ends as ever."""
    named("Failing")
    signals = Signals()
    telemetry = Telemetry(signals.providers)
    run(telemetry, CALL)
    telemetry.close()
    assert len(signals.spans) == 1
    assert telemetry.bridge.guard.failures == 1


def test_a_hook_that_is_not_installed_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And content stays off."""
    monkeypatch.setenv(completion.HOOK, "no-such-hook")
    with caplog.at_level(logging.WARNING):
        telemetry = Telemetry(Signals().providers)
    assert "no-such-hook" in caplog.text
    assert not telemetry.captures
