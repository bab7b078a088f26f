"""What a transition of an agent does: written once, as a flow, for both worlds."""

import inspect
import logging
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from llmspell_otel.errors import AgentStateError, OperationCancelled, TransitionTimeoutError
from llmspell_otel.events import default_bus, make
from llmspell_otel.events.ids import uuid7
from llmspell_otel.hooks.breaker import Breaker
from llmspell_otel.hooks.context import Component
from llmspell_otel.hooks.driving import Flow
from llmspell_otel.hooks.notices import noticed, told
from llmspell_otel.hooks.profiles import BreakerProfile
from llmspell_otel.hooks.registry import Slot
from llmspell_otel.hooks.results import Cancel
from llmspell_otel.operations import states
from llmspell_otel.operations.operation import current
from llmspell_otel.operations.states import ALLOWED, AgentState

if TYPE_CHECKING:
    import asyncio

_logger = logging.getLogger("llmspell_otel")
_clock = time.perf_counter_ns
_S = AgentState

Handler = Callable[[], Any]
"""What an agent does on entering or leaving a state; may be asynchronous."""

BREAKER: Final = BreakerProfile(slow_call_threshold=1_000_000_000)
"""Three failed transitions within 30 s open it for 15 s. Slow ones do not: agents may be slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleConfig:
    """The limits of one life; durations in seconds."""

    max_transition_time: float = 5.0
    max_recovery_attempts: int = 3
    """Recoveries since the last execution that ended well."""
    history: int = 1000
    """How many transitions are kept."""
    breaker: BreakerProfile = field(default=BREAKER)


@dataclass(frozen=True, slots=True)
class Transition:
    """One transition that was made."""

    from_state: AgentState
    to_state: AgentState
    reason: str
    timestamp: int
    """Nanoseconds since the Unix epoch."""
    seconds: float


@dataclass(slots=True, eq=False)
class Move:
    """A transition under way."""

    old: AgentState
    new: AgentState
    reason: str
    data: dict[str, Any]
    permit: int
    began: int = field(default_factory=_clock)
    cancelled: str | None = None
    scope: "asyncio.Timeout | None" = None
    loop: "asyncio.AbstractEventLoop | None" = None


@dataclass(frozen=True, slots=True)
class _Handle:
    """Calls an agent's own handler."""

    handler: Handler

    def perform(self) -> None:
        answer = self.handler()
        if isinstance(answer, Awaitable):
            from llmspell_otel.hooks.waiting import engine_loop

            engine_loop.wait(answer, None)

    async def perform_async(self) -> None:
        answer = self.handler()
        if inspect.isawaitable(answer):
            await answer


class Lifecycle:
    """What both worlds share: the state, the rules, and the flow of a transition.

    Attributes:
        name: The agent's name.
        agent_id: Unique for this life.
        executes: Whether starting and ending an execution fires its three points; False where
            an operation around each execution does.
    """

    def __init__(
        self, name: str, *, config: LifecycleConfig | None = None, executes: bool = True
    ) -> None:
        self.name = name
        self.agent_id = uuid7()
        self.config = config or LifecycleConfig()
        self.executes = executes
        self.recoveries = 0
        self.breaker = Breaker(self.config.breaker, clock=_clock)
        self._component = Component("agent", name)
        self._state = _S.UNINITIALIZED
        self._executing = False
        self._lock = threading.Lock()
        self._move: Move | None = None
        self._history: deque[Transition] = deque(maxlen=self.config.history)
        self._enter: dict[AgentState, Handler] = {}
        self._exit: dict[AgentState, Handler] = {}

    # -- what stands

    @property
    def state(self) -> AgentState:
        """Where the agent stands."""
        return self._state

    @property
    def history(self) -> tuple[Transition, ...]:
        """The latest transitions, oldest first."""
        return tuple(self._history)

    @property
    def can_execute(self) -> bool:
        """Ready or running."""
        return self._state in {_S.READY, _S.RUNNING}

    @property
    def can_pause(self) -> bool:
        """Running."""
        return self._state is _S.RUNNING

    @property
    def can_terminate(self) -> bool:
        """Neither terminated nor on the way there."""
        return self._state not in {_S.TERMINATING, _S.TERMINATED}

    @property
    def healthy(self) -> bool:
        """Ready, running or paused."""
        return self._state in {_S.READY, _S.RUNNING, _S.PAUSED}

    @property
    def is_error(self) -> bool:
        """Failed, or recovering from it."""
        return self._state in {_S.ERROR, _S.RECOVERING}

    def on_enter(self, state: AgentState, handler: Handler) -> None:
        """Have *handler* called when *state* is entered; if it raises, the state is left again."""
        self._enter[state] = handler

    def on_exit(self, state: AgentState, handler: Handler) -> None:
        """Have *handler* called before *state* is left; if it raises, the state stays."""
        self._exit[state] = handler

    def cancel_transition(self, reason: str = "cancelled") -> bool:
        """Give the transition under way up, from any thread; False if there is none.

        The state goes back to what it was, and whoever asked for the transition gets
        `OperationCancelled`. What is awaited is interrupted, what blocks is not.
        """
        with self._lock:
            move = self._move
            if move is None:
                return False
            move.cancelled = reason
            scope, loop = move.scope, move.loop
        if scope is not None and loop is not None:
            loop.call_soon_threadsafe(_expire, scope)
        return True

    # -- one transition

    def begin(self, new: AgentState, reason: str, data: dict[str, Any]) -> Move:
        """Claim the machine for one transition; a refusal changes and counts nothing."""
        with self._lock:
            old = self._state
            if self._move is not None:
                under_way = f"while it goes from {self._move.old} to {self._move.new}"
                raise AgentStateError(self.name, old, new, under_way)
            if new not in ALLOWED[old]:
                follow = ", ".join(sorted(ALLOWED[old])) or "nothing"
                raise AgentStateError(self.name, old, new, f"only {follow} may follow")
            # An agent that fails or has to go must always be able to.
            permit = self.breaker.permit(_clock()) if new not in _UNGUARDED else 1
            if not permit:
                raise AgentStateError(
                    self.name, old, new, "its last transitions failed; try again later"
                )
            self._move = Move(old, new, reason, data, permit)
            return self._move

    def steps(self, move: Move) -> Flow[dict[str, Any]]:
        """Ask, leave, enter; then tell. What fails before the end is undone."""
        try:
            for slot in self._asked(move):
                yield from self._ask(slot, move)
            yield from self._change(move)
        except BaseException as error:
            self._undo(move, error)
            raise
        self._made(move)
        for slot in self._told(move):
            yield from self._tell(slot, move, "enter")
        return move.data

    def _change(self, move: Move) -> Flow[None]:
        if move.old in self._exit:
            yield _Handle(self._exit[move.old])
        self._check(move)
        yield from self._tell(states.LEFT[move.old], move, "exit")
        self._state = move.new
        if move.new in self._enter:
            yield _Handle(self._enter[move.new])
        self._check(move)

    def _check(self, move: Move) -> None:
        if move.cancelled is not None:
            raise OperationCancelled(move.cancelled, kind="agent", name=self.name)
        if (_clock() - move.began) / 1e9 > self.config.max_transition_time:
            raise self.late(move)

    def late(self, move: Move) -> TransitionTimeoutError:
        """The error of a transition that overran its time."""
        allowed = f"it took longer than {self.config.max_transition_time:g} s"
        return TransitionTimeoutError(self.name, move.old, move.new, allowed)

    def _undo(self, move: Move, error: BaseException) -> None:
        with self._lock:
            self._state, self._move = move.old, None
        if move.new in _UNGUARDED:
            return
        # Cancelling is an answer, not a failure.
        if isinstance(error, OperationCancelled) or not _is_failure(move, error):
            self.breaker.release(move.permit)
        else:
            now = _clock()
            self.breaker.failure(now, now - move.began, move.permit)

    def _made(self, move: Move) -> None:
        now = _clock()
        seconds = (now - move.began) / 1e9
        with self._lock:
            self._history.append(
                Transition(move.old, move.new, move.reason, time.time_ns(), seconds)
            )
            self._move = None
        if move.new not in _UNGUARDED:
            self.breaker.success(now, move.permit)
        bus = default_bus()
        if bus.wants(states.CHANGED):
            data = {"agent_id": self.agent_id, "name": self.name, "reason": move.reason}
            data |= {"from_state": move.old.value, "to_state": move.new.value}
            operation = current.get()
            bus.publish(make(states.CHANGED, data, operation.correlation_id if operation else ""))

    # -- asking and telling

    def _asked(self, move: Move) -> tuple[Slot, ...]:
        if move.new is _S.RUNNING:
            begins = self.executes and not self._executing
            return (states.BEFORE_EXECUTION,) if begins else ()
        return states.ASKED.get(move.new, ())

    def _told(self, move: Move) -> tuple[Slot, ...]:
        told_of: list[Slot] = []
        ended = self._executing and move.new in _ENDS
        self._executing = move.new is _S.RUNNING or (self._executing and not ended)
        if ended and move.new is not _S.ERROR:
            self.recoveries = 0
            if self.executes:
                told_of.append(states.AFTER_EXECUTION)
        if move.new is _S.ERROR and self.executes:
            told_of.append(states.FAILED)
        if move.new is _S.READY:
            initialized = move.old is _S.INITIALIZING
            told_of.append(states.INITIALIZED if initialized else states.READY)
        if move.new is _S.TERMINATED:
            told_of.append(states.TERMINATED)
        return (*told_of, states.ENTERED[move.new])

    def _ask(self, slot: Slot, move: Move) -> Flow[None]:
        result = None
        if told(slot):
            result = yield from self._noticed(slot, move, "enter")
        if isinstance(result, Cancel):
            raise OperationCancelled(result.reason, kind="agent", name=self.name)
        self._check(move)

    def _tell(self, slot: Slot, move: Move, phase: str) -> Flow[None]:
        if told(slot):
            yield from self._noticed(slot, move, phase)

    def _noticed(self, slot: Slot, move: Move, phase: str) -> Flow[Any]:
        metadata = {
            "agent_id": self.agent_id,
            "from_state": move.old.value,
            "to_state": move.new.value,
            "transition_phase": phase,
        }
        if move.reason:
            metadata["transition_reason"] = move.reason
        return noticed(
            slot, self._component, move.data, metadata, operation=current.get(), facts={}
        )

    def attempt_recovery(self) -> None:
        """Count a recovery.

        Raises:
            AgentStateError: there were too many since the last execution that ended well.
        """
        if self.recoveries >= self.config.max_recovery_attempts:
            problem = f"it was recovered {self.recoveries} times without an execution ending well"
            raise AgentStateError(self.name, self._state, _S.RECOVERING, problem)
        self.recoveries += 1


_UNGUARDED: Final = frozenset({_S.ERROR, _S.TERMINATING, _S.TERMINATED})
_ENDS: Final = frozenset({_S.READY, _S.TERMINATING, _S.ERROR})


def _is_failure(move: Move, error: BaseException) -> bool:
    """A handler that raised, or a time limit; not the end of the program or of the task."""
    return isinstance(error, Exception) or (
        move.scope is not None and move.scope.expired() and move.cancelled is None
    )


def _expire(scope: "asyncio.Timeout") -> None:
    import asyncio

    try:
        scope.reschedule(asyncio.get_running_loop().time())
    except RuntimeError:
        return  # it has just ended
