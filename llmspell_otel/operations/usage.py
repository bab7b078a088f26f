"""What the calls of tools use: time, processor, memory, how many at once."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from llmspell_otel import resources
from llmspell_otel.operations.traits import ResourceLimits

_clock = time.perf_counter


class Book:
    """How many calls one tool has under way, and has had."""

    __slots__ = ("_lock", "made", "running")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.running = 0
        self.made = 0

    def enter(self) -> None:
        """One more call begins."""
        with self._lock:
            self.running += 1
            self.made += 1

    def leave(self) -> None:
        """One of the calls is over."""
        with self._lock:
            self.running -= 1


_books: Final[dict[str, Book]] = {}


def book_of(name: str) -> Book:
    """The book of the tool called *name*."""
    return _books.get(name) or _books.setdefault(name, Book())


@dataclass(frozen=True, slots=True)
class Passed:
    """A limit that was passed."""

    limit: dict[str, Any]
    value: float


class Usage:
    """What one call of a tool uses. Processor time and memory are those of the whole process."""

    __slots__ = ("_began", "_left", "book", "cpu", "limits", "memory")

    def __init__(self, name: str, limits: ResourceLimits, *, measured: bool) -> None:
        self.limits = limits
        self._left = False
        self.memory = resources.memory_bytes() if measured else None
        self.cpu = resources.cpu_seconds() if measured else None
        self._began = _clock()
        self.book = book_of(name)
        self.book.enter()

    def leave(self) -> None:
        """The call is over; once."""
        if not self._left:
            self._left = True
            self.book.leave()

    @property
    def wall_seconds(self) -> float:
        """Since the call began."""
        return _clock() - self._began

    def metrics(self) -> "Metrics":
        """What is used, under the names that hooks know; read when somebody looks."""
        return Metrics(self)

    def at_the_door(self) -> Passed | None:
        """The limit that forbids this call, if one does."""
        limits, book = self.limits, self.book
        if limits.concurrent is not None and book.running > limits.concurrent:
            return _passed("concurrent", limits.concurrent, "{call}", book.running)
        if limits.operations is not None and book.made > limits.operations:
            return _passed("operations", limits.operations, "{call}", book.made)
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
            "operations_count": usage.book.made,
            "concurrent_ops": usage.book.running,
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
