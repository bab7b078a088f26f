"""``llmspell-otel events``: follow, find, export, import and count what the journal keeps."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

import click

from llmspell_otel.cli.kept import (
    condition_of,
    folder_option,
    kept,
    moment,
    opened,
    run_of,
    time_of,
    writing,
)
from llmspell_otel.errors import EventError
from llmspell_otel.events.codec import decode, encode
from llmspell_otel.events.event import UniversalEvent
from llmspell_otel.events.introduction import RESOURCE
from llmspell_otel.events.journal import Journal
from llmspell_otel.events.payload import plain as bounded
from llmspell_otel.events.store.conditions import meets
from llmspell_otel.events.store.writer import LOST
from llmspell_otel.events.terminal import escaped, plain

_POLL = 0.3  # seconds between two looks while following
_SHOWN = 160  # characters of data on a line
_COUNT: Final = click.IntRange(min=0)
_TOGETHER: Final = 8 * 1_048_576
"""Bytes that are imported before it is seen to that they are committed."""

_patterns = click.argument("patterns", nargs=-1)
_json = click.option("--json", "as_json", is_flag=True, help="Write lines of JSON.")
_CONDITIONS = (
    _patterns,
    folder_option,
    click.option("--run", help="Only this run: a correlation id, its beginning, or `last`."),
    click.option(
        "--since", type=time_of, metavar="TIME", help="Not before: 2026-11-22T20:00, or 15m ago."
    ),
    click.option("--until", type=time_of, metavar="TIME", help="Before."),
    click.option(
        "--where",
        type=condition_of,
        metavar="PATH=VALUE",
        multiple=True,
        help="As data.amount>=500; repeatable, all must hold.",
    ),
)


def _conditions(function: Callable[..., None]) -> Callable[..., None]:
    """What every command that chooses events can be asked."""
    for option in reversed(_CONDITIONS):
        function = option(function)
    return function


@click.group(short_help="Follow, find, export, import and count the events that were kept.")
def command() -> None:
    """Follow, find, export, import and count the events that the journal keeps."""


@command.command()
@_patterns
@folder_option
@click.option(
    "-n", "--number", type=_COUNT, default=10, show_default=True, help="How many to begin with."
)
@_json
@click.option("--once", is_flag=True, help="Do not wait for more.")
def tail(
    patterns: tuple[str, ...], folder: Path, number: int, *, as_json: bool, once: bool
) -> None:
    """Show the latest events, and then every new one. PATTERNS choose types: 'tool:*'."""
    try:
        with kept(folder) as journal:
            for events in journal.follow(*patterns, latest=number):
                _write(events, as_json=as_json)
                if once:
                    return
                time.sleep(_POLL)
    except KeyboardInterrupt:
        return  # the way to stop following


@command.command()
@_conditions
@click.option("--limit", type=_COUNT, help="At most so many.")
@click.option("--newest-first", is_flag=True, help="The latest arrivals first.")
@_json
def query(patterns: tuple[str, ...], folder: Path, *, as_json: bool, **conditions: Any) -> None:
    """Show the events that meet every condition. PATTERNS choose types: 'tool:*' '**.error'."""
    with kept(folder) as journal:
        _write(_found(journal, patterns, **conditions), as_json=as_json)


@command.command(short_help="Write events to a file, or send their traces anywhere by OTLP.")
@click.argument("target", required=False)
@_conditions
@click.option(
    "--otlp",
    is_flag=True,
    help="Send the traces that the events tell of, as OTEL_EXPORTER_OTLP_ENDPOINT says.",
)
@click.option("--service-name", metavar="NAME", help="With --otlp: another name for all of them.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
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
            events = _found(journal, patterns, **conditions)
            _send(events, introductions, service_name, timeout)
            return
        with writing(target), click.open_file(str(target), "wb") as file:
            written = _told(_found(journal, patterns, **conditions), file)
        click.echo(f"{written} events", err=True)


@command.command("import", short_help="Keep the events that `export` wrote.")
@click.argument("source", type=click.File("rb"))
@folder_option
def take(source: IO[bytes], folder: Path) -> None:
    """Keep the events that `export` wrote to the file SOURCE; `-` is the standard input.

    They keep their ids, so that what is imported again, or is there already, is kept once.
    """
    count = waiting = 0
    with opened(folder) as journal:
        for event, size in _read(source):
            journal.append(event)
            count, waiting = count + 1, waiting + size
            if waiting > _TOGETHER:
                _commit(journal)
                waiting = 0
        _commit(journal)
    click.echo(f"{count} events", err=True)


@command.command()
@folder_option
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def stats(folder: Path, *, as_json: bool) -> None:
    """Count the events by type, and say from when to when they are."""
    with kept(folder) as journal:
        summary = journal.summary()
        told = journal.query(LOST) if LOST in summary["types"] else ()
        lost = sum(int(event.data["lost"]) for event in told)
    if as_json:
        line = json.dumps({**summary, "lost": lost}, ensure_ascii=False).encode()
        click.echo(escaped(line))
        return
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
    journal: Journal,
    patterns: tuple[str, ...],
    *,
    run: str | None = None,
    where: tuple[tuple[str, Any], ...] = (),
    limit: int | None = None,
    **conditions: Any,
) -> Iterable[UniversalEvent]:
    named = run_of(journal, run) if run else None
    events: Iterable[UniversalEvent] = journal.query(*patterns, correlation_id=named, **conditions)
    for path, wanted in where:  # each by itself: one path may be named twice
        events = filter(meets({path: wanted}), events)
    return islice(events, limit)


def _read(source: IO[bytes]) -> Iterator[tuple[UniversalEvent, int]]:
    """The events in *source*, lines of JSON, each with its size in bytes.

    Raises:
        click.ClickException: a line is no event; those before it were read.
    """
    for number, line in enumerate(source, 1):
        if line.strip():
            try:
                yield decode(line), len(line)
            except EventError as error:
                raise click.ClickException(f"{source.name}, line {number}: {error}") from error


def _commit(journal: Journal) -> None:
    if not journal.flush():
        raise click.ClickException(f"{journal.path} takes nothing: see that its disk has room")


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
    from importlib.metadata import entry_points

    for entry in entry_points(group="llmspell_rebuild"):
        sent = entry.load()(events, introductions, service_name, timeout)
        if not sent.good:
            raise click.ClickException(sent.text)
        click.echo(sent.text)
        return
    raise click.ClickException("no exporters are installed: pip install llmspell-otel")


def _write(events: Iterable[UniversalEvent], *, as_json: bool) -> None:
    if as_json:
        _told(events, sys.stdout.buffer, flush=True)
        return
    for event in events:
        data = json.dumps(bounded(event.data, _SHOWN * 4), ensure_ascii=False)
        shown = plain(data if len(data) <= _SHOWN else f"{data[:_SHOWN]}…")
        when = click.style(moment(event.timestamp), dim=True)
        click.echo(f"{when} {click.style(plain(event.event_type), bold=True)} {shown}")


def _told(events: Iterable[UniversalEvent], file: IO[bytes], *, flush: bool = False) -> int:
    """Write *events* as lines of JSON; tell how many."""
    count = 0
    for event in events:
        file.write(escaped(encode(event)) + b"\n")
        count += 1
        if flush:
            file.flush()
    return count
