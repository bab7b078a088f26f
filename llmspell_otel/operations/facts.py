"""What the events of an operation say."""

import time
import traceback
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opentelemetry.util.types import AttributeValue

from llmspell_otel.guard import guard
from llmspell_otel.hooks.context import Decision
from llmspell_otel.hooks.slots import Slot
from llmspell_otel.hooks.store import MISSING
from llmspell_otel.operations.identity import span_text
from llmspell_otel.operations.ports import ports

if TYPE_CHECKING:
    from llmspell_otel.operations.operation import Operation


def facts_of(operation: "Operation") -> dict[str, Any]:
    """What is known from the start."""
    facts: dict[str, Any] = {
        "operation": operation.span,
        "parent": span_text(parent) if (parent := operation.parent_span_id) else None,
        "kind": operation.moments.kind,
        "name": operation.name,
        "start_time": operation.started_ns,
        "attributes": operation.attributes,
    }
    if operation.links:
        facts["links"] = list(operation.links)
    return facts


def closing_facts_of(
    operation: "Operation", end_time: int, outcome: str, error: BaseException | None
) -> dict[str, Any]:
    """What is known at the end, at *end_time* nanoseconds; empty facts are left out."""
    facts = {
        **operation.facts,
        "attributes": operation.attributes,
        "end_time": end_time,
        "attempts": operation.attempts,
        "outcome": outcome,
    }
    if operation.firings:
        facts["hooks"] = [firing.record() for firing in operation.firings]
    if operation.decisions:
        facts["decisions"] = [decision.record() for decision in operation.decisions]
    facts |= _findings(operation)
    captures = ports.telemetry is not None and ports.telemetry.captures
    if error is not None:
        facts["error"] = _failure(operation, error, captures=captures)
    if captures:
        facts["content"] = _content(operation)
    return facts


def _findings(operation: "Operation") -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if operation.calls:
        facts["calls"] = dict(operation.calls)
    if operation.chunks is not None:
        facts["chunks"] = operation.chunks.record()
    if operation.cost is not None:
        facts["cost"] = str(operation.cost)
    if operation.forks:
        facts["forks"] = len(operation.forks)
    if operation.refusal:
        facts["refusal"] = operation.refusal
    return facts


def _failure(operation: "Operation", error: BaseException, *, captures: bool) -> Mapping[str, Any]:
    named = guard.contained("naming an error", operation.aspect.codec.error_type, error)
    failure: dict[str, Any] = {
        "type": named or class_name(type(error)),
        "exception_type": class_name(type(error)),
        # Frames only: the text of an error may quote what was said to a model.
        "stacktrace": "".join(traceback.format_tb(error.__traceback__)),
    }
    if captures:
        failure["message"] = guard.contained("reading an error", str, error) or ""
    return failure


def _content(operation: "Operation") -> dict[str, AttributeValue]:
    codec, call = operation.aspect.codec, operation.call
    content = dict(guard.contained("reading content", codec.request_content, call) or {})
    if operation.output is not MISSING:
        answered = guard.contained(
            "reading content", codec.response_content, call, operation.output
        )
        content |= answered or {}
    return content


def class_name(cls: type) -> str:
    """The name that `error.type` and `exception.type` give a class."""
    if cls.__module__ == "builtins":
        return cls.__qualname__
    return f"{cls.__module__}.{cls.__qualname__}"


class Firing(NamedTuple):
    """One asking of the hooks of a point."""

    slot: Slot
    elapsed: int
    """Nanoseconds, with what asynchronous hooks waited for."""
    decisions: Sequence[Decision]

    def record(self) -> dict[str, Any]:
        """Point, hooks, seconds, and the result that counted most."""
        names = [hook.name for hook in self.slot.hooks]
        shown = "+".join(names[:_NAMED]) + ("+..." if len(names) > _NAMED else "")
        return {
            "point": self.slot.point.spelling,
            "hook": shown,
            "duration": self.elapsed / 1e9,
            "result": self.decisions[-1].result if self.decisions else "continue",
        }


_NAMED: Final = 4
"""Hooks of one point that a metric's label names."""


class Chunked:
    """When the chunks of a stream came."""

    __slots__ = ("_began", "_last", "count", "first", "intervals")
    _LIMIT: Final = 4096

    def __init__(self, began: int) -> None:
        self._began = began
        self._last = 0
        self.count = 0
        self.first = 0.0
        self.intervals: list[float] = []

    def tick(self) -> None:
        """Note that a chunk came now."""
        now = time.perf_counter_ns()
        if self.count == 0:
            self.first = (now - self._began) / 1e9
        elif len(self.intervals) < self._LIMIT:
            self.intervals.append((now - self._last) / 1e9)
        self._last = now
        self.count += 1

    def record(self) -> dict[str, Any]:
        """Count, seconds to the first chunk, seconds between the others."""
        return {"count": self.count, "first": self.first, "intervals": list(self.intervals)}
