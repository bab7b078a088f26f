"""Timelines against a truth made by hand, and against broken events."""

import random
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspell_otel.events import UniversalEvent, make
from llmspell_otel.events.timeline import Timeline, build, page, waterfall

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
    assert len(list(waterfall(timeline))) == 2_001


def test_the_waterfall_reads_well(timeline: Timeline) -> None:
    """One line a call, with its place, bar, time, money and trouble, and what hooks did."""
    import click

    lines = [click.unstyle(line) for line in waterfall(timeline, 100)]
    assert lines[0] == "6 operations, 1 s, $0.03, 1 failed"
    assert len(lines) == 8
    assert "│  └─ model embed" in lines[4]
    assert "412→88 tokens" in lines[2]
    assert "error  TimeoutError" in lines[5]
    assert lines[6].strip() == "⚑ guard at tool:error → replace: stale"
    assert "2 attempts" in lines[7]
    assert [line[0] for line in lines[1:]] == ["◆", "◆", " ", " ", "◆", " ", "◆"]


class Reader(HTMLParser):
    """Checks that tags nest, and gathers what matters."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in {"src", "href"}]
        self.links += [name for name, _ in attrs if name.startswith("on")]
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_self_contained(timeline: Timeline) -> None:
    """Well-formed, without links and scripts; time, money and hooks are on it."""
    reader = Reader()
    written = "".join(page(timeline, RUN))
    reader.feed(written)
    assert reader.open == []
    assert reader.links == [f"#{ident('fetch')}"]  # within the page
    assert "script" not in reader.tags
    assert "default-src 'none'" in written
    assert reader.tags.count("details") == 6 + 2  # calls, and the events that are none
    for text in ("Where the time went", "Where the money went", "What the hooks did", "guard"):
        assert text in reader.text
    assert "TimeoutError" in reader.text
    assert "gen_ai.usage.input_tokens" in reader.text


EVIL = '</pre><script>alert(1)</script>"><img src=x onerror=y>\x1b[31m\u202e\x00'


def hostile() -> list[UniversalEvent]:
    """A call that has markup, escapes and bidi for a name, attribute, error and hook."""
    made = operation(
        "x",
        None,
        "tool",
        0,
        9,
        outcome="error",
        attributes={EVIL: EVIL},
        error={"type": EVIL, "stacktrace": EVIL},
        decisions=[
            {
                "hook": EVIL,
                "point": EVIL,
                "result": EVIL,
                "reason": EVIL,
                "attributes": {EVIL: EVIL},
            }
        ],
        hooks=[{"hook": EVIL, "point": EVIL, "duration": EVIL}],
    )
    for event in made:
        event.data["name"] = EVIL
        event.data["operation"] += EVIL
    return [*made, make(EVIL, {"evil": EVIL})]


def test_hostile_text_is_only_text() -> None:
    """Markup, escapes and bidi are neither run nor obeyed, in a page and in a terminal."""
    timeline = build(hostile())
    written = "".join(page(timeline, EVIL))
    reader = Reader()
    reader.feed(written)
    assert "script" not in reader.tags
    assert "img" not in reader.tags
    assert all(link.startswith("#") for link in reader.links)
    for text in (written, *waterfall(timeline)):
        import click

        plain = click.unstyle(text)
        assert "\x1b" not in plain
        assert "\u202e" not in plain
        assert "\x00" not in plain
