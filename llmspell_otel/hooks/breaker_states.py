"""What a circuit breaker can be in, what it has seen, and how it tells of its changes."""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from threading import Lock

_logger = logging.getLogger(__name__)


class BreakerState(StrEnum):
    """Whether a hook is called."""

    CLOSED = "closed"
    """Called; failures and slow calls are counted."""
    OPEN = "open"
    """Left out until its time to recover is over."""
    HALF_OPEN = "half_open"
    """Called by one probe at a time, to see whether it has recovered."""
    FORCED_OPEN = "forced_open"
    """Left out until told otherwise."""
    DISABLED = "disabled"
    """Called; nothing is counted."""
    METRICS_ONLY = "metrics_only"
    """Called; counted, but never opened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerStats:
    """What one breaker has seen; totals run since its creation or its last `reset`."""

    state: BreakerState
    reason: str
    """Why it last changed its state; empty before the first change."""
    failures: int
    """Failures now in the window (no more than the threshold is remembered)."""
    slow_calls: int
    """Slow calls now in the window, or slow probes while half open."""
    successes: int
    """Fast probes since it became half open."""
    total_failures: int
    total_slow_calls: int
    total_refused: int
    total_openings: int


OnChange = Callable[[BreakerState, BreakerState, str], None]
"""Told of a change: the old state, the new one, and the reason."""


class Changes:
    """Changes of state that somebody is to be told of, in order and outside every lock."""

    __slots__ = ("_changes", "_on_change", "_telling")

    def __init__(self, on_change: OnChange | None) -> None:
        self._on_change = on_change
        self._changes: deque[tuple[BreakerState, BreakerState, str]] = deque()
        self.after_fork()

    def after_fork(self) -> None:
        """Take a new lock."""
        self._telling = Lock()

    def note(self, old: BreakerState, new: BreakerState, reason: str) -> None:
        """Remember a change until `tell`."""
        if self._on_change is not None:
            self._changes.append((old, new, reason))

    def tell(self) -> None:
        """Pass the changes on; whoever is at it already takes those of the others along."""
        on_change = self._on_change
        while on_change and self._changes and self._telling.acquire(blocking=False):
            try:
                while self._changes:
                    on_change(*self._changes.popleft())
            except Exception:
                _logger.exception("a breaker's on_change failed")
            finally:
                self._telling.release()
