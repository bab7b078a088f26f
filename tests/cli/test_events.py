"""`llmspell-otel events` and `llmspell-otel timeline` on a journal that another process wrote."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from llmspell_otel.cli import main
from llmspell_otel.events import make
from llmspell_otel.events.codec import decode
from llmspell_otel.events.journal import Journal
from tests.events.test_timeline import RUN, story
from tests.events.test_timeline_written import unpacked


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A journal with a story, another run, and some other events."""
    journal = Journal(tmp_path / "journal")
    for event in story():
        journal.append(event)
    for number in range(20):
        journal.append(make("shop:sold", {"amount": number * 100}, "other-run", source="shop"))
    assert journal.flush()
    journal.close()
    return tmp_path / "journal"


def run(folder: Path, *words: str) -> Result:
    """Call the command line on the journal in *folder*."""
    return CliRunner(env={"LLMSPELL_OTEL_JOURNAL": str(folder)}).invoke(main, words)


def test_stats_counts_by_type(folder: Path) -> None:
    """How many, from when to when, of which types."""
    result = run(folder, "events", "stats")
    assert result.exit_code == 0
    assert result.output.startswith("34 events from 2026-01-01T00:00:00.000Z to ")
    assert "20  shop:sold" in result.output


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ((), 34),
        (("shop:*",), 20),
        (("tool.*", "model.*"), 10),
        (("--where", "data.amount>=1500"), 5),
        (("--where", "data.amount<1500", "--where", "source=shop", "--limit", "3"), 3),
        (("--run", RUN), 14),
        (("--since", "2026-01-01T00:00:00.600", "--until", "2026-01-02"), 5),
        (("--since", "1h", "shop:*"), 20),
    ],
)
def test_query_finds_what_meets_the_conditions(
    folder: Path, words: tuple[str, ...], count: int
) -> None:
    """Types, fields, run and time, as lines of JSON that are the events themselves."""
    result = run(folder, "events", "query", "--json", *words)
    assert result.exit_code == 0, result.output
    events = [decode(line) for line in result.output.splitlines()]
    assert len(events) == count


def test_query_reads_well(folder: Path) -> None:
    """Time, type and data, one event a line, newest first if so asked."""
    result = run(folder, "events", "query", "shop:*", "--newest-first", "--limit", "2")
    lines = result.output.splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [
        'shop:sold {"amount": 1900}',
        'shop:sold {"amount": 1800}',
    ]


def test_export_writes_the_events(folder: Path, tmp_path: Path) -> None:
    """A file of JSON lines, which can be read back."""
    target = tmp_path / "out.jsonl"
    result = run(folder, "events", "export", str(target), "shop:*")
    assert result.exit_code == 0
    events = [decode(line) for line in target.read_bytes().splitlines()]
    assert [event.data["amount"] for event in events] == [n * 100 for n in range(20)]


def test_tail_shows_the_latest(folder: Path) -> None:
    """The last ones, in order."""
    result = run(folder, "events", "tail", "--once", "-n", "3", "--json")
    amounts = [json.loads(line)["data"]["amount"] for line in result.output.splitlines()]
    assert amounts == [1700, 1800, 1900]


def test_tail_follows_another_process(folder: Path) -> None:
    """New events of a living process show up while it writes."""
    journal = Journal(folder, interval=0.001)
    words = f"-m llmspell_otel.cli events tail -n 0 --json live --journal {folder}".split()
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    deadline = time.monotonic() + 30
    found = ""
    try:
        # Written again and again: the follower may not have begun with the first.
        while not found and time.monotonic() < deadline:
            journal.append(make("live", {"n": 1}))
            journal.flush()
            time.sleep(0.2)
            if process.poll() is None and _readable(process.stdout):
                found = process.stdout.readline()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        journal.close()
    assert json.loads(found)["event_type"] == "live"


def _readable(stream: Any) -> bool:
    import select

    return bool(select.select([stream], [], [], 0)[0])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("events", "query", "a..b"), "empty segment"),
        (("events", "query", "--since", "soon"), "is no time"),
        (("events", "query", "--where", "amount"), "is no condition"),
        (("timeline", "ffff"), "no run begins with"),
        (("events", "query", "--journal", "/nowhere"), "no journal in /nowhere"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(folder: Path, words: tuple[str, ...], said: str) -> None:
    """No traceback, an exit code, and how to mend it."""
    result = run(folder, *words)
    assert result.exit_code != 0
    assert said in result.output
    assert "Traceback" not in result.output


def test_timeline_lists_the_runs(folder: Path) -> None:
    """Without a run: the latest, with their times."""
    lines = run(folder, "timeline").output.splitlines()
    assert [line.split()[0] for line in lines] == ["other-run", RUN]


@pytest.mark.parametrize("name", [RUN, RUN[:8]])
def test_timeline_draws_a_run(folder: Path, name: str) -> None:
    """A run, by its id or its beginning."""
    result = run(folder, "timeline", name)
    assert result.exit_code == 0
    assert result.output.startswith("6 operations, 1 s, $0.03, 1 failed")
    assert "guard at tool:error → replace: stale" in result.output


def test_timeline_writes_a_page(folder: Path, tmp_path: Path) -> None:
    """One file of HTML."""
    target = tmp_path / "run.html"
    result = run(folder, "timeline", RUN, "--html", str(target))
    assert result.exit_code == 0
    assert len(unpacked(target.read_text())["calls"]) == 6


def test_the_last_run_is_the_latest(folder: Path) -> None:
    """`last` has no operations here, and says so."""
    assert run(folder, "timeline", "last").output.startswith("0 operations")
