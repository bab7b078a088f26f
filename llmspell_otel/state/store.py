"""The store: values by scope and key, read and written past the hooks of the state points."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from llmspell_otel.errors import OperationCancelled, StateConflictError, StateError
from llmspell_otel.events import default_bus, make
from llmspell_otel.hooks.context import Component
from llmspell_otel.hooks.driving import Effect, Flow, drive, drive_async
from llmspell_otel.hooks.notices import noticed, told
from llmspell_otel.hooks.registry import Slot, registry
from llmspell_otel.hooks.results import Cancel, Replace
from llmspell_otel.hooks.store import MISSING
from llmspell_otel.operations.operation import current
from llmspell_otel.state.backends import NEW, Backend, MemoryBackend, Row

SCOPES: Final = ("global", "user", "session", "agent", "tool", "workflow", "hook")
CHANGED: Final = "state.changed"

BEFORE_READ: Final = registry.slot("BeforeStateRead")
AFTER_READ: Final = registry.slot("AfterStateRead")
BEFORE_WRITE: Final = registry.slot("BeforeStateWrite")
AFTER_WRITE: Final = registry.slot("AfterStateWrite")
CONFLICT: Final = registry.slot("StateConflict")
MIGRATION: Final = registry.slot("StateMigration")

Migration = Callable[[Any], Any]
Keys = list[str]
_ATTEMPTS: Final = 16


def scope_of(scope: str) -> str:
    """*scope*, checked: ``global``, or ``user:ID``, ``session:ID``, ``agent:ID`` and so on.

    Raises:
        StateError: it is none of the seven, or has no id.
    """
    kind, parted, name = scope.partition(":")
    if kind == "global" and not parted:
        return scope
    if kind in SCOPES[1:] and name:
        return scope
    others = ", ".join(f"{each}:ID" for each in SCOPES[1:])
    raise StateError(f"scope {scope!r}", "is not known", f"use global, {others}")


@dataclass(frozen=True, slots=True)
class _Do:
    """Asks the back end; off the event loop, where it waits for a disk."""

    backend: Backend
    call: Callable[[], Any]

    def perform(self) -> Any:
        return self.call()

    async def perform_async(self) -> Any:
        return await asyncio.to_thread(self.call) if self.backend.blocks else self.call()


class State:
    """Values by scope and key. Every method has an asynchronous twin, ``NAME_async``.

    Args:
        backend: Where they are kept; memory if None.
        version: The schema version that values are written with.
        migrations: From each earlier version, what makes a value of the next one of it.
    """

    def __init__(
        self,
        backend: Backend | None = None,
        *,
        version: int = 1,
        migrations: Mapping[int, Migration] | None = None,
    ) -> None:
        self.backend: Backend = backend or MemoryBackend()
        self.version = version
        self._migrations = dict(migrations or {})

    # -- for the application

    def get(self, scope: str, key: str, default: Any = None) -> Any:
        """The value under *key*, or *default*.

        Raises:
            OperationCancelled: a hook refused it.
            StateError: the scope is unknown, or the value cannot be migrated.
        """
        return drive(self._get(scope_of(scope), key, default))

    async def get_async(self, scope: str, key: str, default: Any = None) -> Any:
        """As `get`."""
        return await drive_async(self._get(scope_of(scope), key, default))

    def set(self, scope: str, key: str, value: Any) -> None:
        """Put *value*, which JSON must be able to hold, under *key*.

        Raises:
            OperationCancelled: a hook refused it.
            StateError: the scope is unknown, or the value is not JSON.
        """
        drive(self._set(scope_of(scope), key, value))

    async def set_async(self, scope: str, key: str, value: Any) -> None:
        """As `set`."""
        await drive_async(self._set(scope_of(scope), key, value))

    def delete(self, scope: str, key: str) -> bool:
        """Take the value out; False if it was not there."""
        return drive(self._delete(scope_of(scope), key))

    async def delete_async(self, scope: str, key: str) -> bool:
        """As `delete`."""
        return await drive_async(self._delete(scope_of(scope), key))

    def list(self, scope: str, prefix: str = "") -> Keys:
        """The keys that begin with *prefix*, in order."""
        return drive(self._list(scope_of(scope), prefix))

    async def list_async(self, scope: str, prefix: str = "") -> Keys:
        """As `list`."""
        return await drive_async(self._list(scope_of(scope), prefix))

    def compare_and_set(self, scope: str, key: str, expected: Any, value: Any) -> None:
        """Put *value* there if what is there equals *expected* (`MISSING`: nothing is).

        Raises:
            StateConflictError: something else is there; hooks of `StateConflict` were told.
        """
        drive(self._compare_and_set(scope_of(scope), key, expected, value))

    async def compare_and_set_async(self, scope: str, key: str, expected: Any, value: Any) -> None:
        """As `compare_and_set`."""
        await drive_async(self._compare_and_set(scope_of(scope), key, expected, value))

    def update(
        self, scope: str, key: str, change: Callable[[Any], Any], default: Any = None
    ) -> Any:
        """Put ``change(value)`` in the value's place, whatever others write meanwhile.

        Raises:
            StateConflictError: others were faster 16 times.
        """
        for left in range(_ATTEMPTS, 0, -1):
            found = self.get(scope, key, MISSING)
            value = change(default if found is MISSING else found)
            try:
                self.compare_and_set(scope, key, found, value)
            except StateConflictError:
                if left == 1:
                    raise
            else:
                return value
        return None

    def asking(self, call: Callable[[Backend], Any]) -> Effect:
        """The effect of *call* on the back end itself, past all hooks."""
        return _Do(self.backend, lambda: call(self.backend))

    # -- the flows

    def _get(self, scope: str, key: str, default: Any) -> Flow[Any]:
        data, result = yield from self._ask(BEFORE_READ, scope, key, "get")
        if isinstance(result, Replace):
            value = result.value
        else:
            key = data["key"]
            _, value = yield from self._read(scope, key)
            value = default if value is MISSING else value
        return (yield from self._read_out(scope, key, value, "get"))

    def _read_out(self, scope: str, key: str, value: Any, verb: str) -> Flow[Any]:
        data, result = yield from self._ask(AFTER_READ, scope, key, verb, output=value)
        return result.value if isinstance(result, Replace) else data.get("output", value)

    def _list(self, scope: str, prefix: str) -> Flow[Keys]:
        yield from self._ask(BEFORE_READ, scope, f"{prefix}*", "list")
        rows = yield _Do(self.backend, lambda: self.backend.rows(scope))
        keys = sorted(key for key in rows if key.startswith(prefix))
        return [*(yield from self._read_out(scope, f"{prefix}*", keys, "list"))]

    def _set(self, scope: str, key: str, value: Any) -> Flow[None]:
        data, result = yield from self._ask(BEFORE_WRITE, scope, key, "set", input=value)
        if isinstance(result, Replace):
            return
        key, value = data["key"], data.get("input", value)
        encoded = _encoded(key, value)
        write = self.backend.write
        revision = yield _Do(self.backend, lambda: write(scope, key, encoded, self.version, None))
        yield from self._written(scope, key, value, "set", revision)

    def _delete(self, scope: str, key: str) -> Flow[bool]:
        data, result = yield from self._ask(BEFORE_WRITE, scope, key, "delete", input=None)
        if isinstance(result, Replace):
            return False
        key = data["key"]
        gone: bool = yield _Do(self.backend, lambda: self.backend.delete(scope, key))
        if gone:
            yield from self._written(scope, key, None, "delete", 0)
        return gone

    def _compare_and_set(self, scope: str, key: str, expected: Any, value: Any) -> Flow[None]:
        verb = "compare_and_set"
        data, result = yield from self._ask(BEFORE_WRITE, scope, key, verb, input=value)
        if isinstance(result, Replace):
            return
        key, value = data["key"], data.get("input", value)
        encoded = _encoded(key, value)
        row, found = yield from self._read(scope, key)
        revision = None
        if found == expected or (found is MISSING and expected is MISSING):
            at = NEW if row is None else row.revision
            write = self.backend.write
            revision = yield _Do(self.backend, lambda: write(scope, key, encoded, self.version, at))
            if revision is None:
                _, found = yield from self._read(scope, key)
        if revision is None:
            yield from self._conflict(scope, key, expected, found)
            raise StateConflictError(scope, key)
        yield from self._written(scope, key, value, verb, revision)

    def _conflict(self, scope: str, key: str, expected: Any, found: Any) -> Flow[None]:
        if told(CONFLICT):
            data = {
                "scope": scope,
                "key": key,
                "expected": None if expected is MISSING else expected,
                "found": None if found is MISSING else found,
            }
            yield from _notice(CONFLICT, scope, key, data, "compare_and_set")

    def _read(self, scope: str, key: str) -> Flow[tuple[Row | None, Any]]:
        row: Row | None = yield _Do(self.backend, lambda: self.backend.read(scope, key))
        if row is None:
            return None, MISSING
        value = msgspec.json.decode(row.data)
        if row.version != self.version:
            return (yield from self._migrated(scope, key, row, value))
        return row, value

    def _migrated(self, scope: str, key: str, row: Row, value: Any) -> Flow[tuple[Row | None, Any]]:
        steps = range(row.version, self.version)
        missing = [each for each in steps if each not in self._migrations]
        if missing or row.version > self.version:
            raise StateError(
                f"{key!r} in {scope}", f"was written with schema version {row.version}",
                f"give the store version={row.version} or more, and migrations up to it",
            )  # fmt: skip
        for each in steps:
            value = self._migrations[each](value)
        if told(MIGRATION):
            data = {"from_version": row.version, "to_version": self.version}
            yield from _notice(MIGRATION, scope, key, data, "migrate")
        encoded, write = _encoded(key, value), self.backend.write
        yield _Do(self.backend, lambda: write(scope, key, encoded, self.version, row.revision))
        # Whoever was faster has migrated it, or written it anew.
        return (yield from self._read(scope, key))

    # -- asking and telling

    def _ask(
        self, slot: Slot, scope: str, key: str, verb: str, **more: Any
    ) -> Flow[tuple[dict[str, Any], Any]]:
        data: dict[str, Any] = {"scope": scope, "key": key, **more}
        if not told(slot):
            return data, None
        result = yield from _notice(slot, scope, key, data, verb)
        if isinstance(result, Cancel):
            raise OperationCancelled(result.reason, kind="state", name=f"{scope}/{key}")
        return data, result

    def _written(self, scope: str, key: str, value: Any, verb: str, revision: int) -> Flow[None]:
        if told(AFTER_WRITE):
            data = {"scope": scope, "key": key, "input": value}
            yield from _notice(AFTER_WRITE, scope, key, data, verb)
        if default_bus().wants(CHANGED):
            operation = current.get()
            said = {"scope": scope, "key": key, "operation": verb, "revision": revision}
            default_bus().publish(
                make(CHANGED, said, operation.correlation_id if operation else "")
            )


def _notice(slot: Slot, scope: str, key: str, data: dict[str, Any], verb: str) -> Flow[Any]:
    facts: dict[str, Any] = {name: data[name] for name in _FACTS if name in data}
    return noticed(
        slot,
        Component("state", scope),
        data,
        {"operation_type": verb, "scope": scope, "key": key},
        operation=current.get(),
        facts=facts,
    )


_FACTS: Final = ("from_version", "to_version")


def _encoded(key: str, value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError) as error:
        raise StateError(
            f"the value for {key!r}", f"is not JSON ({error})", "store what is"
        ) from None
