"""The system's own points: start, end, changed settings, passed limits, broken rules."""

import atexit
from collections.abc import Iterable, Mapping
from threading import Lock
from typing import Any, Final

from llmspell_otel.guard import guard
from llmspell_otel.hooks.context import Component, Subject
from llmspell_otel.hooks.driving import Flow
from llmspell_otel.hooks.notices import ENGINE, noticed, notify, told
from llmspell_otel.hooks.registry import Slot, registry
from llmspell_otel.hooks.results import Result

STARTUP: Final = registry.slot("SystemStartup")
SHUTDOWN: Final = registry.slot("SystemShutdown")
CHANGE: Final = registry.slot("ConfigurationChange")
LIMIT: Final = registry.slot("ResourceLimitExceeded")
VIOLATION: Final = registry.slot("SecurityViolation")


class _Life:
    """Whether the engine has started; start and end are told once each, in pairs."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._up = False

    def start(self, version: str) -> None:
        with self._lock:
            first, self._up = not self._up, True
        if first:
            atexit.register(self.stop, "exit")
            _tell(STARTUP, {"version": version})

    def stop(self, reason: str) -> None:
        with self._lock:
            last, self._up = self._up, False
        if last:
            atexit.unregister(self.stop)
            from llmspell_otel.operations.agents import end_agents

            guard.contained("ending agents", end_agents, reason)
            _tell(SHUTDOWN, {"reason": reason})


_life: Final = _Life()


def started(version: str) -> None:
    """Fire `SystemStartup`, once until `stopped`; the process's exit then fires `SystemShutdown`.

    `llmspell_otel.instrument` calls this after policies are loaded.
    """
    _life.start(version)


def stopped(reason: str = "uninstrumented") -> None:
    """End the agents whose lives are followed, then fire `SystemShutdown`, if it was started."""
    _life.stop(reason)


def configuration_changed(changed: Iterable[str], *, source: str = "settings") -> None:
    """Fire `ConfigurationChange`: the settings or policies named by *changed* are new."""
    _tell(CHANGE, {"changed": list(changed)}, {"source": source})


def limit_exceeded(
    limit: Mapping[str, Any],
    value: float,
    component: Component,
    operation: Subject | None = None,
) -> Flow[Result | None]:
    """Fire `ResourceLimitExceeded`; drive it with `hooks.driving`.

    Args:
        limit: Its ``name``, ``limit`` and ``unit``.
        value: What was measured, in that unit.
        component: Who passed it.
        operation: In which operation.
    """
    if told(LIMIT):
        data = {"limit": dict(limit), "value": value}
        return (yield from noticed(LIMIT, component, data, operation=operation))
    return None


def security_violation(
    rule: str,
    component: Component,
    *,
    detail: Mapping[str, Any] | None = None,
    operation: Subject | None = None,
) -> None:
    """Fire `SecurityViolation`: *component* broke *rule*.

    *detail* must not hold the offending content itself: hooks see it, and so do subscribers.
    """
    who = {"type": component.type, "name": component.name}
    data = {"rule": rule, "component": who, **(detail or {})}
    if told(VIOLATION):
        guard.contained(
            "telling of a violation", notify, VIOLATION, component, data, operation=operation
        )


def _tell(slot: Slot, data: dict[str, Any], metadata: Mapping[str, Any] | None = None) -> None:
    if told(slot):
        guard.contained(f"firing {slot.point}", notify, slot, ENGINE, data, metadata)
