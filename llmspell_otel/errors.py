"""Every error this library raises on purpose.

* LlmspellError
    * OperationCancelled     a hook stopped the call
    * HookError              a hook, point, result or policy is not usable as given
        * UnknownHookPointError
        * HookSignatureError
        * UnknownResultError
        * UnknownBuiltinError
        * PolicyError
    * PatternError           an event pattern does not parse (`llmspell_otel.events`)
    * EventError             an event or a subscription is not usable as given
    * EventRejectedError     a full queue refused an event
    * JournalError           a journal cannot be opened or asked
    * SettingsError          a setting is wrong
    * AgentStateError        an agent's state does not allow a transition
        * TransitionTimeoutError
    * StateError             a scope, key or value is not usable as given
        * StateConflictError
    * TimeLimitError         a tool, stage or workflow took longer than its time limit
"""

from typing import Any

_SHOWN = 80  # characters of somebody's text that a message quotes


class LlmspellError(Exception):
    """Root of every error this library raises on purpose; each can be copied and pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by its constructor, as other exceptions: that takes what the message is made of.
        return _revive, (type(self), self.args), vars(self)


def _revive(kind: type[LlmspellError], args: tuple[Any, ...]) -> LlmspellError:
    error = kind.__new__(kind)
    error.args = args
    return error


class OperationCancelled(LlmspellError):  # noqa: N818 - the public name the hooks' documentation gives it
    """A hook stopped this call; the call was not made, or its output is withheld."""

    def __init__(self, reason: str, *, kind: str = "", name: str = "", hook: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.kind = kind
        self.name = name
        self.hook = hook


class HookError(LlmspellError):
    """A hook, hook point, result or policy is not usable as given."""


class UnknownHookPointError(HookError, LookupError):
    """No hook point has that name."""

    def __init__(self, name: str, nearest: str | None) -> None:
        hint = f"; did you mean {nearest!r}?" if nearest else ""
        super().__init__(
            f"unknown hook point {name!r}{hint} (your own points are written 'custom:NAME')"
        )
        self.name = name
        self.nearest = nearest


class HookSignatureError(HookError, TypeError):
    """A hook cannot be called with one positional argument, the context."""

    def __init__(self, hook: str, problem: str) -> None:
        super().__init__(
            f"hook {hook!r} cannot be used: {problem}; write it as `def {hook}(context): ...`"
        )
        self.hook = hook


class UnknownResultError(HookError, TypeError):
    """A hook answered with something that is none of the nine results."""

    def __init__(self, value: object) -> None:
        super().__init__(
            f"a hook answered with {type(value).__name__}, which is none of the nine results"
            " (None means Continue)"
        )


class UnknownBuiltinError(HookError, LookupError):
    """There is no built-in hook of that name."""

    def __init__(self, name: str, mend: str) -> None:
        super().__init__(f"there is no built-in hook {name!r}; {mend}")
        self.name = name
        self.mend = mend


class PolicyError(HookError):
    """A policy file could not be loaded."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"policy {path!r} was not loaded: {problem}")
        self.path = path


class PatternError(LlmspellError, ValueError):
    """An event pattern does not follow the grammar."""

    def __init__(self, pattern: str, position: int, problem: str, mend: str) -> None:
        shown = pattern if len(pattern) <= _SHOWN else f"{pattern[:_SHOWN]}…"
        super().__init__(f"event pattern {shown!r}, position {position}: {problem}; {mend}")
        self.pattern = pattern
        self.position = position
        self.problem = problem
        self.mend = mend


class EventError(LlmspellError, ValueError):
    """An event, or an option of a subscription, is not usable as given."""

    def __init__(self, what: str, problem: str, mend: str) -> None:
        super().__init__(f"{what} {problem}; {mend}")
        self.what = what
        self.problem = problem
        self.mend = mend


class EventRejectedError(LlmspellError):
    """A full queue refused an event."""

    def __init__(self, event_type: str, refused: int) -> None:
        super().__init__(
            f"{refused} subscription(s) refused {event_type!r}: their queues are full;"
            " give them a larger capacity or another overflow strategy"
        )
        self.event_type = event_type
        self.refused = refused


class JournalError(LlmspellError):
    """A journal cannot be opened or asked."""

    def __init__(self, path: str, problem: str, mend: str) -> None:
        super().__init__(f"journal {path!r} {problem}; {mend}")
        self.path = path
        self.problem = problem
        self.mend = mend


class SettingsError(LlmspellError, ValueError):
    """A setting is wrong."""

    def __init__(self, name: str, problem: str, mend: str) -> None:
        super().__init__(f"setting {name!r} {problem}; {mend}")
        self.name = name


class AgentStateError(LlmspellError):
    """An agent's state, or its breaker, does not allow a transition; nothing has changed."""

    def __init__(self, agent: str, from_state: str, to_state: str, problem: str) -> None:
        super().__init__(f"agent {agent!r} cannot go from {from_state} to {to_state}: {problem}")
        self.agent = agent
        self.from_state = from_state
        self.to_state = to_state
        self.problem = problem


class TransitionTimeoutError(AgentStateError, TimeoutError):
    """A transition took longer than its time limit, and was undone."""


class TimeLimitError(LlmspellError, TimeoutError):
    """A tool, stage or workflow took longer than its time limit."""

    def __init__(self, kind: str, name: str, seconds: float) -> None:
        super().__init__(f"{kind} {name!r} took longer than its time limit of {seconds:g} s")
        self.kind = kind
        self.name = name
        self.seconds = seconds


class StateError(LlmspellError, ValueError):
    """A scope, key or value of the state is not usable as given."""

    def __init__(self, what: str, problem: str, mend: str) -> None:
        super().__init__(f"{what} {problem}; {mend}")
        self.what = what
        self.problem = problem
        self.mend = mend


class StateConflictError(StateError):
    """Somebody else has written the value meanwhile."""

    def __init__(self, scope: str, key: str) -> None:
        super().__init__(f"{key!r} in {scope}", "is not what was expected", "read it and try again")
        self.scope = scope
        self.key = key
