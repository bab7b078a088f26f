"""Pages of runs made up: large, empty, hostile, planted; opened in a real browser."""

from collections.abc import Generator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from llmspell_otel.events import UniversalEvent
from llmspell_otel.events.timeline import build, page
from llmspell_otel.telemetry.capture import CAPTURE
from tests.events.browser import chromium
from tests.events.test_timeline import operation, story
from tests.events.test_timeline_page import box, inside, rows, seen
from tests.events.test_timeline_written import hostile, many

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def browser() -> Generator[Browser]:
    """Chromium, for all tests here."""
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a run of five thousand calls."""
    file = tmp_path_factory.mktemp("large") / "run.html"
    file.write_text("".join(page(build(many(5_000)))), "utf-8")
    return file.as_uri()


def test_one_is_told_how_to_keep_what_went_in(browser: Browser, tmp_path: Path) -> None:
    """Where nothing was captured, an open call says by what it would be."""
    (file := tmp_path / "run.html").write_text("".join(page(build(story()))), "utf-8")
    with seen(browser, file.as_uri()) as found:
        found.locator(".row", has_text="think").click()
        assert f"{CAPTURE}=SPAN_ONLY" in inside(found).inner_text()
        found.locator(".row", has_text="desk").click()
        assert CAPTURE not in inside(found).inner_text()


def test_five_thousand_calls_are_no_trouble(browser: Browser, large: str) -> None:
    """Few of them are drawn at a time; scrolling, searching and the last one are there at once."""
    with seen(browser, large) as found:
        assert found.locator(".row").count() < 150
        found.evaluate("scrollTo(0, document.body.scrollHeight)")
        found.wait_for_selector(".row[data-place='4999']")
        assert found.locator(".row").count() < 150
        found.locator("#search").fill("n4321")
        assert found.locator("#count").inner_text() == "1 of 5,000 calls"
        assert rows(found) == ["root", "n4320", "n4321"]
        taken = found.evaluate(
            "() => { const began = performance.now(); arrange(); return performance.now() - began }"
        )
        assert taken < 500


def test_hostile_text_does_nothing_in_a_browser(browser: Browser, tmp_path: Path) -> None:
    """Markup in names, ids, attributes and errors is shown, and neither run nor fetched."""
    file = tmp_path / "evil.html"
    file.write_text("".join(page(build(hostile()), "<img src=x onerror=alert(1)>")), "utf-8")
    with seen(browser, file.as_uri()) as found:
        found.locator(".row").click()
        found.locator("section a").first.click()
        for summary in found.locator("summary").all():
            summary.click()
        found.locator("#others .event summary").click()
        found.locator("#search").fill("<script>")
        assert found.locator("img").count() == 0
        assert found.locator("script").count() == 2
        assert "<script>alert(1)</script>" in found.locator("body").inner_text()


def test_what_is_not_its_own_does_not_run(browser: Browser, tmp_path: Path) -> None:
    """Even a script that stood in the page would not be obeyed: the policy names ours alone."""
    text = "".join(page(build(story())))
    file = tmp_path / "planted.html"
    file.write_text(text.replace("<h1>", "<script>document.title = 'mine'</script><h1>"), "utf-8")
    with browser.new_context() as context:
        found = context.new_page()
        found.goto(file.as_uri())
        found.wait_for_selector("body.ready")
        assert found.title() != "mine"


@pytest.mark.parametrize(
    "events",
    [
        [],
        operation("a", None, "tool", 0, 0),
        [*operation("a", None, "agent", 0, None), *operation("b", "a", "tool", 5, None)],
    ],
    ids=["no call", "no time", "no end"],
)
def test_the_smallest_runs_can_be_looked_at(
    browser: Browser, tmp_path: Path, events: list[UniversalEvent]
) -> None:
    """Nothing goes wrong; every call has a bar, and opens."""
    (file := tmp_path / "run.html").write_text("".join(page(build(events))), "utf-8")
    with seen(browser, f"{file.as_uri()}#") as found:
        for key in ("ArrowDown", "Enter", "z", "Escape", "Escape", "ArrowLeft", "ArrowRight"):
            found.keyboard.press(key)
        if not events:
            assert found.locator("#list").inner_text() == "No calls."
        for call in found.locator(".row").all():
            bar, track = box(call.locator(".bar")), box(call.locator(".track"))
            assert track["x"] <= bar["x"] <= track["x"] + track["width"] - 3
            call.click()
            assert inside(found).is_visible()
