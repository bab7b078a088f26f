"""The lives of agents that do not know of states: decorated functions, and adapters' agents.

A life is followed while somebody watches: a hook at a point of the lifecycle, a subscription to
`agent:state_changed`, or a `life_of`. Then the first execution initialises the agent, each
execution goes to Running and back to Ready, whatever came of it, and the end of the process (or
`Life.end`) terminates it. An execution after that begins a new life.
"""

import threading
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any, Final

from llmspell_otel.errors import AgentStateError, OperationCancelled
from llmspell_otel.guard import guard
from llmspell_otel.hooks.driving import Flow, drive
from llmspell_otel.operations.call import Kind
from llmspell_otel.operations.machine import Lifecycle
from llmspell_otel.operations.points import MOMENTS
from llmspell_otel.operations.ports import ports
from llmspell_otel.operations.states import ALLOWED, CHANGED, AgentState, watch

_S = AgentState


class _Watchers:
    """Whether anybody wants to know of lives; then executions are led through them."""

    def __init__(self) -> None:
        self.there = self.following = False
        watch.follow(self.look)
        ports.listen(self.look)

    def look(self) -> None:
        """Look anew."""
        self.there = watch.on or ports.bus.wants(CHANGED)
        MOMENTS[Kind.AGENT].switch.hold(held=self.there or self.following)


watchers: Final = _Watchers()


def watched() -> bool:
    """Whether anybody wants to know of lives."""
    return watchers.there


class Life:
    """One agent's life, or one after another; executions may overlap."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.followed = False
        self._lock = threading.Lock()
        self._machine: Lifecycle | None = None
        self._running = 0
        _lives.add(self)

    @property
    def state(self) -> AgentState:
        """Where the agent stands."""
        return self._machine.state if self._machine is not None else _S.UNINITIALIZED

    @property
    def machine(self) -> Lifecycle:
        """The machine of the present life."""
        with self._lock:
            if self._machine is None or self._machine.state is _S.TERMINATED:
                self._machine = Lifecycle(self.name, executes=False)
            return self._machine

    def watched(self) -> bool:
        """Whether executions have to go through `began` and `over`."""
        return self.followed or watchers.there

    def began(self) -> Flow[None]:
        """Before an execution.

        Raises:
            OperationCancelled: a hook refused to let the agent be initialised.
        """
        machine = self.machine
        with self._lock:
            self._running += 1
        try:
            if machine.state is _S.UNINITIALIZED:
                yield from self._steps(_S.INITIALIZING, "first execution")
                yield from self._steps(_S.READY, "first execution")
            yield from self._steps(_S.RUNNING, "execution")
        except BaseException:
            with self._lock:
                self._running -= 1
            raise

    def over(self, reason: str) -> Flow[None]:
        """After an execution: the last one that is under way brings the agent back to Ready."""
        with self._lock:
            self._running -= 1
            last = self._running == 0
        if last:
            yield from self._steps(_S.READY, reason)

    def end(self, reason: str) -> None:
        """Terminate the agent if it ever lived; hooks cannot refuse the end of a process."""
        for state in (_S.TERMINATING, _S.TERMINATED):
            if self._machine is not None:
                try:
                    drive(self._steps(state, reason))
                except OperationCancelled as error:
                    guard.report(f"ending agent {self.name}", error)

    def _steps(self, state: AgentState, reason: str) -> Flow[None]:
        machine = self.machine if state is _S.INITIALIZING else self._machine
        if machine is None or machine.state is state or state not in ALLOWED[machine.state]:
            return  # another execution has brought it there, or ended it
        try:
            move = machine.begin(state, reason, {})
        except AgentStateError:
            return  # another execution is on its way there
        try:
            yield from machine.steps(move)
        except AgentStateError as error:  # its hooks took too long
            guard.report(f"following agent {self.name}", error)

    @contextmanager
    def initialization(self) -> Generator[None]:
        """Around what makes the agent: it is Ready afterwards, or in Error.

        Raises:
            OperationCancelled: a hook refused to let it be initialised.
        """
        drive(self._steps(_S.INITIALIZING, "constructed"))
        try:
            yield
        except BaseException as error:
            drive(self._steps(_S.ERROR, type(error).__name__))
            raise
        drive(self._steps(_S.READY, "constructed"))


_lives: Final["weakref.WeakSet[Life]"] = weakref.WeakSet()
_known: Final[dict[int, Life]] = {}
"""By the identity of the agent: not all agents can be hashed."""
_decorated: Final["weakref.WeakKeyDictionary[Callable[..., Any], Life]"] = (
    weakref.WeakKeyDictionary()
)


def life_at(agent: Any, name: str) -> Life:
    """The life of *agent*: a function, or an adapter's object."""
    life = _known.get(id(agent))
    if life is None:
        life = _known[id(agent)] = Life(name)
        with suppress(TypeError):  # one that cannot be watched is known for ever
            weakref.finalize(agent, _known.pop, id(agent), None).atexit = False
    return life


def decorated(observed: Callable[..., Any], function: Callable[..., Any], name: str) -> None:
    """Let the life of an agent's *function* be found by what the decorator made of it."""
    _decorated[observed] = life_at(function, name)


def life_of(function: Callable[..., Any]) -> Life:
    """The life of a decorated agent, which is followed from now on.

    Raises:
        LookupError: *function* was not decorated with `@agent`.
    """
    life = _decorated.get(function)
    if life is None:
        raise LookupError(f"{function!r} is no agent: decorate it with @agent")
    life.followed = watchers.following = True
    watchers.look()
    return life


def end_agents(reason: str = "exit") -> None:
    """Terminate every agent whose life is followed; `instrument` has it done at the exit."""
    for life in list(_lives):
        guard.contained(f"ending agent {life.name}", life.end, reason)
