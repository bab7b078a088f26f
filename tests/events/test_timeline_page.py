"""The page of a real run, opened and clicked in a real browser."""

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser, Locator, Page

from llmspell_otel.events.codec import decode
from llmspell_otel.events.timeline import build, page
from tests.events.browser import Watch, chromium
from tests.events.test_timeline import hostile

pytest.importorskip("agents", reason="the support desk is a program of openai-agents")

ROOT = Path(__file__).parents[2]
CLI = (sys.executable, "-m", "llmspell_otel.cli")
# A child runs a whole agent, and the browser starts cold.
pytestmark = pytest.mark.timeout(300)


class Run(NamedTuple):
    """A run of the support desk: its page, and the ends of its calls as the journal has them."""

    url: str
    ends: list[dict[str, Any]]


def command(*words: str, **variables: str) -> str:
    """What a command of its own prints, with no telemetry variables but those given."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        words, env=clean | variables, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The demo, run with a journal; then the command line makes the page of it."""
    folder = tmp_path_factory.mktemp("desk")
    journal = {"LLMSPELL_OTEL_JOURNAL": str(folder / "journal")}
    command(sys.executable, "-m", "docs.examples.support_desk.demo", **journal)
    command(*CLI, "timeline", "last", "--html", str(folder / "run.html"), **journal)
    lines = command(*CLI, "events", "query", "--json", "*:*_{complete,error}", **journal)
    ends = [decode(line).data for line in lines.splitlines()]
    return Run((folder / "run.html").as_uri(), ends)


@pytest.fixture(scope="module")
def browser() -> Generator[Browser]:
    """Chromium, for all tests here."""
    with chromium() as found:
        yield found


@pytest.fixture
def opened(browser: Browser, run: Run) -> Generator[Page]:
    """The page, opened from the file; nothing may be asked of a network, or go wrong."""
    with browser.new_context() as context:
        found = context.new_page()
        watch = Watch(found)
        found.goto(run.url)
        yield found
        assert watch.trouble == []
        assert watch.requests == [run.url]


def acted(end: dict[str, Any]) -> list[dict[str, Any]]:
    """The decisions of hooks that did something."""
    return [each for each in end.get("decisions", ()) if each["result"] != "continue"]


def row(opened: Page, operation: str) -> Locator:
    """The row of the waterfall for the call with that id."""
    return opened.locator(f"details[id='{operation}']")


def figures(call: Locator) -> dict[str, str]:
    """The figures that an open call shows, by name."""
    pairs = call.locator("dl.figures > div")
    return {
        each.locator("dt").inner_text(): each.locator("dd").inner_text() for each in pairs.all()
    }


def test_a_click_opens_a_model_call_and_shows_its_tokens_and_cost(opened: Page, run: Run) -> None:
    """Each model call is shut, opens at a click, and shows what the journal says it used."""
    models = [end for end in run.ends if end["kind"] == "model"]
    assert len(models) == 5
    for end in models:
        call = row(opened, end["operation"])
        inside = call.locator(".figures")
        assert not inside.is_visible()
        call.locator("summary").first.click()
        assert inside.is_visible()
        shown = figures(call)
        attributes = end["attributes"]
        assert number(shown["Input tokens"]) == attributes["gen_ai.usage.input_tokens"]
        assert number(shown["Output tokens"]) == attributes["gen_ai.usage.output_tokens"]
        cost = Decimal(end["cost"]).quantize(Decimal("0.000001"))
        assert Decimal(shown["Cost"].removeprefix("$")) == cost > 0
        call.locator("summary").first.click()
        assert not inside.is_visible()


def test_the_keyboard_opens_a_call_too(opened: Page, run: Run) -> None:
    """Focus and Enter do what a click does."""
    call = row(opened, next(end["operation"] for end in run.ends if end["kind"] == "model"))
    call.locator("summary").first.focus()
    opened.keyboard.press("Enter")
    assert call.locator(".figures").is_visible()


def test_one_sees_which_hook_did_what(opened: Page, run: Run) -> None:
    """In a table, at the call without opening it, and inside; the table leads to the call."""
    acts = Counter(
        (each["hook"], each["result"], each["point"], end["name"], each.get("reason", ""))
        for end in run.ends
        for each in acted(end)
    )
    rows = opened.locator("section:has(th:text-is('hook')) tr:has(td)")
    told = [row.locator("td").all_inner_texts() for row in rows.all()]
    assert {tuple(cells[:5]): int(cells[5]) for cells in told} == {
        (f"⚑ {hook}", *others): count for (hook, *others), count in acts.items()
    }
    for end in run.ends:
        for decision in acted(end):
            chips = row(opened, end["operation"]).locator("summary .hook")
            told = f"⚑ {decision['hook']}: {decision['result']}"
            assert any(text.startswith(told) for text in chips.all_inner_texts())
            assert chips.first.is_visible()
    opened.locator("section a", has_text="delete_customer").first.click()
    denied = opened.locator("details:target")
    assert "delete_customer" in denied.locator("summary").first.inner_text()
    assert denied.locator("summary").first.is_visible()
    denied.locator("summary").first.click()
    inside = denied.locator(".inside").inner_text()
    assert "needs a person's approval" in inside
    ran = [
        each["hook"]
        for end in run.ends
        if end["name"] == "delete_customer"
        for each in end["hooks"]
    ]
    assert ran
    assert all(names in inside for names in ran)


def test_bars_lie_where_the_times_say(opened: Page, run: Run) -> None:
    """Within a few pixels, every bar begins and ends on the axis as its call did in time."""
    starts = [end["start_time"] for end in run.ends]
    first, whole = min(starts), max(end["end_time"] for end in run.ends) - min(starts)
    for end in run.ends:
        call = row(opened, end["operation"])
        track, bar = box(call.locator(".track")), box(call.locator(".bar"))
        begins = track["x"] + (end["start_time"] - first) / whole * track["width"]
        ends = track["x"] + (end["end_time"] - first) / whole * track["width"]
        assert abs(bar["x"] - begins) < 2
        assert abs(bar["x"] + bar["width"] - ends) < 5
        assert bar["x"] + bar["width"] <= track["x"] + track["width"] + 5
    ticks = opened.locator(".ticks span").all_inner_texts()
    assert ticks[0] == "0 s"
    assert len(ticks) >= 4


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_text_can_be_read_in_light_and_dark(browser: Browser, run: Run, scheme: Any) -> None:
    """Every kind of text stands out from what it lies on, by the 4.5 : 1 of WCAG 2.2 (AA)."""
    with browser.new_context(color_scheme=scheme) as context:
        found = context.new_page()
        found.goto(run.url)
        found.locator("details.model > summary").first.click()
        [(_, paper)] = colours(found, "body")
        [(_, card)] = colours(found, "section >> nth=0")
        assert (luminance(paper) > 0.5) == (scheme == "light")
        for place in ("h1", ".run", ".kind", ".badge", ".hook", ".figures dt", ".axis span"):
            assert found.locator(place).count()
            for ink, own in set(colours(found, place)):
                grounds = (paper, card) if own.endswith(", 0)") else (own,)
                assert min(contrast(ink, ground) for ground in grounds) >= 4.5, place


def test_hostile_text_does_nothing_in_a_browser(browser: Browser, tmp_path: Path) -> None:
    """Markup in names, ids, attributes and errors is shown, and neither run nor fetched."""
    file = tmp_path / "evil.html"
    file.write_text("".join(page(build(hostile()), "<img src=x onerror=alert(1)>")), "utf-8")
    with browser.new_context() as context:
        found = context.new_page()
        watch = Watch(found)
        found.goto(file.as_uri())
        for summary in found.locator("summary").all():
            summary.click()
        assert found.locator("script, img").count() == 0
        assert "<script>alert(1)</script>" in found.locator("body").inner_text()
        assert (watch.trouble, watch.requests) == ([], [file.as_uri()])


def number(text: str) -> int:
    """The number that *text* begins with: `1,043 768 from cache`."""
    return int(text.split(maxsplit=1)[0].replace(",", ""))


def box(place: Locator) -> Any:
    """Where *place* is, in pixels."""
    found = place.bounding_box()
    assert found
    return found


def colours(opened: Page, places: str) -> list[tuple[str, str]]:
    """The colour of the text at *places* and of what is right under it, as computed."""
    computed = """elements => elements.map(each => {
        const style = getComputedStyle(each)
        return [style.color, style.backgroundColor]
    })"""
    return [(ink, ground) for ink, ground in opened.locator(places).evaluate_all(computed)]


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2) of `rgb(…)`."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, from 1 to 21."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)
