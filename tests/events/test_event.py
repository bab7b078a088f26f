"""The event record and its JSON."""

import itertools
import json
import threading
import uuid
from time import time_ns
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from llmspell_otel.events import EventError, UniversalEvent, ids, make
from llmspell_otel.events.codec import decode, encode, record

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


def test_the_id_of_an_event_follows_from_its_time_number_and_origin() -> None:
    """So it costs nothing until somebody asks, and sorts as the events were made."""
    made = [make("a") for _ in range(10_000)]
    read = [uuid.UUID(event.id) for event in made]
    assert {each.version for each in read} == {7}
    assert {each.variant for each in read} == {uuid.RFC_4122}
    assert [each.int >> 80 for each in read] == [event.timestamp // 1_000_000 for event in made]
    assert sorted(read) == read
    assert len(set(read)) == len(read)
    assert made[0].id == made[0].id == structs.replace(made[0], data="other").id


@given(st.integers(), st.integers(0, 2**70), st.integers(0, 2**42 - 1))
def test_any_time_and_number_give_an_identifier(time: int, sequence: int, origin: int) -> None:
    """Before 1970, in the far future, after more than four thousand million events."""
    read = uuid.UUID(ids.derived(time, sequence, origin))
    assert (read.version, read.variant) == (7, uuid.RFC_4122)
    assert str(read) == ids.derived(time, sequence, origin)
    assert read.int >> 80 == time // 1_000_000 % 2**48
    assert read.int % 2**42 == origin


def test_two_origins_give_two_identifiers() -> None:
    """Two processes make their first event in the same nanosecond."""
    assert ids.derived(0, 1, 1) != ids.derived(0, 1, 2)


def test_identifiers_are_unique_whatever_the_clock_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands still, or jumps an hour back and forth: no identifier comes twice."""
    now = 1_700_000_000_000_000_000
    for times in ([now], [now, now - 3_600_000_000_000]):
        monkeypatch.setattr(ids, "time_ns", itertools.cycle(times).__next__)
        assert len({ids.uuid7() for _ in range(200_000)}) == 200_000
        assert len({make("a", timestamp=now).id for _ in range(20_000)}) == 20_000


def test_a_record_leaves_out_what_follows_from_the_rest() -> None:
    """What is kept by the million is short; the reader has everything back."""
    event = make("a", 1)
    kept = json.loads(record(event))
    assert kept.keys() == {"event_type", "data", "timestamp", "sequence", "origin"}
    assert decode(record(event)) == event
    written = json.loads(encode(event))
    assert written == {**kept, "id": event.id, "language": "python", "schema_version": "1.0"}


@given(JSON, st.sampled_from([None, "lua"]), st.sampled_from([None, "2.0"]), st.booleans())
def test_no_field_is_written_twice(
    data: Any, language: str | None, version: str | None, odd: bool
) -> None:
    """Whatever is said by the record, the outside adds only the rest."""
    said = {"language": language, "schema_version": version, "extra": {"later": 1} if odd else None}
    event = make("a", data, **{name: value for name, value in said.items() if value is not None})
    assert record(event).startswith(b'{"event_type":')
    for each in (event, decode(encode(event)), decode(record(event))):
        pairs = json.loads(encode(each), object_pairs_hook=list)
        names = [name for name, _ in pairs]
        assert len(set(names)) == len(names)
        assert dict(pairs)["id"] == event.id
        assert decode(encode(each)) == event


def test_an_event_from_elsewhere_keeps_its_id() -> None:
    """Whoever made it; read twice, in any process, it is the same event."""
    line = b'{"event_type":"a","id":"theirs","timestamp":5,"sequence":7}'
    event = decode(line)
    assert event.id == event.given_id == "theirs"
    assert decode(encode(event)) == decode(record(event)) == decode(line) == event
    assert event.origin == ids.fingerprint("theirs") != make("a").origin
    assert decode(line.replace(b"theirs", b"others")).origin != event.origin


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
