"""The life of an agent: nine states, whose transitions ask and tell hooks.

`AgentLifecycle` is for synchronous agents, `AsyncAgentLifecycle` for asynchronous ones.
"""

from collections.abc import Mapping
from typing import Any

from llmspell_otel.errors import OperationCancelled
from llmspell_otel.hooks.driving import drive, drive_async
from llmspell_otel.operations.agents import end_agents, life_of
from llmspell_otel.operations.machine import Lifecycle, LifecycleConfig, Transition
from llmspell_otel.operations.states import AgentState

__all__ = [
    "AgentLifecycle",
    "AgentState",
    "AsyncAgentLifecycle",
    "LifecycleConfig",
    "Transition",
    "end_agents",
    "life_of",
]

_S = AgentState


class AgentLifecycle(Lifecycle):
    """The life of a synchronous agent. Hooks and handlers that are asynchronous are waited for.

    Every transition raises `AgentStateError` when the state does not allow it or the breaker is
    open, `OperationCancelled` when a hook or `cancel_transition` stopped it,
    `TransitionTimeoutError` when its handlers came back too late, and what a handler raises.
    In each of these cases the state is what it was before.
    """

    def initialize(self, reason: str = "") -> None:
        """Uninitialized, Initializing, Ready. A handler that fails leaves it in Error."""
        self._go(_S.INITIALIZING, reason)
        try:
            self._go(_S.READY, reason)
        except Exception as error:
            self.error(error)
            raise

    def start(self, reason: str = "", **given: Any) -> dict[str, Any]:
        """Ready, Running: begin an execution; gives its input as hooks left it."""
        return self._input_of(self._go(_S.RUNNING, reason, input=given))

    def pause(self, reason: str = "") -> None:
        """Running or Ready, Paused."""
        self._go(_S.PAUSED, reason)

    def resume(self, reason: str = "") -> None:
        """Paused, Running; the same execution goes on."""
        self._go(_S.RUNNING, reason)

    def stop(self, output: Any = None, reason: str = "") -> Any:
        """Running or Paused, Ready: the execution ended well; gives its output as hooks left it."""
        return self._go(_S.READY, reason, output=output).get("output")

    def error(self, error: BaseException | str) -> None:
        """Whatever state, Error: the agent failed."""
        self._go(_S.ERROR, str(error) or type(error).__name__, error=error)

    def recover(self, reason: str = "") -> None:
        """Error, Recovering, Ready; if a handler fails, back to Error."""
        self.attempt_recovery()
        self._go(_S.RECOVERING, reason)
        try:
            self._go(_S.READY, reason)
        except Exception as error:
            self.error(error)
            raise

    def terminate(self, reason: str = "") -> None:
        """Whatever state, Terminating, Terminated: the last transition."""
        for state in (_S.TERMINATING, _S.TERMINATED):
            self._go(state, reason)

    def transition(self, state: AgentState, reason: str = "") -> None:
        """One single transition."""
        self._go(state, reason)

    def _go(self, state: AgentState, reason: str, **data: Any) -> dict[str, Any]:
        return drive(self.steps(self.begin(state, reason, data)))

    @staticmethod
    def _input_of(data: Mapping[str, Any]) -> dict[str, Any]:
        return dict(data.get("input") or {})


class AsyncAgentLifecycle(Lifecycle):
    """The life of an asynchronous agent; as `AgentLifecycle`, but transitions are awaited.

    A transition that takes longer than its time limit is interrupted and undone.
    """

    async def initialize(self, reason: str = "") -> None:
        """Uninitialized, Initializing, Ready. A handler that fails leaves it in Error."""
        await self._go(_S.INITIALIZING, reason)
        try:
            await self._go(_S.READY, reason)
        except Exception as error:
            await self.error(error)
            raise

    async def start(self, reason: str = "", **given: Any) -> dict[str, Any]:
        """Ready, Running: begin an execution; gives its input as hooks left it."""
        data = await self._go(_S.RUNNING, reason, input=given)
        return dict(data.get("input") or {})

    async def pause(self, reason: str = "") -> None:
        """Running or Ready, Paused."""
        await self._go(_S.PAUSED, reason)

    async def resume(self, reason: str = "") -> None:
        """Paused, Running; the same execution goes on."""
        await self._go(_S.RUNNING, reason)

    async def stop(self, output: Any = None, reason: str = "") -> Any:
        """Running or Paused, Ready: the execution ended well; gives its output as hooks left it."""
        return (await self._go(_S.READY, reason, output=output)).get("output")

    async def error(self, error: BaseException | str) -> None:
        """Whatever state, Error: the agent failed."""
        await self._go(_S.ERROR, str(error) or type(error).__name__, error=error)

    async def recover(self, reason: str = "") -> None:
        """Error, Recovering, Ready; if a handler fails, back to Error."""
        self.attempt_recovery()
        await self._go(_S.RECOVERING, reason)
        try:
            await self._go(_S.READY, reason)
        except Exception as error:
            await self.error(error)
            raise

    async def terminate(self, reason: str = "") -> None:
        """Whatever state, Terminating, Terminated: the last transition."""
        for state in (_S.TERMINATING, _S.TERMINATED):
            await self._go(state, reason)

    async def transition(self, state: AgentState, reason: str = "") -> None:
        """One single transition."""
        await self._go(state, reason)

    async def _go(self, state: AgentState, reason: str, **data: Any) -> dict[str, Any]:
        move = self.begin(state, reason, data)
        import asyncio

        scope = asyncio.timeout(self.config.max_transition_time)
        try:
            async with scope:
                move.scope, move.loop = scope, asyncio.get_running_loop()
                return await drive_async(self.steps(move))
        except TimeoutError:
            if not scope.expired():
                raise
            if move.cancelled is not None:
                raise OperationCancelled(move.cancelled, kind="agent", name=self.name) from None
            raise self.late(move) from None
