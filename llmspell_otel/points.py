"""Every hook point: its two spellings, its moment, and what its context holds."""

import difflib
import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from llmspell_otel.errors import UnknownHookPointError


class Moment(StrEnum):
    """When in a call a point stands, and so what a result can do there."""

    BEFORE = "before"
    AFTER = "after"
    ERROR = "error"
    CHUNK = "chunk"
    NOTICE = "notice"


@dataclass(frozen=True, slots=True)
class HookPoint:
    """One named moment; the same object for either spelling of it."""

    name: str
    """As in ``BeforeToolExecution``."""
    spelling: str
    """As in ``tool:before_execution``."""
    moment: Moment
    holds: tuple[str, ...] = ()
    """Keys of ``context.data`` and ``context.metadata`` beyond those of every context."""
    about: str = ""

    def __str__(self) -> str:
        return self.spelling


_B, _A, _E, _N = Moment.BEFORE, Moment.AFTER, Moment.ERROR, Moment.NOTICE
_TRANSITION = ("agent_id", "from_state", "to_state", "transition_phase")

# group, PascalCase name, moment, what the context holds, what it is
_TABLE: tuple[tuple[str, str, Moment, tuple[str, ...], str], ...] = (
    ("agent", "BeforeAgentInit", _N, _TRANSITION, "an agent is about to be initialised"),
    ("agent", "AfterAgentInit", _N, _TRANSITION, "an agent is ready"),
    ("agent", "BeforeAgentExecution", _B, ("input",), "an agent is about to run"),
    ("agent", "AfterAgentExecution", _A, ("input", "output"), "an agent has answered"),
    ("agent", "AgentError", _E, ("input", "error"), "an agent's run failed"),
    ("agent", "BeforeAgentShutdown", _N, _TRANSITION, "an agent is about to be shut down"),
    ("agent", "AfterAgentShutdown", _N, _TRANSITION, "an agent is shut down"),
    ("tool", "BeforeToolDiscovery", _N, ("agent",), "tools are about to be listed"),
    ("tool", "AfterToolDiscovery", _N, ("agent", "tools"), "tools were listed"),
    ("tool", "BeforeToolExecution", _B, ("input",), "a tool is about to run"),
    ("tool", "AfterToolExecution", _A, ("input", "output"), "a tool has answered"),
    ("tool", "ToolValidation", _B, ("input",), "a tool's input is checked"),
    ("tool", "ToolError", _E, ("input", "error"), "a tool failed"),
    ("workflow", "BeforeWorkflowStart", _B, ("input",), "a workflow is about to start"),
    ("workflow", "WorkflowStageTransition", _N, ("from", "to"), "a workflow goes to a stage"),
    ("workflow", "BeforeWorkflowStage", _B, ("input",), "a stage is about to run"),
    ("workflow", "AfterWorkflowStage", _A, ("input", "output"), "a stage has run"),
    ("workflow", "WorkflowCheckpoint", _N, ("checkpoint",), "a checkpoint was taken"),
    ("workflow", "WorkflowRollback", _N, ("checkpoint",), "a workflow goes back"),
    ("workflow", "AfterWorkflowComplete", _A, ("input", "output"), "a workflow has ended"),
    ("workflow", "WorkflowError", _E, ("input", "error"), "a workflow or stage failed"),
    ("state", "BeforeStateRead", _B, ("scope", "key"), "a value is about to be read"),
    ("state", "AfterStateRead", _A, ("scope", "key", "output"), "a value was read"),
    ("state", "BeforeStateWrite", _B, ("scope", "key", "input"), "a value is about to be written"),
    ("state", "AfterStateWrite", _A, ("scope", "key", "input"), "a value was written"),
    ("state", "StateConflict", _N, ("scope", "key", "expected", "found"), "two writers met"),
    ("state", "StateMigration", _N, ("from_version", "to_version"), "stored state is migrated"),
    ("system", "SystemStartup", _N, ("version",), "the engine has started"),
    ("system", "SystemShutdown", _N, ("reason",), "the engine is stopping"),
    ("system", "ConfigurationChange", _N, ("changed",), "settings were reloaded"),
    ("system", "ResourceLimitExceeded", _N, ("limit", "value"), "a limit was passed"),
    ("system", "SecurityViolation", _N, ("rule", "component"), "a security rule was broken"),
    ("session", "SessionStart", _N, ("session_id",), "a session began"),
    ("session", "SessionEnd", _N, ("session_id",), "a session ended"),
    ("session", "SessionCheckpoint", _N, ("session_id", "checkpoint"), "a session was saved"),
    ("session", "SessionRestore", _N, ("session_id", "checkpoint"), "a session was restored"),
    (
        "event",
        "BeforeEventEmit",
        _B,
        ("event_type", "payload"),
        "an event is about to go out",
    ),
    ("event", "AfterEventEmit", _A, ("event_type", "payload"), "an event was published"),
    ("event", "EventHandlerError", _E, ("event_type", "error"), "a subscriber failed"),
    ("performance", "PerformanceThresholdExceeded", _N, ("limit", "value"), "a threshold passed"),
    ("performance", "MemoryUsageHigh", _N, ("limit", "value"), "memory use is high"),
    ("performance", "CpuUsageHigh", _N, ("limit", "value"), "processor use is high"),
    ("model", "BeforeModelCall", _B, ("input",), "a model is about to be called"),
    ("model", "AfterModelCall", _A, ("input", "output"), "a model has answered"),
    ("model", "ModelError", _E, ("input", "error"), "a model call failed"),
    ("model", "ModelStreamChunk", Moment.CHUNK, ("input", "output"), "a chunk of an answer came"),
)

# Other names in use for the same moments.
_ALIASES = {
    "workflow:on_error": "WorkflowError",
    "workflow:before_step": "BeforeWorkflowStage",
    "workflow:after_step": "AfterWorkflowStage",
    "workflow:on_step_error": "WorkflowError",
    "tool:before_invoke": "BeforeToolExecution",
    "tool:after_invoke": "AfterToolExecution",
    "stage:before_execution": "BeforeWorkflowStage",
    "stage:after_execution": "AfterWorkflowStage",
    "stage:error": "WorkflowError",
    "workflow:before_execution": "BeforeWorkflowStart",
    "workflow:after_execution": "AfterWorkflowComplete",
}
_CUSTOM_GROUPS = ("custom", "artifact", "parallel", "conditional", "loop")


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _spelling(group: str, name: str) -> str:
    # The group is said once: BeforeToolExecution is tool:before_execution.
    words = [word for word in _snake(name).split("_") if word != group]
    return f"{group}:{'_'.join(words)}"


POINTS: tuple[HookPoint, ...] = tuple(
    HookPoint(name, _spelling(group, name), moment, holds, about)
    for group, name, moment, holds, about in _TABLE
)
"""The 42 points of the catalogue and the four of model calls."""

_BY_NAME: dict[str, HookPoint] = {
    **{point.name: point for point in POINTS},
    **{point.spelling: point for point in POINTS},
}
_BY_NAME.update((alias, _BY_NAME[name]) for alias, name in _ALIASES.items())


@lru_cache(maxsize=4096)
def _custom(name: str) -> HookPoint:
    return HookPoint(name, name, Moment.NOTICE, (), "a point of your own")


def point_of(name: str | HookPoint) -> HookPoint:
    """The hook point of that *name*, in either spelling.

    Raises:
        UnknownHookPointError: no point has that name; the error names the nearest one.
    """
    if isinstance(name, HookPoint):
        return name
    found = _BY_NAME.get(name)
    if found is not None:
        return found
    group, _, rest = name.partition(":")
    if rest and group in _CUSTOM_GROUPS:
        return _custom(name)
    raise UnknownHookPointError(name, _nearest(name))


def _nearest(name: str) -> str | None:
    folded = {known.lower(): known for known in _BY_NAME}
    close = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.4)
    return folded[close[0]] if close else None
