"""Decisions of hooks, and changes of their breakers, as events for whoever listens.

`hook:modified`, `hook:cancelled`, `hook:redirected`, `hook:replaced`, `hook:retry`,
`hook:forked`, `hook:cached`, `hook:skipped`, `hook:error`, `hook:breaker_opened` and
`hook:breaker_closed`. Nothing is made while nobody wants it.
"""

from typing import Any, Final

from llmspell_otel.events import make
from llmspell_otel.hooks.asking import observers
from llmspell_otel.hooks.context import HookContext
from llmspell_otel.hooks.registry import Registration, breaker_listeners
from llmspell_otel.hooks.results import Cache, Cancel, Fork, Redirect, Result, Retry, Skipped
from llmspell_otel.operations.ports import ports

_WORDS: Final = {
    "modified": "hook:modified",
    "cancel": "hook:cancelled",
    "redirect": "hook:redirected",
    "replace": "hook:replaced",
    "retry": "hook:retry",
    "fork": "hook:forked",
    "cache": "hook:cached",
    "skipped": "hook:skipped",
}
_BREAKERS: Final = {
    "open": "hook:breaker_opened",
    "forced_open": "hook:breaker_opened",
    "closed": "hook:breaker_closed",
}


def told(
    hook: Registration, context: HookContext, result: Result | None, error: BaseException | None
) -> None:
    """Publish what *hook* answered, or that it failed."""
    event_type = "hook:error" if result is None else _WORDS[result.kind]
    # The points of events are fired by publishing: an event about those would have no end.
    if not ports.bus.wants(event_type) or context.point.spelling.startswith("event:"):
        return
    data = {
        "hook": hook.name,
        "hook_id": hook.id,
        "hook_point": context.point.spelling,
        "component": {"type": context.component.type, "name": context.component.name},
        "attempt": context.attempt,
    }
    data |= _facts_of(result) if error is None else {"error_type": type(error).__name__}
    event = make(
        event_type,
        data,
        correlation_id=context.correlation_id,
        traceparent=context.traceparent,
        source=f"hook:{hook.name}",
        language=hook.language,
    )
    ports.bus.publish(event)


def _facts_of(result: Result | None) -> dict[str, Any]:
    """What an event says of *result*: nothing that may hold what a model was told."""
    match result:
        case Cancel(reason) | Skipped(reason):
            return {"reason": reason}
        case Retry():
            facts = {"delay_ms": result.delay * 1000, "max_attempts": result.max_attempts}
            return facts | ({"reason": result.reason} if result.reason else {})
        case Cache():
            return {"key": result.key, "ttl_seconds": result.ttl}
        case Fork(operations):
            return {"branches": len(operations)}
        case Redirect(target):
            return {"target": target if isinstance(target, str) else "a callable"}
        case _:
            return {}


def breaker_changed(hook: Registration, _old: str, new: str, reason: str) -> None:
    """Publish that the breaker of *hook* opened or closed."""
    event_type = _BREAKERS.get(new)
    if event_type is None or not ports.bus.wants(event_type):
        return
    point = hook.point.spelling if hook.point is not None else None
    data = {"hook": hook.name, "hook_id": hook.id, "hook_point": point, "reason": reason}
    ports.bus.publish(make(event_type, data, source=f"hook:{hook.name}", language=hook.language))


def connect() -> None:
    """Have the engine tell of its decisions here; doing it twice is doing it once."""
    observers.told = told
    if breaker_changed not in breaker_listeners:
        breaker_listeners.append(breaker_changed)
