"""The journal: commit, query, retention, limits, versions."""

import json
import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from llmspell_otel.events import (
    Event,
    EventBus,
    EventError,
    JournalError,
    PatternError,
    default_bus,
    make,
)
from llmspell_otel.events.journal import Journal, Retention
from llmspell_otel.events.store import log


@pytest.fixture
def journal(tmp_path: Path) -> Any:
    """A journal that commits at once."""
    journal = Journal(tmp_path / "journal", interval=0.001)
    yield journal
    journal.close()


def fill(journal: Journal, count: int, event_type: str = "n", **fields: Any) -> None:
    """Keep *count* events with their numbers as data."""
    for number in range(count):
        journal.append(make(event_type, number, **fields))


def numbers(events: Any) -> list[Any]:
    """The data of *events*."""
    return [event.data for event in events]


def test_what_is_published_can_be_asked_for(tmp_path: Path) -> None:
    """Attached to a bus, the journal gives the very events back, also after a restart."""
    bus, journal = EventBus(), Journal(tmp_path)
    journal.attach(bus)
    sent = [
        make("tool:done", {"n": n, "é": "\ud800"}, "run", tags=("x",), ttl=9) for n in range(50)
    ]
    for event in sent:
        bus.publish(event)
    assert list(journal.query()) == sent
    journal.close()
    again = Journal(tmp_path)
    assert list(again.query("tool.*")) == sent
    assert (journal.stats.accepted, journal.stats.committed, journal.stats.waiting) == (50, 50, 0)
    again.close()


def test_only_the_patterns_asked_for_are_kept(tmp_path: Path) -> None:
    """A journal may keep some types only."""
    bus, journal = EventBus(), Journal(tmp_path)
    journal.attach(bus, ("tool:*", "cost:**"))
    for name in ("tool:done", "agent:done", "cost:recorded"):
        bus.publish(make(name))
    assert [event.event_type for event in journal.query()] == ["tool:done", "cost:recorded"]
    journal.close()


@pytest.mark.parametrize(
    ("patterns", "conditions", "expected"),
    [
        ((), {}, [0, 1, 2, 3, 4, 5]),
        (("a.*",), {}, [0, 1, 2]),
        (("*.error",), {}, [1, 4]),
        (("a.ok", "**.error"), {}, [0, 1, 2, 4]),
        (("nothing",), {}, []),
        ((), {"correlation_id": "one"}, [0, 1]),
        (("a.*",), {"correlation_id": "two"}, [2]),
        ((), {"since": 300}, [2, 3, 4, 5]),
        ((), {"until": 300}, [0, 1]),
        ((), {"since": 200, "until": 400}, [1, 2]),
        ((), {"limit": 2}, [0, 1]),
        ((), {"limit": 0}, []),
        ((), {"newest_first": True, "limit": 2}, [5, 4]),
        ((), {"where": {"data.n": 3}}, [3]),
        ((), {"where": {"data.n": ("=", 3)}}, [3]),
        ((), {"where": {"data.n": ("!=", 3)}}, [0, 1, 2, 4, 5]),
        ((), {"where": {"data.n": (">", 3)}}, [4, 5]),
        ((), {"where": {"data.n": (">=", 3), "data.odd": True}}, [3, 5]),
        ((), {"where": {"data.n": ("<", 1)}}, [0]),
        ((), {"where": {"data.n": ("<=", 1)}}, [0, 1]),
        ((), {"where": {"data.n": ("in", [1, 4])}}, [1, 4]),
        ((), {"where": {"data.name": ("contains", "mber 2")}}, [2]),
        ((), {"where": {"data.name": ("starts_with", "number")}}, [0, 1, 2, 3, 4, 5]),
        ((), {"where": {"data.name": (">", 3)}}, []),
        ((), {"where": {"data.extra": ("exists", True)}}, [5]),
        ((), {"where": {"data.extra": ("exists", False)}}, [0, 1, 2, 3, 4]),
        ((), {"where": {"data.extra.0.deep": 1}}, [5]),
        ((), {"where": {"data.n.x": 1}}, []),
        ((), {"where": {"source": "desk"}}, [0]),
        ((), {"where": {"metadata.source": "desk"}}, [0]),
        ((), {"where": {"payload.n": 2}}, [2]),
        ((), {"where": {"nothing": 2}}, []),
        (("a.*",), {"where": {"data.odd": True}, "newest_first": True}, [1]),
    ],
)
def test_a_query_finds_what_meets_all_conditions(
    journal: Journal, patterns: Any, conditions: Any, expected: list[int]
) -> None:
    """Type, run, time and fields, alone and together, in both orders."""
    types = ["a.ok", "a.error", "a.ok", "b.ok", "b.error", "c"]
    runs = ["one", "one", "two", "two", "", ""]
    for n, (name, run) in enumerate(zip(types, runs, strict=True)):
        data = {"n": n, "odd": n % 2 == 1, "name": f"number {n}"}
        data |= {"extra": [{"deep": 1}]} if n == 5 else {}
        source = "desk" if n == 0 else None
        journal.append(make(name, data, run, timestamp=100 * (n + 1), source=source))
    assert [event.data["n"] for event in journal.query(*patterns, **conditions)] == expected


def test_times_may_be_datetimes(journal: Journal) -> None:
    """With a time zone; without one it is an error, not a guess."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    journal.append(make("n", 1, timestamp=int(moment.timestamp()) * 10**9))
    assert numbers(journal.query(since=moment)) == [1]
    assert numbers(journal.query(until=moment)) == []
    with pytest.raises(EventError, match="no time zone"):
        journal.query(since=datetime(2026, 1, 1))  # noqa: DTZ001 - on purpose


def test_a_wrong_query_is_refused(journal: Journal) -> None:
    """At once, with one clear error."""
    with pytest.raises(PatternError):
        journal.query("a..b")
    with pytest.raises(EventError, match="condition on 'data'"):
        list(journal.query(where={"data": ("~", 1)}))


def test_a_query_of_a_run_uses_the_index(journal: Journal) -> None:
    """Finding twenty events among twenty thousand is much cheaper than reading them all."""
    for number in range(20_000):
        journal.append(make("n", number, f"run-{number // 20}"))
    journal.catch_up()

    def cost(**conditions: Any) -> float:
        began = time.process_time()
        list(journal.query(**conditions))
        return time.process_time() - began

    assert numbers(journal.query(correlation_id="run-500")) == list(range(10_000, 10_020))
    assert min(cost(correlation_id="run-500") for _ in range(3)) * 10 < cost()


def test_retention_by_count(tmp_path: Path) -> None:
    """The latest stay."""
    journal = Journal(tmp_path, retention=Retention(max_age=None, max_events=30))
    fill(journal, 100)
    assert journal.prune() == 70
    assert numbers(journal.query()) == list(range(70, 100))
    assert journal.prune() == 0
    journal.close()


def test_retention_by_age(tmp_path: Path) -> None:
    """The old go, and the summary follows."""
    journal = Journal(tmp_path, retention=Retention(max_age=3600))
    now = time.time_ns()
    for number in range(10):
        journal.append(make("n", number, timestamp=now - (10 - number) * 700 * 10**9))
    assert journal.prune() == 5
    assert numbers(journal.query()) == [5, 6, 7, 8, 9]
    assert journal.summary()["events"] == 5
    assert journal.prune() == 0
    journal.close()


def test_the_summary_counts_types_and_runs(journal: Journal) -> None:
    """What is in it, at a glance."""
    fill(journal, 3, "a", correlation_id="x", timestamp=5)
    fill(journal, 2, "b", correlation_id="y", timestamp=9)
    assert journal.summary() == {"events": 5, "oldest": 5, "newest": 9, "types": {"a": 3, "b": 2}}
    assert journal.runs() == [("y", 2, 9), ("x", 3, 5)]


def test_the_facade_asks_the_attached_journal(journal: Journal) -> None:
    """`Event.query` works once a journal is attached to the default bus."""
    default_bus().journal = None
    with pytest.raises(EventError, match="needs a journal"):
        Event.query("facade.*")
    with journal.attach(default_bus(), "facade.*"):
        Event.publish("facade.kept", {"n": 1})
        assert numbers(Event.query("facade.*", where={"data.n": 1})) == [{"n": 1}]
    default_bus().journal = None


def test_an_event_is_kept_once(journal: Journal) -> None:
    """The same event twice, as after a repeated delivery, is one."""
    event = make("n", 1)
    journal.append(event)
    journal.append(event)
    assert list(journal.query()) == [event]


def test_large_data_is_cut_quickly(journal: Journal) -> None:
    """A hundred megabytes, a cycle, ten thousand levels: a marker, and hardly any time."""
    huge = {"text": "x" * 100_000_000, "more": [1, 2]}
    cycle: dict[str, Any] = {"a": 1}
    cycle["self"] = [cycle]
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    raw = bytes(100_000_000)
    others = ({"k" * 10_000_000: 1}, 10**20_000, ["x" * 100] * 100_000, raw, [memoryview(raw)])
    for data in (huge, cycle, deep, *others):
        began = time.process_time()
        assert journal.append(make("n", data))
        assert time.process_time() - began < 0.5
    assert journal.flush()
    assert journal.stats.dropped == 0
    for event in journal.query():
        assert len(json.dumps(event.data)) < 2 * 1_048_576
        assert "<" in json.dumps(event.data)


def test_hostile_text_stays_one_line(journal: Journal) -> None:
    """Newlines, escapes, NUL and bidi are data, in the log and back."""
    text = "a\nb\r\x1b[31m\x00\u202e\u2028\ud800"
    journal.append(make("n", {"t": text}, text))
    journal.flush()
    [path] = journal.path.glob("*.log")
    [block] = log.read(path)
    assert block.events == 1
    assert next(journal.query()).data == {"t": text}


@pytest.mark.parametrize("kind", ["file", "mode", "version"])
def test_a_journal_that_cannot_be_opened_says_why(tmp_path: Path, kind: str) -> None:
    """At the start, with one clear error."""
    options = {}
    if kind == "file":
        (tmp_path / "j").write_text("no folder")
    elif kind == "mode":
        options = {"mode": "magic"}
    else:
        (tmp_path / "j").mkdir()
        with sqlite3.connect(tmp_path / "j" / "events.sqlite") as it:
            it.execute("PRAGMA user_version = 99")
        it.close()
    with pytest.raises(JournalError):
        Journal(tmp_path / "j", **options)  # type: ignore[arg-type]


def test_stores_of_earlier_versions_are_readable(tmp_path: Path) -> None:
    """A log in version 2 of the format, the first released, byte for byte, reads as it did."""
    line = (
        b'[{"event_type":"tool:done","data":{"n":1},"correlation_id":"run","id":'
        b'"01999999-0000-7000-8000-000000000001","timestamp":1767225600000000000,'
        b'"sequence":1,"language":"python","schema_version":"1.0","later":"kept"}]'
    )
    head = b"\xf5LJB" + (1).to_bytes(4, "little") + len(line).to_bytes(4, "little")
    block = head + b"\x18\x46\xf9\x8b" + line
    (tmp_path / "old.log").write_bytes(b"llmspell-journal 2\n" + block)
    journal = Journal(tmp_path)
    [event] = journal.query("tool:*", correlation_id="run")
    assert (event.data, event.extra, event.sequence) == ({"n": 1}, {"later": "kept"}, 1)
    journal.close()
