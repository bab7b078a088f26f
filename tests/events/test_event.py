"""The event record and its JSON."""

import itertools
import json
import threading
import time
import uuid
from datetime import UTC, datetime
from time import time_ns
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspell_otel.events import EventError, UniversalEvent, ids, make
from llmspell_otel.events.codec import decode, encode, encode_short

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec=None)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec=None)), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_value_makes_the_round_trip(value: Any) -> None:
    """Big integers, "007", lone surrogates, arrays: what goes out comes back, the same."""
    event = make("a.b", value, "run", tags=("x",), ttl=1.5, priority=-1)
    assert decode(encode(event)) == event


@pytest.mark.parametrize("value", [2**70, -(2**64), "007", [[], {}], {"": None}, "\ud800", 1e300])
def test_values_that_others_mangle_survive(value: Any) -> None:
    """Each of these is lost in one bridge or another."""
    back = decode(encode(make("a", value)))
    assert back.data == value
    assert type(back.data) is type(value)


def test_an_event_knows_its_fields() -> None:
    """Metadata reads flat and nested; payload is data."""
    event = make("tool:done", {"n": 1}, "corr", "00-1-2-01", source="agent", target="tool")
    assert event.payload is event.data
    assert event.metadata.correlation_id == event.correlation_id == "corr"
    assert (event.metadata.source, event.metadata.target) == ("agent", "tool")
    assert event.metadata.traceparent == "00-1-2-01"
    assert (event.language, event.schema_version) == ("python", "1.0")
    assert hash(event) == hash(decode(encode(event)))


def test_an_event_cannot_be_changed() -> None:
    """A record is a record."""
    with pytest.raises(AttributeError):
        make("a").event_type = "b"  # type: ignore[misc]


def test_every_record_names_its_version_and_language() -> None:
    """Readers in other languages need both, though they are the usual ones."""
    written = json.loads(encode(make("a")))
    assert written["schema_version"] == "1.0"
    assert written["language"] == "python"
    assert "ttl" not in written


def test_fields_of_a_later_format_are_kept() -> None:
    """An older reader neither refuses a newer record nor loses what it does not know."""
    line = b'{"event_type":"a","schema_version":"1.7","shade":"blue","data":[1]}'
    event = decode(line)
    assert event.extra == {"shade": "blue"}
    assert event.schema_version == "1.7"
    again = json.loads(encode(event))
    assert again["shade"] == "blue"
    assert "extra" not in again


@pytest.mark.parametrize("line", [b"", b"[]", b"{}", b"{", b'{"event_type":1}', b"\xff", b"null"])
def test_what_is_no_event_is_refused(line: bytes) -> None:
    """One clear error, whatever the bytes."""
    with pytest.raises(EventError, match="is no event"):
        decode(line)


def test_what_json_cannot_hold_becomes_a_marker() -> None:
    """Foreign objects, odd keys, cycles and depth never make writing fail."""

    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError

        __str__ = __repr__

    cycle: list[Any] = []
    cycle.append(cycle)
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    data = {"o": Hostile(), (1, 2): 3, None: 4, "cycle": cycle, "nan": float("nan")}
    back = decode(encode(make("a", data))).data
    assert back["o"] == "<unserializable: Hostile>"
    assert back["cycle"] == ["<cycle>"]
    assert back["nan"] is None
    assert "<too deep>" in json.dumps(decode(encode(make("a", deep))).data)


def test_identifiers_are_version_7_and_in_order() -> None:
    """Text UUIDs of RFC 9562 with the time of their making."""
    before = time_ns() // 1_000_000
    made = [uuid.UUID(ids.uuid7()) for _ in range(200_000)]
    after = time_ns() // 1_000_000
    assert {each.version for each in made[::1000]} == {7}
    assert {each.variant for each in made[::1000]} == {uuid.RFC_4122}
    assert before <= made[0].int >> 80 <= made[-1].int >> 80 <= after
    assert [each.int >> 80 for each in made] == sorted(each.int >> 80 for each in made)
    assert len(set(made)) == len(made)


def test_identifiers_are_unique_with_a_frozen_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a block of counts in one millisecond draws new random bits."""
    monkeypatch.setattr(ids, "time_ns", lambda: 1_700_000_000_000_000_000)
    assert len({ids.uuid7() for _ in range(200_000)}) == 200_000


def test_identifiers_are_unique_when_the_clock_jumps(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour back and forth repeats no identifier, and the sequence goes on."""
    times = itertools.cycle([1_700_000_000_000_000_000, 1_699_996_400_000_000_000])
    monkeypatch.setattr(ids, "time_ns", lambda: next(times))
    assert len({ids.uuid7() for _ in range(200_000)}) == 200_000


def test_threads_share_no_identifier_and_no_sequence() -> None:
    """Eight threads make events at once: every id and number is there once."""
    made: list[list[UniversalEvent]] = [[] for _ in range(8)]

    def work(events: list[UniversalEvent]) -> None:
        events.extend(make("a") for _ in range(5_000))

    threads = [threading.Thread(target=work, args=(events,)) for events in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({event.id for events in made for event in events}) == 40_000
    assert len({event.sequence for events in made for event in events}) == 40_000


@pytest.mark.parametrize(
    "data",
    [None, {"text": "ü" * 100}, [1, 2.5, {"deep": [True]}], {"at": datetime.now(UTC)}, object()],
)
def test_short_events_are_written_alike_in_little_room(data: Any) -> None:
    """The quick way writes what the usual way writes."""
    event = make("a.b", data, "run", tags=("x",))
    assert encode_short(event) == encode(event)


@pytest.mark.parametrize(
    "data",
    ["x" * 5_000, ["x" * 100] * 100, "x" * 50_000_000, {"deep": "\ud800"}],
    ids=["long text", "long list", "huge", "surrogate"],
)
def test_other_events_are_left_to_the_usual_way(data: Any) -> None:
    """At no great cost, however large they are."""
    event = make("a.b", data)
    began = time.process_time()
    assert encode_short(event) == b""
    assert time.process_time() - began < 0.01
    assert decode(encode(event)).event_type == "a.b"


def test_cycles_and_later_fields_are_left_to_the_usual_way() -> None:
    """A cycle has no end, and fields of a later format are written beside the known ones."""
    cycle: list[Any] = []
    cycle.append(cycle)
    assert encode_short(make("a.b", cycle)) == b""
    assert encode_short(make("a.b", extra={"colour": "red"})) == b""
