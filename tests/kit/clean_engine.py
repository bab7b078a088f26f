"""Fixtures for tests of the engine: nothing registered before, nothing left after."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llmspell_otel.events import UniversalEvent, default_bus
from llmspell_otel.hooks import Hook, HookContext
from llmspell_otel.hooks.conditions import DEFAULT_TIMEOUT, conditions
from llmspell_otel.hooks.registry import registry
from llmspell_otel.hooks.store import MemoryStore


class Seen(list[HookContext]):
    """The contexts that hooks were given, in order."""

    def watch(self, *points: str) -> None:
        """Have every firing of *points* noted."""
        for point in points:
            Hook.register(point, self.append)

    @property
    def names(self) -> list[str]:
        """The points that were fired, in order."""
        return [context.point.name for context in self]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Take out what a test registered."""
    registry.clear()
    conditions.store = MemoryStore()
    before = set(default_bus().subscriptions())
    yield
    for subscription in set(default_bus().subscriptions()) - before:
        subscription.unsubscribe()
    registry.clear()
    conditions.store, conditions.timeout = MemoryStore(), DEFAULT_TIMEOUT


@pytest.fixture
def events() -> list[UniversalEvent]:
    """Everything that operations publish, in order."""
    heard: list[Any] = []
    kinds = ("agent:execution*", "tool:*", "workflow:*", "stage:*", "model:*")
    default_bus().subscribe(kinds, heard.append)
    return heard


@pytest.fixture
def seen() -> Seen:
    """Notes firings: `seen.watch("BeforeAgentInit")`."""
    return Seen()


@pytest.fixture
def hook() -> Callable[[str, Callable[[Any], Any]], Any]:
    """Register a hook: `hook("tool:validation", function)`."""
    return Hook.register
