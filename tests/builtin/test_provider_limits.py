"""What providers' answers say of their limits: real SDK, scripted server."""

from collections.abc import Callable
from typing import Any

import pytest

from llmspell_otel import Hook, tool
from llmspell_otel.builtin.allowance import Allowances, span
from llmspell_otel.builtin.bucket import MemoryBuckets
from llmspell_otel.builtin.rate_limit import Limiter, RateLimitSettings, rows_of
from llmspell_otel.errors import OperationCancelled
from llmspell_otel.hooks.registry import registry
from llmspell_otel.operations.answered import headers_of
from llmspell_otel.testing import Reply
from tests.builtin.support import MESSAGES, Clock, ask, said
from tests.instrumentation.openai.surfaces import Served
from tests.instrumentation.openai.test_headers import SPENT, WAYS

Serve = Callable[..., Served]
pytestmark = pytest.mark.usefixtures("instrumented")


def learning(clock: Clock, **settings: Any) -> Limiter:
    """A limiter that never limits by itself, registered."""
    given = RateLimitSettings.model_validate({"rate": 1e6, "burst": 1e6, **settings})
    limiter = Limiter(given, MemoryBuckets(clock), Allowances(clock, lambda: 1_790_000_000.0))
    registry.register_all(rows_of(given, limiter))
    return limiter


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_every_kind_of_answer_tells_what_is_left(
    serve: Serve, way: Callable[[Served], None]
) -> None:
    """The next call is not sent; when the provider has room again it is."""
    clock = Clock()
    learning(clock)
    seen: list[Any] = []
    Hook.register("model:after_call", lambda c: seen.append(dict(headers_of(c.operation))))
    hello = Reply.json({"text": "hello"}, headers=SPENT)
    served = serve(hello, Reply.text("again"))
    way(served)
    assert seen[0]["x-ratelimit-remaining-requests"] == "0"
    assert "set-cookie" not in seen[0]
    clock.advance(0.5)
    with pytest.raises(OperationCancelled, match=r"try again in 0\.5 s"):
        ask(served.client)
    assert len(served.requests) == 1
    clock.advance(0.6)
    assert said(ask(served.client)) == "again"


def test_a_model_that_is_spent_holds_back_itself_alone(serve: Serve) -> None:
    """Other models and tools go on."""

    @tool
    def look() -> str:
        """Look."""
        return "seen"

    learning(Clock())
    served = serve(Reply.text("a", headers=SPENT), Reply.text("b"))
    ask(served.client)
    assert look() == "seen"
    other = served.client.chat.completions.create(model="gpt-5-mini", messages=MESSAGES)  # type: ignore[arg-type]
    assert said(other) == "b"


def test_a_long_prompt_waits_for_tokens_and_a_short_one_goes(serve: Serve) -> None:
    """Tokens are estimated from the input; what calls take is counted between answers."""
    clock = Clock()
    learning(clock)
    left = {
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "100",
        "x-ratelimit-reset-tokens": "9s",
    }
    served = serve(Reply.text("a", headers=left), Reply.text("b"), Reply.text("c"))
    ask(served.client)
    with pytest.raises(OperationCancelled):
        ask(served.client, "x" * 2000)
    assert said(ask(served.client, "short")) == "b"
    clock.advance(5)
    assert said(ask(served.client, "x" * 2000)) == "c"


def test_a_call_may_wait_instead(serve: Serve, sleeps: list[float]) -> None:
    """`delay` waits as long as the provider's bucket takes."""
    learning(Clock(), action="delay", max_delay=10)
    served = serve(Reply.text("a", headers=SPENT), Reply.text("b"))
    ask(served.client)
    assert said(ask(served.client)) == "b"
    assert sleeps == [pytest.approx(1.0)]


def test_headers_can_be_left_alone(serve: Serve) -> None:
    """`learn = false`."""
    learning(Clock(), learn=False)
    served = serve(Reply.text("a", headers=SPENT), Reply.text("b"))
    ask(served.client)
    assert said(ask(served.client)) == "b"


@pytest.mark.parametrize(
    "headers",
    [
        {"x-ratelimit-remaining-requests": "none", "x-ratelimit-reset-requests": "1s"},
        {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "soon"},
        {"x-ratelimit-remaining-requests": "-1", "x-ratelimit-reset-requests": "1s"},
        {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "9" * 31},
        {"x-ratelimit-remaining-requests": "nan", "x-ratelimit-reset-requests": "nan"},
        {"x-ratelimit-remaining-requests": "60", "x-ratelimit-limit-requests": "60",
         "x-ratelimit-reset-requests": "0s"},
    ],
)  # fmt: skip
def test_what_makes_no_sense_holds_nobody_back(serve: Serve, headers: dict[str, str]) -> None:
    """Nor what tells of no use at all."""
    learning(Clock())
    served = serve(Reply.text("a", headers=headers), Reply.text("b"))
    ask(served.client)
    assert said(ask(served.client)) == "b"


def test_a_time_of_day_is_understood_too() -> None:
    """As Anthropic tells it; a bucket that nothing is known of says nothing."""
    clock = Clock()
    left = Allowances(clock, lambda: 1_790_000_000.0)
    left.learn(
        "claude",
        {
            "anthropic-ratelimit-requests-limit": "10",
            "anthropic-ratelimit-requests-remaining": "0",
            "anthropic-ratelimit-requests-reset": "2026-09-21T14:13:30Z",
        },
    )
    refused = left.take("claude", 1)
    assert refused is not None
    assert not refused.granted
    assert refused.wait == pytest.approx(1.0)
    assert left.take("other", 1) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("6m0.5s", 360.5), ("20ms", 0.02), ("12", 12), ("1h", 3600), ("1x", None), ("", None)],
)
def test_spans(text: str, seconds: float | None) -> None:
    """As providers write them."""
    assert span(text) == seconds
