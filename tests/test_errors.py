"""The errors this library raises on purpose."""

import copy
import pickle

import pytest

from llmspell_otel import errors
from llmspell_otel.errors import LlmspellError
from llmspell_otel.runtime import MissingWeaverError

EVERY = (
    errors.OperationCancelled("too dear", kind="tool", name="pay", hook="budget"),
    errors.UnknownHookPointError("tool:befor", "tool:before_execution"),
    errors.HookSignatureError("mine", "too many arguments"),
    errors.UnknownResultError(42),
    errors.UnknownBuiltinError("retyr", "did you mean 'retry'?"),
    errors.PolicyError("policy.py", "line 1: invalid syntax"),
    errors.PatternError("a:[", 2, "no end", "write `]`"),
    errors.EventError("priority", "is unknown", "write 'high'"),
    errors.EventRejectedError("tool:started", 2),
    errors.JournalError("runs", "is locked", "close it"),
    errors.SettingsError("builtin.retry", "is wrong", "mend it"),
    errors.AgentStateError("desk", "ready", "running", "it is paused"),
    errors.TransitionTimeoutError("desk", "ready", "running", "it took 2 s"),
    errors.TimeLimitError("tool", "search", 2.5),
    errors.StateError("the key", "is empty", "name one"),
    errors.StateConflictError("agent:desk", "count"),
    MissingWeaverError(),
)


def test_none_is_left_out() -> None:
    """Every error that the module defines is among those tried below, but for mere families."""
    defined = {
        one
        for one in vars(errors).values()
        if isinstance(one, type) and issubclass(one, LlmspellError)
    }
    assert defined - {type(one) for one in EVERY} == {LlmspellError, errors.HookError}


@pytest.mark.parametrize("error", EVERY, ids=lambda error: type(error).__name__)
def test_errors_cross_processes_whole(error: LlmspellError) -> None:
    """Pickled or copied, an error keeps its class, its message and what it knows."""
    error.add_note("seen by a worker")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)
