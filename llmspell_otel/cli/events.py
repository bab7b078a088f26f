"""``llmspell-otel events``: follow, find, export and count what the journal keeps."""

import json
import re
import sys
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

import click

from llmspell_otel.cli.findings import Finding
from llmspell_otel.errors import LlmspellError
from llmspell_otel.events.codec import encode
from llmspell_otel.events.event import UniversalEvent
from llmspell_otel.events.introduction import RESOURCE
from llmspell_otel.events.journal import Journal, Retention
from llmspell_otel.events.payload import plain as bounded
from llmspell_otel.events.store.index import NAME
from llmspell_otel.events.store.writer import LOST
from llmspell_otel.events.timeline.text import plain
from llmspell_otel.runtime import JOURNAL_VARIABLE

_POLL = 0.3  # seconds between two looks while following
_SHOWN = 160  # characters of data on a line
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_CONDITION = re.compile(r"([\w.]+?)(!=|>=|<=|=|>|<)(.*)", re.DOTALL)

folder_option = click.option(
    "--journal",
    "folder",
    envvar=JOURNAL_VARIABLE,
    show_envvar=True,
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".llmspell/journal"),
    show_default=True,
    help="The folder that the journal keeps events in.",
)


@contextmanager
def kept(folder: Path) -> Generator[Journal]:
    """The journal in *folder*, for questions only; our errors become one line each.

    Raises:
        click.ClickException: there is none, or it cannot be read.
    """
    if not (folder / NAME).is_file():
        raise click.ClickException(f"no journal in {folder}; name its folder with --journal")
    try:
        with closing(Journal(folder, retention=Retention(None, None))) as journal:
            yield journal
    except LlmspellError as error:
        raise click.ClickException(str(error)) from error


def moment(nanoseconds: int) -> str:
    """A time as ISO 8601, UTC, to the millisecond."""
    whole = datetime.fromtimestamp(nanoseconds // 10**9, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{nanoseconds // 10**6 % 1000:03d}Z"


def time_of(text: str) -> int:
    """Nanoseconds since the Unix epoch, of a moment (UTC if nothing is said) or of `15m` ago.

    Raises:
        click.BadParameter: *text* is neither.
    """
    try:
        if text[-1:] in _UNITS and text[:-1].replace(".", "", 1).isdigit():
            found = datetime.now(UTC) - timedelta(**{_UNITS[text[-1]]: float(text[:-1])})
        else:
            found = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        mend = "write 2026-11-22T20:00, or 15m for fifteen minutes ago (s, m, h, d)"
        raise click.BadParameter(f"{text!r} is no time; {mend}") from error
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return int(found.timestamp() * 1_000_000) * 1_000


def condition_of(text: str) -> tuple[str, tuple[str, Any]]:
    """The path, and the operator with its value, of `data.amount>=500` or `source=desk`.

    Raises:
        click.BadParameter: *text* has no operator.
    """
    if (found := _CONDITION.fullmatch(text)) is None:
        raise click.BadParameter(f"{text!r} is no condition; write data.amount>=500")
    path, operator, value = found.groups()
    try:
        return path, (operator, json.loads(value))
    except ValueError:
        return path, (operator, value)


_patterns = click.argument("patterns", nargs=-1)
_json = click.option("--json", "as_json", is_flag=True, help="Write lines of JSON.")
_CONDITIONS = (
    _patterns,
    folder_option,
    click.option("--run", help="Only this correlation id."),
    click.option(
        "--since", type=time_of, metavar="TIME", help="Not before: 2026-11-22T20:00, or 15m ago."
    ),
    click.option("--until", type=time_of, metavar="TIME", help="Before."),
    click.option(
        "--where",
        type=condition_of,
        metavar="PATH=VALUE",
        multiple=True,
        help="As data.amount>=500; repeatable.",
    ),
)


def _conditions(function: Callable[..., None]) -> Callable[..., None]:
    """What every command that chooses events can be asked."""
    for option in reversed(_CONDITIONS):
        function = option(function)
    return function


@click.group(short_help="Follow, find, export and count the events that were kept.")
def command() -> None:
    """Follow, find, export and count the events that the journal keeps."""


@command.command()
@_patterns
@folder_option
@click.option("-n", "--number", default=10, show_default=True, help="How many to begin with.")
@_json
@click.option("--once", is_flag=True, help="Do not wait for more.")
def tail(
    patterns: tuple[str, ...], folder: Path, number: int, *, as_json: bool, once: bool
) -> None:
    """Show the latest events, and then every new one. PATTERNS choose types: 'tool:*'."""
    with kept(folder) as journal:
        for events in journal.follow(*patterns, latest=number):
            _write(events, as_json=as_json)
            if once:
                return
            time.sleep(_POLL)


@command.command()
@_conditions
@click.option("--limit", type=int, help="At most so many.")
@click.option("--newest-first", is_flag=True, help="The latest arrivals first.")
@_json
def query(patterns: tuple[str, ...], folder: Path, *, as_json: bool, **conditions: Any) -> None:
    """Show the events that meet every condition. PATTERNS choose types: 'tool:*' '**.error'."""
    with kept(folder) as journal:
        _write(_found(journal, patterns, conditions), as_json=as_json)


@command.command()
@click.argument("target", required=False)
@_conditions
@click.option(
    "--otlp",
    is_flag=True,
    help="Send the traces that the events tell of, as OTEL_EXPORTER_OTLP_ENDPOINT says.",
)
@click.option(
    "--service-name", metavar="NAME", help="With --otlp: another name for what sent them."
)
@click.option(
    "--timeout",
    default=30.0,
    show_default=True,
    help="With --otlp: seconds that the receiver may keep a batch waiting.",
)
def export(
    target: str | None,
    patterns: tuple[str, ...],
    folder: Path,
    *,
    otlp: bool,
    service_name: str | None,
    timeout: float,
    **conditions: Any,
) -> None:
    """Write events as lines of JSON to the file TARGET; `-` is the standard output.

    With --otlp there is no TARGET: the spans of the events are sent, with their ids and times.
    """
    if not otlp and target is None:
        raise click.UsageError("name a file, `-` for the standard output, or say --otlp")
    with kept(folder) as journal:
        if otlp:
            patterns = (target, *patterns) if target else patterns
            introductions = list(journal.query(RESOURCE))
            _send(_found(journal, patterns, conditions), introductions, service_name, timeout)
            return
        written = 0
        with click.open_file(str(target), "wb") as file:
            for event in _found(journal, patterns, conditions):
                file.write(encode(event) + b"\n")
                written += 1
        click.echo(f"{written} events", err=True)


@command.command()
@folder_option
def stats(folder: Path) -> None:
    """Count the events by type, and say from when to when they are."""
    with kept(folder) as journal:
        summary = journal.summary()
        told = journal.query(LOST) if LOST in summary["types"] else ()
        lost = sum(int(event.data["lost"]) for event in told)
    if not summary["events"]:
        click.echo("0 events")
        return
    oldest, newest = moment(summary["oldest"]), moment(summary["newest"])
    click.echo(f"{summary['events']} events from {oldest} to {newest}")
    for name, count in summary["types"].items():
        click.echo(f"{count:>10}  {plain(name)}")
    if lost:
        click.echo(f"{lost} more were lost: the disk took nothing, or less than came", err=True)


def _found(
    journal: Journal, patterns: tuple[str, ...], conditions: dict[str, Any]
) -> Iterable[UniversalEvent]:
    run, where = conditions.pop("run", None), dict(conditions.pop("where", ()))
    return journal.query(*patterns, correlation_id=run, where=where, **conditions)


def _send(
    events: Iterable[UniversalEvent],
    introductions: Iterable[UniversalEvent],
    service_name: str | None,
    timeout: float,
) -> None:
    """Have the installed exporters send the spans of *events*.

    Raises:
        click.ClickException: not all of them have arrived.
    """
    for entry in entry_points(group="llmspell_rebuild"):
        sent: Finding = entry.load()(events, introductions, service_name, timeout)
        if not sent.good:
            raise click.ClickException(sent.text)
        click.echo(sent.text)
        return
    raise click.ClickException("no exporters are installed: pip install llmspell-otel")


def _write(events: Iterable[UniversalEvent], *, as_json: bool) -> None:
    for event in events:
        if as_json:
            sys.stdout.buffer.write(encode(event) + b"\n")
            sys.stdout.flush()
            continue
        data = json.dumps(bounded(event.data, _SHOWN * 4), ensure_ascii=False)
        shown = plain(data if len(data) <= _SHOWN else f"{data[:_SHOWN]}…")
        when = click.style(moment(event.timestamp), dim=True)
        click.echo(f"{when} {click.style(plain(event.event_type), bold=True)} {shown}")
