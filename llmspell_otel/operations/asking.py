"""What hooks are shown of an operation, and what they may change in it."""

import functools
from typing import Any

from llmspell_otel.hooks.context import Component, HookContext
from llmspell_otel.hooks.store import MISSING
from llmspell_otel.operations.operation import Operation
from llmspell_otel.points import Moment


@functools.lru_cache(4096)
def component_of(kind: str, name: str) -> Component:
    """Who is at work."""
    return Component(kind, name)


def hook_context(operation: Operation, moment: Moment) -> HookContext:
    """What hooks are given at *moment*."""
    data: dict[str, Any] = {"input": dict(operation.input)}
    if operation.forks:
        data["forks"] = list(operation.forks)
    if moment is Moment.ERROR:
        data["error"] = operation.error
    elif operation.output is not MISSING:
        data["output"] = operation.output
    context = HookContext(
        point=operation.moments.at(moment).point,
        component=component_of(operation.moments.kind, operation.name),
        data=data,
        metadata={
            "operation": operation.span,
            "attempt": operation.attempts,
            **(operation.details or {}),
        },
        operation=operation,
        parent=operation.contexts,
        decisions=operation.decisions,
    )
    if operation.contexts is None:
        operation.run.trails.append(operation.decisions)
    if moment is not Moment.CHUNK:  # a long stream must not become a long chain
        operation.contexts = context
    return context


def past_changing(operation: Operation, moment: Moment) -> bool:
    """Whether hooks can only look: the output is handed over, or the program is stopping."""
    return operation.handed_over or (
        moment is Moment.ERROR and not isinstance(operation.error, Exception)
    )


def take_error(operation: Operation, changed: Any) -> None:
    """Raise another error than the call did, or tell more about it."""
    if isinstance(changed, BaseException):
        operation.error = changed
    elif operation.error is not None:
        operation.error.add_note(str(changed))
