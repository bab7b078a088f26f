"""Where operations become current: in whatever runtime context the program has."""

from contextvars import ContextVar

import pytest
from opentelemetry import context as context_api
from opentelemetry.context import Context

from llmspell_otel.operations import present


class Stack:
    """A runtime context of another make, which is no context variable and hands out no tokens."""

    def __init__(self) -> None:
        self.contexts = [Context()]

    def attach(self, context: Context) -> int:
        """Put *context* on top."""
        self.contexts.append(context)
        return len(self.contexts) - 1

    def get_current(self) -> Context:
        """The one on top."""
        return self.contexts[-1]

    def detach(self, token: int) -> None:
        """Take it off again, and all above it."""
        del self.contexts[token:]


def test_the_standard_runtime_is_the_variable_itself() -> None:
    """What is set there is what the API gives, and the other way round."""
    assert isinstance(present.present, ContextVar)
    before = context_api.get_current()
    present.present.set(Context({"mark": 1}))
    assert context_api.get_value("mark") == 1
    context_api.attach(before)
    assert present.present.get() is before


def test_another_runtime_is_used_through_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known of it but what the API promises; to look leaves no trace."""
    runtime = Stack()
    monkeypatch.setattr(context_api, "_RUNTIME_CONTEXT", runtime)
    found = present._shortest()
    assert len(runtime.contexts) == 1
    found.set(Context({"mark": 1}))
    assert runtime.contexts[-1] == {"mark": 1} == found.get()
