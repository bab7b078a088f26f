"""Which hook points and which events belong to which kind of operation."""

from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from llmspell_otel.events import EventBus
from llmspell_otel.hooks.registry import Slot, registry
from llmspell_otel.operations.call import Kind
from llmspell_otel.operations.ports import ports
from llmspell_otel.points import Moment


@dataclass(slots=True, eq=False)
class Moments:
    """The moments of one kind of operation."""

    before: Slot
    after: Slot
    error: Slot
    chunk: Slot | None
    started: str
    complete: str
    failed: str
    awake: bool = False
    """Whether anybody may want to know of a call: the one test of a call nobody looks at."""
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        for slot in (self.before, self.after, self.error, self.chunk):
            if slot is not None:
                slot.listen(self.look)
        ports.listen(self.look)

    def look(self) -> None:
        """See anew whether anybody wants to know."""
        with self._lock:
            self.awake = self.hooked() or ports.telemetry is not None or self.wanted(ports.bus)

    def hooked(self) -> bool:
        """Whether anybody is asked at any of them."""
        return bool(
            self.before.hooks
            or self.after.hooks
            or self.error.hooks
            or (self.chunk is not None and self.chunk.hooks)
        )

    def wanted(self, bus: EventBus) -> bool:
        """Whether anybody listens to any of their events."""
        return bus.wants(self.complete) or bus.wants(self.failed) or bus.wants(self.started)

    def at(self, moment: Moment) -> Slot:
        """The slot of *moment*."""
        if moment is Moment.BEFORE:
            return self.before
        if moment is Moment.CHUNK and self.chunk is not None:
            return self.chunk
        return self.after if moment is Moment.AFTER else self.error


def _moments(kind: Kind, before: str, after: str, error: str, chunk: str = "") -> Moments:
    verb = "call" if kind is Kind.MODEL else "execution"
    return Moments(
        registry.slot(before),
        registry.slot(after),
        registry.slot(error),
        registry.slot(chunk) if chunk else None,
        f"{kind}:{verb}_started",
        f"{kind}:{verb}_complete",
        f"{kind}:{verb}_error",
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
