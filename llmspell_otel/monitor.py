"""The resource monitor: tells when the process uses much, once per crossing.

It fires `MemoryUsageHigh`, `CpuUsageHigh` and `PerformanceThresholdExceeded`. Its thread runs
while one of the three is hooked, or between `monitor.start()` and `monitor.stop()`.
"""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from llmspell_otel import resources
from llmspell_otel.errors import SettingsError
from llmspell_otel.guard import guard
from llmspell_otel.hooks.notices import ENGINE, notify, told
from llmspell_otel.hooks.registry import Slot, registry

MEMORY: Final = registry.slot("MemoryUsageHigh")
CPU: Final = registry.slot("CpuUsageHigh")
OTHER: Final = registry.slot("PerformanceThresholdExceeded")
_SLOTS: Final = (MEMORY, CPU, OTHER)

DEFAULT_INTERVAL: Final = 5.0
"""Seconds between two looks."""


@dataclass(slots=True, eq=False)
class Threshold:
    """A number that must not stay high.

    Passing *high* is told once; it is told again after the number has been at *low* or below.

    Raises:
        SettingsError: *low* is above *high*.
    """

    name: str
    read: Callable[[], float]
    high: float
    low: float
    unit: str = "1"
    slot: Slot = OTHER
    patience: int = 1
    """How many looks in a row it must be high."""
    above: bool = field(default=False, init=False)
    """Whether it was told and has not come down since."""
    _looks: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise SettingsError(
                f"threshold {self.name}", f"comes down at {self.low}, above its high mark",
                f"give a low mark of {self.high} at most",
            )  # fmt: skip

    def look(self) -> float | None:
        """The number, if it has just passed the high mark."""
        value = self.read()
        self._looks = self._looks + 1 if value > self.high else 0
        if self.above:
            self.above = value > self.low
            return None
        self.above = self._looks >= self.patience
        return value if self.above else None


class _CpuShare:
    """The share of its processors that the process used since the last look, 0 to 1."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), resources.cpu_seconds()

    def __call__(self) -> float:
        wall, cpu = time.monotonic(), resources.cpu_seconds()
        spent, passed = cpu - self._cpu, wall - self._wall
        self._wall, self._cpu = wall, cpu
        return spent / (passed * resources.processors()) if passed > 0 else 0.0


def _memory_share() -> float:
    return resources.memory_bytes() / resources.memory_limit()


def defaults() -> list[Threshold]:
    """Memory at 90 % of what there is, processors at 90 % for three looks, 500 threads."""
    return [
        Threshold("process.memory", _memory_share, 0.9, 0.8, slot=MEMORY),
        Threshold("process.cpu", _CpuShare(), 0.9, 0.7, slot=CPU, patience=3),
        Threshold("process.threads", threading.active_count, 500, 400, "{thread}"),
    ]


class Monitor:
    """Looks at every threshold each *interval* seconds, in a daemon thread of its own."""

    def __init__(self, interval: float = DEFAULT_INTERVAL) -> None:
        self.interval = interval
        self.thresholds: list[Threshold] = defaults()
        self._wanted = self._asked = False
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Also after a fork: the thread stayed with the parent."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether the thread is there."""
        return self._thread is not None and self._thread.is_alive()

    def watch(
        self, name: str, read: Callable[[], float], *, high: float, low: float, unit: str = "1"
    ) -> Threshold:
        """Have `PerformanceThresholdExceeded` fired when ``read()`` passes *high*.

        Raises:
            SettingsError: *low* is above *high*.
        """
        threshold = Threshold(name, read, high, low, unit)
        self.thresholds = [*(one for one in self.thresholds if one.name != name), threshold]
        return threshold

    def start(self) -> None:
        """Look from now on, hooked or not; the events of the points are published either way."""
        self._asked = True
        self._settle()

    def stop(self) -> None:
        """Take `start` back; hooks keep the monitor going."""
        self._asked = False
        self._settle()

    def hooks_changed(self) -> None:
        """Start with the first hook, end with the last."""
        self._wanted = any(slot.hooks for slot in _SLOTS)
        self._settle()

    def _settle(self) -> None:
        with self._lock:
            if self._wanted or self._asked:
                if not self.running:
                    self._wake = threading.Event()
                    self._thread = threading.Thread(
                        target=self._run, args=(self._wake,), name="llmspell-monitor", daemon=True
                    )
                    self._thread.start()
            else:
                self._wake.set()
                self._thread = None

    def _run(self, ended: threading.Event) -> None:
        while not ended.wait(self.interval):
            self.look()

    def look(self) -> None:
        """Look at every threshold now, and tell of those just passed."""
        for threshold in self.thresholds:
            value = guard.contained(f"reading {threshold.name}", threshold.look)
            if value is not None and told(threshold.slot):
                limit = {"name": threshold.name, "limit": threshold.high, "unit": threshold.unit}
                data = {"limit": limit, "value": value}
                guard.contained("telling of a threshold", notify, threshold.slot, ENGINE, data)


monitor: Final = Monitor()
"""The monitor of this process."""


def hooks_changed() -> None:
    """What `hooks.sources` calls."""
    monitor.hooks_changed()


os.register_at_fork(after_in_child=monitor._begin_anew)  # noqa: SLF001 - the module's own
