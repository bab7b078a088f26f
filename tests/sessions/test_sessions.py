"""Sessions: start and end, conversation ids, state with checkpoints."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from llmspell_otel import Cancel, Event, OperationCancelled, agent, tool
from llmspell_otel.errors import StateError
from llmspell_otel.sessions import adopted, current_session, session
from llmspell_otel.state import SqliteBackend, State
from llmspell_otel.telemetry import semconv

POINTS = ("SessionStart", "SessionEnd", "SessionCheckpoint", "SessionRestore")


@tool
def look_inside() -> None:
    """Do nothing."""


@agent
def talker() -> None:
    """Use the tool."""
    look_inside()


def conversations(work: Any) -> list[Any]:
    """The conversation ids of the operations of *work*."""
    told: list[Any] = []
    with Event.subscribe("*.execution_complete", lambda event: told.append(event.data)):
        work()
    return [each["attributes"].get(semconv.CONVERSATION_ID) for each in told]


def test_a_session_begins_and_ends_once(seen: Any) -> None:
    """With its id, also when its work fails."""
    seen.watch(*POINTS)
    with session("s-1", metadata={"plan": "pro"}) as mine:
        assert current_session() is mine
        with session():
            assert current_session() is not mine
        assert current_session() is mine
    assert current_session() is None
    assert seen.names == ["SessionStart", "SessionStart", "SessionEnd", "SessionEnd"]
    assert seen[0].data == {"session_id": "s-1"}
    assert seen[0].metadata == {"plan": "pro"}
    assert seen[-1].metadata["outcome"] == "ok"
    with pytest.raises(KeyError), session("s-2"):
        raise KeyError
    assert seen[-1].metadata["outcome"] == "KeyError"


def test_operations_inside_belong_to_the_conversation() -> None:
    """Where the application named it; a made-up id is not claimed to be a conversation."""
    with session("chat-7"):
        assert conversations(talker) == ["chat-7", "chat-7"]
    with session():
        assert conversations(talker) == [None, None]
    assert conversations(talker) == [None, None]


def test_a_hook_may_refuse_a_session(hook: Any) -> None:
    """Then nothing of it happens; its end cannot be refused."""
    handle = hook("session:end", lambda _: Cancel("no"))
    with session("s-1"):
        pass
    handle.unregister()
    hook("session:start", lambda _: Cancel("maintenance"))
    with pytest.raises(OperationCancelled, match="maintenance"), session("s-1"):
        pytest.fail("it must not begin")
    assert current_session() is None


def test_checkpoints_survive_the_process(seen: Any, tmp_path: Path) -> None:
    """State goes back to what it was; what was added is gone, the checkpoint stays."""
    seen.watch("SessionCheckpoint", "SessionRestore")
    backend = SqliteBackend(tmp_path / "s.db")
    with session("s-1", state=State(backend)) as mine:
        mine.set("step", 1)
        taken = mine.checkpoint("first")
        assert taken.values == {"step": 1}
        mine.set("step", 2)
        mine.set("more", True)
    backend.close()
    again = SqliteBackend(tmp_path / "s.db")
    with session("s-1", state=State(again)) as mine:
        for _ in range(2):
            restored = mine.restore("first")
            assert restored.id == taken.id
            assert mine.get("step") == 1
            assert mine.get("more") is None
            mine.set("step", 5)
        with pytest.raises(StateError, match="checkpoint 'second' of session 's-1' is not there"):
            mine.restore("second")
    again.close()
    assert seen.names == ["SessionCheckpoint", "SessionRestore", "SessionRestore"]
    assert seen[0].data["session_id"] == "s-1"
    assert seen[0].data["checkpoint"] == taken.record()


def test_asynchronous_sessions() -> None:
    """Tasks have their own."""

    async def one(name: str) -> Any:
        async with session(name) as mine:
            await mine.set_async("k", name)
            await mine.checkpoint_async("c")
            await asyncio.sleep(0.01)
            await mine.set_async("k", "other")
            await mine.restore_async("c")
            inside = current_session()
            assert inside is mine
            return await mine.get_async("k")

    async def main() -> None:
        assert await asyncio.gather(one("a"), one("b")) == ["a", "b"]

    asyncio.run(main())


def test_a_librarys_session_is_adopted_once(seen: Any) -> None:
    """Unless the application opened it already."""

    async def main() -> None:
        async with adopted(None):
            assert current_session() is None
        async with adopted("s-1"):
            async with adopted("s-1"):
                pass
            async with adopted("s-2"):
                pass

    seen.watch("SessionStart")
    asyncio.run(main())
    assert [context.data["session_id"] for context in seen] == ["s-1", "s-2"]
