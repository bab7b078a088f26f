"""What a timeline costs: built, written as a page, opened in Chromium; and spans made anew.

`python -m tests.benchmarks.timeline` prints one table. Times are the best of several.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from opentelemetry.sdk.trace import SpanProcessor
from playwright.sync_api import Browser

from llmspell_exporters.rebuild import Rebuilders
from llmspell_otel.events import UniversalEvent
from llmspell_otel.events.timeline import build, page
from tests.events.browser import chromium
from tests.events.test_timeline_written import many

SIZES: Final = (300, 5_000, 100_000)
TIMES: Final = 3
SEARCH: Final = """word => {
    const began = performance.now()
    search.value = word
    filter()
    return performance.now() - began
}"""


def spent(function: Callable[[], Any]) -> float:
    """Seconds of processor time that *function* takes, at best."""
    best = float("inf")
    for _ in range(TIMES):
        began = time.process_time()
        function()
        best = min(best, time.process_time() - began)
    return best


def opened(browser: Browser, text: str) -> tuple[float, float, float]:
    """Milliseconds until the page is drawn, until its first search is answered, and the next."""
    with tempfile.TemporaryDirectory() as folder:
        (file := Path(folder) / "run.html").write_text(text, "utf-8")
        never = float("inf")
        best = (never, never, never)
        for _ in range(TIMES):
            found = browser.new_page()
            found.goto(file.as_uri())
            found.wait_for_selector("body.ready")
            told = [found.evaluate("performance.now()")]
            told += [found.evaluate(SEARCH, word) for word in ("n123", "n124")]
            best = (min(best[0], told[0]), min(best[1], told[1]), min(best[2], told[2]))
            found.close()
    return best


def rebuilt(events: list[UniversalEvent]) -> None:
    """Make the spans of *events* anew, for nobody."""
    rebuilders = Rebuilders((), "benchmark", SpanProcessor())
    for event in events:
        rebuilders.take(event)
    rebuilders.finish()


def line(browser: Browser, size: int) -> str:
    """The row of a run of *size* calls."""
    events = list(many(size))
    timeline = build(events)
    text = "".join(page(timeline))
    drawn, first, later = opened(browser, text)
    cells = (
        f"{size:,}",
        f"{spent(lambda: build(events)):.3f}",
        f"{spent(lambda: ''.join(page(timeline))):.3f}",
        f"{len(text) / 1000:,.0f}",
        f"{drawn:,.0f}",
        f"{first:,.0f}, {later:,.0f}",
        f"{spent(lambda: rebuilt(events)):.3f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    print("| calls | built, s | written, s | page, kB | drawn, ms | searches, ms | spans anew, s |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    with chromium() as browser:
        for size in SIZES:
            print(line(browser, size))


if __name__ == "__main__":
    main()
