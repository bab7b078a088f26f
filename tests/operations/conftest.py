"""Every test here starts without hooks, and leaves none."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llmspell_otel.hooks import Hook, HookContext
from llmspell_otel.hooks.registry import registry


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
def no_hooks_left() -> Iterator[None]:
    """Take out what a test registered."""
    registry.clear()
    yield
    registry.clear()


@pytest.fixture
def seen() -> Seen:
    """Notes firings: `seen.watch("BeforeAgentInit")`."""
    return Seen()


@pytest.fixture
def hook() -> Callable[[str, Callable[[Any], Any]], Any]:
    """Register a hook: `hook("tool:validation", function)`."""
    return Hook.register
