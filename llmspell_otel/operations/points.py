"""Which hook points and which events belong to which kind of operation."""

from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from llmspell_otel.hooks.registry import Slot, registry
from llmspell_otel.hooks.switch import Switch
from llmspell_otel.operations.call import Kind
from llmspell_otel.operations.ports import ports
from llmspell_otel.points import Moment


@dataclass(slots=True, eq=False)
class Moments:
    """The moments of one kind of operation."""

    kind: str
    before: Slot
    after: Slot
    error: Slot
    chunk: Slot | None
    started: str
    complete: str
    failed: str
    switch: Switch
    """On while any of them is hooked, or a point of the kind's phases."""
    listened: bool = False
    """Whether anybody listens to any of their events."""
    awake: bool = False
    """Whether anybody may want to know of a call: the one test of a call nobody looks at."""
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self.switch.follow(self.look)
        ports.listen(self.look)

    def look(self) -> None:
        """See anew whether anybody wants to know."""
        with self._lock:
            wants = ports.bus.wants
            self.listened = any(map(wants, (self.started, self.complete, self.failed)))
            self.awake = self.switch.on or self.listened or ports.telemetry is not None

    def at(self, moment: Moment) -> Slot:
        """The slot of *moment*."""
        if moment is Moment.BEFORE:
            return self.before
        if moment is Moment.CHUNK and self.chunk is not None:
            return self.chunk
        return self.after if moment is Moment.AFTER else self.error


PHASES: Final = {
    Kind.TOOL: (
        "ToolValidation",
        "custom:tool_parameter_validation",
        "custom:tool_security_check",
        "custom:tool_resource_allocated",
        "custom:tool_timeout",
        "custom:tool_resource_released",
    ),
    # A transition is told with the stage before it, which whatever is around the stages keeps.
    Kind.STAGE: ("WorkflowStageTransition",),
    Kind.WORKFLOW: ("WorkflowStageTransition",),
    Kind.AGENT: ("WorkflowStageTransition",),
}
"""Further points on the way of a call, by its kind."""


def _moments(kind: Kind, before: str, after: str, error: str, chunk: str = "") -> Moments:
    verb = "call" if kind is Kind.MODEL else "execution"
    points = (before, after, error, *((chunk,) if chunk else ()), *PHASES.get(kind, ()))
    return Moments(
        kind.value,
        registry.slot(before),
        registry.slot(after),
        registry.slot(error),
        registry.slot(chunk) if chunk else None,
        f"{kind}:{verb}_started",
        f"{kind}:{verb}_complete",
        f"{kind}:{verb}_error",
        Switch(registry.slot(point) for point in points),
    )


MOMENTS: Final = {
    Kind.AGENT: _moments(Kind.AGENT, "BeforeAgentExecution", "AfterAgentExecution", "AgentError"),
    Kind.TOOL: _moments(Kind.TOOL, "BeforeToolExecution", "AfterToolExecution", "ToolError"),
    Kind.WORKFLOW: _moments(
        Kind.WORKFLOW, "BeforeWorkflowStart", "AfterWorkflowComplete", "WorkflowError"
    ),
    Kind.STAGE: _moments(Kind.STAGE, "BeforeWorkflowStage", "AfterWorkflowStage", "WorkflowError"),
    Kind.MODEL: _moments(
        Kind.MODEL, "BeforeModelCall", "AfterModelCall", "ModelError", "ModelStreamChunk"
    ),
}
