"""Delays between attempts: how they grow, and how they are spread."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspell_otel.builtin.backoff import Backoff

GROWTH = {
    "exponential": [1.0, 2.0, 4.0, 8.0, 10.0, 10.0],
    "fixed": [1.0] * 6,
    "linear": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    "fibonacci": [1.0, 1.0, 2.0, 3.0, 5.0, 8.0],
}


@pytest.mark.parametrize(("strategy", "delays"), GROWTH.items())
def test_delays_grow_as_the_strategy_says(strategy: str, delays: list[float]) -> None:
    """The first delay is the base; none passes the ceiling."""
    backoff = Backoff(strategy=strategy, base=1.0, ceiling=10.0)
    assert [backoff.planned(attempt) for attempt in range(1, 7)] == delays


@given(
    strategy=st.sampled_from(sorted(GROWTH)),
    jitter=st.sampled_from(["none", "full", "equal", "decorrelated"]),
    attempt=st.integers(-5, 10**9),
    previous=st.floats(0, 1e6),
    base=st.floats(0, 100),
    seed=st.integers(0, 2**32),
)
def test_no_delay_leaves_its_bounds(
    *, strategy: str, jitter: str, attempt: int, previous: float, base: float, seed: int
) -> None:
    """Whatever the numbers, also where three times the last delay is less than the base."""
    backoff = Backoff(strategy=strategy, jitter=jitter, base=base, ceiling=100.0)
    planned = backoff.planned(attempt)
    delay = backoff.delay(attempt, previous, Random(seed))
    low = {"none": planned, "full": 0.0, "equal": planned / 2, "decorrelated": base}[jitter]
    high = {"decorrelated": min(100.0, max(base, 3 * previous))}.get(jitter, planned)
    assert low - 1e-9 <= delay <= high + 1e-9


@pytest.mark.parametrize(
    ("jitter", "mean"), [("full", 2.0), ("equal", 3.0), ("decorrelated", (1 + 6) / 2)]
)
def test_jitter_is_uniform(jitter: str, mean: float) -> None:
    """The mean of many delays is that of the interval they are drawn from."""
    backoff, random = Backoff(jitter=jitter, base=1.0), Random(7)
    delays = [backoff.delay(3, 2.0, random) for _ in range(20_000)]
    assert sum(delays) / len(delays) == pytest.approx(mean, rel=0.02)
