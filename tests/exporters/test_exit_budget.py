"""The deadline that shutdowns share."""

import time

import pytest

from llmspell_exporters.exit_budget import Budget, number


def test_shutdowns_that_follow_each_other_share_a_deadline() -> None:
    """The second joins the first; the last has a tenth of a second in any case."""
    budget = Budget(0.3)
    first = budget.begin()
    time.sleep(0.05)
    budget.end()
    assert budget.begin() == first
    time.sleep(0.3)
    left = budget.begin() - time.monotonic()
    assert 0.05 < left <= 0.1


def test_a_later_shutdown_has_a_budget_of_its_own() -> None:
    """More than a second after the last one ended, the clock starts anew."""
    budget = Budget(0.3)
    first = budget.begin()
    budget._last -= 2.0
    assert budget.begin() > first
    assert budget.remaining() > 0.25


@pytest.mark.parametrize("text", ["soon", "-1", "inf", "nan"])
def test_a_wrong_number_is_reported_and_not_used(
    text: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The default is used, and one line says what was wrong."""
    monkeypatch.setenv("LLMSPELL_OTEL_TEST", text)
    assert number("LLMSPELL_OTEL_TEST", 5.0) == 5.0
    assert caplog.messages == [
        f"llmspell: LLMSPELL_OTEL_TEST is {text!r}; using 5 (write a number)"
    ]
