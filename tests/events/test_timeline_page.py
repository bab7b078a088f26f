"""The page of a real run, opened and clicked in a real browser."""

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser, Locator, Page

from llmspell_otel.events import UniversalEvent
from llmspell_otel.events.codec import decode
from llmspell_otel.events.router import Pattern
from llmspell_otel.events.timeline import build
from llmspell_otel.telemetry.capture import CAPTURE
from tests.events.browser import Watch, chromium

pytest.importorskip("agents", reason="the support desk is a program of openai-agents")

ROOT = Path(__file__).parents[2]
ENDS = "*:*_{complete,error}"
CLI = (sys.executable, "-m", "llmspell_otel.cli")
# A child runs a whole agent, and the browser starts cold.
pytestmark = pytest.mark.timeout(300)


class Run(NamedTuple):
    """A run of the support desk: its page, and its events as the journal has them."""

    url: str
    events: list[UniversalEvent]
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
    journal = {"LLMSPELL_OTEL_JOURNAL": str(folder / "journal"), CAPTURE: "SPAN_ONLY"}
    command(sys.executable, "-m", "docs.examples.support_desk.demo", **journal)
    command(*CLI, "timeline", "last", "--html", str(folder / "run.html"), **journal)
    lines = command(*CLI, "events", "query", "--json", **journal)
    events = [decode(line) for line in lines.splitlines()]
    ends = [event.data for event in events if Pattern(ENDS).matches(event.event_type)]
    return Run((folder / "run.html").as_uri(), events, ends)


@pytest.fixture(scope="module")
def browser() -> Generator[Browser]:
    """Chromium, for all tests here."""
    with chromium() as found:
        yield found


@pytest.fixture
def opened(browser: Browser, run: Run) -> Generator[Page]:
    """The page, opened from the file; nothing may be asked of a network, or go wrong."""
    with seen(browser, run.url) as found:
        yield found


@contextmanager
def seen(browser: Browser, url: str, width: int = 1400, **options: Any) -> Generator[Page]:
    """The page at *url*, once its script has drawn it."""
    with browser.new_context(viewport={"width": width, "height": 1000}, **options) as context:
        context.set_default_timeout(10_000)
        found = context.new_page()
        watch = Watch(found)
        found.goto(url)
        found.wait_for_selector("body.ready")
        if "#" not in url:
            found.evaluate("document.querySelector('.work').scrollIntoView()")
            found.wait_for_selector(".row")
        yield found
        assert watch.trouble == []
        assert {request.partition("#")[0] for request in watch.requests} == {url.partition("#")[0]}


def acted(end: dict[str, Any]) -> list[dict[str, Any]]:
    """The decisions of hooks that did something."""
    return [each for each in end.get("decisions", ()) if each["result"] != "continue"]


def row(opened: Page, operation: str) -> Locator:
    """The row of the waterfall for the call with that id, in sight."""
    found = opened.locator(f".row[data-id='{operation}']")
    found.scroll_into_view_if_needed()
    return found


def inside(opened: Page) -> Locator:
    """What is inside the open call."""
    return opened.locator("#inside")


def rows(opened: Page) -> list[str]:
    """The names of the rows that are drawn."""
    return opened.locator(".row .name b").all_inner_texts()


def figures(opened: Page) -> dict[str, str]:
    """The figures that the open call shows, by name."""
    pairs = inside(opened).locator("dl.figures > div")
    return {
        each.locator("dt").inner_text(): each.locator("dd").inner_text() for each in pairs.all()
    }


def test_a_click_opens_a_model_call_and_shows_its_tokens_and_cost(opened: Page, run: Run) -> None:
    """Each model call opens at a click, and shows what the journal says it used."""
    models = [end for end in run.ends if end["kind"] == "model"]
    assert len(models) == 5
    assert not inside(opened).is_visible()
    for end in models:
        row(opened, end["operation"]).click()
        shown = figures(opened)
        attributes = end["attributes"]
        assert number(shown["Input tokens"]) == attributes["gen_ai.usage.input_tokens"]
        assert number(shown["Output tokens"]) == attributes["gen_ai.usage.output_tokens"]
        cost = Decimal(end["cost"]).quantize(Decimal("0.000001"))
        assert Decimal(shown["Cost"].removeprefix("$")) == cost > 0
    row(opened, models[-1]["operation"]).click()
    assert not inside(opened).is_visible()


def test_one_reads_what_went_in_and_came_out(opened: Page, run: Run) -> None:
    """The mail as it was sent, with the address in it masked, and what the tool answered."""
    [mail] = [end for end in run.ends if end["name"] == "send_email"]
    row(opened, mail["operation"]).click()
    given = inside(opened).locator("pre.input").inner_text()
    assert "ada@example.com" in given
    assert "[address]" in given
    assert "ada.lovelace@analytical.example" not in given
    assert inside(opened).locator("pre.output").inner_text()


def test_one_sees_attempts_and_errors(opened: Page, run: Run) -> None:
    """How often a call was made, what each attempt's hook answered, and what was refused."""
    [looked] = [end for end in run.ends if end["attempts"] > 1]
    call = row(opened, looked["operation"])
    assert call.locator(".badge").inner_text() == f"{looked['attempts']} attempts"
    call.click()
    assert figures(opened)["Attempts"] == str(looked["attempts"])
    assert inside(opened).inner_text().count("tool:error") >= 2 * len(acted(looked))


def test_the_keyboard_does_all_that_the_mouse_does(opened: Page, run: Run) -> None:
    """Down and up, in and out, open, zoom, search and back."""
    press = opened.keyboard.press
    press("ArrowDown")
    selected = opened.locator(".row.selected .name b")
    assert selected.inner_text() == rows(opened)[0] == "triage"
    for key, name in (("ArrowDown", "turn triage"), ("ArrowRight", "gpt-5-mini")):
        press(key)
        assert selected.inner_text() == name
    press("Enter")
    assert inside(opened).is_visible()
    press("ArrowDown")
    assert "look_up_order" in inside(opened).locator("header").inner_text()
    press("Escape")
    assert not inside(opened).is_visible()
    press("z")
    assert opened.locator("#whole").is_visible()
    press("Escape")
    assert not opened.locator("#whole").is_visible()
    press("ArrowLeft")
    assert selected.inner_text() == "turn triage"
    everything = len(rows(opened))
    press("ArrowLeft")
    assert "3 more" in opened.locator(".row.selected").inner_text()
    assert len(rows(opened)) == everything - 3
    press("ArrowRight")
    assert len(rows(opened)) == everything == len(run.ends)
    press("/")
    opened.keyboard.type("deny_dangerous:")
    press("Enter")
    assert selected.inner_text() == "delete_customer"
    press("/")
    press("Escape")
    assert len(rows(opened)) == everything


def test_calls_are_found_by_anything_in_them(opened: Page) -> None:
    """Words of a name, an argument or a hook; kinds and troubles; with the callers of each."""
    search = opened.locator("#search")
    search.fill("address mask_email")
    assert rows(opened)[-1] == "send_email"
    assert opened.locator("#count").inner_text() == "1 of 19 calls"
    assert opened.locator(".row.context").count() == len(rows(opened)) - 1
    search.fill("nobody says this")
    assert opened.locator("#list").inner_text() == "No call is like that."
    search.fill("")
    opened.locator("#filters button", has_text="model").click()
    assert opened.locator("#count").inner_text() == "5 of 19 calls"
    opened.locator("#filters button", has_text="tool").click()
    opened.locator("#filters button", has_text="hooks").click()
    assert opened.locator("#count").inner_text() == "4 of 19 calls"


def test_callers_can_be_collapsed(opened: Page) -> None:
    """One by a click on its sign, all by a button."""
    everything = rows(opened)
    opened.locator(".row .twist").nth(1).click()
    assert len(rows(opened)) == len(everything) - 3
    assert not inside(opened).is_visible()
    opened.locator("#fold").click()
    assert rows(opened) == everything
    opened.locator("#fold").click()
    assert rows(opened) == ["triage", "turn triage", "turn triage", "refunds"]


def test_a_part_of_the_run_can_be_looked_at(opened: Page, run: Run) -> None:
    """Dragged on the axis: only calls of that time are there, and bars lie in it."""
    axis = box(opened.locator("#axis"))
    opened.mouse.move(axis["x"] + axis["width"] * 0.5, axis["y"] + 5)
    opened.mouse.down()
    opened.mouse.move(axis["x"] + axis["width"], axis["y"] + 5, steps=4)
    opened.mouse.up()
    starts = [end["start_time"] for end in run.ends]
    whole = max(end["end_time"] for end in run.ends) - min(starts)
    middle = min(starts) + whole / 2
    late = [end for end in run.ends if end["end_time"] > middle + whole / 100]
    some = [end for end in run.ends if end["end_time"] > middle - whole / 100]
    assert len(late) <= len(rows(opened)) <= len(some) < len(run.ends)
    opened.locator("#whole").click()
    assert len(rows(opened)) == len(run.ends)


def test_a_link_leads_to_a_call(browser: Browser, run: Run) -> None:
    """The address of the page with a call's id opens that call, and follows what is opened."""
    models = [end["operation"] for end in run.ends if end["kind"] == "model"]
    with seen(browser, f"{run.url}#{models[0]}") as found:
        assert models[0] in inside(found).inner_text()
        row(found, models[1]).click()
        assert found.url.endswith(f"#{models[1]}")


def test_one_sees_which_hook_did_what(opened: Page, run: Run) -> None:
    """In a table, at the call without opening it, and inside; the table leads to the call."""
    acts = Counter(
        (each["hook"], each["result"], each["point"], end["name"], each.get("reason", ""))
        for end in run.ends
        for each in acted(end)
    )
    table = opened.locator("section:has(th:text-is('hook')) tr:has(td)")
    told = [line.locator("td").all_inner_texts() for line in table.all()]
    assert {tuple(cells[:5]): int(cells[5]) for cells in told} == {
        (f"⚑ {hook}", *others): count for (hook, *others), count in acts.items()
    }
    for end in run.ends:
        for decision in acted(end):
            chips = row(opened, end["operation"]).locator(".hook")
            told_ = f"⚑ {decision['hook']}: {decision['result']}"
            assert any(text.startswith(told_) for text in chips.all_inner_texts())
            assert chips.first.is_visible()
    opened.evaluate("scrollTo(0, 0)")
    opened.locator("section a", has_text="delete_customer").first.click()
    denied = inside(opened).inner_text()
    assert "needs a person's approval" in denied
    ran = [
        each["hook"]
        for end in run.ends
        if end["name"] == "delete_customer"
        for each in end["hooks"]
    ]
    assert ran
    assert all(names in denied for names in ran)


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
    assert ticks[0].startswith("0 ")
    assert len(ticks) >= 4


def test_the_path_that_the_run_waited_for_is_marked(opened: Page, run: Run) -> None:
    """The calls that the timeline says are on it, and no others."""
    told = build(run.events)
    critical = {each.id for each in told.critical_path()}
    for end in run.ends:
        classes = row(opened, end["operation"]).get_attribute("class") or ""
        assert ("critical" in classes.split()) == (end["operation"] in critical)


def test_a_narrow_window_keeps_the_open_call_in_sight(browser: Browser, run: Run) -> None:
    """What is inside lies over the lower part; the call's row is above it, and nothing is cut."""
    with seen(browser, run.url, width=600) as found:
        row(found, run.ends[-1]["operation"]).click()
        chosen, panel = box(found.locator(".row.selected")), box(inside(found))
        assert chosen["y"] + chosen["height"] <= panel["y"] + 1
        assert panel["width"] > 550
        assert found.evaluate("document.documentElement.scrollWidth") <= 600


def test_events_of_no_call_can_be_read(opened: Page) -> None:
    """They are listed when asked for."""
    others = opened.locator("#others")
    others.locator("summary").first.click()
    listed = others.locator("details.event")
    assert listed.count() == int(others.locator("summary").first.inner_text().split()[0])
    listed.first.locator("summary").click()
    assert listed.first.locator("pre").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_text_can_be_read_in_light_and_dark(browser: Browser, run: Run, scheme: Any) -> None:
    """Every kind of text stands out from what it lies on, by the 4.5 : 1 of WCAG 2.2 (AA)."""
    with seen(browser, run.url, color_scheme=scheme) as found:
        row(found, next(end["operation"] for end in run.ends if end["kind"] == "model")).click()
        [(_, paper)] = colours(found, "body")
        [(_, card)] = colours(found, "section >> nth=0")
        [(_, chosen)] = colours(found, ".row.selected")
        assert (luminance(paper) > 0.5) == (scheme == "light")
        for place in PLACES:
            assert found.locator(place).count(), place
            for ink, own in set(colours(found, place)):
                grounds = (paper, card, chosen) if own.endswith(", 0)") else (own,)
                assert min(contrast(ink, ground) for ground in grounds) >= 4.5, place


PLACES = ("h1", ".run", ".kind", ".badge", ".hook", ".figures dt", ".axis span", ".row .n", "kbd")


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
