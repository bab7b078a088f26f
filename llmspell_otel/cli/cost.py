"""``llmspell-otel cost``: what was spent, by run, agent, model, user, …, from the journal."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

import click

from llmspell_otel.builtin.spending import ALL, BY, Ledger, Sum, dearest
from llmspell_otel.cli.kept import folder_option, kept, time_of
from llmspell_otel.events.event import UniversalEvent
from llmspell_otel.events.terminal import plain

_RECORDED: Final = "cost.recorded"
_COLUMNS: Final[tuple[str, ...]] = ("name", "currency", "cost", "calls", "unpriced")


@click.command(short_help="Sum what was spent, by run, agent, model, user, ….")
@folder_option
@click.option("--by", type=click.Choice([ALL, *BY]), default="model", show_default=True)
@click.option("--since", type=time_of, metavar="TIME", help="Not before: 2026-11-22, or 24h ago.")
@click.option("--until", type=time_of, metavar="TIME", help="Before.")
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table")
def command(folder: Path, by: str, since: int | None, until: int | None, form: str) -> None:
    """Sum what the journal has kept of the hook `cost_tracking`, the dearest first."""
    ledger = Ledger(0)
    with kept(folder) as journal:
        for event in journal.query(_RECORDED, since=since, until=until):
            _add(ledger, event)
    rows = [_row(*each) for each in dearest(ledger.report(by))]
    _WRITERS[form](rows)


def _add(ledger: Ledger, event: UniversalEvent) -> None:
    said = event.data if isinstance(event.data, Mapping) else {}
    names = {kind: str(said.get(kind) or "(none)") for kind in BY}
    ledger.add(names, _money(said.get("cost")), str(said.get("currency", "USD")), 0)


def _money(text: Any) -> Decimal | None:
    try:
        money = Decimal(str(text))
    except InvalidOperation:
        return None
    return money if money.is_finite() else None


def _row(name: str, currency: str, total: Sum) -> dict[str, Any]:
    cost = f"{total.cost.normalize():f}"
    cells = (name, currency, cost, total.calls, total.unpriced)
    return dict(zip(_COLUMNS, cells, strict=True))


def _table(rows: list[dict[str, Any]]) -> None:
    if not rows:
        click.echo("nothing was spent, or the hook cost_tracking was off", err=True)
        return
    lines = [_COLUMNS, *([plain(str(each[name])) for name in _COLUMNS] for each in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(_COLUMNS))]
    for line in lines:
        click.echo("  ".join(_aligned(line, widths)).rstrip())


def _aligned(line: Iterable[str], widths: list[int]) -> Iterator[str]:
    for at, (cell, width) in enumerate(zip(line, widths, strict=True)):
        yield cell.ljust(width) if at < _TEXTS else cell.rjust(width)


_TEXTS: Final = 2


def _csv(rows: list[dict[str, Any]]) -> None:
    writer: csv.DictWriter[str] = csv.DictWriter(sys.stdout, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        # A spreadsheet takes what begins like this for a formula.
        formula = row["name"][:1] in ("=", "+", "-", "@", "\t", "\r")
        writer.writerow({**row, "name": f"'{row['name']}"} if formula else row)


def _json(rows: list[dict[str, Any]]) -> None:
    click.echo(json.dumps(rows, indent=2))


_WRITERS: Final = {"table": _table, "csv": _csv, "json": _json}
