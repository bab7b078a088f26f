"""The page of a timeline as it is written: whole, small, and with nothing in it to obey."""

import base64
import json
import re
import zlib
from collections.abc import Iterator
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import click
import pytest

from llmspell_otel.events import UniversalEvent, make
from llmspell_otel.events.timeline import Timeline, build, page, waterfall
from llmspell_otel.events.timeline.calls import packed
from tests.events.test_timeline import RUN, ident, names, operation, story


@pytest.fixture
def timeline() -> Timeline:
    """The story's timeline."""
    return build(story())


class Reader(HTMLParser):
    """Checks that tags nest, and gathers what matters."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.inline: list[str] = []
        self.texts: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.links += [value for name, value in attrs if name in {"src", "href"}]
        self.inline += [name for name, _ in attrs if name.startswith("on") or name == "style"]
        self.texts.setdefault(tag, [])
        if tag not in {"meta", "br", "input"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in self.open:
            self.texts[tag].append(data)


def read(written: str) -> Reader:
    """A page, read to its end."""
    reader = Reader()
    reader.feed(written)
    assert reader.open == []
    return reader


def unpacked(written: str) -> dict[str, Any]:
    """What the script of a page is given."""
    found = re.search(r'id="data">([^<]*)<', written)
    assert found
    told: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(found[1])))
    return told


def test_the_page_is_self_contained(timeline: Timeline) -> None:
    """Well-formed, without links to elsewhere; time, money and hooks are on it."""
    reader = read("".join(page(timeline, RUN)))
    assert reader.links == [f"#{ident('fetch')}"]  # within the page
    text = "".join(reader.texts["body"])
    for words in ("Where the time went", "Where the money went", "What the hooks did", "guard"):
        assert words in text
    assert "2026-01-01 00:00:00 UTC" in text


def test_the_page_allows_itself_its_own_script_and_nothing_else(timeline: Timeline) -> None:
    """The policy names script and style by their hashes; nothing stands in attributes."""
    written = "".join(page(timeline, RUN))
    reader = read(written)
    policy = re.search(r'Security-Policy" content="([^"]*)"', written)
    assert policy
    assert policy[1].startswith("default-src 'none';")
    assert "require-trusted-types-for 'script'" in policy[1]
    for tag, part in (("script", -1), ("style", 0)):
        text = reader.texts[tag][part].encode()
        digest = base64.b64encode(sha256(text).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy[1]
    assert len(reader.texts["script"]) == 2  # the data, which no browser runs, and the script
    assert reader.inline == []


def test_the_page_knows_of_each_call_what_the_timeline_knows(timeline: Timeline) -> None:
    """Name, caller, time, money, tokens, trouble, hooks, and whether the run waited for it."""
    calls = unpacked("".join(page(timeline)))["calls"]
    told = {call["name"]: call for call in calls}
    assert [call["name"] for call in calls] == names(timeline.operations)
    assert calls[told["embed"]["parent"]]["name"] == "find"
    assert "parent" not in told["desk"]
    assert (told["answer"]["start"], told["answer"]["long"]) == (600_000, 390_000)
    assert (told["think"]["tokens"], told["think"]["cost"]) == ("412 → 88", "$0.01")
    assert (told["answer"]["attempts"], told["fetch"]["outcome"]) == (2, "error")
    assert told["fetch"]["acts"] == ["guard: replace"]
    assert [name for name, call in told.items() if "critical" not in call] == ["find", "embed"]
    inside = told["fetch"]["inside"]
    assert inside["error"].startswith("TimeoutError")
    assert ["guard", "tool:error", "replace", "stale", ""] in inside["decisions"]
    assert [event[1] for event in inside["events"]] == ["hook:replaced"]
    assert ["gen_ai.usage.input_tokens", "412"] in told["think"]["inside"]["attributes"]


def test_what_went_in_and_came_out_reads_as_it_was_said() -> None:
    """Messages by their roles, arguments and results as JSON; a refusal, and a branch's origin."""
    said = [{"role": "user", "parts": [{"type": "text", "content": "Where is it?"}]}]
    content = {
        "gen_ai.output.messages": [{"role": "assistant", "parts": [{"type": "x", "n": 1}]}],
        "gen_ai.input.messages": said,
    }
    link = f"00-{'0' * 31}1-{ident('m')}-01"
    events = [
        *operation("m", None, "model", 0, 9, content=content),
        *operation("t", None, "tool", 0, 9, content={"gen_ai.tool.call.result": {"sky": "blue"}}),
        *operation("b", None, "tool", 0, 9, links=[link], refusal="not you"),
    ]
    model, tool, branch = unpacked("".join(page(build(events))))["calls"]
    assert model["inside"]["content"] == [
        ["input", "gen_ai.input.messages", "user: Where is it?"],
        ["output", "gen_ai.output.messages", 'assistant: {"type": "x", "n": 1}'],
    ]
    assert tool["inside"]["content"][0][2] == '{\n "sky": "blue"\n}'
    assert (branch["branch"], branch["inside"]["refusal"]) == (0, "not you")


def many(count: int) -> Iterator[UniversalEvent]:
    """A run of *count* calls, each with some content, three levels deep."""
    content = {"gen_ai.input.messages": "What is new? " * 20}
    yield from operation("root", None, "agent", 0, 10 * count)
    for number in range(count - 1):
        stage, start = number - number % 10, number * 10
        if number == stage:
            yield from operation(f"n{number}", "root", "stage", start, start + 100)
        else:
            facts = {"content": content}
            yield from operation(f"n{number}", f"n{stage}", "tool", start, start + 9, **facts)


def test_a_page_of_many_calls_is_small() -> None:
    """Five thousand calls with their content take less than half a megabyte."""
    written = "".join(page(build(many(5_000))))
    assert len(unpacked(written)["calls"]) == 5_000
    assert len(written) < 500_000


def test_a_page_has_an_end() -> None:
    """Calls for whose insides there is no room keep their place, figures and errors."""
    events = [
        *operation("a", None, "agent", 0, 9, content={"x": "y" * 5_000}),
        *operation("b", "a", "tool", 0, 9, content={"x": "y" * 5_000}, error={"type": "E"}),
    ]
    timeline = build(events)
    whole = json.loads(zlib.decompress(base64.b64decode(packed(timeline, room=6_000))))
    assert [sorted(call["inside"]) for call in whole["calls"]] == [
        ["content", "figures"],
        ["error", "figures"],
    ]


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
        content={EVIL: EVIL, "gen_ai.input.messages": [{"role": EVIL, "parts": [EVIL]}]},
        refusal=EVIL,
        links=[EVIL],
    )
    for event in made:
        event.data["name"] = EVIL
        event.data["operation"] += EVIL
    return [*made, make(EVIL, {"evil": EVIL})]


def test_hostile_text_is_only_text() -> None:
    """Markup, escapes and bidi are neither run nor obeyed, in a page and in a terminal."""
    timeline = build(hostile())
    written = "".join(page(timeline, EVIL))
    reader = read(written)
    assert len(reader.texts["script"]) == 2
    assert "img" not in reader.texts
    assert all(link.startswith("#") for link in reader.links)
    for text in (written, json.dumps(unpacked(written), ensure_ascii=False), *waterfall(timeline)):
        plain = click.unstyle(text)
        assert "\x1b" not in plain
        assert "\u202e" not in plain
        assert "\x00" not in plain
