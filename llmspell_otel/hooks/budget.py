"""Overhead budget: what share of the time of the operations it watches a hook may take."""

from dataclasses import dataclass
from fractions import Fraction
from threading import Lock
from typing import Final

from llmspell_otel.errors import SettingsError
from llmspell_otel.hooks.forks import watch_forks
from llmspell_otel.hooks.ratios import ratio_of


@dataclass(frozen=True, slots=True)
class _Sums:
    """An ended stretch of observations: how many, and their times in nanoseconds."""

    observations: int = 0
    hook_ns: int = 0
    operation_ns: int = 0


class OverheadBudget:
    """Sets a hook's time (or a whole point's) against that of the operations it watches.

    The window slides in two stretches: a stretch ends once it holds enough evidence by
    itself, and the window is the last ended stretch and the current one. What is older has
    left it. All sums are whole nanoseconds, and the comparison is exact.

    A verdict needs evidence: before the window holds *min_observations* and
    *min_operation_time*, nothing is exceeded, so that a handful of calls, or a toy tool of a
    few microseconds in a test, trips nothing.

    Args:
        share: The budget: a fraction, a float, or text such as ``"1%"``.
        min_observations: Observations that a verdict needs.
        min_operation_time: Seconds of watched operations that a verdict needs.
        floor: Seconds. A hook whose mean is below it is never over its budget.

    Raises:
        SettingsError: a value is negative or no number, or *min_observations* is below one.
    """

    __slots__ = (
        "__weakref__",
        "_denominator",
        "_end_observations",
        "_end_operation_ns",
        "_floor_ns",
        "_hook_ns",
        "_lock",
        "_min_observations",
        "_min_operation_ns",
        "_numerator",
        "_observations",
        "_operation_ns",
        "_previous",
        "budget",
    )

    def __init__(
        self,
        share: Fraction | float | str = 0.01,
        *,
        min_observations: int = 100,
        min_operation_time: float = 1.0,
        floor: float = 0.0,
    ) -> None:
        try:
            self.budget: Final = ratio_of(share)
            """The share that is allowed."""
        except ValueError as error:
            raise SettingsError("overhead.share", str(error), "use, for instance, '1%'") from None
        for name, value, least in (
            ("share", self.budget, 0),
            ("min_observations", min_observations, 1),
            ("min_operation_time", min_operation_time, 0),
            ("floor", floor, 0),
        ):
            if not value >= least:
                raise SettingsError(f"overhead.{name}", f"is {value}", f"use at least {least}")
        self._numerator, self._denominator = self.budget.as_integer_ratio()
        self._min_observations = min_observations
        self._min_operation_ns = round(min_operation_time * 1e9)
        self._floor_ns = round(floor * 1e9)
        self.after_fork()
        watch_forks(self)
        self._observations = self._hook_ns = self._operation_ns = 0
        self._begin(_Sums())

    def after_fork(self) -> None:
        """Take a new lock."""
        self._lock = Lock()

    def observe(self, hook_ns: int, operation_ns: int) -> bool:
        """Take in one operation and the hook's time in it; say whether the budget is exceeded.

        Args:
            hook_ns: Nanoseconds that the hook took for this operation, over all its points.
            operation_ns: Nanoseconds that the operation itself took.
        """
        with self._lock:
            self._observations = observations = self._observations + 1
            self._hook_ns = hooks = self._hook_ns + hook_ns
            self._operation_ns = operations = self._operation_ns + operation_ns
            # Most observations are within the budget and end no stretch: two comparisons.
            exceeded = hooks * self._denominator > operations * self._numerator and (
                self._exceeded()
            )
            if observations >= self._end_observations and operations >= self._end_operation_ns:
                self._slide()
            return exceeded

    def _slide(self) -> None:
        """End the stretch: the window is now this one, and the one that begins."""
        previous = self._previous
        self._observations -= previous.observations
        self._hook_ns -= previous.hook_ns
        self._operation_ns -= previous.operation_ns
        self._begin(_Sums(self._observations, self._hook_ns, self._operation_ns))

    def _begin(self, previous: _Sums) -> None:
        self._previous = previous
        self._end_observations = previous.observations + self._min_observations
        self._end_operation_ns = previous.operation_ns + self._min_operation_ns

    @property
    def exceeded(self) -> bool:
        """Whether the window holds evidence enough, and the hook is over its budget in it."""
        with self._lock:
            return self._exceeded()

    def _exceeded(self) -> bool:
        observations, hook_ns = self._observations, self._hook_ns
        if observations < self._min_observations or self._operation_ns < self._min_operation_ns:
            return False
        return (
            hook_ns * self._denominator > self._operation_ns * self._numerator
            and hook_ns >= self._floor_ns * observations
        )

    @property
    def share(self) -> float:
        """The hook's share of the operations' time in the window; 0.0 before any was seen."""
        with self._lock:
            hook_ns, operation_ns = self._hook_ns, self._operation_ns
        return hook_ns / operation_ns if operation_ns else 0.0

    @property
    def observations(self) -> int:
        """How many operations are in the window."""
        return self._observations

    def reset(self) -> None:
        """Forget the window; a hook that has been tripped starts over with fresh evidence."""
        with self._lock:
            self._observations = self._hook_ns = self._operation_ns = 0
            self._begin(_Sums())
