"""Circuit breaker: a hook that keeps failing or dragging is left out, then tried again.

```
closed ──failures or slow calls reach their threshold in the window──► open
open ──open_duration is over, a call asks──► half_open (one probe at a time)
half_open ──success_threshold fast probes──► closed
half_open ──a failed or lost probe, slow_call_threshold slow ones──► open
```

`forced_open`, `disabled` and `metrics_only` are entered and left by command only.
All times are nanoseconds of one monotonic clock; the wall clock is never read.
"""

import itertools
import time
from collections import deque
from collections.abc import Callable
from threading import RLock
from typing import Final

from llmspell_otel.hooks.breaker_states import BreakerState, BreakerStats, Changes, OnChange
from llmspell_otel.hooks.forks import watch_forks
from llmspell_otel.hooks.profiles import (
    CONSERVATIVE,
    DEFAULT,
    PRODUCTION,
    PROFILES,
    BreakerProfile,
)

__all__ = [
    "CONSERVATIVE",
    "DEFAULT",
    "NEVER",
    "NO_PROBE",
    "PRODUCTION",
    "PROFILES",
    "Breaker",
    "BreakerProfile",
    "BreakerState",
    "BreakerStats",
    "OnChange",
]

NEVER: Final = (1 << 63) - 1
"""The time, in nanoseconds, at which nothing happens any more."""

NO_PROBE: Final = -1
"""The permit of a call that needed none: its report never decides for a probe."""


_PASSING = frozenset({BreakerState.CLOSED, BreakerState.DISABLED, BreakerState.METRICS_ONLY})
_COUNTING = frozenset({BreakerState.CLOSED, BreakerState.METRICS_ONLY})


class _Window:
    """The newest moments of one kind of trouble; those that are too old do not count."""

    __slots__ = ("_moments", "_span_ns", "_threshold")

    def __init__(self, threshold: int, span_ns: int) -> None:
        # The threshold-th newest moment alone decides, so no more than that are kept.
        self._moments: deque[int] = deque(maxlen=threshold)
        self._threshold = threshold
        self._span_ns = span_ns

    def add(self, now_ns: int) -> bool:
        """Remember *now_ns*; say whether the threshold is reached within the window."""
        moments = self._moments
        moments.append(now_ns)
        return len(moments) == self._threshold and moments[0] > now_ns - self._span_ns

    def count(self, now_ns: int) -> int:
        """How many are in the window; what is exactly as old as the window has left it."""
        return sum(moment > now_ns - self._span_ns for moment in self._moments)

    def clear(self) -> None:
        self._moments.clear()


class Breaker:
    """The circuit breaker of one hook; safe to use from any thread.

    The caller keeps the cheap path cheap: while `passing` is true it calls the hook without
    asking and reports only `failure` and `slow`. Otherwise it asks `permit` first and
    afterwards reports exactly one of `success`, `failure`, `slow` or `release`.

    Args:
        profile: The thresholds and durations.
        clock: Monotonic nanoseconds; the ``now_ns`` of every call must come from it too.
        on_change: Told once of each change of state, in order, outside every lock, by one
            of the threads at work. What it raises is logged.
    """

    __slots__ = (
        "__weakref__",
        "_changes",
        "_clock",
        "_failed",
        "_lock",
        "_next_open_ns",
        "_openings",
        "_probe",
        "_probe_slow",
        "_probe_successes",
        "_probes",
        "_reason",
        "_refusals",
        "_refusals_read",
        "_slow",
        "_total_failures",
        "_total_slow",
        "opened_at",
        "passing",
        "profile",
        "retry_at_ns",
        "slow_ns",
        "state",
    )

    def __init__(
        self,
        profile: BreakerProfile = DEFAULT,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        on_change: OnChange | None = None,
    ) -> None:
        self.profile: Final = profile
        self.slow_ns: Final = _nanoseconds(profile.slow_call_duration)
        """A call that takes this long or longer is slow."""
        self.state = BreakerState.CLOSED
        """The state now; an open breaker turns half open when a call asks after its time."""
        self.passing = True
        """Whether calls need no permit."""
        self.retry_at_ns = 0
        """Before this moment every permit is refused: 0 when none is, `NEVER` when forced open."""
        self.opened_at: int | None = None
        """When it last opened; None while it is passing."""
        self._clock = clock
        self._changes = Changes(on_change)
        self.after_fork()
        watch_forks(self)
        window_ns = _nanoseconds(profile.failure_window)
        self._failed = _Window(profile.failure_threshold, window_ns)
        self._slow = _Window(profile.slow_call_threshold, window_ns)
        self._probes = itertools.count(1)
        self._reason = ""
        self._start_over()

    def after_fork(self) -> None:
        """Take new locks."""
        # Re-entrant: the garbage collector may run a finaliser, and so a hook, in our midst.
        self._lock = RLock()
        self._changes.after_fork()

    def _start_over(self) -> None:
        self._failed.clear()
        self._slow.clear()
        self._next_open_ns = _nanoseconds(self.profile.open_duration)
        self._probe = self._probe_successes = self._probe_slow = 0
        self._total_failures = self._total_slow = self._openings = 0
        self._refusals = itertools.count()
        self._refusals_read = 0

    # -- asking

    def permit(self, now_ns: int) -> int:
        """Ask to call the hook: 0 is no; anything else is yes, and is the permit.

        While half open one permit is out at a time. It comes back with the report of its
        call. One that does not come back for the time the breaker was last open counts as
        a failed probe.
        """
        if now_ns < self.retry_at_ns:
            next(self._refusals)  # atomic, and so exact without a lock
            return 0
        if self.passing:
            return NO_PROBE
        with self._lock:
            permit = self._claim(now_ns)
        self._changes.tell()
        if not permit:
            next(self._refusals)
        return permit

    def _claim(self, now_ns: int) -> int:
        """Hand out the probe if it is there, now that the state cannot change any more."""
        if self.passing:
            return NO_PROBE
        if now_ns < self.retry_at_ns:
            return 0
        if self._probe:
            self._open(now_ns, "a probe did not return")
            return 0
        if self.state is BreakerState.OPEN:
            self._probe_successes = self._probe_slow = 0
            self._become(BreakerState.HALF_OPEN, "time to try again")
        self._probe = next(self._probes)
        self.retry_at_ns = now_ns + self._next_open_ns
        return self._probe

    # -- reporting

    def success(self, now_ns: int, permit: int | None = None) -> None:
        """A permitted call went well and fast; needed only when `passing` was false.

        Args:
            now_ns: When it ended.
            permit: What `permit` gave, here as in all reports. Reports that name it are
                told apart from those of calls that began before the breaker opened or that
                came back too late; None stands for whichever probe is out.
        """
        del now_ns  # a breaker that closes starts its windows afresh
        if not self._probe:
            return
        with self._lock:
            if not self._return(permit):
                return
            self._probe_successes += 1
            if self._probe_successes >= self.profile.success_threshold:
                self._close("recovered")
        self._changes.tell()

    def failure(self, now_ns: int, elapsed_ns: int = 0, permit: int | None = None) -> None:
        """The hook raised or overran its time; if it was slow too, it counts as both."""
        if self.state is BreakerState.DISABLED:
            return
        with self._lock:
            self._total_failures += 1
            slow = elapsed_ns >= self.slow_ns
            self._total_slow += slow
            if self.state in _COUNTING:
                self._count(now_ns, failed=True, slow=slow)
            elif self._return(permit):
                self._open(now_ns, "a probe failed")
        self._changes.tell()

    def slow(self, now_ns: int, elapsed_ns: int, permit: int | None = None) -> None:
        """The hook went well but took *elapsed_ns*; below `slow_ns` that is a success."""
        if self.state is BreakerState.DISABLED:
            return
        if elapsed_ns < self.slow_ns:
            self.success(now_ns, permit)
            return
        with self._lock:
            self._total_slow += 1
            if self.state in _COUNTING:
                self._count(now_ns, failed=False, slow=True)
            elif self._return(permit):
                self._probe_slow += 1
                if self._probe_slow >= self.profile.slow_call_threshold:
                    self._open(now_ns, "probes were slow")
        self._changes.tell()

    def release(self, permit: int | None = None) -> None:
        """A permitted call told nothing about the hook (it was cancelled): probe anew."""
        with self._lock:
            self._return(permit)

    def _return(self, permit: int | None) -> bool:
        """Take the probe's permit back; say whether *permit* was that of the probe."""
        if self._probe == 0 or permit not in (None, self._probe):
            return False
        self._probe = 0
        self.retry_at_ns = 0
        return True

    def _count(self, now_ns: int, *, failed: bool, slow: bool) -> None:
        profile = self.profile
        failures_full = failed and self._failed.add(now_ns)
        slow_full = slow and self._slow.add(now_ns)
        if self.state is BreakerState.METRICS_ONLY:
            return
        if failures_full:
            self._open(
                now_ns, f"{profile.failure_threshold} failures in {profile.failure_window:g} s"
            )
        elif slow_full:
            self._open(
                now_ns, f"{profile.slow_call_threshold} slow calls in {profile.failure_window:g} s"
            )

    # -- commands

    def trip(self, reason: str) -> None:
        """Open for *reason*, as failures would; it recovers like any open breaker.

        Without effect where failures would have none: open already, or under a command.
        """
        with self._lock:
            if self.state in (BreakerState.CLOSED, BreakerState.HALF_OPEN):
                self._open(self._clock(), reason)
        self._changes.tell()

    def reset(self) -> None:
        """Close, whatever the state, and forget all counts."""
        with self._lock:
            self._close("reset")
            self._start_over()
        self._changes.tell()

    def force_open(self) -> None:
        """Leave the hook out until `reset`."""
        self._command(BreakerState.FORCED_OPEN)

    def disable(self) -> None:
        """Call the hook whatever it does, and count nothing, until `reset`."""
        self._command(BreakerState.DISABLED)

    def metrics_only(self) -> None:
        """Call the hook whatever it does, and count, until `reset`."""
        self._command(BreakerState.METRICS_ONLY)

    def _command(self, state: BreakerState) -> None:
        with self._lock:
            self._probe = 0
            self._become(state, "by command")
            forced = state is BreakerState.FORCED_OPEN
            self.retry_at_ns = NEVER if forced else 0
            self.opened_at = self._clock() if forced else None
        self._changes.tell()

    # -- reading

    @property
    def stats(self) -> BreakerStats:
        """What it has seen, as of now."""
        now_ns = self._clock()
        with self._lock:
            half_open = self.state is BreakerState.HALF_OPEN
            return BreakerStats(
                state=self.state,
                reason=self._reason,
                failures=self._failed.count(now_ns),
                slow_calls=self._probe_slow if half_open else self._slow.count(now_ns),
                successes=self._probe_successes if half_open else 0,
                total_failures=self._total_failures,
                total_slow_calls=self._total_slow,
                total_refused=self._refused(),
                total_openings=self._openings,
            )

    def _refused(self) -> int:
        # Reading a `count` advances it: take the earlier readings off again.
        refused = next(self._refusals) - self._refusals_read
        self._refusals_read += 1
        return refused

    # -- changing

    def _open(self, now_ns: int, reason: str) -> None:
        profile = self.profile
        if self.state is BreakerState.HALF_OPEN:
            longer = min(self._next_open_ns * profile.backoff, profile.max_open_duration * 1e9)
            self._next_open_ns = max(self._next_open_ns, min(int(longer), NEVER))
        self._openings += 1
        self._probe = 0
        self._become(BreakerState.OPEN, reason)
        self.opened_at = now_ns
        self.retry_at_ns = now_ns + self._next_open_ns

    def _close(self, reason: str) -> None:
        self._failed.clear()
        self._slow.clear()
        self._next_open_ns = _nanoseconds(self.profile.open_duration)
        self._probe = 0
        self._become(BreakerState.CLOSED, reason)
        self.opened_at = None
        self.retry_at_ns = 0

    def _become(self, state: BreakerState, reason: str) -> None:
        if state is self.state:
            return
        self._changes.note(self.state, state, reason)
        self.state = state
        self.passing = state in _PASSING
        self._reason = reason


def _nanoseconds(seconds: float) -> int:
    return NEVER if seconds >= NEVER / 1e9 else max(1, round(seconds * 1e9))
