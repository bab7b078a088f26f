"""Decisions of hooks as events."""

import time
from typing import Any

import pytest

from llmspell_otel.errors import OperationCancelled
from llmspell_otel.events import default_bus
from llmspell_otel.hooks import (
    Cache,
    Cancel,
    Fork,
    Hook,
    Modified,
    Redirect,
    Replace,
    Retry,
    Skipped,
)
from llmspell_otel.hooks.breaker import BreakerProfile
from llmspell_otel.operations import agent, tool
from llmspell_otel.operations.operation import current

seen: list[Any] = []


@tool
def work(number: int = 1) -> int:
    """Note which operation this is."""
    seen.append(current.get())
    return number


@pytest.fixture
def told() -> list[Any]:
    """Every event about hooks."""
    heard: list[Any] = []
    default_bus().subscribe("hook:*", heard.append)
    return heard


@pytest.mark.parametrize(
    ("result", "event_type", "facts"),
    [
        (Modified({"input": {"number": 2}}), "hook:modified", {}),
        (Replace("secret"), "hook:replaced", {}),
        (Redirect("nobody"), "hook:redirected", {"target": "nobody"}),
        (Retry(delay=0.001, max_attempts=1), "hook:retry", {"delay_ms": 1.0, "max_attempts": 1}),
        (Fork([lambda: 1]), "hook:forked", {"branches": 1}),
        (Cache(key="k", ttl=9), "hook:cached", {"key": "k", "ttl_seconds": 9}),
        (Skipped("why not"), "hook:skipped", {"reason": "why not"}),
    ],
)
def test_every_result_but_continue_is_an_event(
    told: list[Any], result: Any, event_type: str, facts: dict[str, Any]
) -> None:
    """It names hook, point and component, and quotes no content."""
    Hook.register("tool:before_execution", lambda context: result, name="mine")
    Hook.register("tool:before_execution", lambda context: None, name="silent", priority="high")
    work()
    (event,) = told
    assert event.event_type == event_type
    expected = {"hook": "mine", "hook_point": "tool:before_execution", "attempt": 0} | facts
    assert expected.items() <= event.data.items()
    assert event.data["component"] == {"type": "tool", "name": "work"}
    assert event.source == "hook:mine"
    assert "secret" not in str(event.data)


def test_an_events_ids_are_those_of_its_operation(told: list[Any]) -> None:
    """Hooks, events and spans join on one id; children inherit it."""

    @agent
    def around() -> int:
        return work()

    Hook.register("agent:before_execution", lambda context: Skipped())
    Hook.register("tool:before_execution", lambda context: Skipped())
    around()
    first, second = told
    assert first.correlation_id == second.correlation_id == seen[-1].correlation_id != ""
    assert second.traceparent == seen[-1].traceparent
    assert second.correlation_id.replace("-", "") in second.traceparent


def test_a_cancel_and_a_failure_are_events(told: list[Any]) -> None:
    """Also the cancel that a failing, fail-closed hook amounts to."""

    def broken(context: Any) -> None:
        raise ValueError("with content")

    Hook.register("tool:before_execution", broken, on_failure="cancel")
    with pytest.raises(OperationCancelled):
        work()
    Hook.list()[0].unregister()
    Hook.register("tool:before_execution", lambda context: Cancel("no"))
    with pytest.raises(OperationCancelled):
        work()
    assert [(event.event_type, event.data.get("reason")) for event in told] == [
        ("hook:error", None),
        ("hook:cancelled", "hook 'broken' failed and fails closed"),
        ("hook:cancelled", "no"),
    ]
    assert told[0].data["error_type"] == "ValueError"


def test_breakers_opening_and_closing_are_events(told: list[Any]) -> None:
    """With the reason; the way through half open is not."""
    trouble = True

    def sometimes(context: Any) -> None:
        if trouble:
            raise ValueError

    profile = BreakerProfile(failure_threshold=1, success_threshold=1, open_duration=1e-6)
    Hook.register("tool:before_execution", sometimes, breaker=profile)
    work()
    trouble = False
    for _ in range(3):
        work()
    kinds = [event.event_type for event in told]
    assert kinds == ["hook:breaker_opened", "hook:error", "hook:breaker_closed"]
    assert told[0].data["reason"] == "1 failures in 30 s"


def test_the_only_hook_of_a_point_comes_back_after_its_breaker_opened() -> None:
    """A point whose hooks are all left out still looks again when their time has come."""
    fail = True

    def hook(context: Any) -> Any:
        if fail:
            raise ValueError
        return Replace("back")

    profile = BreakerProfile(failure_threshold=1, open_duration=0.02)
    Hook.register("tool:before_execution", hook, breaker=profile)
    assert [work(), work()] == [1, 1]
    fail = False
    time.sleep(0.03)
    assert work() == "back"


def test_a_failing_subscriber_does_not_disturb_hooks() -> None:
    """What listens to hooks cannot change what they do."""

    def broken(event: Any) -> None:
        raise ValueError

    default_bus().subscribe("hook:*", broken)
    Hook.register("tool:before_execution", lambda context: Replace("value"))
    assert work() == "value"
