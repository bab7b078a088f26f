"""What the calls of tools use: time, processor, memory, how many at once."""

import threading
import time
from collections import Counter
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

    __slots__ = ("_began", "_cpu", "_left", "_memory", "limits", "name")

    def __init__(self, name: str, limits: ResourceLimits, *, memory: bool) -> None:
        self.name = name
        self.limits = limits
        self._left = False
        self._memory = resources.memory_bytes() if memory else None
        self._cpu = resources.cpu_seconds()
        self._began = _clock()
        books.enter(name)

    def leave(self) -> None:
        """The call is over; once."""
        if not self._left:
            self._left = True
            books.leave(self.name)

    def metrics(self) -> dict[str, Any]:
        """What was used so far, under the names that hooks know."""
        grown = 0 if self._memory is None else resources.memory_bytes() - self._memory
        return {
            "wall_time_ms": (_clock() - self._began) * 1e3,
            "cpu_time_ms": (resources.cpu_seconds() - self._cpu) * 1e3,
            "memory_bytes": grown,
            "operations_count": books.made[self.name],
            "concurrent_ops": books.running[self.name],
        }

    def at_the_door(self) -> Passed | None:
        """The limit that forbids this call, if one does."""
        found = self.metrics()
        for name, key in (("concurrent", "concurrent_ops"), ("operations", "operations_count")):
            limit = getattr(self.limits, name)
            if limit is not None and found[key] > limit:
                return Passed(
                    {"name": f"tool.{name}", "limit": limit, "unit": "{call}"}, found[key]
                )
        return None

    def afterwards(self) -> list[Passed]:
        """The limits that this call passed."""
        found, limits = self.metrics(), self.limits
        passed: list[Passed] = []
        cpu, grown = found["cpu_time_ms"] / 1e3, found["memory_bytes"]
        if limits.cpu_seconds is not None and cpu > limits.cpu_seconds:
            limit = {"name": "tool.cpu_seconds", "limit": limits.cpu_seconds, "unit": "s"}
            passed.append(Passed(limit, cpu))
        if limits.memory_bytes is not None and grown > limits.memory_bytes:
            limit = {"name": "tool.memory_bytes", "limit": limits.memory_bytes, "unit": "By"}
            passed.append(Passed(limit, grown))
        return passed
