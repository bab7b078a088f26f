"""Sessions: a stretch of work that belongs together, with state of its own.

```python
with session("user-42", state=state) as current:
    agent("hello")                  # its spans carry gen_ai.conversation.id = user-42
    current.checkpoint("greeted")   # restore("greeted") brings the session's state back
```
"""

import contextlib
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, Self

import msgspec

from llmspell_otel.errors import OperationCancelled, StateError
from llmspell_otel.events.ids import uuid7
from llmspell_otel.hooks.context import Component
from llmspell_otel.hooks.driving import Flow, drive, drive_async
from llmspell_otel.hooks.notices import noticed, told
from llmspell_otel.hooks.registry import Slot, registry
from llmspell_otel.hooks.results import Cancel
from llmspell_otel.operations.operation import conversation, current
from llmspell_otel.state import Row, State

START: Final = registry.slot("SessionStart")
END: Final = registry.slot("SessionEnd")
CHECKPOINT: Final = registry.slot("SessionCheckpoint")
RESTORE: Final = registry.slot("SessionRestore")

_KEPT: Final = "checkpoint:"
"""Keys of checkpoints begin with it, in the session's own scope."""

_session: ContextVar["Session | None"] = ContextVar("llmspell_session", default=None)


@dataclass(frozen=True, slots=True)
class SessionCheckpoint:
    """What a session's state was."""

    label: str
    values: Mapping[str, Any]
    id: str = field(default_factory=uuid7)

    def record(self) -> dict[str, Any]:
        """As a plain mapping."""
        return {"id": self.id, "label": self.label, "values": dict(self.values)}


class Session:
    """One session; a context manager in both worlds. Sessions may nest, the inner one counts.

    Args:
        session_id: The application's own name for it, which becomes `gen_ai.conversation.id` of
            the operations inside. Without one an id is made, and no conversation is claimed.
        state: Where the session's state is kept; a store in memory if None.
        metadata: What hooks of the session are told beside.
    """

    def __init__(
        self,
        session_id: str | None = None,
        *,
        state: State | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.id = session_id or uuid7()
        self.named = session_id is not None
        self.store = state or State()
        self.metadata = dict(metadata or {})
        self.scope = f"session:{self.id}"
        self._outer: list[tuple[Session | None, str | None]] = []

    # -- its own state

    def get(self, key: str, default: Any = None) -> Any:
        """A value of the session's state."""
        return self.store.get(self.scope, key, default)

    def set(self, key: str, value: Any) -> None:
        """Put a value into the session's state."""
        self.store.set(self.scope, key, value)

    async def get_async(self, key: str, default: Any = None) -> Any:
        """As `get`."""
        return await self.store.get_async(self.scope, key, default)

    async def set_async(self, key: str, value: Any) -> None:
        """As `set`."""
        await self.store.set_async(self.scope, key, value)

    # -- checkpoints

    def checkpoint(self, label: str) -> SessionCheckpoint:
        """Keep the session's state under *label*, in the same store.

        Raises:
            OperationCancelled: a hook refused it.
        """
        return drive(self._checkpoint(label))

    async def checkpoint_async(self, label: str) -> SessionCheckpoint:
        """As `checkpoint`."""
        return await drive_async(self._checkpoint(label))

    def restore(self, label: str) -> SessionCheckpoint:
        """Bring the session's state back to what it was at *label*, in this process or an earlier.

        Raises:
            StateError: there is no such checkpoint.
            OperationCancelled: a hook refused it.
        """
        return drive(self._restore(label))

    async def restore_async(self, label: str) -> SessionCheckpoint:
        """As `restore`."""
        return await drive_async(self._restore(label))

    def _checkpoint(self, label: str) -> Flow[SessionCheckpoint]:
        rows = yield self.store.asking(lambda backend: backend.rows(self.scope))
        rows = {key: row for key, row in rows.items() if not key.startswith(_KEPT)}
        taken = SessionCheckpoint(label, _values(rows))
        yield from self._tell(CHECKPOINT, {"checkpoint": taken.record()})
        kept = {key: [row.data.decode(), row.version] for key, row in rows.items()}
        encoded = msgspec.json.encode({"id": taken.id, "rows": kept})
        yield self.store.asking(
            lambda backend: backend.write(
                self.scope, f"{_KEPT}{label}", encoded, self.store.version, None
            )
        )
        return taken

    def _restore(self, label: str) -> Flow[SessionCheckpoint]:
        row: Row | None = yield self.store.asking(
            lambda backend: backend.read(self.scope, f"{_KEPT}{label}")
        )
        if row is None:
            mend = "take one with checkpoint()"
            raise StateError(f"checkpoint {label!r} of session {self.id!r}", "is not there", mend)
        kept = msgspec.json.decode(row.data)
        rows = {
            key: Row(data.encode(), 1, version) for key, (data, version) in kept["rows"].items()
        }
        found = SessionCheckpoint(label, _values(rows), kept["id"])
        yield from self._tell(RESTORE, {"checkpoint": found.record()})
        yield self.store.asking(lambda backend: backend.replace(self.scope, rows, _KEPT))
        return found

    # -- beginning and ending

    def _tell(self, slot: Slot, data: Mapping[str, Any], **more: Any) -> Flow[None]:
        if not told(slot):
            return
        said = {"session_id": self.id}
        result = yield from noticed(
            slot,
            Component("session", self.id),
            {**said, **data},
            {**self.metadata, **more},
            operation=current.get(),
            facts=said,
        )
        if isinstance(result, Cancel) and slot is not END:
            raise OperationCancelled(result.reason, kind="session", name=self.id)

    def _enter(self) -> None:
        self._outer.append((_session.get(), conversation.get()))
        _session.set(self)
        if self.named:
            conversation.set(self.id)

    def _leave(self) -> None:
        outer, spoken = self._outer.pop()
        _session.set(outer)
        conversation.set(spoken)

    def _ended(self, error: BaseException | None) -> Flow[None]:
        outcome = "ok" if error is None else type(error).__name__
        return self._tell(END, {}, outcome=outcome)

    def __enter__(self) -> Self:
        drive(self._tell(START, {}))
        self._enter()
        return self

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        try:
            drive(self._ended(error))
        finally:
            self._leave()

    async def __aenter__(self) -> Self:
        await drive_async(self._tell(START, {}))
        self._enter()
        return self

    async def __aexit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        try:
            await drive_async(self._ended(error))
        finally:
            self._leave()


session = Session
"""``with session("user-42"):``, or ``async with``."""


def current_session() -> Session | None:
    """The session that the running code is part of."""
    return _session.get()


def adopted(session_id: str | None) -> contextlib.AbstractAsyncContextManager[Any]:
    """The session of a library that keeps its own; nothing if we are in it already."""
    inside = _session.get()
    if session_id is None or (inside is not None and inside.id == session_id):
        return contextlib.nullcontext()
    return Session(session_id)


def _values(rows: Mapping[str, Row]) -> dict[str, Any]:
    return {key: msgspec.json.decode(row.data) for key, row in rows.items()}
