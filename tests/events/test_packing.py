"""Events as chunks of JSON: the round trip, and bounds of time and memory."""

import json
import time
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspell_otel.events import UniversalEvent, make
from llmspell_otel.events.codec import decode
from llmspell_otel.events.store import keys
from llmspell_otel.events.store.packing import pack
from tests.events.test_event import JSON

LIMIT = 1_048_576


def chunks(events: list[UniversalEvent], limit: int = LIMIT) -> list[tuple[bytes, int]]:
    """All *events*, packed with room for everything."""
    return [(bytes(chunk), count) for chunk, count in pack(events, limit, 1 << 40, watched=True)]


def back(events: list[UniversalEvent], limit: int = LIMIT) -> list[UniversalEvent]:
    """What is read of *events* that were packed into a block."""
    body = b"\n".join(chunk for chunk, _ in chunks(events, limit))
    assert [key for key, _ in keys.keyed(body)] == keys.keys(body)
    return [decode(line) for _, line in keys.keyed(body)]


@given(st.lists(st.tuples(JSON, st.sampled_from([None, {"later": 1}])), min_size=1, max_size=5))
def test_a_block_gives_its_events_back(given: list[tuple[Any, dict[str, Any] | None]]) -> None:
    """Whatever they hold, odd ones among them."""
    events = [make("a.b", data, "run", extra=extra) for data, extra in given]
    assert back(events) == events


def test_usual_events_are_one_chunk() -> None:
    """Written at once."""
    events = [make("a", {"n": n, "text": "ü" * 500}, tags=("x",)) for n in range(64)]
    assert [count for _, count in chunks(events)] == [64]
    assert back(events) == events


@pytest.mark.parametrize(
    "odd",
    [
        make("a", "\ud800"),
        make("\ud800"),
        make("a", extra={"colour": "red"}),
        make("a", 10**5_000),
        make("a", {(1, 2): 3}),
        make("a", [{"n": 1}, {"event_type": "a"}]),
        make("a", ["}]\n[{", '},{"event_type":']),
        make("a", {"x": {}, "y": [[{}, {"event_type": 1}]]}, given_id="\udfff"),
        make("a", "x" * 2 * LIMIT),
    ],
    ids=["surrogate", "type", "later", "integer", "key", "like two", "ends", "id", "long"],
)
def test_an_odd_event_leaves_its_batch_alone(odd: UniversalEvent) -> None:
    """The others are read as they were, and it is among them, in its place."""
    others = [make("b", n) for n in range(6)]
    found = back([*others[:3], odd, *others[3:]])
    assert found[:3] + found[4:] == others
    assert found[3].sequence == odd.sequence


def test_what_is_no_event_is_left_out() -> None:
    """In a log that something else has written to, the others of the line are read."""
    [(line, _)] = chunks([make("a", 1), make("a", 2)])
    body = b"\n".join([line, b'[{"event_type":7},' + line[1:], b"[7]", b"nothing", line])
    assert [decode(text).data for _, text in keys.keyed(body)] == [1, 2] * 3
    assert len(keys.keys(body)) == 6


class Hostile(dict[str, Any]):
    """Raises when it is looked into."""

    def __len__(self) -> int:
        raise ValueError

    def items(self) -> Any:
        """No."""
        raise ValueError

    values = items  # type: ignore[assignment]


@pytest.mark.parametrize("data", [object(), Hostile(a=1), {"deep": [Hostile(b=2)]}])
def test_what_cannot_be_read_becomes_a_marker(data: Any) -> None:
    """Its batch is read as it was."""
    others = [make("b", n) for n in range(4)]
    *found, last = back([*others, make("a", data)])
    assert found == others
    assert last.event_type == "a"


def test_dates_and_numbers_are_written_as_text() -> None:
    """As by the encoder of the outside."""
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    [found, _] = back([make("a", {"at": moment, "raw": b"\x00"}), make("b")])
    assert found.data == {"at": "2026-01-02T00:00:00Z", "raw": "AA=="}


def cycle() -> list[Any]:
    """A list that holds itself."""
    it: list[Any] = []
    it.append([it])
    return it


def deep(levels: int) -> Any:
    """A list in a list in a list."""
    it: Any = "bottom"
    for _ in range(levels):
        it = [it]
    return it


KEY = "a key of three bytes"
HUGE = {
    "ascii": lambda: "x" * 100_000_000,
    "two bytes": lambda: "é" * 100_000_000,
    "three bytes": lambda: "中" * 100_000_000,
    "four bytes": lambda: "😀" * 50_000_000,
    "a key": lambda: {"k" * 10_000_000: 1},
    KEY: lambda: {"中" * 10_000_000: 1},
    "raw bytes": lambda: [memoryview(bytes(100_000_000))],
    "escapes": lambda: "\0" * LIMIT,
    "a surrogate": lambda: "x" * 10_000_000 + "\ud800",
    "deep down": lambda: {"a": [{"b": ("é" * 100_000_000,)}]},
    "a cycle": cycle,
    "many levels": lambda: deep(10_000),
}


@pytest.mark.parametrize(
    ("kind", "others"),
    [(kind, others) for kind in HUGE for others in (0, 63) if (kind, others) != (KEY, 63)],
)
def test_huge_data_costs_little_time_and_memory(kind: str, others: int) -> None:
    """Cut with a marker in some milliseconds and twice the limit, alone and among others.

    But for a key of megabytes that is not ASCII: among others it costs what its conversion does.
    """

    def batch() -> list[UniversalEvent]:
        return [*(make("b", n) for n in range(others)), make("a", HUGE[kind]())]

    def spent() -> float:
        events = batch()
        began = time.thread_time()
        chunks(events)
        return time.thread_time() - began

    # A few milliseconds of a machine that does nothing else; it would be some hundred.
    assert min(spent() for _ in range(3)) < 0.05
    events = batch()
    tracemalloc.start()
    found = chunks(events)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2.5 * LIMIT + sum(len(chunk) for chunk, _ in found)  # `chunks` copies them
    last = back(events)[-1]
    assert len(json.dumps(last.data, ensure_ascii=False).encode()) <= LIMIT + 4_096
    assert "<" in json.dumps(last.data)


def test_the_limit_is_in_bytes() -> None:
    """What takes no more is whole; what takes more is cut, whatever characters it is of."""
    for text in ("x" * 10_000, "é" * 5_000, "中" * 3_333, "😀" * 2_500):
        assert [event.data for event in back([make("a", text)], 10_100)] == [text]
        [cut] = back([make("a", text * 2)], 10_100)
        assert cut.data.endswith("<truncated>")
        assert 2_000 < len(cut.data.encode()) < 10_100


def counted(events: list[UniversalEvent]) -> Iterator[int]:
    """The sizes of the chunks of *events*, of which few have room together."""
    for chunk, count in pack(events, LIMIT, 300, watched=False):
        assert count == 1 or len(chunk) <= 300
        yield count


def test_a_batch_without_room_is_written_one_by_one() -> None:
    """So that what waits is bounded to the byte."""
    assert list(counted([make("a", "x" * 100) for _ in range(5)])) == [1] * 5
    assert list(counted([make("a", 1)])) == [1]
