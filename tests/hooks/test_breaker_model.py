"""The circuit breaker against a model, by any sequence of calls, times and commands."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from llmspell_otel.hooks.breaker import BreakerProfile, BreakerState
from tests.hooks.breaker_bench import (
    CLOSED,
    DISABLED,
    FORCED_OPEN,
    HALF_OPEN,
    METRICS_ONLY,
    MILLISECOND,
    OPEN,
    SECOND,
    SLOW,
    Bench,
)


@dataclass
class Model:
    """The rules of the breaker, written as naively as can be: it remembers everything."""

    profile: BreakerProfile
    now: int
    state: BreakerState = CLOSED
    failures: list[int] = field(default_factory=list[int])
    slows: list[int] = field(default_factory=list[int])
    probe_since: int | None = None
    fast_probes: int = 0
    slow_probes: int = 0
    reopenings: int = 0
    opened: int = 0
    refused: int = 0
    changes: list[tuple[BreakerState, BreakerState]] = field(
        default_factory=list[tuple[BreakerState, BreakerState]]
    )

    def become(self, state: BreakerState) -> None:
        if state is not self.state:
            self.changes.append((self.state, state))
        self.state = state

    @property
    def open_for(self) -> int:
        seconds = self.profile.open_duration
        for _ in range(self.reopenings):
            seconds = max(
                seconds, min(seconds * self.profile.backoff, self.profile.max_open_duration)
            )
        return round(seconds * SECOND)

    def recent(self, moments: list[int]) -> int:
        return sum(self.now - m < self.profile.failure_window * SECOND for m in moments)

    def open(self) -> None:
        if self.state is HALF_OPEN:
            self.reopenings += 1
        self.opened = self.now
        self.probe_since = None
        self.become(OPEN)

    def close(self) -> None:
        self.failures, self.slows, self.reopenings = [], [], 0
        self.probe_since = None
        self.become(CLOSED)

    def permit(self) -> bool:
        granted = self._permit()
        self.refused += not granted
        return granted

    def _permit(self) -> bool:
        if self.state in (CLOSED, DISABLED, METRICS_ONLY):
            return True
        if self.state is FORCED_OPEN:
            return False
        if self.state is HALF_OPEN and self.probe_since is not None:
            if self.now - self.probe_since >= self.open_for:
                self.open()
            return False
        if self.state is OPEN:
            if self.now - self.opened < self.open_for:
                return False
            self.become(HALF_OPEN)
            self.fast_probes = self.slow_probes = 0
        self.probe_since = self.now
        return True

    def report(self, *, failed: bool, slow: bool, mine: bool) -> None:
        if self.state in (CLOSED, METRICS_ONLY):
            self._count(failed=failed, slow=slow)
        elif self.state is HALF_OPEN and self.probe_since is not None and mine:
            self.probe_since = None
            self._judge(failed=failed, slow=slow)

    def _count(self, *, failed: bool, slow: bool) -> None:
        if failed:
            self.failures.append(self.now)
        if slow:
            self.slows.append(self.now)
        if self.state is CLOSED and (
            self.recent(self.failures) >= self.profile.failure_threshold
            or self.recent(self.slows) >= self.profile.slow_call_threshold
        ):
            self.open()

    def _judge(self, *, failed: bool, slow: bool) -> None:
        self.fast_probes += not failed and not slow
        self.slow_probes += slow and not failed
        if failed or self.slow_probes >= self.profile.slow_call_threshold:
            self.open()
        elif self.fast_probes >= self.profile.success_threshold:
            self.close()


profiles = st.builds(
    BreakerProfile,
    failure_threshold=st.integers(1, 4),
    success_threshold=st.integers(1, 3),
    slow_call_threshold=st.integers(1, 4),
    failure_window=st.sampled_from([1.0, 5.0, 30.0]),
    open_duration=st.sampled_from([1.0, 4.0]),
    backoff=st.sampled_from([1.0, 2.0]),
    max_open_duration=st.sampled_from([3.0, 16.0]),
)


class BreakerMachine(RuleBasedStateMachine):
    """Any sequence of calls, times and commands: the breaker does what the model does."""

    @initialize(profile=profiles)
    def begin(self, profile: BreakerProfile) -> None:
        self.bench = Bench(profile)
        self.breaker = self.bench.breaker
        self.model = Model(profile, self.bench.clock.now)
        self.held: list[int] = []

    @property
    def now(self) -> int:
        return self.bench.clock.now

    @rule(seconds=st.sampled_from([0.0, 0.25, 1.0, 4.0, 5.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.bench.clock.advance(seconds)
        self.model.now = self.now

    @rule()
    def ask(self) -> None:
        permit = self.bench.ask()
        assert bool(permit) == self.model.permit()
        if permit:
            self.held.append(permit)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), failed=st.booleans(), slow=st.booleans())
    def report(self, data: st.DataObject, failed: bool, slow: bool) -> None:
        permit = data.draw(st.sampled_from(self.held))
        self.held.remove(permit)
        mine = permit == self.breaker._probe
        elapsed = SLOW if slow else MILLISECOND
        if failed:
            self.breaker.failure(self.now, elapsed, permit)
        elif slow:
            self.breaker.slow(self.now, elapsed, permit)
        else:
            self.breaker.success(self.now, permit)
        self.model.report(failed=failed, slow=slow, mine=mine)

    @rule(failed=st.booleans(), slow=st.booleans())
    def report_unasked(self, failed: bool, slow: bool) -> None:
        if failed:
            self.breaker.failure(self.now, SLOW if slow else 0)
        else:
            self.breaker.slow(self.now, SLOW if slow else 0)
        self.model.report(failed=failed, slow=slow, mine=True)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        permit = data.draw(st.sampled_from(self.held))
        self.held.remove(permit)
        if permit == self.breaker._probe:
            self.model.probe_since = None
        self.breaker.release(permit)

    @rule()
    def trip(self) -> None:
        self.breaker.trip("test")
        if self.model.state in (CLOSED, HALF_OPEN):
            self.model.open()

    @rule(state=st.sampled_from([FORCED_OPEN, DISABLED, METRICS_ONLY]))
    def command(self, state: BreakerState) -> None:
        {
            FORCED_OPEN: self.breaker.force_open,
            DISABLED: self.breaker.disable,
            METRICS_ONLY: self.breaker.metrics_only,
        }[state]()
        self.model.probe_since = None
        self.model.become(state)

    @rule()
    def reset(self) -> None:
        self.breaker.reset()
        self.model.close()
        self.model.refused = 0

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "bench"):
            return
        profile, model, stats = self.model.profile, self.model, self.breaker.stats
        assert self.breaker.state is model.state
        assert [change[:2] for change in self.bench.changes] == model.changes
        assert stats.total_refused == model.refused
        assert (self.breaker._probe > 0) == (model.probe_since is not None)
        assert self.breaker.passing == (model.state in (CLOSED, DISABLED, METRICS_ONLY))
        if model.state in (CLOSED, METRICS_ONLY):
            assert stats.failures == min(model.recent(model.failures), profile.failure_threshold)
            assert stats.slow_calls == min(model.recent(model.slows), profile.slow_call_threshold)
        if model.state is OPEN:
            assert self.breaker.retry_at_ns == model.opened + model.open_for


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


@given(profile=profiles, outcomes=st.lists(st.sampled_from(["fast", "slow", "lost", "cancelled"])))
def test_half_open_always_ends(profile: BreakerProfile, outcomes: list[str]) -> None:
    """Probes that return leave half open after a bounded number; lost ones by time."""
    bench = Bench(profile)
    bench.breaker.trip("test")
    bound = profile.success_threshold + profile.slow_call_threshold
    returned = 0
    for outcome in [*outcomes, *["fast"] * bound]:
        bench.clock.now = max(bench.clock.now, bench.breaker.retry_at_ns)
        permit = bench.ask()
        if permit <= 0:
            assert bench.breaker.state in (OPEN, CLOSED), "a lost probe kept it half open"
            returned = 0
            continue
        if outcome == "cancelled":
            bench.breaker.release(permit)
        elif outcome != "lost":
            returned = returned + 1 if bench.breaker.state is HALF_OPEN else 0
            elapsed = SLOW if outcome == "slow" else 0
            bench.breaker.slow(bench.clock.now, elapsed, permit)
        if bench.breaker.state is not HALF_OPEN:
            returned = 0
        assert returned < bound
