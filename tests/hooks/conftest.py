"""Every test of hooks starts without any, and leaves none."""

from collections.abc import Iterator

import pytest

from llmspell_otel.hooks.conditions import DEFAULT_TIMEOUT, conditions
from llmspell_otel.hooks.registry import registry
from llmspell_otel.hooks.store import MemoryStore


@pytest.fixture(autouse=True)
def no_hooks_left() -> Iterator[None]:
    """Take out what a test registered."""
    registry.clear()
    conditions.store = MemoryStore()
    yield
    registry.clear()
    conditions.store, conditions.timeout = MemoryStore(), DEFAULT_TIMEOUT
