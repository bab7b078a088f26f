"""State that hooks can watch and steer: values by scope and key, in memory or in SQLite."""

from llmspell_otel.hooks.store import MISSING
from llmspell_otel.state.backends import Backend, MemoryBackend, Row, SqliteBackend
from llmspell_otel.state.store import SCOPES, State

__all__ = ["MISSING", "SCOPES", "Backend", "MemoryBackend", "Row", "SqliteBackend", "State"]
