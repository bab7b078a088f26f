"""The guard: our own failures, and those of a user's telemetry parts, never reach the host."""

import logging
from collections import Counter
from typing import Final

_logger: Final = logging.getLogger(__name__)


class Guard:
    """Counts failures by activity, and logs the first of each sort with its traceback."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, type[Exception]]] = Counter()

    @property
    def failures(self) -> int:
        """How many failures were contained."""
        return sum(self._counts.values())

    def report(self, activity: str, error: Exception) -> None:
        """Take note that *activity* failed with *error*; never raises."""
        key = (activity, type(error))
        self._counts[key] += 1
        if self._counts[key] == 1:
            _logger.warning(
                "llmspell: %s failed and was contained; more of this sort are only counted",
                activity,
                exc_info=error,
            )
