"""The retry hook, on real SDK calls and on plain functions."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import pytest
from openai import BadRequestError, InternalServerError, RateLimitError

from llmspell_otel import Hook, OperationCancelled, agent, tool
from llmspell_otel.builtin.failures import retry_after, status_of
from llmspell_otel.builtin.retry import Retries, RetrySettings
from llmspell_otel.operations.effects import Sleep
from llmspell_otel.testing import Reply
from tests.builtin.support import ask, events, said, streamed

pytestmark = pytest.mark.usefixtures("instrumented")
Serve = Callable[..., Any]
DOWN = Reply.error(503, "overloaded")


def test_two_failures_and_a_success_are_three_calls(serve: Serve, sleeps: list[float]) -> None:
    """The delays are those configured, and each further attempt is an event."""
    Hook.enable_builtin("retry", base_delay=0.5, jitter="none")
    served = serve(DOWN, DOWN, Reply.text("hello"))
    with events("retry:*") as heard:
        assert said(ask(served.client)) == "hello"
    assert len(served.requests) == 3
    assert sleeps == [0.5, 1.0]
    assert [(each["attempt"], each["reason"], each["delay"]) for each in heard] == [
        (2, "status", 0.5),
        (3, "status", 1.0),
    ]
    assert {each["name"] for each in heard} == {"gpt-5"}


def test_asynchronous_calls_are_retried_alike(serve: Serve, sleeps: list[float]) -> None:
    """The same hook serves both worlds."""
    Hook.enable_builtin("retry", strategy="fixed", base_delay=0.25, jitter="none")
    served = serve(DOWN, DOWN, Reply.text("hello"))
    assert said(served.run(ask)) == "hello"
    assert sleeps == [0.25, 0.25]


def test_the_last_error_is_raised_when_attempts_run_out(serve: Serve, sleeps: list[float]) -> None:
    """`max_attempts` counts every call; the caller gets the SDK's own error."""
    Hook.enable_builtin("retry", max_attempts=2)
    served = serve(DOWN, DOWN, Reply.text("never"))
    with events("retry:exhausted") as heard, pytest.raises(InternalServerError):
        ask(served.client)
    assert len(served.requests) == 2
    assert len(sleeps) == 1
    assert heard[0]["attempts"] == 2


def test_concurrent_calls_count_their_own_attempts(serve: Serve, sleeps: list[float]) -> None:
    """Each of two failing calls has all its attempts."""
    Hook.enable_builtin("retry", max_attempts=3)
    served = serve(*[DOWN] * 6)

    async def both(client: Any) -> list[Any]:
        return await asyncio.gather(ask(client), ask(client), return_exceptions=True)

    errors = served.run(both)
    assert all(isinstance(error, InternalServerError) for error in errors)
    assert len(served.requests) == 6


def test_retry_after_is_waited_for(serve: Serve, sleeps: list[float]) -> None:
    """The server's wish is a floor under the delay."""
    Hook.enable_builtin("retry", base_delay=0.1, jitter="none")
    served = serve(Reply.error(429, "slow down", retry_after=7), Reply.text("hello"))
    assert said(ask(served.client)) == "hello"
    assert sleeps == [7.0]


def test_retry_after_can_be_disregarded(serve: Serve, sleeps: list[float]) -> None:
    """When told to, the configured delay holds."""
    Hook.enable_builtin("retry", base_delay=0.1, jitter="none", respect_retry_after=False)
    served = serve(Reply.error(429, "slow down", retry_after=7), Reply.text("hello"))
    ask(served.client)
    assert sleeps == [0.1]


def test_a_server_that_asks_for_too_much_is_not_asked_again(
    serve: Serve, sleeps: list[float]
) -> None:
    """Coming back earlier than it asked would only make things worse."""
    Hook.enable_builtin("retry", max_retry_after=5)
    served = serve(Reply.error(429, "slow down", retry_after=7), Reply.text("never"))
    with pytest.raises(RateLimitError):
        ask(served.client)
    assert not sleeps


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_as_servers_write_it(
    headers: dict[str, str], seconds: float | None
) -> None:
    """Seconds, milliseconds, or nonsense that counts as nothing."""
    error = SimpleNamespace(response=SimpleNamespace(headers=headers))
    assert retry_after(error) == seconds


def test_retry_after_may_be_a_date() -> None:
    """A date in the past means now."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for ahead, seconds in ((30, 30.0), (-30, 0.0)):
        date = format_datetime(now + timedelta(seconds=ahead), usegmt=True)
        error = SimpleNamespace(response=SimpleNamespace(headers={"retry-after": date}))
        assert retry_after(error, now.timestamp) == seconds


def test_what_will_not_pass_is_not_retried(serve: Serve, sleeps: list[float]) -> None:
    """A bad request stays one, whatever its text says."""
    Hook.enable_builtin("retry")
    served = serve(Reply.error(400, "service unavailable"))
    with pytest.raises(BadRequestError):
        ask(served.client)
    assert len(served.requests) == 1


def test_a_spent_quota_is_not_retried(serve: Serve, sleeps: list[float]) -> None:
    """It is a 429 that no waiting helps against."""
    Hook.enable_builtin("retry")
    served = serve(Reply.error(429, "You exceeded your quota.", code="insufficient_quota"))
    with pytest.raises(RateLimitError):
        ask(served.client)
    assert not sleeps


class OddError(Exception):
    """Nothing that anybody knows."""


class LateError(TimeoutError):
    """A time-out of somebody's own."""


JUDGED = [
    (ConnectionResetError("x"), {}, "type"),
    (LateError("x"), {}, "timeout"),
    (LateError("x"), {"on_timeout": False}, None),
    (OddError("x"), {}, None),
    (OddError("x"), {"errors": ["OddError"]}, "type"),
    (OddError("x"), {"errors": ["tests.builtin.*"]}, "type"),
    (OddError("the Service Unavailable today"), {}, "text"),
    (OddError("the Service Unavailable today"), {"texts": []}, None),
    (OddError("x"), {"errors": ["OddError"], "never_errors": ["OddError"]}, None),
    (OddError("timed out: fatal"), {"never_texts": ["FATAL"]}, None),
    (OperationCancelled("timed out"), {}, None),
]


@pytest.mark.parametrize(("error", "settings", "reason"), JUDGED)
def test_failures_are_judged_by_type_and_text(
    error: Exception, settings: dict[str, Any], reason: str | None
) -> None:
    """What must never be retried wins."""
    assert Retries(RetrySettings(**settings)).reason(error) == reason


@pytest.mark.parametrize(
    ("status", "settings", "reason"),
    [
        (429, {}, "rate_limit"),
        (429, {"on_rate_limit": False}, None),
        (408, {}, "timeout"),
        (500, {}, "status"),
        (500, {"statuses": [502]}, None),
        (500, {"never_statuses": "500,501"}, None),
        (404, {}, None),
    ],
)
def test_failures_are_judged_by_status(
    status: int, settings: dict[str, Any], reason: str | None
) -> None:
    """A known status decides."""
    error = OddError("timed out")
    error.status_code = status  # type: ignore[attr-defined]
    assert Retries(RetrySettings(**settings)).reason(error) == reason


def test_a_status_is_found_where_sdks_keep_it() -> None:
    """On the error, or on its response; a flag is no status."""
    assert status_of(SimpleNamespace(status=502)) == 502
    assert status_of(SimpleNamespace(response=SimpleNamespace(status_code=503))) == 503
    assert status_of(SimpleNamespace(status_code=True)) is None


def test_an_error_that_cannot_be_read_is_not_retried() -> None:
    """A hostile `__str__` breaks nothing."""

    class HostileError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert Retries(RetrySettings()).reason(HostileError()) is None


def test_tools_are_retried_only_when_named(sleeps: list[float]) -> None:
    """A payment must not be made twice."""
    calls: list[str] = []

    @tool
    def pay() -> None:
        calls.append("pay")
        raise ConnectionError

    @tool
    def look_up() -> None:
        calls.append("look_up")
        raise ConnectionError

    Hook.enable_builtin("retry", tools="look_*", max_attempts=3)
    for function in (pay, look_up):
        with pytest.raises(ConnectionError):
            function()
    assert calls == ["pay", "look_up", "look_up", "look_up"]


def test_agents_are_retried_only_when_named(sleeps: list[float]) -> None:
    """A run repeats everything that it did."""
    runs: list[int] = []

    @agent
    def assistant() -> str:
        runs.append(1)
        if len(runs) < 3:
            raise TimeoutError
        return "done"

    Hook.enable_builtin("retry")
    with pytest.raises(TimeoutError):
        assistant()
    runs.clear()
    Hook.enable_builtin("retry", agents=["assistant"])
    assert assistant() == "done"


def test_components_can_be_left_alone(serve: Serve, sleeps: list[float]) -> None:
    """`exclude` is asked by kind and name."""
    Hook.enable_builtin("retry", exclude="model:gpt-5*")
    served = serve(DOWN)
    with pytest.raises(InternalServerError):
        ask(served.client)
    assert len(served.requests) == 1


def test_no_attempt_begins_after_the_deadline(serve: Serve, sleeps: list[float]) -> None:
    """A delay that would pass it is not begun."""
    Hook.enable_builtin("retry", base_delay=2.0, jitter="none", max_elapsed=1.0)
    served = serve(DOWN)
    with pytest.raises(InternalServerError):
        ask(served.client)
    assert not sleeps


def test_time_that_passes_counts_towards_the_deadline(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attempts and waits together: the fourth would begin after twelve of ten seconds."""
    passed = [0.0]
    monkeypatch.setattr(
        Sleep, "perform", lambda effect: passed.__setitem__(0, passed[0] + effect.seconds)
    )
    settings = RetrySettings(base_delay=4, factor=1, jitter="none", max_attempts=10, max_elapsed=10)
    retries = Retries(settings, clock=lambda: time.perf_counter() + passed[0])
    Hook.register("model:error", retries.failed)
    served = serve(*[DOWN] * 5)
    with events("retry:*") as heard, pytest.raises(InternalServerError):
        ask(served.client)
    assert len(served.requests) == 3
    assert passed == [8.0]
    assert heard[-1]["attempts"] == 3


def test_a_stream_that_could_not_be_opened_is_retried(serve: Serve, sleeps: list[float]) -> None:
    """Nothing of it has reached the caller."""
    Hook.enable_builtin("retry")
    served = serve(DOWN, Reply.text("hello there"))
    assert streamed(ask(served.client, stream=True)) == "hello there"
    assert len(served.requests) == 2


def test_a_stream_that_has_begun_is_never_retried(serve: Serve, sleeps: list[float]) -> None:
    """Its consumer would be told the beginning twice."""
    Hook.enable_builtin("retry", errors=["*"])
    served = serve(Reply.text("hello there, you", stream_error="overloaded"), Reply.text("never"))
    with pytest.raises(Exception, match="overloaded"):
        streamed(ask(served.client, stream=True))
    assert len(served.requests) == 1
    assert not sleeps


def test_attempts_are_decisions_that_telemetry_reads(serve: Serve, sleeps: list[float]) -> None:
    """The complete event tells the reason and the delay of every further attempt."""
    Hook.enable_builtin("retry", base_delay=0.5, jitter="none")
    served = serve(DOWN, Reply.text("hello"))
    with events("model:call_complete") as heard:
        ask(served.client)
    (decision,) = heard[0]["decisions"]
    assert (decision["hook"], decision["result"]) == ("retry", "retry")
    assert decision["attributes"] == {
        "llmspell.retry.attempt": 2,
        "llmspell.retry.reason": "status",
        "llmspell.retry.delay": 0.5,
    }
