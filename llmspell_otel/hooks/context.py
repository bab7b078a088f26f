"""What a hook is given to look at."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Protocol

from llmspell_otel.hooks.results import Branch, Cache, Modified
from llmspell_otel.points import HookPoint

_clock: Final = time.perf_counter


@dataclass(frozen=True, slots=True)
class Component:
    """Who is at work: ``type`` is `agent`, `tool`, `workflow`, `stage`, `model` or your own."""

    type: str
    name: str


class Subject(Protocol):
    """The operation a context speaks of, as far as hooks may look at it."""

    @property
    def correlation_id(self) -> str:
        """As `HookContext.correlation_id`."""
        ...

    @property
    def attempts(self) -> int:
        """As `HookContext.attempt`."""
        ...

    @property
    def run_cost(self) -> Decimal:
        """As `HookContext.run_cost`."""
        ...


@dataclass(frozen=True, slots=True)
class Decision:
    """One answer of one hook, as it is recorded."""

    hook: str
    point: str
    result: str
    reason: str = ""
    effective: bool = True
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What telemetry shows of it, under its conventional names."""

    def record(self) -> dict[str, Any]:
        """As a plain mapping, for events."""
        plain: dict[str, Any] = {"hook": self.hook, "point": self.point, "result": self.result}
        if self.reason:
            plain["reason"] = self.reason
        if not self.effective:
            plain["effective"] = False
        if self.attributes:
            plain["attributes"] = dict(self.attributes)
        return plain


@dataclass(slots=True, eq=False, init=False)
class HookContext:
    """One moment of one operation.

    ``data`` holds ``input`` (the call's arguments by name), then ``output`` or ``error``.
    Changing it in place changes nothing: answer with `Modified` to change the call.
    """

    point: HookPoint
    component: Component
    data: dict[str, Any]
    metadata: dict[str, Any]
    operation: Subject | None
    parent: "HookContext | None"
    language: str
    began: float
    """Where the time of its next firing begins, in seconds of `time.perf_counter`."""
    decisions: list[Decision]
    branches: list[Branch]
    to_store: list[Cache]
    notes: dict[str, Any]
    """Attributes that a hook wants shown with the result it is about to give."""
    _timestamp: int = field(repr=False)

    def __init__(  # noqa: PLR0913 - by hand: the generated one costs twice as much
        self,
        point: HookPoint,
        component: Component,
        data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        *,
        operation: Subject | None = None,
        parent: "HookContext | None" = None,
        language: str = "python",
        began: float = 0.0,
        decisions: list[Decision] | None = None,
    ) -> None:
        self.point = point
        self.component = component
        self.data = data
        self.metadata = {} if metadata is None else metadata
        self.operation = operation
        self.parent = parent
        self.language = language
        self.decisions = [] if decisions is None else decisions
        self.branches, self.to_store = [], []
        self.notes = {}
        self._timestamp = 0
        self.began = began or _clock()

    @property
    def timestamp(self) -> int:
        """When this moment began, in nanoseconds since the Unix epoch."""
        if not self._timestamp:
            self._timestamp = time.time_ns() - int((time.perf_counter() - self.began) * 1e9)
        return self._timestamp

    @property
    def correlation_id(self) -> str:
        """The UUID form of the trace id that hooks, events, logs and spans share."""
        return self.operation.correlation_id if self.operation is not None else ""

    @property
    def traceparent(self) -> str | None:
        """The W3C header of the operation's span: events that carry it belong to the operation."""
        return getattr(self.operation, "traceparent", None)

    @property
    def attempt(self) -> int:
        """How often the call was made so far, counting the one under way."""
        return self.operation.attempts if self.operation is not None else 0

    @property
    def run_cost(self) -> Decimal:
        """What the whole run has cost so far, in US dollars, as far as it is priced."""
        return self.operation.run_cost if self.operation is not None else Decimal(0)

    @property
    def input(self) -> Any:
        """The call's arguments by name."""
        return self.data.get("input")

    @property
    def output(self) -> Any:
        """What the call gave, once it has."""
        return self.data.get("output")

    @property
    def error(self) -> Any:
        """What the call raised, at an error point."""
        return self.data.get("error")

    @property
    def agent_id(self) -> Any:
        """The id that lifecycle points put into the metadata."""
        return self.metadata.get("agent_id")

    def apply(self, result: Modified) -> None:
        """Take over what a hook modified: arguments are merged, everything else replaced."""
        for key, value in result.data.items():
            present = self.data.get(key)
            if key == "input" and isinstance(value, Mapping) and isinstance(present, Mapping):
                self.data["input"] = {**present, **value}
            else:
                self.data[key] = value

    def copy(self, data: Mapping[str, Any] | None = None) -> "HookContext":
        """A context of the same moment whose data can be changed apart from this one's."""
        return HookContext(
            point=self.point,
            component=self.component,
            data=dict(self.data if data is None else data),
            metadata=dict(self.metadata),
            operation=self.operation,
            parent=self,
            language=self.language,
            began=self.began,
        )
