"""One deadline for all exporters that shut down together.

A process shuts its providers down one after the other; each would take its own time. Shutdowns
that follow each other within a second share one budget.
"""

import logging
import os
import time
from threading import Lock, main_thread
from typing import Final

VARIABLE: Final = "LLMSPELL_OTEL_SHUTDOWN_TIMEOUT"
DEFAULT: Final = 5.0
"""Seconds that all exporters together may take to shut down."""
_GAP: Final = 1.0  # seconds after which a shutdown counts as another one
_LEAST: Final = 0.1  # seconds that each shutdown has in any case
_logger = logging.getLogger(__name__)


def number(variable: str, default: float) -> float:
    """Read a number of 0 or more from the environment; a wrong one is reported and not used."""
    text = os.environ.get(variable, "").strip()
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1.0
    if 0 <= value < float("inf"):
        return value
    _logger.warning("llmspell: %s is %r; using %g (write a number)", variable, text, default)
    return default


class Budget:
    """Hands out the common deadline of shutdowns that belong together.

    Args:
        limit: seconds; unless given, `LLMSPELL_OTEL_SHUTDOWN_TIMEOUT` or 5.
    """

    def __init__(self, limit: float | None = None) -> None:
        self._limit = limit
        self.reset()

    def reset(self) -> None:
        """Start anew, as the child of a fork does."""
        self._lock = Lock()
        self._deadline = self._last = float("-inf")

    def begin(self) -> float:
        """Start or join a shutdown; its deadline, monotonic."""
        limit = number(VARIABLE, DEFAULT) if self._limit is None else self._limit
        now = time.monotonic()
        with self._lock:
            if now > self._last + _GAP:
                self._deadline = now + limit
            self._last = now
            # Who comes last is not punished for those before: a receiver that is there is quick.
            return max(self._deadline, now + min(_LEAST, limit))

    def remaining(self) -> float:
        """Start or join a shutdown; the seconds that are left of it."""
        return max(self.begin() - time.monotonic(), 0.0)

    def end(self) -> None:
        """Note that one shutdown is over."""
        with self._lock:
            self._last = time.monotonic()


budget: Final = Budget()
"""The budget of this process."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=budget.reset)


def exiting() -> bool:
    """Whether the main thread has ended, and the interpreter waits for the rest."""
    return not main_thread().is_alive()
