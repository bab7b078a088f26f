"""One run of a workflow: its state, its shared data, its checkpoints, and what it tells hooks."""

import threading
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from llmspell_otel.errors import OperationCancelled, TimeLimitError
from llmspell_otel.events.ids import uuid7
from llmspell_otel.hooks.context import Component
from llmspell_otel.hooks.driving import Flow, drive
from llmspell_otel.hooks.notices import noticed, told
from llmspell_otel.hooks.registry import Slot, registry
from llmspell_otel.hooks.results import Cancel
from llmspell_otel.operations.operation import current

START: Final = registry.slot("custom:workflow_start")
COMPLETE: Final = registry.slot("custom:workflow_complete")
STEP: Final = registry.slot("custom:workflow_step_boundary")
STATE_CHANGE: Final = registry.slot("custom:workflow_state_change")
SHARED: Final = registry.slot("custom:workflow_shared_data")
CONDITION: Final = registry.slot("custom:condition_evaluation")
SELECTION: Final = registry.slot("custom:branch_selection")
ITERATION: Final = registry.slot("custom:loop_iteration_start")
ITERATED: Final = registry.slot("custom:loop_iteration_complete")
TERMINATION: Final = registry.slot("custom:loop_termination")
FORK: Final = registry.slot("custom:parallel_fork")
JOIN: Final = registry.slot("custom:parallel_join")
SYNCHRONIZATION: Final = registry.slot("custom:parallel_synchronization")
CHECKPOINT: Final = registry.slot("WorkflowCheckpoint")
ROLLBACK: Final = registry.slot("WorkflowRollback")

_PHASE_OF: Final = {
    START: "WorkflowStart",
    COMPLETE: "WorkflowComplete",
    STEP: "StepBoundary",
    STATE_CHANGE: "StateChange",
    SHARED: "SharedDataAccess",
    CONDITION: "ConditionEvaluation",
    SELECTION: "BranchSelection",
    ITERATION: "LoopIterationStart",
    ITERATED: "LoopIterationComplete",
    TERMINATION: "LoopTermination",
    FORK: "ParallelFork",
    JOIN: "ParallelJoin",
    SYNCHRONIZATION: "ParallelSynchronization",
    CHECKPOINT: "Checkpoint",
    ROLLBACK: "Rollback",
}
_REFUSABLE: Final = frozenset({START, STEP, CONDITION, SELECTION, ITERATION, FORK})
_CONTENT: Final = frozenset({STATE_CHANGE, CHECKPOINT, ROLLBACK, ITERATION})


class RunState(StrEnum):
    """How far a run is."""

    PENDING = "Pending"
    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a run can be taken up again: after step *index*, with *value* and *shared* data."""

    workflow: str
    label: str
    index: int
    value: Any
    shared: Mapping[str, Any]
    id: str = field(default_factory=uuid7)

    def record(self) -> dict[str, Any]:
        """As a plain mapping."""
        return {
            "id": self.id,
            "workflow": self.workflow,
            "label": self.label,
            "index": self.index,
            "value": self.value,
            "shared": dict(self.shared),
        }


class SharedData:
    """What the steps of one run share. Safe from parallel branches."""

    def __init__(self, run: "WorkflowRun", given: Mapping[str, Any]) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._data = dict(given)

    def get(self, key: str, default: Any = None) -> Any:
        """The value under *key*."""
        self._run.tell_now(SHARED, access_type="read", key=key)
        with self._lock:
            return self._data.get(key, default)

    def set(self, key: str, value: Any) -> None:
        """Put *value* under *key*."""
        self._run.tell_now(SHARED, access_type="write", key=key)
        with self._lock:
            old = self._data.get(key)
            self._data[key] = value
        self._run.tell_now(STATE_CHANGE, key=key, old_value=old, new_value=value)

    def snapshot(self) -> dict[str, Any]:
        """A copy of all of it."""
        with self._lock:
            return dict(self._data)


class WorkflowRun:
    """One run of a workflow, as its steps and hooks see it."""

    def __init__(
        self, name: str, pattern: str, shared: Mapping[str, Any], seconds: float | None
    ) -> None:
        self.name = name
        self.pattern = pattern
        self.state = RunState.PENDING
        self.shared = SharedData(self, shared)
        self.checkpoints: list[Checkpoint] = []
        self.errors: list[BaseException] = []
        """What went wrong in steps, where the workflow went on, and while rolling back."""
        self.seconds = seconds
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._component = Component("workflow", name)

    @property
    def late(self) -> bool:
        """Whether its time is up."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def check_time(self) -> None:
        """End a run whose time is up, between two of its steps.

        Raises:
            TimeLimitError: it is.
        """
        if self.late and self.seconds is not None:
            raise TimeLimitError("workflow", self.name, self.seconds)

    def tell(
        self, slot: Slot, details: Mapping[str, Any] | None = None, /, **pattern: Any
    ) -> Flow[None]:
        """Fire a phase: *pattern* data, and *details* into the metadata.

        Raises:
            OperationCancelled: a hook refused to let it go on.
        """
        if not told(slot):
            return
        data = {f"pattern_{key}": value for key, value in pattern.items()}
        yield from self._noticed(slot, data, details)

    def _noticed(
        self, slot: Slot, data: dict[str, Any], details: Mapping[str, Any] | None = None
    ) -> Flow[None]:
        metadata = {
            "workflow_type": self.pattern,
            "workflow_state": self.state.value,
            "execution_phase": _PHASE_OF[slot],
            **(details or {}),
        }
        result = yield from noticed(
            slot,
            self._component,
            data,
            metadata,
            operation=current.get(),
            facts={} if slot in _CONTENT else None,
        )
        if isinstance(result, Cancel) and slot in _REFUSABLE:
            raise OperationCancelled(result.reason, kind="workflow", name=self.name)

    def tell_now(self, slot: Slot, **pattern: Any) -> None:
        """`tell`, from within a step."""
        if told(slot):
            drive(self.tell(slot, **pattern))

    def checkpoint(self, label: str, value: Any = None) -> Checkpoint:
        """Take a checkpoint, from within a step; taking up at it repeats the step."""
        return drive(self.checkpointed(label, -1, value))

    def checkpointed(self, label: str, index: int, value: Any) -> Flow[Checkpoint]:
        """Keep where the run is after step *index*, and tell of it."""
        taken = Checkpoint(self.name, label, index, value, self.shared.snapshot())
        self.checkpoints.append(taken)
        if told(CHECKPOINT):
            details = {"checkpoint_id": taken.id, "checkpoint_label": label}
            yield from self._noticed(CHECKPOINT, {"checkpoint": taken.record()}, details)
        return taken

    def rolled_back(self, undone: list[str]) -> Flow[None]:
        """Tell that the steps called *undone* are being undone."""
        if told(ROLLBACK):
            last = self.checkpoints[-1].record() if self.checkpoints else None
            yield from self._noticed(ROLLBACK, {"checkpoint": last}, {"steps": undone})


_run: ContextVar[WorkflowRun | None] = ContextVar("llmspell_workflow_run", default=None)


def workflow_run() -> WorkflowRun | None:
    """The run that the running step is part of."""
    return _run.get()
