"""What the calls of tools use: time, processor, memory, how many at once."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from llmspell_otel import resources
from llmspell_otel.operations.traits import ResourceLimits

_clock = time.perf_counter


class _Books:
    """How many calls each tool has under way, and has had."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.running: Counter[str] = Counter()
        self.made: Counter[str] = Counter()

    def enter(self, name: str) -> None:
        with self._lock:
            self.running[name] += 1
            self.made[name] += 1

    def leave(self, name: str) -> None:
        with self._lock:
            self.running[name] -= 1


books: Final = _Books()


@dataclass(frozen=True, slots=True)
class Passed:
    """A limit that was passed."""

    limit: dict[str, Any]
    value: float


class Usage:
    """What one call of a tool uses. Processor time and memory are those of the whole process."""

    __slots__ = ("_began", "_left", "cpu", "limits", "memory", "name")

    def __init__(self, name: str, limits: ResourceLimits, *, measured: bool) -> None:
        self.name = name
        self.limits = limits
        self._left = False
        self.memory = resources.memory_bytes() if measured else None
        self.cpu = resources.cpu_seconds() if measured else None
        self._began = _clock()
        books.enter(name)

    def leave(self) -> None:
        """The call is over; once."""
        if not self._left:
            self._left = True
            books.leave(self.name)

    @property
    def wall_seconds(self) -> float:
        """Since the call began."""
        return _clock() - self._began

    def metrics(self) -> "Metrics":
        """What is used, under the names that hooks know; read when somebody looks."""
        return Metrics(self)

    def at_the_door(self) -> Passed | None:
        """The limit that forbids this call, if one does."""
        limits, name = self.limits, self.name
        if limits.concurrent is not None and books.running[name] > limits.concurrent:
            return _passed("concurrent", limits.concurrent, "{call}", books.running[name])
        if limits.operations is not None and books.made[name] > limits.operations:
            return _passed("operations", limits.operations, "{call}", books.made[name])
        return None

    def afterwards(self) -> list[Passed]:
        """The limits that this call passed."""
        limits, passed = self.limits, list[Passed]()
        if limits.cpu_seconds is not None and self.cpu is not None:
            used = resources.cpu_seconds() - self.cpu
            if used > limits.cpu_seconds:
                passed.append(_passed("cpu_seconds", limits.cpu_seconds, "s", used))
        if limits.memory_bytes is not None and self.memory is not None:
            grown = resources.memory_bytes() - self.memory
            if grown > limits.memory_bytes:
                passed.append(_passed("memory_bytes", limits.memory_bytes, "By", grown))
        return passed


def _passed(name: str, limit: float, unit: str, value: float) -> Passed:
    return Passed({"name": f"tool.{name}", "limit": limit, "unit": unit}, value)


class Metrics(Mapping[str, Any]):
    """What a call uses at one moment.

    Processor time and memory are there where they are measured, and read when somebody looks:
    asking the system may cost more than the call.
    """

    __slots__ = ("_noted", "_usage")

    def __init__(self, usage: Usage) -> None:
        self._usage = usage
        self._noted: dict[str, float] = {
            "wall_time_ms": usage.wall_seconds * 1e3,
            "operations_count": books.made[usage.name],
            "concurrent_ops": books.running[usage.name],
        }

    def __getitem__(self, name: str) -> float:
        if name not in self._noted:
            if self._usage.cpu is None:
                raise KeyError(name)
            self._noted[name] = _READINGS[name](self._usage)
        return self._noted[name]

    def __iter__(self) -> Iterator[str]:
        measured = _READINGS if self._usage.cpu is not None else ()
        return iter((*self._noted, *(name for name in measured if name not in self._noted)))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __repr__(self) -> str:
        return repr(dict(self))


_READINGS: Final[Mapping[str, Callable[[Usage], float]]] = {
    "cpu_time_ms": lambda usage: (resources.cpu_seconds() - (usage.cpu or 0)) * 1e3,
    "memory_bytes": lambda usage: resources.memory_bytes() - (usage.memory or 0),
}
