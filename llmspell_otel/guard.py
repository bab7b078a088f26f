"""The guest never breaks the host: our own failures are logged, counted and swallowed."""

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

_logger = logging.getLogger("llmspell_otel")
_Result = TypeVar("_Result")


class Guard:
    """Counts failures by activity, and logs the first of each sort with its traceback."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, type[BaseException]]] = Counter()

    @property
    def failures(self) -> int:
        """How many failures were contained."""
        return sum(self._counts.values())

    def report(self, activity: str, error: BaseException) -> None:
        """Take note that *activity* failed with *error*; never raises."""
        key = (activity, type(error))
        self._counts[key] += 1
        if self._counts[key] == 1:
            _logger.warning(
                "llmspell: %s failed and was contained; more of this sort are only counted",
                activity,
                exc_info=error,
            )

    def contained(
        self, activity: str, function: Callable[..., _Result], *args: Any, **kwargs: Any
    ) -> _Result | None:
        """Call *function*; None if it raises."""
        try:
            return function(*args, **kwargs)
        except Exception as error:
            self.report(activity, error)
            return None


guard = Guard()
"""The guard of operations and adapters."""
