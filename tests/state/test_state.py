"""State by scope and key: both back ends, the six points, conflicts, migrations."""

import asyncio
import multiprocessing
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmspell_otel import Cancel, Event, Modified, OperationCancelled, Replace
from llmspell_otel.errors import StateConflictError, StateError
from llmspell_otel.state import MISSING, MemoryBackend, SqliteBackend, State

POINTS = (
    "BeforeStateRead",
    "AfterStateRead",
    "BeforeStateWrite",
    "AfterStateWrite",
    "StateConflict",
    "StateMigration",
)


@pytest.fixture(params=["memory", "sqlite"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[State]:
    """A store on either back end: everything here holds for both."""
    if request.param == "memory":
        yield State(MemoryBackend())
        return
    backend = SqliteBackend(tmp_path / "state.db")
    yield State(backend)
    backend.close()


def test_values_are_kept_by_scope_and_key(state: State) -> None:
    """Get, set, delete and list; what is got is a copy."""
    value = {"a": [1, None, "ü"]}
    state.set("user:ann", "profile", value)
    value["a"].clear()
    assert state.get("user:ann", "profile") == {"a": [1, None, "ü"]}
    assert state.get("user:bob", "profile", "none") == "none"
    state.set("user:ann", "prefs", 1)
    state.set("global", "prefs", 2)
    assert state.list("user:ann") == ["prefs", "profile"]
    assert state.list("user:ann", "pro") == ["profile"]
    assert state.delete("user:ann", "prefs")
    assert not state.delete("user:ann", "prefs")
    assert state.get("global", "prefs") == 2


def test_the_asynchronous_twins(state: State) -> None:
    """The same, awaited."""

    async def main() -> None:
        await state.set_async("tool:search", "n", 1)
        await state.compare_and_set_async("tool:search", "n", 1, 2)
        assert await state.get_async("tool:search", "n") == 2
        assert await state.list_async("tool:search") == ["n"]
        assert await state.delete_async("tool:search", "n")

    asyncio.run(main())


@pytest.mark.parametrize("scope", ["", "galaxy", "user", "user:", "global:x", "planet:x"])
def test_unknown_scopes_are_refused(state: State, scope: str) -> None:
    """With the scopes that there are."""
    with pytest.raises(StateError, match="use global, user:ID, session:ID"):
        state.get(scope, "k")


def test_only_json_is_kept(state: State) -> None:
    """A value that would not come back is refused."""
    with pytest.raises(StateError, match="is not JSON"):
        state.set("global", "k", object())


def test_reads_and_writes_fire_their_points(state: State, seen: Any) -> None:
    """Once each, with the documented keys."""
    seen.watch(*POINTS)
    state.set("agent:desk", "k", 1)
    state.get("agent:desk", "k")
    assert seen.names == [
        "BeforeStateWrite",
        "AfterStateWrite",
        "BeforeStateRead",
        "AfterStateRead",
    ]
    where = {"scope": "agent:desk", "key": "k"}
    assert [context.data for context in seen] == [
        {**where, "input": 1},
        {**where, "input": 1},
        where,
        {**where, "output": 1},
    ]
    assert seen[0].component.name == "agent:desk"
    assert seen[0].metadata["operation_type"] == "set"
    seen.clear()
    state.delete("agent:desk", "k")
    state.list("agent:desk")
    assert [context.metadata["operation_type"] for context in seen] == [
        "delete",
        "delete",
        "list",
        "list",
    ]


def test_answers_have_effect(state: State, hook: Any) -> None:
    """Cancel refuses, Replace answers in its stead, Modified changes value and key."""
    state.set("global", "k", 1)
    calls = {
        "BeforeStateRead": lambda: state.get("global", "k"),
        "AfterStateRead": lambda: state.get("global", "k"),
        "BeforeStateWrite": lambda: state.set("global", "k", 2),
    }
    for point, call in calls.items():
        handle = hook(point, lambda _: Cancel("closed"))
        with pytest.raises(OperationCancelled, match="closed"):
            call()
        handle.unregister()
    assert state.get("global", "k") == 1
    handle = hook("state:before_read", lambda _: Replace("cached"))
    assert state.get("global", "k") == "cached"
    handle.unregister()
    handle = hook("state:after_read", lambda c: Modified({"output": c.output + 1}))
    assert state.get("global", "k") == 2
    handle.unregister()
    handle = hook("state:before_write", lambda _: Modified({"input": "masked", "key": "other"}))
    state.set("global", "k", "secret")
    handle.unregister()
    assert (state.get("global", "k"), state.get("global", "other")) == (1, "masked")
    handle = hook("state:before_write", lambda _: Replace(None))
    state.set("global", "k", 9)
    assert not state.delete("global", "k")
    handle.unregister()
    assert state.get("global", "k") == 1


def test_a_conflict_is_real(state: State, seen: Any) -> None:
    """What is there decides; the point is told what was expected and what was found."""
    seen.watch("StateConflict")
    state.compare_and_set("global", "k", MISSING, 1)
    state.compare_and_set("global", "k", 1, 2)
    with pytest.raises(StateConflictError, match="read it and try again"):
        state.compare_and_set("global", "k", 1, 3)
    with pytest.raises(StateConflictError):
        state.compare_and_set("global", "k", MISSING, 3)
    assert state.get("global", "k") == 2
    assert [context.data for context in seen] == [
        {"scope": "global", "key": "k", "expected": 1, "found": 2},
        {"scope": "global", "key": "k", "expected": None, "found": 2},
    ]


def test_two_writers_between_read_and_write(state: State, hook: Any) -> None:
    """Whoever writes while a compare-and-set is under way makes it fail, not vanish."""
    state.set("global", "k", 1)
    own = state.backend.write
    raced = []

    def racing(*args: Any) -> int | None:
        if not raced:
            raced.append(True)
            own("global", "k", b"7", 1, None)
        return own(*args)

    state.backend.write = racing  # type: ignore[method-assign] # a writer in between
    with pytest.raises(StateConflictError):
        state.compare_and_set("global", "k", 1, 2)
    assert state.get("global", "k") == 7


def test_updates_from_threads_are_all_counted(state: State) -> None:
    """`update` tries again: no increment is lost."""

    def work() -> None:
        for _ in range(25):
            while True:
                try:
                    state.update("global", "n", lambda n: n + 1, 0)
                    break
                except StateConflictError:
                    continue

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert state.get("global", "n") == 100


def _count(path: str) -> None:
    state = State(SqliteBackend(path))
    for _ in range(50):
        state.update("global", "n", lambda n: n + 1, 0)


def test_processes_share_a_file(tmp_path: Path) -> None:
    """Two processes count in one file, and a third reads what they left."""
    path = str(tmp_path / "state.db")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_count, args=(path,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    backend = SqliteBackend(path)
    assert State(backend).get("global", "n") == 100
    backend.close()


def test_old_values_are_migrated_once(state: State, seen: Any) -> None:
    """Step by step, told once for each value, and written back."""
    state.set("user:ann", "name", "Ann Lee")
    seen.watch("StateMigration")
    migrations = {1: str.split, 2: lambda parts: {"first": parts[0], "last": parts[1]}}
    newer = State(state.backend, version=3, migrations=migrations)
    assert newer.get("user:ann", "name") == {"first": "Ann", "last": "Lee"}
    assert newer.get("user:ann", "name") == {"first": "Ann", "last": "Lee"}
    assert [context.data for context in seen] == [{"from_version": 1, "to_version": 3}]
    assert seen[0].metadata["key"] == "name"
    with pytest.raises(StateError, match="schema version 3"):
        state.get("user:ann", "name")
    state.set("user:ann", "name", "again")
    with pytest.raises(StateError, match="migrations"):
        State(state.backend, version=2).get("user:ann", "name")


def test_changes_are_events_without_values(state: State) -> None:
    """`state.changed` says where and how often, not what."""
    told: list[Any] = []
    with Event.subscribe("state.changed", lambda event: told.append(event.data)):
        state.set("global", "k", "secret")
        state.delete("global", "k")
        state.delete("global", "k")
    assert told == [
        {"scope": "global", "key": "k", "operation": "set", "revision": 1},
        {"scope": "global", "key": "k", "operation": "delete", "revision": 0},
    ]
