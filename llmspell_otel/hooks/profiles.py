"""When a circuit breaker opens and closes: the three profiles, and your own."""

import math
from dataclasses import dataclass
from typing import Final

from llmspell_otel.errors import SettingsError


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerProfile:
    """When a breaker opens, for how long, and what closes it; durations in seconds.

    Raises:
        SettingsError: a threshold is below one or a duration is not positive.
    """

    failure_threshold: int = 3
    """Failures within `failure_window` that open it."""
    success_threshold: int = 2
    """Fast probes that close it."""
    failure_window: float = 30.0
    """How long a failure or a slow call counts."""
    open_duration: float = 15.0
    """How long it stays open; also how long a probe may take before it is given up."""
    slow_call_threshold: int = 2
    """Slow calls within `failure_window` that open it."""
    slow_call_duration: float = 0.050
    """A call this long or longer is slow."""
    backoff: float = 1.0
    """Each opening that follows a failed recovery lasts this many times longer; 1 is off."""
    max_open_duration: float = 300.0
    """Where the back-off ends."""

    def __post_init__(self) -> None:
        for name in ("failure_threshold", "success_threshold", "slow_call_threshold"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise _wrong(name, value, "use a whole number, at least 1")
        for name in ("failure_window", "open_duration", "slow_call_duration", "max_open_duration"):
            value = getattr(self, name)
            if not value > 0:  # written so that NaN is refused too
                raise _wrong(name, value, "use seconds above 0")
        if not 1 <= self.backoff < math.inf:
            raise _wrong("backoff", self.backoff, "use 1 (off) or more")


def _wrong(name: str, value: object, mend: str) -> SettingsError:
    return SettingsError(f"breaker.{name}", f"is {value!r}", mend)


DEFAULT: Final = BreakerProfile()
PRODUCTION: Final = BreakerProfile(
    failure_threshold=2,
    success_threshold=1,
    failure_window=20.0,
    open_duration=10.0,
    slow_call_threshold=1,
    slow_call_duration=0.025,
)
CONSERVATIVE: Final = BreakerProfile(
    failure_threshold=5,
    success_threshold=3,
    failure_window=60.0,
    open_duration=30.0,
    slow_call_threshold=3,
    slow_call_duration=0.100,
)
PROFILES: Final = {"default": DEFAULT, "production": PRODUCTION, "conservative": CONSERVATIVE}
"""The profiles by the names that settings use."""
