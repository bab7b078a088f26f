"""`llmspell-otel events` and `llmspell-otel timeline` on a journal that another process wrote."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from llmspell_otel.cli import main
from llmspell_otel.events import UniversalEvent, make
from llmspell_otel.events.codec import decode
from llmspell_otel.events.journal import Journal
from tests.events.test_timeline import RUN, operation, story
from tests.events.test_timeline_written import many, unpacked


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
        (("--run", "other"), 20),
        (("--run", "last"), 20),
        (("--where", "data.amount>=500", "--where", "data.amount < 1000"), 5),
        (("--where", "data.amount==700"), 1),
        (("--limit", "0"), 0),
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


def test_what_was_exported_is_imported_elsewhere(folder: Path, tmp_path: Path) -> None:
    """Each event as it was, once, whatever is in it and however often it is imported."""
    odd = [
        make(
            "odd",
            {"n": 2**80, "text": "007\x1b[31m\u202e\u2028\x9b\x7f é 日本", "list": [None, 1.5]},
        ),
        make("odd", None, given_id="not-ours", language="lua", tags=("a",), priority=-3, ttl=0.5),
        decode(b'{"event_type": "later", "colour": "blue"}'),
    ]
    journal = Journal(folder)
    for event in odd:
        assert journal.append(event)
    journal.close()
    target, other = tmp_path / "out.jsonl", tmp_path / "other"
    assert run(folder, "events", "export", str(target)).exit_code == 0
    for _ in range(2):
        result = run(other, "events", "import", str(target))
        assert (result.exit_code, result.output) == (0, "37 events\n")
    there = [{event.id: event for event in closing_query(where)} for where in (folder, other)]
    assert len(there[0]) == 37
    assert there[0] == there[1]
    again = run(other, "events", "export", "-").stdout_bytes
    told = [decode(line) for text in (again, target.read_bytes()) for line in text.splitlines()]
    assert len(told) == 2 * 37
    assert all(event == there[0][event.id] for event in told)


def closing_query(folder: Path) -> list[UniversalEvent]:
    """All events in *folder*."""
    with closing(Journal(folder)) as journal:
        return list(journal.query())


def test_an_import_says_which_line_is_no_event(folder: Path, tmp_path: Path) -> None:
    """By its number; what stands before it is kept."""
    (bad := tmp_path / "bad.jsonl").write_text('{"event_type": "x"}\n\n[1]\n')
    result = run(folder, "events", "import", str(bad))
    assert result.exit_code == 1
    assert f"{bad}, line 3: this text is no event" in result.output
    assert run(folder, "events", "query", "x", "--json").output.count("\n") == 1


def test_no_output_can_command_a_terminal(tmp_path: Path) -> None:
    """Escapes, C1 controls and directions in types, runs, names and data arrive as text."""
    evil = "\x1b[31m\x9b2J\u202e\x7f\n\r\x00"
    journal = Journal(tmp_path)
    facts = {"attributes": {evil: evil}, "error": {"type": evil}, "outcome": evil}
    for event in operation("x", None, "tool", 0, 9, **facts):
        event.data["name"] = evil
        assert journal.append(replace(event, correlation_id=f"run{evil}"))
    assert journal.append(make(f"type{evil}", {evil: evil}))
    journal.close()
    for words in (
        ("events", "query"),
        ("events", "query", "--json"),
        ("events", "tail", "--once"),
        ("events", "export", "-"),
        ("events", "stats"),
        ("events", "stats", "--json"),
        ("timeline",),
        ("timeline", "last"),
    ):
        result = run(tmp_path, *words)
        assert result.exit_code == 0, result.output
        lines = result.stdout.split("\n")
        assert all(line.isprintable() for line in lines), words
    told = run(tmp_path, "events", "query", "--json", "type*").stdout
    assert decode(told).data == {evil: evil}  # and means what it did


@pytest.mark.parametrize(
    "words",
    [
        "events query --json",
        "events query",
        "events export -",
        "events tail -n 500",
        "timeline last",
        "timeline",
    ],
)
def test_a_reader_that_has_seen_enough_is_no_trouble(folder: Path, words: str) -> None:
    """A broken pipe ends the command without a word."""
    journal = Journal(folder)
    for event in many(500):
        assert journal.append(replace(event, data={**event.data, "much": "x" * 1_000}))
    journal.close()
    line = [sys.executable, "-m", "llmspell_otel.cli", *words.split(), "--journal", str(folder)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(20) in {0, 1}


@pytest.fixture
def heeding() -> Iterator[None]:
    """A child heeds Ctrl-C, also where the tests run in the background of a shell and do not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_following_ends_quietly(folder: Path, heeding: None) -> None:
    """Ctrl-C is the way to stop, and no failure."""
    line = [sys.executable, "-m", "llmspell_otel.cli", "events", "tail", "--journal", str(folder)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(20) == 0
        finally:
            process.kill()
        assert process.stderr.read() == b""


def test_stats_are_there_for_programs_too(folder: Path) -> None:
    """One JSON object."""
    told = json.loads(run(folder, "events", "stats", "--json").output)
    assert (told["events"], told["types"]["shop:sold"], told["lost"]) == (34, 20, 0)


def test_a_journal_whose_database_is_gone_is_still_there(folder: Path) -> None:
    """As long as there is a log."""
    with closing(Journal(folder)) as journal:
        assert journal.append(make("late"))
        assert journal.flush()
        (folder / "events.sqlite").unlink()
        assert run(folder, "events", "query", "late", "--json").output.count("\n") == 1


def test_asking_does_not_import_what_draws(folder: Path) -> None:
    """Questions answer fast: pages, exporters and entry points are left alone until needed."""
    code = (
        "import sys; from llmspell_otel.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(*sorted(sys.modules), file=sys.stderr)"
    )
    for words in (("events", "stats"), ("events", "tail", "--once"), ("timeline", "last")):
        line = [sys.executable, "-c", code, *words, "--journal", str(folder)]
        done = subprocess.run(line, capture_output=True, text=True, check=True)
        loaded = set(done.stderr.split())
        assert "llmspell_otel.events.journal" in loaded
        heavy = {
            "importlib.metadata",
            "importlib.resources",
            "llmspell_exporters",
            "llmspell_otel.events.timeline.document",
            "opentelemetry.sdk",
        }
        assert sorted(loaded & heavy) == []


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
        (("events", "query", "--where", "amount>>5"), "is no condition"),
        (("events", "query", "--limit", "-1"), "not in the range"),
        (("events", "query", "--run", "ffff"), "no run begins with"),
        (("events", "tail", "-n", "-1"), "not in the range"),
        (("events", "export", "/nowhere/out"), "/nowhere/out cannot be written: No such file"),
        (("events", "export", "--otlp", "--timeout", "0"), "not in the range"),
        (("events", "import", "/nowhere/in"), "No such file"),
        (("timeline", "ffff"), "no run begins with"),
        (("timeline", ""), "2 runs begin with"),
        (("timeline", "--html", "run.html"), "which run?"),
        (("timeline", "--runs", "0"), "not in the range"),
        (("timeline", RUN, "--html", "/nowhere/x"), "/nowhere/x cannot be written: No such file"),
        (("events", "query", "--journal", "/nowhere"), "no journal in /nowhere"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(folder: Path, words: tuple[str, ...], said: str) -> None:
    """No traceback, an exit code, and how to mend it."""
    result = run(folder, *words)
    assert result.exit_code in {1, 2}
    assert said in result.output
    assert result.output.count("Error: ") == 1
    assert "Traceback" not in result.output


def test_timeline_lists_the_runs(folder: Path) -> None:
    """Without a run: the latest, with their times, and what ran there and how long."""
    sold, desk = run(folder, "timeline").output.splitlines()
    assert re.fullmatch(r"other-run  \S+Z       20 events", sold)
    assert desk == f"{RUN}  2026-01-01T00:00:00.000Z       14 events  agent desk  1 s"


@pytest.mark.parametrize("name", [RUN, RUN[:8]])
def test_timeline_draws_a_run(folder: Path, name: str) -> None:
    """A run, by its id or its beginning."""
    result = run(folder, "timeline", name)
    assert result.exit_code == 0
    first, second, *_ = result.output.splitlines()
    assert first == f"{RUN}  2026-01-01T00:00:00.000Z"
    assert second == "6 operations, 1 s, $0.03, 1 failed"
    assert "guard at tool:error → replace: stale" in result.output


def test_timeline_writes_a_page(folder: Path, tmp_path: Path) -> None:
    """One file of HTML."""
    target = tmp_path / "run.html"
    result = run(folder, "timeline", RUN, "--html", str(target))
    assert result.exit_code == 0
    assert len(unpacked(target.read_text())["calls"]) == 6


def test_a_journal_without_runs_says_so(tmp_path: Path) -> None:
    """Whether they are to be listed or the last one is to be shown."""
    with closing(Journal(tmp_path)) as journal:
        assert journal.append(make("lonely"))
    for words in (("timeline",), ("timeline", "last"), ("events", "query", "--run", "last")):
        result = run(tmp_path, *words)
        assert (result.exit_code, result.output.removeprefix("Error: ")) == (
            1,
            "no runs are kept\n",
        )


def test_the_last_run_is_the_latest(folder: Path) -> None:
    """`last` has no operations here, and says so."""
    assert run(folder, "timeline", "last").output == "other-run\n0 operations, 0 s\n"
