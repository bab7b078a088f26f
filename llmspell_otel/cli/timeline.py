"""``llmspell-otel timeline``: where the time and the money of a run went."""

import shutil
import sys
from pathlib import Path

import click

from llmspell_otel.cli.events import folder_option, kept, moment
from llmspell_otel.events.journal import Journal
from llmspell_otel.events.timeline import build, page, waterfall

_LISTED = 1_000_000  # runs among which one is looked for by the beginning of its name


@click.command(short_help="Show a run as a waterfall: where time and money went.")
@click.argument("run", required=False)
@folder_option
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write one self-contained page to this file instead.",
)
@click.option("--runs", default=20, show_default=True, help="How many runs to list.")
def command(run: str | None, folder: Path, html: Path | None, runs: int) -> None:
    """Show the RUN of that correlation id, or its beginning; `last` is the latest.

    Without RUN the latest runs are listed.
    """
    with kept(folder) as journal:
        if run is None:
            _list(journal, runs)
            return
        found = _resolve(journal, run)
        timeline = build(journal.query(correlation_id=found))
        if html is None:
            width = shutil.get_terminal_size().columns
            for line in waterfall(timeline, max(80, width)):
                click.echo(line)
            return
        with html.open("w", encoding="utf-8") as file:
            file.writelines(page(timeline, found))
        click.echo(f"wrote {html}")


def _list(journal: Journal, limit: int) -> None:
    runs = journal.runs(limit)
    if not runs:
        click.echo("no runs are kept", err=True)
        sys.exit(1)
    for run, count, first in runs:
        click.echo(f"{run}  {moment(first)}  {count} events")


def _resolve(journal: Journal, run: str) -> str:
    known = journal.runs(1) if run == "last" else journal.runs(_LISTED, run)
    names = [name for name, _, _ in known]
    if run in names:
        return run
    if len(names) != 1:
        what = "no run begins with" if not names else f"{len(names)} runs begin with"
        raise click.ClickException(f"{what} {run!r}; `llmspell-otel timeline` lists the latest")
    return names[0]
