"""The life of an agent against a model, over random sequences of requests."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from llmspell_otel import Cancel, Hook, OperationCancelled
from llmspell_otel.errors import AgentStateError
from llmspell_otel.hooks.registry import registry
from llmspell_otel.operations.lifecycle import AgentLifecycle, AgentState
from llmspell_otel.operations.states import ALLOWED

S = AgentState
ASKED = {
    S.INITIALIZING: "BeforeAgentInit",
    S.PAUSED: "custom:agent_paused",
    S.TERMINATING: "BeforeAgentShutdown",
    S.RECOVERING: "custom:agent_recovering",
}
ENDS = {S.READY, S.TERMINATING, S.ERROR}


class Life(RuleBasedStateMachine):
    """A machine, a set of states, and counts of what must have been fired."""

    def __init__(self) -> None:
        super().__init__()
        registry.clear()
        self.life = AgentLifecycle("model")
        self.state = S.UNINITIALIZED
        self.executing = self.refuses = False
        self.transitions = self.begun = self.done = self.failed = 0
        self.fired: dict[str, int] = {}
        for point in ("BeforeAgentExecution", "AfterAgentExecution", "AgentError"):
            Hook.register(point, self.count)
        for point in {*ASKED.values(), "BeforeAgentExecution"}:
            Hook.register(point, self.answer, priority="high")

    def count(self, context: Any) -> None:
        self.fired[context.point.name] = self.fired.get(context.point.name, 0) + 1

    def answer(self, context: Any) -> Cancel | None:
        asked = context.metadata["transition_phase"] == "enter"
        return Cancel("refused") if self.refuses and asked else None

    @rule(new=st.sampled_from(AgentState))
    def go(self, new: AgentState) -> None:
        """Ask for any transition at all."""
        allowed = new in ALLOWED[self.state]
        begins = new is S.RUNNING and not self.executing
        if not allowed:
            with pytest.raises(AgentStateError):
                self.life.transition(new)
        elif self.refuses and (new in ASKED or begins):
            with pytest.raises(OperationCancelled):
                self.life.transition(new)
        else:
            self.life.transition(new)
            self.went(new, begins=begins)

    def went(self, new: AgentState, *, begins: bool) -> None:
        self.state = new
        self.transitions += 1
        self.begun += begins
        self.failed += new is S.ERROR
        ends = self.executing and new in ENDS
        self.done += ends and new is not S.ERROR
        self.executing = (self.executing or begins) and not ends

    @rule(refuses=st.booleans())
    def change_policy(self, refuses: bool) -> None:
        """Hooks begin, or stop, to refuse."""
        self.refuses = refuses

    @invariant()
    def agree(self) -> None:
        """State, history and firings are the model's, and nothing counted as a failure."""
        assert self.life.state is self.state
        assert len(self.life.history) == self.transitions
        assert self.fired.get("BeforeAgentExecution", 0) == self.begun
        assert self.fired.get("AfterAgentExecution", 0) == self.done
        assert self.fired.get("AgentError", 0) == self.failed
        assert self.life.breaker.stats.total_failures == 0

    def teardown(self) -> None:
        registry.clear()


Life.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestLife = Life.TestCase
