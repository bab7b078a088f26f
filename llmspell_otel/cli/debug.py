"""``llmspell-otel debug``: browse what the hook `debugging` wrote when a call failed."""

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click

from llmspell_otel.cli.kept import moment
from llmspell_otel.events.terminal import plain


@click.command(short_help="Browse what the hook debugging wrote when a call failed.")
@click.argument("dump", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--entry", type=int, help="Show this one with stack and variables; -1 is the last.")
@click.option("--point", default="*", help="Only these hook points: 'tool:*'.")
@click.option("--component", default="*", help="Only these components: 'tool:search'.")
def command(dump: Path, entry: int | None, point: str, component: str) -> None:
    """List the moments in the file DUMP, oldest first, or show one of them."""
    entries = _entries(dump)
    if entry is not None:
        try:
            _show(entries[entry])
        except IndexError:
            raise click.ClickException(f"there are {len(entries)} entries, from 0 on") from None
        return
    for number, each in enumerate(entries):
        if fnmatchcase(str(each.get("point")), point) and fnmatchcase(
            str(each.get("component")), component
        ):
            click.echo(f"{number:>5}  {_line(each)}")


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(path.read_bytes())["entries"]
        return [each for each in found if isinstance(each, dict)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise click.ClickException(f"{path} is no dump of the hook debugging ({error})") from error


def _line(entry: dict[str, Any]) -> str:
    said = [moment(int(entry.get("time", 0)))]
    said += [plain(str(entry.get(name, ""))) for name in ("point", "component")]
    if "seconds" in entry:
        said.append(f"{float(entry['seconds']) * 1000:.1f} ms")
    if "error" in entry:
        said.append(plain(str(entry["error"])))
    return "  ".join(said)


def _show(entry: dict[str, Any]) -> None:
    click.echo(_line(entry))
    for name, value in entry.get("data", {}).items():
        click.echo(f"  {plain(str(name))} = {plain(str(value))}")
    for frame in entry.get("stack", ()):
        where = f"{frame.get('file')}:{frame.get('line')} in {frame.get('function')}"
        click.echo(f"  {plain(where)}")
        for name, value in frame.get("variables", {}).items():
            click.echo(f"      {plain(str(name))} = {plain(str(value))}")
