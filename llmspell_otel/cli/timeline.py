"""``llmspell-otel timeline``: where the time and the money of a run went."""

import shutil
import sys
from collections.abc import Collection
from itertools import islice
from pathlib import Path
from typing import Any, Final

import click

from llmspell_otel.cli.kept import folder_option, kept, moment, run_of, writing
from llmspell_otel.events.journal import Journal
from llmspell_otel.events.terminal import plain

_ENDS: Final = ("_complete", "_error")
_LOOKED_AT: Final = 5_000
"""Events, the latest, among which those that ended runs are looked for."""


@click.command(short_help="Show a run as a waterfall: where time and money went.")
@click.argument("run", required=False)
@folder_option
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write one self-contained page to this file instead.",
)
@click.option(
    "--runs",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="How many runs to list.",
)
def command(run: str | None, folder: Path, html: Path | None, runs: int) -> None:
    """Show the RUN of that correlation id, or its beginning; `last` is the latest.

    Without RUN the latest runs are listed.
    """
    if run is None and html is not None:
        raise click.UsageError("which run? `last` is the latest; without --html they are listed")
    with kept(folder) as journal:
        if run is None:
            _list(journal, runs)
        else:
            _show(journal, run_of(journal, run), html)


def _show(journal: Journal, run: str, html: Path | None) -> None:
    from llmspell_otel.events.timeline import build, waterfall

    timeline = build(journal.query(correlation_id=run))
    if html is not None:
        from llmspell_otel.events.timeline import page

        with writing(html), html.open("w", encoding="utf-8") as file:
            file.writelines(page(timeline, run))
        click.echo(f"wrote {html}")
        return
    width = shutil.get_terminal_size().columns
    when = f"  {moment(timeline.start)}" if timeline.operations else ""
    click.echo(click.style(f"{plain(run)}{when}", dim=True))
    for line in waterfall(timeline, max(80, width)):
        click.echo(line)


def _list(journal: Journal, limit: int) -> None:
    runs = journal.runs(limit)
    if not runs:
        click.echo("no runs are kept", err=True)
        sys.exit(1)
    titles = _titles(journal, {run for run, _, _ in runs})
    for run, count, first in runs:
        click.echo(f"{plain(run)}  {moment(first)}  {count:>7,} events{titles.get(run, '')}")


def _titles(journal: Journal, runs: Collection[str]) -> dict[str, str]:
    """By run, the operation that called all the others, where it ended of late."""
    titles: dict[str, str] = {}
    for event in islice(journal.query(newest_first=True), _LOOKED_AT):
        run, data = event.correlation_id, event.data
        if run not in runs or run in titles or not event.event_type.endswith(_ENDS):
            continue
        if isinstance(data, dict) and "operation" in data and data.get("parent") is None:
            titles[run] = _title(data)
            if len(titles) == len(runs):
                break
    return titles


def _title(data: dict[str, Any]) -> str:
    """Kind, name, duration, and the outcome if it is worth a word."""
    from llmspell_otel.events.timeline.text import seconds

    start, end, outcome = data.get("start_time"), data.get("end_time"), data.get("outcome")
    words = [f"{data.get('kind', '')} {data.get('name', '')}"]
    if isinstance(start, int) and isinstance(end, int):
        words.append(seconds((end - start) / 1e9))
    words += [str(outcome)] if outcome not in {None, "ok"} else []
    return "".join(f"  {plain(word)}" for word in words)
