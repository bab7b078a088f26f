"""``llmspell-otel hooks``: which hooks would be asked where, and how their breakers stood."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import click

from llmspell_otel.cli.kept import kept, moment
from llmspell_otel.cli.options import POLICIES
from llmspell_otel.errors import LlmspellError
from llmspell_otel.hooks import Hook, Registration
from llmspell_otel.hooks.policies import load_policy
from llmspell_otel.runtime import JOURNAL_VARIABLE

_CHANGES: Final = ("hook:breaker_opened", "hook:breaker_closed")


@click.group(short_help="List hooks and the state of their breakers.")
def command() -> None:
    """List hooks, and the state of their breakers."""


@command.command("list")
@POLICIES
@click.option("--point", help="Only the hooks of this point, in either spelling.")
@click.option("--tag", help="Only the hooks with this tag.")
@click.option("--language", help="Only the hooks in this language.")
@click.option("--priority", help="Only the hooks of this priority.")
@click.option(
    "--journal",
    "folder",
    envvar=JOURNAL_VARIABLE,
    show_envvar=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where runs kept their events: tells how each hook's breaker last stood.",
)
def list_hooks(
    policies: tuple[str, ...],
    point: str | None,
    tag: str | None,
    language: str | None,
    priority: str | None,
    folder: Path | None,
) -> None:
    """List the hooks that would be asked, in their order."""
    try:
        for path in policies:
            load_policy(path)
        found = Hook.list(point=point, tag=tag, language=language, priority=priority)
    except LlmspellError as error:
        raise click.ClickException(str(error)) from error
    stood = dict(_breakers(folder)) if folder is not None else {}
    for line in _table(found, stood):
        click.echo(line)


def _breakers(folder: Path) -> Iterator[tuple[tuple[str, str], str]]:
    """By hook and point, how its breaker last changed in a kept run."""
    with kept(folder) as journal:
        for event in journal.query(*_CHANGES):
            state = "open" if event.event_type == _CHANGES[0] else "closed"
            since = f"{state} since {moment(event.timestamp)}"
            reason = event.data.get("reason")
            told = f"{since} ({reason})" if reason and state == "open" else since
            yield (str(event.data.get("hook")), str(event.data.get("hook_point"))), told


def _table(hooks: Iterable[Registration], stood: dict[tuple[str, str], str]) -> Iterator[str]:
    rows = [("point", "hook", "priority", "on failure", "language", "tags", "breaker")]
    for hook in hooks:
        spelling = hook.point.spelling if hook.point else ""
        rows.append(
            (
                spelling,
                hook.name,
                str(hook.priority),
                hook.on_failure,
                hook.language,
                ",".join(hook.tags),
                stood.get((hook.name, spelling), str(hook.breaker.state)),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = zip(row, widths, strict=True)
        yield "  ".join(cell.ljust(width) for cell, width in cells).rstrip()
