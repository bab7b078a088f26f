"""Commanding the circuit breaker, and listening to it."""

import logging
import threading
import time
from collections.abc import Callable

import pytest

from llmspell_otel.hooks.breaker import (
    NEVER,
    NO_PROBE,
    PRODUCTION,
    Breaker,
    BreakerProfile,
    BreakerState,
)
from tests.hooks.breaker_bench import (
    CLOSED,
    DISABLED,
    FORCED_OPEN,
    HALF_OPEN,
    METRICS_ONLY,
    OPEN,
    Bench,
    Clock,
)


@pytest.fixture
def bench() -> Bench:
    """A breaker of the default profile."""
    return Bench()


def test_trip_opens_and_recovers_like_any_opening() -> None:
    """A breaker tripped for another reason says so and comes back by probes."""
    bench = Bench(PRODUCTION)
    bench.breaker.trip("over its budget")
    bench.breaker.trip("again")
    assert bench.changes == [(CLOSED, OPEN, "over its budget")]
    assert not bench.ask()
    bench.clock.advance(10)
    bench.breaker.success(bench.clock.now, bench.ask())
    assert bench.breaker.state is CLOSED


def test_trip_takes_the_probe_away(bench: Bench) -> None:
    """Tripped while half open, it opens, and the probe's report comes too late."""
    permit = bench.half_open()
    bench.breaker.trip("over its budget")
    bench.breaker.success(bench.clock.now, permit)
    assert bench.states == [OPEN, HALF_OPEN, OPEN]


def test_forced_open_stays_open(bench: Bench) -> None:
    """Forced open, it refuses for ever, whatever is reported."""
    bench.breaker.force_open()
    bench.clock.advance(10_000_000)
    assert not bench.ask()
    bench.breaker.success(bench.clock.now)
    bench.fail(10)
    bench.breaker.trip("no effect")
    assert bench.changes == [(CLOSED, FORCED_OPEN, "by command")]
    assert bench.breaker.retry_at_ns == NEVER


def test_disabled_counts_nothing(bench: Bench) -> None:
    """Disabled, everything passes and nothing is remembered."""
    bench.breaker.disable()
    bench.fail(10)
    bench.drag(10)
    bench.breaker.trip("no effect")
    assert bench.ask() == NO_PROBE
    assert bench.states == [DISABLED]
    assert bench.breaker.stats.total_failures == bench.breaker.stats.total_slow_calls == 0


def test_metrics_only_counts_and_never_opens(bench: Bench) -> None:
    """In metrics-only it says what it saw, and lets everything pass."""
    bench.breaker.metrics_only()
    bench.fail(10)
    bench.drag(10)
    bench.breaker.trip("no effect")
    assert bench.ask() == NO_PROBE
    assert bench.states == [METRICS_ONLY]
    assert bench.breaker.stats.failures == 3
    assert bench.breaker.stats.slow_calls == 2
    assert bench.breaker.stats.total_failures == 10


@pytest.mark.parametrize("state", list(BreakerState))
def test_reset_closes_from_every_state(bench: Bench, state: BreakerState) -> None:
    """Reset closes it, zeroes its books, and tells only of a real change."""
    enter: dict[BreakerState, Callable[[], object]] = {
        CLOSED: bench.fail,
        OPEN: bench.open,
        HALF_OPEN: bench.half_open,
        FORCED_OPEN: bench.breaker.force_open,
        DISABLED: bench.breaker.disable,
        METRICS_ONLY: bench.breaker.metrics_only,
    }
    enter[state]()
    assert bench.breaker.state is state
    bench.ask()
    bench.changes.clear()
    bench.breaker.reset()
    assert bench.changes == ([] if state is CLOSED else [(state, CLOSED, "reset")])
    stats = bench.breaker.stats
    assert stats.state is CLOSED
    assert stats.failures == stats.slow_calls == stats.successes == 0
    assert stats.total_failures == stats.total_slow_calls == 0
    assert stats.total_refused == stats.total_openings == 0
    assert bench.ask() == NO_PROBE


def test_commands_tell_once(bench: Bench) -> None:
    """Repeating a command changes nothing and tells nothing."""
    for _ in range(3):
        bench.breaker.force_open()
    for _ in range(3):
        bench.breaker.disable()
    for _ in range(3):
        bench.breaker.reset()
    assert bench.states == [FORCED_OPEN, DISABLED, CLOSED]


# -- telling


def test_a_failing_listener_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """What on_change raises is logged; the breaker works on."""

    def listener(*_: object) -> None:
        raise ValueError("listener")

    breaker = Breaker(clock=Clock(), on_change=listener)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            breaker.failure(1)
    assert breaker.state is OPEN
    assert "on_change" in caplog.text


def test_a_listener_may_command_the_breaker() -> None:
    """A listener that acts on the breaker is told of its own change, in order, afterwards."""
    seen: list[BreakerState] = []

    def listener(old: BreakerState, new: BreakerState, reason: str) -> None:
        if new is OPEN:
            breaker.reset()
        seen.append(new)

    breaker = Breaker(clock=Clock(), on_change=listener)
    breaker.trip("test")
    assert seen == [OPEN, CLOSED]
    assert breaker.state is CLOSED


def test_listeners_are_called_outside_the_lock(bench: Bench) -> None:
    """While a listener hangs, other threads ask and report freely."""
    entered, leave = threading.Event(), threading.Event()

    def listener(*_: object) -> None:
        entered.set()
        assert leave.wait(10)

    breaker = Breaker(clock=bench.clock, on_change=listener)
    thread = threading.Thread(target=breaker.trip, args=("test",))
    thread.start()
    assert entered.wait(10)
    breaker.failure(bench.clock.now)
    assert not breaker.permit(bench.clock.now)
    assert breaker.stats.total_failures == 1
    leave.set()
    thread.join(10)
    assert not thread.is_alive()


def test_the_wall_clock_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jumps of the wall clock neither open, close nor hold a breaker."""
    breaker = Breaker(BreakerProfile(failure_threshold=2, success_threshold=1, open_duration=0.01))
    wall = time.time()
    monkeypatch.setattr(time, "time", lambda: wall - 3600)
    breaker.failure(time.monotonic_ns())
    monkeypatch.setattr(time, "time", lambda: wall + 3600)
    breaker.failure(time.monotonic_ns())
    assert not breaker.permit(time.monotonic_ns())
    monkeypatch.setattr(time, "time", lambda: wall - 7200)
    time.sleep(0.011)
    breaker.success(time.monotonic_ns(), breaker.permit(time.monotonic_ns()))
    assert breaker.state is CLOSED
