"""The way of an agent's call: an execution in its life, while somebody watches that."""

from typing import Any

from llmspell_otel.errors import OperationCancelled
from llmspell_otel.guard import guard
from llmspell_otel.hooks.driving import Flow, drive
from llmspell_otel.hooks.results import Cancel
from llmspell_otel.operations.advice import Advice
from llmspell_otel.operations.agents import Life, life_at
from llmspell_otel.operations.scope import Scope


class Living(Advice):
    """Leads the agent to Running before the call, and back to Ready whatever comes of it."""

    __slots__ = ()

    def steps(self) -> Flow[Any]:
        """As `Advice.steps`; a hook that lets no agent be initialised cancels the call."""
        life = self._life()
        if life is None or not life.watched():
            return (yield from super().steps())
        try:
            yield from self._led(life.began())
        except OperationCancelled as refused:
            yield from self._cancel(Cancel(refused.reason))
            return self.operation.output
        try:
            output = yield from super().steps()
        except GeneratorExit:  # abandoned: nothing can be awaited any more
            drive(self._led(life.over("abandoned")))
            raise
        except BaseException as error:
            yield from self._led(life.over(f"failed: {type(error).__name__}"))
            raise
        yield from self._led(life.over("done"))
        return output

    def _led(self, flow: Flow[None]) -> Flow[None]:
        with Scope(self.operation):
            yield from flow

    def _life(self) -> Life | None:
        operation = self.operation
        agent = guard.contained("naming an agent", operation.aspect.codec.agent, operation.call)
        return None if agent is None else life_at(agent, operation.name)
