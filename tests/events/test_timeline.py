"""Timelines against a truth made by hand, and against broken events."""

import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspell_otel.events import UniversalEvent, make
from llmspell_otel.events.timeline import Timeline, build, page, waterfall
from llmspell_otel.events.timeline.text import seconds

MS = 1_000_000
T0 = 1_767_225_600_000_000_000
RUN = "01999999-0000-7000-8000-000000000001"


def operation(
    name: str, parent: str | None, kind: str, start: int, end: int | None, **facts: Any
) -> list[UniversalEvent]:
    """The events of one operation whose id is made of its *name*; times in milliseconds."""
    data = {
        "operation": ident(name),
        "parent": ident(parent) if parent else None,
        "kind": kind,
        "name": name,
        "start_time": T0 + start * MS,
        "attributes": facts.pop("attributes", {}),
    }
    word = "call" if kind == "model" else "execution"
    made = [make(f"{kind}:{word}_started", data, RUN, timestamp=T0 + start * MS)]
    if end is not None:
        last = "error" if facts.get("outcome") == "error" else "complete"
        data = {**data, "end_time": T0 + end * MS, "attempts": 1, "outcome": "ok", **facts}
        made.append(make(f"{kind}:{word}_{last}", data, RUN, timestamp=T0 + end * MS))
    return made


def ident(name: str) -> str:
    """Sixteen hexadecimal digits for *name*."""
    return name.encode().hex().ljust(16, "0")[:16]


def story() -> list[UniversalEvent]:
    """A desk that thinks, looks up two things at once, fails at one, and answers.

    desk     |----------------------------------------|  0..1000
    think    |-------|                                    0..200   $0.01
    find             |--------|                           200..400
    fetch            |-------------|                      200..600 error, a hook was there
    embed              |--|                               220..300 (in find)
    answer                         |-----------------|    600..990 $0.02, 2 attempts
    """
    usage = {"gen_ai.usage.input_tokens": 412, "gen_ai.usage.output_tokens": 88}
    decision = {"hook": "guard", "point": "tool:error", "result": "replace", "reason": "stale"}
    looked = {"hook": "quota", "point": "tool:before_execution", "result": "continue"}
    error = {"type": "TimeoutError", "stacktrace": "  File x\n"}
    made = [
        *operation("desk", None, "agent", 0, 1000, cost="0.03"),
        *operation("think", "desk", "model", 0, 200, cost="0.01", attributes=usage),
        *operation("find", "desk", "tool", 200, 400),
        *operation(
            "fetch",
            "desk",
            "tool",
            200,
            600,
            outcome="error",
            error=error,
            decisions=[looked, decision],
        ),
        *operation("embed", "find", "model", 220, 300),
        *operation("answer", "desk", "model", 600, 990, cost="0.02", attempts=2),
        make(
            "hook:replaced",
            {"operation": ident("fetch"), "hook": "guard"},
            RUN,
            timestamp=T0 + 590 * MS,
        ),
        make("desk:note", {"text": "hello"}, RUN, timestamp=T0 + 600 * MS),
    ]
    return sorted(made, key=lambda event: event.timestamp)


@pytest.fixture
def timeline() -> Timeline:
    """The story's timeline."""
    return build(story())


def names(operations: Any) -> list[str]:
    """The names of *operations*."""
    return [each.name for each in operations]


def test_the_forest_is_the_truth(timeline: Timeline) -> None:
    """Roots, children, depths and chains are those of the story."""
    assert names(timeline.roots) == ["desk"]
    assert names(timeline.operations) == ["desk", "think", "find", "embed", "fetch", "answer"]
    assert [each.depth for each in timeline.operations] == [0, 1, 1, 2, 1, 1]
    assert names(timeline[ident("embed")].chain()) == ["desk", "find", "embed"]
    assert names(timeline[ident("desk")].chain()) == ["desk"]
    assert timeline[ident("embed")].parent is timeline[ident("find")]


def test_times_and_money_add_up(timeline: Timeline) -> None:
    """Durations, own times and costs; what an agent sums up is not added to its parts."""
    desk, find = timeline[ident("desk")], timeline[ident("find")]
    assert timeline.duration == desk.duration == 1.0
    assert desk.own_time == pytest.approx(0.010)
    assert find.own_time == pytest.approx(0.120)
    assert timeline.cost == desk.cost == Decimal("0.03")
    assert timeline[ident("think")].tokens == (412, 88)
    assert timeline[ident("answer")].attempts == 2


def test_concurrency_is_overlap_without_kinship(timeline: Timeline) -> None:
    """What ran beside, not what called or was called; touching ends do not overlap."""
    assert names(timeline.concurrent(timeline[ident("fetch")])) == ["find", "embed"]
    assert names(timeline.concurrent(timeline[ident("embed")])) == ["fetch"]
    assert timeline.concurrent(timeline[ident("answer")]) == []
    assert timeline.concurrent(timeline[ident("desk")]) == []


def test_the_critical_path_is_what_the_end_waited_for(timeline: Timeline) -> None:
    """Not the lookup that was over before its neighbour."""
    assert sorted(names(timeline.critical_path())) == ["answer", "desk", "fetch", "think"]
    assert build([]).critical_path() == []


def test_the_waits_of_a_run_are_its_duration(timeline: Timeline) -> None:
    """Each operation on the path has its own part of the run, and nothing is left over."""
    waits = timeline.waits()
    told = {timeline[key].name: round(value, 9) for key, value in waits.items()}
    assert told == {"desk": 0.01, "answer": 0.39, "fetch": 0.4, "think": 0.2}
    assert sum(waits.values()) == pytest.approx(timeline.duration)


def test_clocks_that_part_a_little_do_not_break_the_path() -> None:
    """A call that seems to end a moment after its successor began was waited for all the same."""
    events = [
        *operation("a", None, "agent", 0, 100),
        *operation("b", "a", "tool", 0, 51),
        *operation("c", "a", "tool", 50, 100),
    ]
    assert names(build(events).critical_path()) == ["a", "c", "b"]


def test_a_run_of_several_roots_waits_for_each() -> None:
    """One after the other, with a pause between in which nothing was running."""
    events = [*operation("a", None, "agent", 0, 40), *operation("b", None, "agent", 60, 100)]
    timeline = build(events)
    assert names(timeline.critical_path()) == ["b", "a"]
    assert sum(timeline.waits().values()) == pytest.approx(0.080)


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99), st.integers(0, 9)), max_size=12))
def test_no_moment_of_a_run_is_waited_for_twice(spans: list[tuple[int, int, int]]) -> None:
    """Whatever the times and parents, the waits are not negative, and no more than the run."""
    events = [
        event
        for number, (one, other, parent) in enumerate(spans)
        for event in operation(
            f"{number}", f"{parent}" if parent < number else None, "tool", *sorted((one, other))
        )
    ]
    timeline = build(events)
    waits = timeline.waits().values()
    assert all(wait >= 0 for wait in waits)
    assert sum(waits) <= timeline.duration + 1e-9


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (0.0000005, "0 s"),
        (0.000961, "961 µs"),
        (0.0123, "12.3 ms"),
        (0.9996, "1 s"),
        (119.4, "119 s"),
        (1234, "20 min 34 s"),
        (11_220, "3 h 07 min"),
    ],
)
def test_durations_have_the_unit_that_suits_them(value: float, text: str) -> None:
    """Three digits, and never a power of ten."""
    assert seconds(value) == text


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, ["desk", "think", "find", "embed", "fetch", "answer"]),
        ({"kind": "tool"}, ["find", "fetch"]),
        ({"name": "embed"}, ["embed"]),
        ({"outcome": "error"}, ["fetch"]),
        ({"roots": True}, ["desk"]),
        ({"leaves": True}, ["think", "embed", "fetch", "answer"]),
        ({"min_depth": 2}, ["embed"]),
        ({"max_depth": 0}, ["desk"]),
        ({"min_depth": 1, "max_depth": 1, "kind": "model"}, ["think", "answer"]),
        ({"hooked": True}, ["fetch"]),
    ],
)
def test_operations_can_be_selected(
    timeline: Timeline, conditions: Any, expected: list[str]
) -> None:
    """Every filter, alone and together."""
    assert names(timeline.select(**conditions)) == expected


def test_other_events_lie_with_their_operation(timeline: Timeline) -> None:
    """By the operation they name, or the span they were published in; the rest stay loose."""
    fetch = timeline[ident("fetch")]
    assert [event.event_type for event in fetch.events] == ["hook:replaced"]
    assert [event.event_type for event in timeline.events] == ["desk:note"]
    trace = f"00-{'0' * 31}1-{ident('find')}-01"
    again = build([*story(), make("custom:note", None, RUN, trace)])
    assert [event.event_type for event in again[ident("find")].events] == ["custom:note"]


@given(st.randoms(use_true_random=False))
def test_the_order_of_events_does_not_change_the_forest(shuffle: random.Random) -> None:
    """Shuffled and doubled, the events tell the same parents, times and outcomes."""
    events = story() * 2
    shuffle.shuffle(events)
    told = {
        each.name: (each.parent and each.parent.name, each.start, each.end, each.outcome)
        for each in build(events).operations
    }
    truth = {
        each.name: (each.parent and each.parent.name, each.start, each.end, each.outcome)
        for each in build(story()).operations
    }
    assert told == truth


@given(st.sets(st.integers(0, 13)))
def test_missing_events_cost_no_more_than_themselves(missing: set[int]) -> None:
    """Whatever is lost, the rest makes a timeline that can be drawn."""
    events = [event for number, event in enumerate(story()) if number not in missing]
    timeline = build(events)
    seen = {e.data["operation"] for e in events if "parent" in (e.data or {})}
    assert {each.id for each in timeline.operations} == seen
    "".join(page(timeline))
    list(waterfall(timeline))


def test_an_unfinished_operation_is_open() -> None:
    """A run that was killed shows what was still going on."""
    events = [*operation("desk", None, "agent", 0, None), *operation("t", "desk", "tool", 5, 9)]
    timeline = build(events)
    desk = timeline[ident("desk")]
    assert (desk.outcome, desk.duration) == ("open", 0.009)


def test_circles_are_cut() -> None:
    """Operations that claim to have called each other still make a forest."""
    events = [
        *operation("a", "b", "tool", 0, 9),
        *operation("b", "c", "tool", 1, 8),
        *operation("c", "a", "tool", 2, 7),
        *operation("d", "d", "tool", 3, 6),
    ]
    assert sorted(names(build(events).operations)) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {"operation": 7},
        {"operation": "x", "start_time": "soon", "attributes": 3, "cost": "much", "parent": 2},
        {"operation": "x", "decisions": ["odd"], "chunks": 4, "error": "text", "end_time": None},
        {"operation": "x", "cost": "NaN", "name": None, "kind": None},
    ],
)
def test_odd_data_is_shown_as_far_as_it_goes(data: Any) -> None:
    """Events of others, or of later versions, never make the timeline fail."""
    timeline = build([make("tool:execution_complete", data)])
    assert "".join(page(timeline))
    assert list(waterfall(timeline))


def test_a_deep_run_is_no_trouble() -> None:
    """Five thousand calls within each other."""
    events = [
        event
        for number in range(2_000)
        for event in operation(
            f"{number:04}", f"{number - 1:04}" if number else None, "tool", number, 5_000
        )
    ]
    timeline = build(events)
    assert timeline.operations[-1].depth == 1_999
    assert timeline.cost == 0
    assert list(waterfall(timeline)).index("") == 2_001


def test_the_waterfall_reads_well(timeline: Timeline) -> None:
    """One line a call, with its place, bar, time, money and trouble, and what hooks did."""
    import click

    whole = [click.unstyle(line) for line in waterfall(timeline, 100)]
    lines = whole[: whole.index("")]
    assert lines[0] == "6 operations, 1 s, $0.03, 1 failed"
    assert len(lines) == 8
    assert "│  └─ model embed" in lines[4]
    assert "412→88 tokens" in lines[2]
    assert "error  TimeoutError" in lines[5]
    assert lines[6].strip() == "⚑ guard at tool:error → replace: stale"
    assert "2 attempts" in lines[7]
    assert [line[0] for line in lines[1:]] == ["◆", "◆", " ", " ", "◆", " ", "◆"]


def test_the_waterfall_ends_with_what_the_run_came_to(timeline: Timeline) -> None:
    """The largest shares of its time and its money."""
    import click

    lines = [click.unstyle(line) for line in waterfall(timeline, 100)]
    time, money = lines.index("What the run waited for"), lines.index("What was paid for")
    assert lines[time + 1 : time + 4] == [
        "  40 %      400 ms  tool fetch  (1 call)",
        "  39 %      390 ms  model answer  (1 call)",
        "  20 %      200 ms  model think  (1 call)",
    ]
    assert lines[money + 1 :] == [
        "  67 %       $0.02  model answer  (1 call)",
        "  33 %       $0.01  model think  (1 call)",
    ]


@pytest.mark.parametrize("name", ["short", "l" * 90, "日本語の名前" * 9, "日本", "e\u0301" * 30])
def test_columns_stay_in_line_whatever_the_name(name: str) -> None:
    """Long names are cut; letters that take two columns, or none, are counted so."""
    import unicodedata

    import click

    events = operation("x", None, "tool", 0, 9)
    for event in events:
        event.data["name"] = name
    [_, line, *_] = [click.unstyle(line) for line in waterfall(build(events), 100)]
    label = line[: line.index("█")]
    wide = sum(unicodedata.east_asian_width(each) in "WF" for each in label)
    assert len(label) + wide - sum(unicodedata.combining(each) > 0 for each in label) == 43
