"""What was spent, by whom and on what: exact sums, in total and by window, in bounded memory."""

import threading
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final, NamedTuple

from llmspell_otel.telemetry.rates import EXACT

BY: Final = ("run", "agent", "tool", "model", "user", "tenant", "session")
"""What spending is summed by."""
_KEYS: Final = 10_000  # names by which sums are kept; further ones are summed as OTHER
OTHER: Final = "(other)"
ALL: Final = "total"


class Sum(NamedTuple):
    """What was spent under one name."""

    cost: Decimal = Decimal(0)
    calls: int = 0
    unpriced: int = 0

    def plus(self, cost: Decimal | None) -> "Sum":
        """With one more call; *cost* is None where no price is known."""
        if cost is None:
            return Sum(self.cost, self.calls + 1, self.unpriced + 1)
        return Sum(EXACT.add(self.cost, cost), self.calls + 1, self.unpriced)


_Key = tuple[str, str, str]


class Ledger:
    """The sums: by kind, name and currency; within the current window, and since the beginning.

    Args:
        window: Seconds of a window; windows begin at multiples of it. 0 for one that never ends.
    """

    def __init__(self, window: float) -> None:
        self._window = window
        self._sums: dict[_Key, Sum] = {}
        self._current: dict[_Key, Sum] = {}
        self._number = -1
        self.after_fork()

    def after_fork(self) -> None:
        """Take a new lock."""
        self._lock = threading.Lock()

    def number(self, now: float) -> int:
        """Which window *now* (seconds since the epoch) is in."""
        return int(now // self._window) if self._window else 0

    def add(
        self, names: Mapping[str, str], cost: Decimal | None, currency: str, now: float
    ) -> None:
        """Put down one call of *names* (by kind)."""
        with self._lock:
            self._turn(now)
            for kind, name in ((ALL, ""), *names.items()):
                for sums in (self._sums, self._current):
                    key = (kind, name, currency)
                    if key not in sums and len(sums) >= _KEYS:
                        key = (kind, OTHER, currency)
                    sums[key] = sums.get(key, Sum()).plus(cost)

    def spent(self, kind: str, name: str, currency: str, now: float) -> Decimal:
        """What *name* has spent in the window of *now*."""
        with self._lock:
            self._turn(now)
            return self._current.get((kind, name, currency), Sum()).cost

    def report(self, kind: str, *, windowed: bool = False) -> dict[str, dict[str, Sum]]:
        """By name and currency, the sums of *kind* (one of `BY`, or `total`)."""
        with self._lock:
            rows = list((self._current if windowed else self._sums).items())
        found: dict[str, dict[str, Sum]] = {}
        for (each, name, currency), total in rows:
            if each == kind:
                found.setdefault(name, {})[currency] = total
        return found

    def _turn(self, now: float) -> None:
        number = self.number(now)
        if number > self._number:  # a clock that goes back opens no new window
            self._number = number
            self._current = {}


def dearest(rows: Mapping[str, Mapping[str, Sum]]) -> Iterable[tuple[str, str, Sum]]:
    """Name, currency and sum of *rows*, the dearest first."""
    flat = [(name, money, total) for name, by in rows.items() for money, total in by.items()]
    return sorted(flat, key=lambda row: (-row[2].cost, row[0], row[1]))
