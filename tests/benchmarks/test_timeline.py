"""The benchmark of timelines runs, and its rows have what the table's head promises."""

import pytest

from tests.benchmarks import timeline
from tests.events.browser import chromium


@pytest.mark.timeout(120)
def test_a_row_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a small run, once."""
    monkeypatch.setattr(timeline, "TIMES", 1)
    with chromium() as browser:
        cells = timeline.line(browser, 40).strip("| ").split(" | ")
    assert len(cells) == 7
    assert cells[0] == "40"
    assert all(float(cell) > 0 for cell in (cells[1], cells[2], cells[6]))
