"""A breaker on the bench: its clock under control, its changes noted."""

from llmspell_otel.hooks.breaker import DEFAULT, Breaker, BreakerProfile, BreakerState

SECOND = 1_000_000_000
MILLISECOND = 1_000_000
SLOW = 60 * MILLISECOND
CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
FORCED_OPEN, DISABLED, METRICS_ONLY = (
    BreakerState.FORCED_OPEN,
    BreakerState.DISABLED,
    BreakerState.METRICS_ONLY,
)

Change = tuple[BreakerState, BreakerState, str]


class Clock:
    """A clock that moves only when told."""

    def __init__(self) -> None:
        self.now = 1000 * SECOND

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)


class Bench:
    """A breaker, its clock, and every change it told of."""

    def __init__(self, profile: BreakerProfile = DEFAULT) -> None:
        self.clock = Clock()
        self.changes: list[Change] = []
        self.breaker = Breaker(profile, clock=self.clock, on_change=self.note)

    def note(self, old: BreakerState, new: BreakerState, reason: str) -> None:
        self.changes.append((old, new, reason))

    @property
    def states(self) -> list[BreakerState]:
        return [new for _, new, _ in self.changes]

    def fail(self, times: int = 1) -> None:
        for _ in range(times):
            self.breaker.failure(self.clock.now)

    def drag(self, times: int = 1) -> None:
        for _ in range(times):
            self.breaker.slow(self.clock.now, SLOW)

    def open(self) -> None:
        self.fail(self.breaker.profile.failure_threshold)
        assert self.breaker.state is OPEN

    def ask(self) -> int:
        return self.breaker.permit(self.clock.now)

    def half_open(self) -> int:
        self.open()
        self.clock.advance(self.breaker.profile.open_duration)
        permit = self.ask()
        assert permit > 0
        return permit
