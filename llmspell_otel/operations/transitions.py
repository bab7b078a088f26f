"""From stage to stage: the advice of stages, which tells of each transition."""

import weakref
from typing import Any, Final

from llmspell_otel.guard import guard
from llmspell_otel.hooks.context import Component
from llmspell_otel.hooks.driving import Flow
from llmspell_otel.hooks.notices import noticed, told
from llmspell_otel.hooks.registry import registry
from llmspell_otel.operations.advice import Advice
from llmspell_otel.operations.call import Kind
from llmspell_otel.operations.operation import Operation


class _Transition:
    """The point, and which stage came last in each workflow (or agent's run) under way."""

    def __init__(self) -> None:
        self.slot = registry.slot("WorkflowStageTransition")
        self._last: weakref.WeakKeyDictionary[Operation, str] = weakref.WeakKeyDictionary()

    def heard(self) -> bool:
        """Whether anybody hears of transitions."""
        return told(self.slot)

    def went(self, operation: Operation) -> str | None:
        """Note that *operation* is the stage now; gives the one before it."""
        around = operation.parent
        if around is None:
            return None
        before = self._last.get(around)
        self._last[around] = operation.name
        return before


TRANSITION: Final = _Transition()


class Transitions(Advice):
    """The way of a stage, which begins with leaving the one before."""

    __slots__ = ()

    def steps(self) -> Flow[Any]:
        """As `Advice.steps`, after the transition was told."""
        operation = self.operation
        if TRANSITION.heard():
            before = TRANSITION.went(operation)
            codec = operation.aspect.codec
            own = guard.contained("reading a transition", codec.transition, operation.call)
            left, entered = own or (before, operation.name)
            data = {"from": left, "to": entered}
            around = operation.parent
            kind = around.aspect.kind if around is not None else Kind.WORKFLOW
            name = around.name if around is not None else operation.name
            yield from noticed(
                TRANSITION.slot, Component(kind.value, name), data, operation=operation
            )
        return (yield from super().steps())
