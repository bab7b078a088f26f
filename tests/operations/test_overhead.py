"""Hooks and their share of the time: one in a hundred, by default."""

import logging
import time
from collections.abc import Iterator

import pytest

from llmspell_otel import Hook, tool
from llmspell_otel.hooks import Registration
from llmspell_otel.hooks.budget import OverheadBudget
from llmspell_otel.operations import overhead

# A hook that the machine puts to sleep for some milliseconds looks guilty: it is tried again.
pytestmark = pytest.mark.flaky(reruns=2, reruns_delay=1)


@pytest.fixture(autouse=True)
def every_operation_counts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Weigh every operation, and be convinced by little evidence."""
    monkeypatch.setattr("llmspell_otel.operations.operation.SAMPLED", 0)
    monkeypatch.setattr(
        overhead,
        "OverheadBudget",
        lambda: OverheadBudget(min_observations=10, min_operation_time=0.02),
    )
    yield
    for hook in Hook.list("tool:before_execution"):
        hook.unregister()


@tool
def work() -> int:
    """Take five milliseconds."""
    time.sleep(0.005)
    return 1


@tool
def long_work() -> int:
    """Take so long that a hook which is interrupted by the machine's other work is innocent."""
    time.sleep(0.05)
    return 1


def slow(_: object) -> None:
    """Take one millisecond: far more than a hundredth."""
    time.sleep(0.001)


def quick(_: object) -> None:
    """Take next to nothing."""


def opened(hook: Registration) -> bool:
    """Whether the hook's breaker is open."""
    return hook.breaker.state == "open"


def test_a_hook_that_takes_too_much_is_left_out_and_said_to_be(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its breaker opens and says why; the tool goes on."""
    hook = Hook.register("tool:before_execution", slow)
    with caplog.at_level(logging.WARNING, "llmspell_otel.hooks"):
        assert all(work() == 1 for _ in range(15))
    assert opened(hook)
    assert "of the time it watches, more than 1%" in caplog.text


def test_a_hook_within_its_share_stays(caplog: pytest.LogCaptureFixture) -> None:
    """A few microseconds of fifty milliseconds are fine."""
    hook = Hook.register("tool:before_execution", quick)
    for _ in range(15):
        long_work()
    assert not opened(hook)
    assert caplog.text == ""


def test_of_several_hooks_the_one_that_takes_too_much_is_left_out() -> None:
    """The others at the point go on being asked."""
    innocent = Hook.register("tool:before_execution", quick, name="innocent")
    guilty = Hook.register("tool:before_execution", slow, name="guilty")
    for _ in range(20):
        long_work()
    assert opened(guilty)
    assert not opened(innocent)


def test_a_guard_that_takes_too_much_is_only_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """An agent is not shut down because what guards it is slow."""
    guard = Hook.register("tool:before_execution", slow, on_failure="cancel")
    with caplog.at_level(logging.WARNING, "llmspell_otel.hooks"):
        assert all(work() == 1 for _ in range(15))
    assert not opened(guard)
    assert "of the time it watches" in caplog.text
