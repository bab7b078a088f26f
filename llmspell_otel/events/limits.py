"""How much a queue holds, and what happens when it is full."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from llmspell_otel.errors import EventError

Overflow = Literal["drop_oldest", "drop_newest", "block", "reject"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a queue holds, and what happens when it is full.

    Attributes:
        capacity: Events that may wait.
        overflow: What gives way when one more comes.
        block_timeout: Seconds that `block` makes a publisher wait at most.
        high_water: Share of the capacity at which backpressure starts.
        low_water: Share of the capacity at which it is relieved.
    """

    capacity: int = 10_000
    overflow: Overflow = "drop_oldest"
    block_timeout: float = 1.0
    high_water: float = 0.8
    low_water: float = 0.2

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise EventError("capacity", f"is {self.capacity}", "let at least 1 event wait")
        if self.overflow not in get_args(Overflow):
            mend = f"use one of {', '.join(get_args(Overflow))}"
            raise EventError("overflow", f"is {self.overflow!r}", mend)
        if not 0 <= self.low_water < self.high_water <= 1:
            mend = "let 0 <= low_water < high_water <= 1"
            raise EventError("water marks", f"are {self.low_water}, {self.high_water}", mend)

    @property
    def high(self) -> int:
        """Waiting events at which backpressure starts."""
        return max(1, math.ceil(self.capacity * self.high_water))

    @property
    def low(self) -> int:
        """Waiting events at which backpressure is relieved."""
        return min(math.floor(self.capacity * self.low_water), self.high - 1)
