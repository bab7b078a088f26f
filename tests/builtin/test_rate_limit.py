"""The rate-limit hook, its buckets, and what becomes of calls beyond the limit."""

import threading
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import RateLimitError
from opentelemetry import baggage
from opentelemetry import context as context_api

from llmspell_otel import Hook, OperationCancelled, Retry, agent, tool
from llmspell_otel.builtin.bucket import Limit, MemoryBuckets
from llmspell_otel.builtin.identity import acting_as
from llmspell_otel.builtin.rate_limit import Limiter, RateLimitSettings, rows_of
from llmspell_otel.errors import SettingsError
from llmspell_otel.hooks.registry import registry
from llmspell_otel.testing import Reply, Usage
from tests.builtin.support import Clock, ask, events, said, streamed

pytestmark = pytest.mark.usefixtures("instrumented")
Serve = Callable[..., Any]


@tool
def work(user: str = "") -> str:
    """Something that is counted."""
    return "done"


@tool
def other() -> str:
    """Something else."""
    return "other"


def limited(clock: Clock, **settings: Any) -> Limiter:
    """A limiter with that clock, registered."""
    given_settings = RateLimitSettings.model_validate(settings)
    limiter = Limiter(given_settings, MemoryBuckets(clock))
    registry.register_all(rows_of(given_settings, limiter))
    return limiter


def passed(function: Callable[..., Any], times: int, *arguments: Any) -> int:
    """How many of so many calls are let through."""
    through = 0
    for _ in range(times):
        try:
            function(*arguments)
        except OperationCancelled:
            continue
        through += 1
    return through


# -- buckets


@given(
    rate=st.fractions(Fraction(1, 100), 1000),
    burst=st.integers(1, 100),
    gaps=st.lists(st.fractions(0, 5, max_denominator=64), max_size=60),
)
def test_a_bucket_grants_exactly_what_it_should(
    rate: Fraction, burst: int, gaps: list[Fraction]
) -> None:
    """Against a model in exact fractions: no token more, none less, however small the gaps."""
    clock = Clock(0.0)
    buckets, limit = MemoryBuckets(clock), Limit(float(rate), float(burst))
    tokens = Fraction(burst)
    for gap in gaps:
        clock.advance(float(gap))
        tokens = min(Fraction(burst), tokens + gap * Fraction(limit.rate))
        grant = buckets.take("k", 1.0, limit)
        if abs(tokens - 1) > Fraction(1, 10**6):
            assert grant.granted == (tokens >= 1)
        if grant.granted:
            tokens -= 1
        assert grant.tokens == pytest.approx(float(tokens), abs=1e-6)


def test_tokens_come_back_by_fractions() -> None:
    """Half a second at one token a second is half a token, not none."""
    clock = Clock()
    buckets, limit = MemoryBuckets(clock), Limit(1.0, 1.0)
    assert buckets.take("k", 1, limit).granted
    for _ in range(2):
        clock.advance(0.5)
        grant = buckets.take("k", 1, limit)
    assert grant.granted


@pytest.mark.parametrize("step", [-3600.0, -0.001, 0.0])
def test_a_clock_that_steps_back_gives_nothing_and_takes_nothing(step: float) -> None:
    """Refilling goes on from there."""
    clock = Clock()
    buckets, limit = MemoryBuckets(clock), Limit(1.0, 2.0)
    buckets.take("k", 2, limit)
    clock.advance(step)
    assert not buckets.take("k", 1, limit).granted
    clock.advance(1.0)
    assert buckets.take("k", 1, limit).granted


def test_threads_get_no_more_than_there_is() -> None:
    """Eight at once, one bucket."""
    buckets, limit = MemoryBuckets(Clock()), Limit(1.0, 1000.0)
    granted: list[int] = []

    def take() -> None:
        granted.append(sum(buckets.take("k", 1, limit).granted for _ in range(500)))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(granted) == 1000


def test_buckets_are_bounded_in_number() -> None:
    """The one idle longest goes first."""
    buckets, limit = MemoryBuckets(Clock(), capacity=3), Limit(1.0, 1.0)
    for key in "abcad":
        buckets.take(key, 1, limit)
    assert len(buckets) == 3
    assert not buckets.take("a", 1, limit).granted
    assert buckets.take("b", 1, limit).granted


def test_more_than_a_bucket_holds_is_granted_from_a_full_one() -> None:
    """It leaves a debt; otherwise it could never be granted."""
    clock = Clock()
    buckets, limit = MemoryBuckets(clock), Limit(1.0, 2.0)
    assert buckets.take("k", 5, limit).granted
    clock.advance(3)
    assert not buckets.take("k", 1, limit).granted
    clock.advance(1)
    assert buckets.take("k", 1, limit).granted


# -- operations


def test_an_operation_takes_one_token() -> None:
    """Not one at each of its moments; and time gives it back."""
    clock = Clock()
    limited(clock, rate=1, burst=3)
    assert passed(work, 5) == 3
    clock.advance(1)
    assert passed(work, 5) == 1


def test_attempts_of_one_operation_take_no_more() -> None:
    """A hook that asks the before hooks again does not make it pay again."""
    limited(Clock(), rate=1, burst=2)
    rounds: list[int] = []

    def again(_: Any) -> Retry | None:
        rounds.append(1)
        return Retry(delay=0, max_attempts=3) if len(rounds) < 3 else None

    Hook.register("tool:before_execution", again)
    work()
    assert passed(work, 3) == 1


def test_the_refusal_says_when_to_come_again(serve: Serve) -> None:
    """And no request is made."""
    limited(Clock(), rate=1, per=60, burst=1)
    served = serve(Reply.text("hello"))
    ask(served.client)
    with pytest.raises(OperationCancelled, match="try again in 60 s"):
        ask(served.client)
    assert len(served.requests) == 1


def test_components_not_included_are_not_counted() -> None:
    """Agents are not, by default."""

    @agent
    def assistant() -> str:
        return "done"

    limited(Clock(), rate=1, burst=1, exclude="tool:other")
    assert passed(assistant, 5) == 5
    assert passed(other, 5) == 5
    assert passed(work, 5) == 1


@pytest.mark.parametrize(
    ("key", "ann", "bob", "others"),
    [
        ("global", 1, 0, 0),
        ("component", 1, 0, 1),
        ("user", 1, 1, 1),
        ("{kind}/{user}", 1, 1, 1),
        ("{component} of {user}", 1, 1, 1),
    ],
)
def test_buckets_are_kept_by_key(key: str, ann: int, bob: int, others: int) -> None:
    """For all, by component, by user, or as a template says."""
    limited(Clock(), rate=1, burst=1, key=key)
    assert passed(work, 3, "ann") == ann
    assert passed(work, 3, "bob") == bob
    assert passed(other, 3) == others


def test_the_user_may_be_in_the_baggage() -> None:
    """Where a service puts it for everything below."""
    limited(Clock(), rate=1, burst=1, key="user", trust_baggage=True)
    for user in ("ann", "bob"):
        token = context_api.attach(baggage.set_baggage("user.id", user))
        assert passed(work, 3, "somebody") == 1
        context_api.detach(token)


def test_the_user_is_who_the_program_says() -> None:
    """By `acting_as`; baggage, which callers can write, counts for nothing unless told to."""
    limited(Clock(), rate=1, burst=1, key="user")
    for user, through in (("ann", 1), ("bob", 1), ("ann", 0)):
        token = context_api.attach(baggage.set_baggage("user.id", "mallory"))
        with acting_as(user):
            assert passed(work, 3, "somebody") == through
        context_api.detach(token)
    assert passed(work, 3, "somebody") == 1


def test_conversations_have_their_own() -> None:
    """A run without a conversation id is one by itself."""
    limited(Clock(), rate=1, burst=1, key="{conversation}")

    @agent
    def assistant() -> int:
        return passed(work, 3)

    assert [assistant(), assistant()] == [1, 1]


def test_components_may_have_quotas_of_their_own() -> None:
    """The first pattern that fits holds."""
    limits = {"tool:w*": {"rate": 2, "per": 60}, "tool:*": {"rate": 1}}
    limited(Clock(), rate=1, burst=1, limits=limits)
    assert passed(work, 5) == 2
    assert passed(other, 5) == 1


# -- actions


def test_delay_waits_for_its_turn(sleeps: list[float]) -> None:
    """Each caller is told a later turn, and the operation is made once."""
    clock = Clock()
    limited(clock, rate=2, burst=1, action="delay")
    with events("rate_limit:delayed") as heard:
        assert passed(work, 3) == 3
    assert sleeps == [0.5, 1.0]
    assert [each["delay"] for each in heard] == sleeps


def test_asynchronous_calls_wait_without_blocking(serve: Serve, sleeps: list[float]) -> None:
    """The wait is the engine's, which awaits."""
    limited(Clock(), rate=2, burst=1, action="delay")
    served = serve(Reply.text("one"), Reply.text("two"))

    async def twice(client: Any) -> list[str]:
        return [said(await ask(client)) for _ in range(2)]

    assert served.run(twice) == ["one", "two"]
    assert sleeps == [0.5]


def test_delay_refuses_what_would_wait_too_long(sleeps: list[float]) -> None:
    """And takes no token for it."""
    clock = Clock()
    limited(clock, rate=1, burst=1, action="delay", max_delay=1.5)
    assert passed(work, 4) == 2
    clock.advance(1)
    assert passed(work, 4) == 1


def test_redirect_sends_it_elsewhere(serve: Serve) -> None:
    """To another model, by its name."""
    limited(Clock(), rate=1, burst=1, action="redirect", redirect_to="gpt-5-mini")
    served = serve(Reply.text("large"), Reply.text("small"))
    assert [said(ask(served.client)) for _ in range(2)] == ["large", "small"]
    assert [request.model for request in served.requests] == ["gpt-5", "gpt-5-mini"]


def test_cached_answers_are_given_beyond_the_limit(serve: Serve) -> None:
    """Where the caching hook has one; else the call is refused."""
    limited(Clock(), rate=1, burst=1, action="cached")
    Hook.enable_builtin("caching")
    served = serve(Reply.text("hello"))
    assert said(ask(served.client)) == "hello"
    assert said(ask(served.client)) == "hello"
    with pytest.raises(OperationCancelled):
        ask(served.client, "Something else.")


def test_cached_without_a_cache_refuses() -> None:
    """There is nothing to answer with."""
    limited(Clock(), rate=1, burst=1, action="cached")
    assert passed(work, 3) == 1


def test_redirect_needs_a_target() -> None:
    """The error says so."""
    with pytest.raises(SettingsError, match="redirect_to"):
        Hook.enable_builtin("rate_limit", action="redirect")


@pytest.mark.parametrize("key", ["{nobody}", "plain", "{", "{user", ""])
def test_a_key_that_is_no_template_is_refused(key: str) -> None:
    """The error names what there is."""
    with pytest.raises(SettingsError, match=r"template|use one of") as wrong:
        Hook.enable_builtin("rate_limit", key=key)
    assert wrong.value.name == "builtin.rate_limit.key"


# -- tokens and dollars


def test_tokens_are_taken_when_they_are_known(serve: Serve) -> None:
    """A bucket in debt lets nothing through until time has paid it off."""
    clock = Clock()
    limited(clock, rate=10, burst=100, unit="tokens")
    served = serve(*[Reply.text("hello", usage=Usage(input=100, output=20))] * 3)
    ask(served.client)
    with pytest.raises(OperationCancelled, match="try again in 2 s"):
        ask(served.client)
    clock.advance(2.1)
    ask(served.client)
    assert len(served.requests) == 2


def test_tokens_of_streams_are_taken_at_their_end(serve: Serve) -> None:
    """When their usage is known."""
    limited(Clock(), rate=10, burst=100, unit="tokens")
    served = serve(*[Reply.text("hello there", usage=Usage(input=100, output=20))] * 2)
    stream = ask(served.client, stream=True, stream_options={"include_usage": True})
    assert streamed(stream) == "hello there"
    with pytest.raises(OperationCancelled):
        ask(served.client)


def test_dollars_are_taken_when_they_are_known(serve: Serve) -> None:
    """As telemetry prices the call."""
    limited(Clock(), rate=0.01, burst=1, unit="dollars")

    def priced(context: Any) -> None:
        context.operation.cost = Decimal("0.60")

    Hook.register("model:after_call", priced, priority=-2_147_483_648, before=["rate_limit"])
    served = serve(*[Reply.text("hello")] * 3)
    ask(served.client)
    ask(served.client)
    with pytest.raises(OperationCancelled, match="try again in 20 s"):
        ask(served.client)


# -- what is told, and what is learnt


def test_a_provider_that_refuses_is_left_alone(serve: Serve) -> None:
    """As long as it asks; nothing is sent meanwhile."""
    clock = Clock()
    limited(clock, rate=100, burst=100)
    served = serve(Reply.error(429, "slow down", retry_after=30), Reply.text("hello"))
    with events("rate_limit:learned") as heard, pytest.raises(RateLimitError):
        ask(served.client)
    assert heard[0]["wait"] == 30
    clock.advance(29.9)
    with pytest.raises(OperationCancelled):
        ask(served.client)
    clock.advance(0.2)
    assert said(ask(served.client)) == "hello"


def test_a_provider_may_be_asked_on(serve: Serve) -> None:
    """When told not to learn."""
    limited(Clock(), rate=100, burst=100, learn=False)
    served = serve(Reply.error(429, "slow down", retry_after=30), Reply.text("hello"))
    with pytest.raises(RateLimitError):
        ask(served.client)
    assert said(ask(served.client)) == "hello"


def test_the_warning_comes_once_per_crossing() -> None:
    """At the share that `warn_at` says, and anew after a quiet time."""
    clock = Clock()
    limited(clock, rate=1, burst=10, warn_at=0.8)
    with events("rate_limit:warning") as heard:
        passed(work, 12)
        assert len(heard) == 1
        assert heard[0]["used"] == pytest.approx(0.8)
        clock.advance(10)
        passed(work, 10)
    assert len(heard) == 2


def test_contexts_carry_the_headers_of_services() -> None:
    """For hooks asked later."""
    limited(Clock(), rate=1, burst=10)
    seen: list[dict[str, Any]] = []
    Hook.register("tool:before_execution", lambda context: seen.append(dict(context.metadata)))
    work()
    assert seen[0]["X-RateLimit-Limit"] == 10
    assert seen[0]["X-RateLimit-Remaining"] == 9
    assert seen[0]["X-RateLimit-Reset"] == pytest.approx(1.0)


def test_decisions_say_acquired_and_rejected() -> None:
    """With the policy, as telemetry reads them."""
    limited(Clock(), rate=1, burst=1)
    with events("tool:execution_*") as heard:
        passed(work, 2)
    told = [
        decision["attributes"]["llmspell.rate_limiting.result"]
        for event in heard
        for decision in event.get("decisions", ())
    ]
    assert told == ["acquired", "rejected"]


def test_hostile_names_make_no_endless_keys() -> None:
    """A key is cut; calls go on."""
    limiter = limited(Clock(), rate=1, burst=1, key="{component}/{user}")
    work("x" * 1_000_000)
    assert max(map(len, limiter.buckets._buckets)) <= 512
