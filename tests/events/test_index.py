"""The database: groups of events, what says where to look in them, and what it forgets."""

import sqlite3
import tempfile
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmspell_otel.events import JournalError, UniversalEvent, make
from llmspell_otel.events.codec import decode
from llmspell_otel.events.ids import fingerprint
from llmspell_otel.events.journal import Journal, Retention
from llmspell_otel.events.store import log
from llmspell_otel.events.store.index import NAME, Index
from llmspell_otel.events.store.packing import pack
from llmspell_otel.events.store.query import Query


@contextmanager
def database() -> Generator[tuple[Index, sqlite3.Connection]]:
    """A fresh one."""
    with tempfile.TemporaryDirectory() as folder:
        index = Index(Path(folder), durable=False)
        with index.connect() as it:
            yield index, it


def take_in(index: Index, it: sqlite3.Connection, events: list[UniversalEvent]) -> None:
    """As from one block of a log."""
    chunks = list(pack(events, 1 << 20, 1 << 20, watched=True))
    body = b"\n".join(chunk for chunk, _ in chunks)
    with index.transaction(it):
        index.take_in(it, Path("x.log"), [log.Block(body, len(events), 1, 0)])


def kept(index: Index, it: sqlite3.Connection, **asked: Any) -> list[tuple[int, UniversalEvent]]:
    """Position and event, of all that are asked for."""
    return [(position, decode(body)) for position, body in index.select(it, Query(**asked))]


def agree(index: Index, it: sqlite3.Connection) -> None:
    """The indexes say of the events what the events say themselves."""
    rows = kept(index, it)
    events = [event for _, event in rows]
    summary = index.summary(it)
    assert summary["types"] == Counter(event.event_type for event in events)
    assert summary["events"] == len(events)
    assert summary["oldest"] == min((event.timestamp for event in events), default=None)
    assert summary["newest"] == max((event.timestamp for event in events), default=None)
    for name in {event.correlation_id for event in events} | {"none"}:
        mine = [event for event in events if event.correlation_id == name]
        assert [event for _, event in kept(index, it, correlation_id=name)] == mine
        if name:
            first = min((event.timestamp for event in mine), default=None)
            assert index.run(it, name) == (len(mine), first)
    last = {event.correlation_id: position for position, event in rows}
    last.pop("", None)
    assert [run[0] for run in index.runs(it)] == sorted(last, key=lambda name: -last[name])
    assert kept(index, it, newest_first=True) == rows[::-1]


def own(sequence: int, origin: int, time: int) -> UniversalEvent:
    """An event of one of three processes, of some run or none."""
    run = f"run-{time % 4}" if time % 5 else ""
    kind = f"t.{sequence % 3}"
    return make(kind, sequence, run, sequence=sequence, origin=origin, timestamp=time)


def foreign(name: str, sequence: int) -> UniversalEvent:
    """An event that came with an id of its own."""
    origin = fingerprint(name)
    return make("foreign", name, given_id=name, origin=origin, sequence=sequence)


def odd(number: int) -> UniversalEvent:
    """An event that has a line of its own."""
    return make("odd", "\ud800", sequence=number, origin=9, timestamp=number)


EVENTS = (
    st.builds(own, st.integers(1, 12), st.integers(1, 3), st.integers(0, 20))
    | st.builds(foreign, st.sampled_from("abc"), st.integers(1, 12))
    | st.builds(odd, st.integers(1, 3))
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(EVENTS, min_size=1, max_size=12), max_size=6), st.data())
def test_every_event_is_kept_once(blocks: list[list[UniversalEvent]], data: st.DataObject) -> None:
    """Whatever comes twice, when, and in what order; and what is forgotten takes nothing along."""
    with database() as (index, it):
        first: dict[str, UniversalEvent] = {}
        for events in blocks:
            take_in(index, it, events)
            for event in events:
                first.setdefault(event.given_id or str(tuple(map(str, keys_of(event)))), event)
        expected = list(first.values())
        assert [event for _, event in kept(index, it)] == expected
        assert [position for position, _ in kept(index, it)] == list(range(1, len(expected) + 1))
        agree(index, it)
        keep = data.draw(st.integers(0, len(expected)))
        assert index.prune(it, None, keep) == len(expected) - keep
        left = list(enumerate(expected, 1))[len(expected) - keep :]
        assert kept(index, it) == left
        agree(index, it)
        after = data.draw(st.integers(0, len(expected)))
        assert kept(index, it, after=after) == [row for row in left if row[0] > after]


def keys_of(event: UniversalEvent) -> tuple[int, int, int]:
    """What tells it from others."""
    return event.origin, event.sequence, event.timestamp


def test_events_that_hold_others_are_told_apart_from_their_neighbours() -> None:
    """One whose data looks like two, beside one that begins with a field of a later format."""
    events = [
        make("a", [{"n": 1}, {"event_type": "b"}]),
        make("a", extra={"colour": "red"}),
        make("a", 3),
    ]
    with database() as (index, it):
        take_in(index, it, events)
        assert [event for _, event in kept(index, it)] == events


def test_positions_are_never_given_twice() -> None:
    """Not even when everything was forgotten: who follows would take the new for the old."""
    with database() as (index, it):
        take_in(index, it, [make("n", n) for n in range(5)])
        assert index.prune(it, None, 0) == 5
        take_in(index, it, [make("n", 5)])
        assert [(position, event.data) for position, event in kept(index, it)] == [(6, 5)]
        assert index.newest(it) == 6


def test_many_groups_are_read_page_by_page() -> None:
    """In either order, from any position, while the first of them are forgotten."""
    with database() as (index, it):
        for block in range(30):
            take_in(index, it, [make(f"t.{block % 2}", block * 100 + n) for n in range(100)])
        rows = index.select(it, Query())
        assert [position for position, _ in (next(rows) for _ in range(50))] == list(range(1, 51))
        assert index.prune(it, None, 2_925) == 75
        assert [position for position, _ in rows] == list(range(51, 3_001))
        found = [p for p, _ in kept(index, it, after=1_950, patterns=("t.1",))]
        assert found == [p for p in range(1_951, 3_001) if (p - 1) // 100 % 2]
        found = [p for p, _ in kept(index, it, newest_first=True, patterns=("t.0",))]
        assert found == [p for p in range(3_000, 75, -1) if not (p - 1) // 100 % 2]


def test_any_tool_can_read_it(tmp_path: Path) -> None:
    """There is a table of events with the columns that people ask for."""
    journal = Journal(tmp_path)
    for number in range(300):
        journal.append(make(f"t.{number % 2}", {"n": number}, "run", timestamp=number))
    assert journal.catch_up()
    journal.close()
    with sqlite3.connect(tmp_path / NAME) as it:
        sql = "SELECT position, timestamp, correlation_id FROM events WHERE event_type = 't.1'"
        rows = it.execute(sql).fetchall()
        sql = "SELECT sum(json_extract(body, '$.data.n')) FROM events"
        total = it.execute(sql).fetchone()
    it.close()
    assert rows == [(n + 1, n, "run") for n in range(1, 300, 2)]
    assert total == (sum(range(300)),)


@pytest.mark.parametrize(("version", "mend"), [(1, "move it away"), (99, "upgrade")])
def test_another_format_is_refused(tmp_path: Path, version: int, mend: str) -> None:
    """With one clear error, and nothing is touched."""
    with sqlite3.connect(tmp_path / NAME) as it:
        it.execute(f"PRAGMA user_version = {version}")
    it.close()
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(JournalError, match=f"has format {version}.*{mend}"):
        Journal(tmp_path)
    assert (tmp_path / NAME).read_bytes() == before


def test_forgotten_runs_leave_nothing_behind(tmp_path: Path) -> None:
    """The indexes are as short as what is kept."""
    journal = Journal(tmp_path, retention=Retention(None, 10))
    for number in range(2_000):
        journal.append(make("n", number, f"run-{number}"))
    assert journal.prune() == 1_990
    with sqlite3.connect(tmp_path / NAME) as it:
        tables = ("groups", "by_type", "by_run", "by_origin", "by_given_id")
        sizes = [it.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables]
    it.close()
    assert sizes == [1, 1, 10, 1, 0]
    journal.close()
