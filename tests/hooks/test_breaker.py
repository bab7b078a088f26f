"""The circuit breaker: the cases that the field knows, under a fake clock."""

from collections.abc import Callable

import pytest

from llmspell_otel.errors import SettingsError
from llmspell_otel.hooks.breaker import (
    CONSERVATIVE,
    DEFAULT,
    NO_PROBE,
    PRODUCTION,
    PROFILES,
    BreakerProfile,
)
from tests.hooks.breaker_bench import (
    CLOSED,
    HALF_OPEN,
    MILLISECOND,
    OPEN,
    SECOND,
    SLOW,
    Bench,
)


@pytest.fixture
def bench() -> Bench:
    """A breaker of the default profile."""
    return Bench()


# -- profiles


@pytest.mark.parametrize(
    ("profile", "row"),
    [
        (DEFAULT, (3, 2, 30, 15, 2, 0.050)),
        (PRODUCTION, (2, 1, 20, 10, 1, 0.025)),
        (CONSERVATIVE, (5, 3, 60, 30, 3, 0.100)),
    ],
    ids=["default", "production", "conservative"],
)
def test_profiles_equal_the_table(profile: BreakerProfile, row: tuple[float, ...]) -> None:
    """The three profiles hold the documented numbers, and none backs off."""
    assert row == (
        profile.failure_threshold,
        profile.success_threshold,
        profile.failure_window,
        profile.open_duration,
        profile.slow_call_threshold,
        profile.slow_call_duration,
    )
    assert profile.backoff == 1


def test_profiles_go_by_name() -> None:
    """Settings find each profile under its name."""
    assert PROFILES == {
        "default": DEFAULT,
        "production": PRODUCTION,
        "conservative": CONSERVATIVE,
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("failure_threshold", 0),
        ("failure_threshold", 1.5),
        ("success_threshold", -1),
        ("slow_call_threshold", 0),
        ("failure_window", 0),
        ("open_duration", -1),
        ("open_duration", float("nan")),
        ("slow_call_duration", 0),
        ("max_open_duration", 0),
        ("backoff", 0.5),
        ("backoff", float("inf")),
    ],
)
def test_an_impossible_profile_is_refused(name: str, value: float) -> None:
    """A value that could never work is named at once, with how to mend it."""
    with pytest.raises(SettingsError, match=rf"breaker\.{name}.*use"):
        BreakerProfile(**{name: value})


def test_endless_durations_are_allowed() -> None:
    """Infinity means never: never forgotten, never slow, never tried again."""
    endless = float("inf")
    bench = Bench(
        BreakerProfile(
            failure_window=endless, open_duration=endless, slow_call_duration=endless, backoff=2
        )
    )
    bench.fail(2)
    bench.clock.advance(10_000_000)
    bench.breaker.slow(bench.clock.now, 10**15)
    assert bench.breaker.state is CLOSED
    bench.fail()
    bench.clock.advance(10_000_000)
    assert not bench.ask()


# -- closed


def test_it_starts_closed(bench: Bench) -> None:
    """A new breaker lets everything pass and has nothing to tell."""
    breaker = bench.breaker
    assert (breaker.state, breaker.passing, breaker.retry_at_ns) == (CLOSED, True, 0)
    assert breaker.opened_at is None
    assert bench.ask() == NO_PROBE
    assert bench.changes == []


def test_failures_open_it_within_the_offending_call(bench: Bench) -> None:
    """The failure that reaches the threshold opens it; not one more call passes."""
    bench.fail(2)
    assert bench.breaker.state is CLOSED
    bench.fail()
    assert bench.breaker.state is OPEN
    assert not bench.ask()
    assert bench.changes == [(CLOSED, OPEN, "3 failures in 30 s")]


def test_slow_calls_open_it(bench: Bench) -> None:
    """Calls that succeed too slowly open it as well."""
    bench.drag()
    assert bench.breaker.state is CLOSED
    bench.drag()
    assert bench.changes == [(CLOSED, OPEN, "2 slow calls in 30 s")]


def test_a_call_exactly_as_long_as_the_limit_is_slow(bench: Bench) -> None:
    """The limit itself is slow; a nanosecond less is not."""
    limit = 50 * MILLISECOND
    bench.breaker.slow(bench.clock.now, limit - 1)
    assert bench.breaker.stats.total_slow_calls == 0
    bench.breaker.slow(bench.clock.now, limit)
    assert bench.breaker.stats.total_slow_calls == 1


def test_a_slow_failure_counts_as_both(bench: Bench) -> None:
    """A hook that times out is failing and dragging: the lower threshold opens it."""
    bench.breaker.failure(bench.clock.now, SLOW)
    bench.breaker.failure(bench.clock.now, SLOW)
    assert bench.changes == [(CLOSED, OPEN, "2 slow calls in 30 s")]
    assert bench.breaker.stats.total_failures == 2


def test_failures_leave_the_window(bench: Bench) -> None:
    """The window slides: a failure as old as the window no longer counts."""
    bench.fail()
    bench.clock.advance(15)
    bench.fail()
    bench.clock.advance(15)
    bench.fail()
    assert bench.breaker.state is CLOSED
    assert bench.breaker.stats.failures == 2
    bench.clock.advance(14.999999999)
    bench.fail()
    assert bench.breaker.state is OPEN


def test_slow_calls_leave_the_window(bench: Bench) -> None:
    """One slow call a minute, for a day, opens nothing."""
    for _ in range(1440):
        bench.drag()
        bench.clock.advance(60)
    assert bench.breaker.state is CLOSED
    assert bench.breaker.stats.slow_calls == 0
    assert bench.breaker.stats.total_slow_calls == 1440


def test_closed_never_turns_half_open(bench: Bench) -> None:
    """Asking a closed breaker changes nothing, however late it is."""
    bench.fail(2)
    bench.clock.advance(1000)
    for _ in range(3):
        assert bench.ask() == NO_PROBE
        bench.breaker.success(bench.clock.now)
    assert bench.breaker.state is CLOSED
    assert bench.changes == []


# -- open


def test_an_open_breaker_refuses_until_its_time(bench: Bench) -> None:
    """It says when it will try again, and refuses until exactly then."""
    bench.open()
    assert bench.breaker.opened_at == bench.clock.now
    assert bench.breaker.retry_at_ns == bench.clock.now + 15 * SECOND
    bench.clock.now = bench.breaker.retry_at_ns - 1
    assert not bench.ask()
    bench.clock.now += 1
    assert bench.ask()
    assert bench.breaker.state is HALF_OPEN
    assert bench.breaker.stats.total_refused == 1


def test_late_reports_do_not_move_an_open_breaker(bench: Bench) -> None:
    """What was under way when it opened is counted but prolongs nothing."""
    bench.open()
    retry_at = bench.breaker.retry_at_ns
    bench.clock.advance(1)
    bench.fail(5)
    bench.drag(5)
    bench.breaker.success(bench.clock.now)
    bench.breaker.release()
    assert (bench.breaker.state, bench.breaker.retry_at_ns) == (OPEN, retry_at)
    assert bench.breaker.stats.total_failures == 8
    assert bench.breaker.stats.total_openings == 1


# -- half open


def test_enough_fast_probes_close_it(bench: Bench) -> None:
    """It closes after success_threshold probes, with a clean slate."""
    permit = bench.half_open()
    bench.breaker.success(bench.clock.now, permit)
    assert bench.breaker.state is HALF_OPEN
    bench.breaker.success(bench.clock.now, bench.ask())
    assert bench.states == [OPEN, HALF_OPEN, CLOSED]
    assert bench.breaker.passing
    assert bench.breaker.opened_at is None
    bench.fail(2)
    assert bench.breaker.state is CLOSED, "failures from before the opening still count"


def test_reports_without_a_permit_stand_for_the_probe(bench: Bench) -> None:
    """A caller that does not keep permits is served too."""
    bench.half_open()
    bench.breaker.success(bench.clock.now)
    bench.ask()
    bench.breaker.success(bench.clock.now)
    assert bench.breaker.state is CLOSED


def test_a_failed_probe_opens_it_again(bench: Bench) -> None:
    """One failure is enough, and the time starts anew."""
    permit = bench.half_open()
    bench.breaker.failure(bench.clock.now, 0, permit)
    assert bench.changes[-1] == (HALF_OPEN, OPEN, "a probe failed")
    assert bench.breaker.retry_at_ns == bench.clock.now + 15 * SECOND


def test_a_slow_probe_is_no_success(bench: Bench) -> None:
    """Slow probes count as slow: they never close it, and enough of them open it."""
    permit = bench.half_open()
    bench.breaker.slow(bench.clock.now, SLOW, permit)
    assert bench.breaker.state is HALF_OPEN
    assert bench.breaker.stats.slow_calls == 1
    assert bench.breaker.stats.successes == 0
    bench.breaker.slow(bench.clock.now, SLOW, bench.ask())
    assert bench.changes[-1] == (HALF_OPEN, OPEN, "probes were slow")


def test_a_probe_reported_as_slow_but_fast_is_a_success() -> None:
    """The breaker's own limit decides what is slow."""
    bench = Bench(PRODUCTION)
    permit = bench.half_open()
    bench.breaker.slow(bench.clock.now, 24 * MILLISECOND, permit)
    assert bench.breaker.state is CLOSED


def test_only_one_probe_is_out(bench: Bench) -> None:
    """While a probe is out, everyone else is refused."""
    bench.half_open()
    assert [bench.ask() for _ in range(5)] == [0] * 5
    assert bench.breaker.stats.total_refused == 5


def test_a_cancelled_probe_gives_its_permit_back(bench: Bench) -> None:
    """A cancelled probe decides nothing, and the next call probes at once."""
    for _ in range(100):
        permit = bench.half_open() if bench.breaker.state is CLOSED else bench.ask()
        assert permit > 0
        bench.breaker.release(permit)
    assert bench.states == [OPEN, HALF_OPEN]


def test_a_lost_probe_does_not_hold_it_half_open(bench: Bench) -> None:
    """A probe that never reports is given up, counts as failed, and is probed again."""
    lost = bench.half_open()
    bench.clock.advance(15)
    assert not bench.ask()
    assert bench.changes[-1] == (HALF_OPEN, OPEN, "a probe did not return")
    bench.clock.advance(15)
    fresh = bench.ask()
    assert fresh > 0
    bench.breaker.success(bench.clock.now, lost)
    assert bench.breaker.stats.successes == 0
    assert not bench.ask(), "the lost probe's late report freed the new probe's permit"


@pytest.mark.parametrize("report", ["success", "failure", "slow", "release"])
def test_calls_from_before_the_opening_do_not_decide(bench: Bench, report: str) -> None:
    """A report under another permit leaves the probe alone."""
    bench.half_open()
    now = bench.clock.now
    reports: dict[str, Callable[[], None]] = {
        "success": lambda: bench.breaker.success(now, NO_PROBE),
        "failure": lambda: bench.breaker.failure(now, 0, NO_PROBE),
        "slow": lambda: bench.breaker.slow(now, SLOW, NO_PROBE),
        "release": lambda: bench.breaker.release(NO_PROBE),
    }
    for _ in range(5):
        reports[report]()
    assert bench.states == [OPEN, HALF_OPEN]
    assert not bench.ask()


def test_backoff_lengthens_failed_recoveries() -> None:
    """With a back-off each failed recovery waits longer, up to the limit; closing resets it."""
    bench = Bench(BreakerProfile(success_threshold=1, backoff=3, max_open_duration=100))
    bench.half_open()
    waits = []
    for _ in range(4):
        bench.breaker.failure(bench.clock.now)
        waits.append((bench.breaker.retry_at_ns - bench.clock.now) / SECOND)
        bench.clock.now = bench.breaker.retry_at_ns
        assert bench.ask()
    assert waits == [45, 100, 100, 100]
    bench.breaker.success(bench.clock.now)
    bench.open()
    assert bench.breaker.retry_at_ns - bench.clock.now == 15 * SECOND


def test_a_limit_below_the_first_wait_does_not_shorten_it() -> None:
    """The back-off never makes a wait shorter than open_duration."""
    bench = Bench(BreakerProfile(open_duration=30, backoff=2, max_open_duration=5))
    bench.half_open()
    bench.fail()
    assert bench.breaker.retry_at_ns - bench.clock.now == 30 * SECOND


def test_probes_of_an_earlier_recovery_do_not_count(bench: Bench) -> None:
    """A success before a failed recovery does not help the next one."""
    permit = bench.half_open()
    bench.breaker.success(bench.clock.now, permit)
    bench.breaker.failure(bench.clock.now, 0, bench.ask())
    bench.clock.advance(15)
    bench.breaker.success(bench.clock.now, bench.ask())
    assert bench.breaker.state is HALF_OPEN
