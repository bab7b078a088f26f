"""Every test of built-in hooks starts without any hook, and leaves none."""

from collections.abc import Iterator

import pytest

from llmspell_otel.builtin import disable_all
from llmspell_otel.hooks.registry import registry


@pytest.fixture(autouse=True)
def no_builtin_left() -> Iterator[None]:
    """Take out what a test registered."""
    disable_all()
    registry.clear()
    yield
    disable_all()
    registry.clear()
