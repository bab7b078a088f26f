"""The nine states of an agent: which may follow which, and which hook points that fires."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Final

from llmspell_otel.hooks.registry import Slot, registry
from llmspell_otel.hooks.switch import Switch


class AgentState(StrEnum):
    """Where an agent stands in its life."""

    UNINITIALIZED = "Uninitialized"
    INITIALIZING = "Initializing"
    READY = "Ready"
    RUNNING = "Running"
    PAUSED = "Paused"
    TERMINATING = "Terminating"
    TERMINATED = "Terminated"
    ERROR = "Error"
    RECOVERING = "Recovering"


_S = AgentState
ALLOWED: Final[Mapping[AgentState, frozenset[AgentState]]] = {
    _S.UNINITIALIZED: frozenset({_S.INITIALIZING, _S.ERROR}),
    _S.INITIALIZING: frozenset({_S.READY, _S.ERROR, _S.TERMINATING}),
    _S.READY: frozenset({_S.RUNNING, _S.PAUSED, _S.TERMINATING, _S.ERROR}),
    _S.RUNNING: frozenset({_S.READY, _S.PAUSED, _S.TERMINATING, _S.ERROR}),
    _S.PAUSED: frozenset({_S.READY, _S.RUNNING, _S.TERMINATING, _S.ERROR}),
    _S.ERROR: frozenset({_S.RECOVERING, _S.TERMINATING, _S.TERMINATED}),
    _S.RECOVERING: frozenset({_S.READY, _S.ERROR, _S.TERMINATING}),
    _S.TERMINATING: frozenset({_S.TERMINATED, _S.ERROR}),
    _S.TERMINATED: frozenset(),
}
"""Which states may follow each state."""

BEFORE_EXECUTION: Final = registry.slot("BeforeAgentExecution")
AFTER_EXECUTION: Final = registry.slot("AfterAgentExecution")
FAILED: Final = registry.slot("AgentError")
READY: Final = registry.slot("custom:agent_ready")
INITIALIZED: Final = registry.slot("AfterAgentInit")
TERMINATED: Final = registry.slot("AfterAgentShutdown")

_PAUSED = registry.slot("custom:agent_paused")
_RECOVERING = registry.slot("custom:agent_recovering")

ASKED: Final[Mapping[AgentState, tuple[Slot, ...]]] = {
    _S.INITIALIZING: (registry.slot("BeforeAgentInit"),),
    _S.PAUSED: (_PAUSED,),
    _S.TERMINATING: (
        registry.slot("BeforeAgentShutdown"),
        registry.slot("custom:before_agent_terminate"),
    ),
    _S.RECOVERING: (_RECOVERING,),
}
"""Asked before the state is entered; `Cancel` refuses the transition."""

LEFT: Final[Mapping[AgentState, Slot]] = {
    state: registry.slot(f"custom:agent_state_{state}_exit") for state in AgentState
} | {_S.PAUSED: _PAUSED, _S.RECOVERING: _RECOVERING}
"""Told when the state is left."""

ENTERED: Final[Mapping[AgentState, Slot]] = {
    state: registry.slot(f"custom:agent_state_{state}_enter") for state in AgentState
}
"""Told when the state is entered, after the points with a meaning."""

CHANGED: Final = "agent:state_changed"
"""The event of every transition."""


def _of_life() -> Iterator[Slot]:
    """Every point of a life but those of executions, which operations fire."""
    yield from (READY, INITIALIZED, TERMINATED)
    for slots in ASKED.values():
        yield from slots
    yield from LEFT.values()
    yield from ENTERED.values()


watch: Final = Switch(_of_life())
"""Whether any point of a life is hooked."""
