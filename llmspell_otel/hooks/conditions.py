"""What every firing shares; the settings change it."""

from dataclasses import dataclass
from typing import Final

from llmspell_otel.hooks.store import MemoryStore, Store

DEFAULT_TIMEOUT: Final = 1.0
"""Seconds an asynchronous hook may take when it did not say."""


@dataclass(slots=True)
class Conditions:
    """The time asynchronous hooks are given, in seconds, and where outputs are cached."""

    timeout: float
    store: Store


conditions: Final = Conditions(timeout=DEFAULT_TIMEOUT, store=MemoryStore())
