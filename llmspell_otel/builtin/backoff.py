"""How long to wait before the next attempt."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

Strategy = Literal["exponential", "fixed", "linear", "fibonacci"]
Jitter = Literal["none", "full", "equal", "decorrelated"]

_STEPS: Final = 1000  # more attempts than the engine allows; keeps the powers finite


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Grows from *base* to *ceiling* seconds."""

    strategy: Strategy = "exponential"
    jitter: Jitter = "none"
    base: float = 0.1
    factor: float = 2.0
    ceiling: float = 60.0

    def planned(self, attempt: int) -> float:
        """Seconds to wait after the failed *attempt* (1 is the first), before jitter."""
        steps = min(max(attempt, 1), _STEPS)
        return min(
            _GROWTH[self.strategy](steps, self.base, self.factor, self.ceiling), self.ceiling
        )

    def delay(self, attempt: int, previous: float, random: Random) -> float:
        """The same, spread so that callers that failed together do not come back together.

        ``full`` draws from 0 to the delay, ``equal`` from its half to the whole,
        ``decorrelated`` from the base to three times the *previous* delay, whatever the strategy.
        """
        delay = self.planned(attempt)
        if self.jitter == "full":
            return random.uniform(0.0, delay)
        if self.jitter == "equal":
            return delay / 2 + random.uniform(0.0, delay / 2)
        if self.jitter == "decorrelated":
            highest = max(self.base, previous * 3)
            return min(self.ceiling, random.uniform(self.base, highest))
        return delay


def _exponential(steps: int, base: float, factor: float, ceiling: float) -> float:
    delay = base
    for _ in range(steps - 1):
        if delay >= ceiling or factor <= 1:
            break
        delay *= factor
    return delay


def _fixed(_steps: int, base: float, _factor: float, _ceiling: float) -> float:
    return base


def _linear(steps: int, base: float, _factor: float, _ceiling: float) -> float:
    return base * steps


def _fibonacci(steps: int, base: float, _factor: float, ceiling: float) -> float:
    last, this = 0.0, base
    for _ in range(steps - 1):
        if this >= ceiling:
            break
        last, this = this, last + this
    return this


_GROWTH: Final[dict[Strategy, Callable[[int, float, float, float], float]]] = {
    "exponential": _exponential,
    "fixed": _fixed,
    "linear": _linear,
    "fibonacci": _fibonacci,
}
