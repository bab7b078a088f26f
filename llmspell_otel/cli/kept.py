"""What the commands that ask the journal share: its folder, times, conditions, runs."""

import errno
import json
import re
from collections.abc import Generator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click

from llmspell_otel.errors import LlmspellError
from llmspell_otel.events.journal import Journal, Retention
from llmspell_otel.events.store.index import NAME
from llmspell_otel.events.store.log import SUFFIX
from llmspell_otel.runtime import JOURNAL_VARIABLE

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_CONDITION = re.compile(r"([\w.]+?)\s*(==|!=|>=|<=|=|>|<)(?![=<>])(.*)", re.DOTALL)
_LISTED: Final = 1_000_000
"""Runs among which one is looked for by the beginning of its name."""
_WHOLE: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

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
    if not (folder / NAME).is_file() and not any(folder.glob(f"*{SUFFIX}")):
        raise click.ClickException(f"no journal in {folder}; name its folder with --journal")
    with opened(folder) as journal:
        yield journal


@contextmanager
def opened(folder: Path) -> Generator[Journal]:
    """The same, made if it is not there.

    Raises:
        click.ClickException: it cannot be used.
    """
    try:
        with closing(Journal(folder, retention=Retention(None, None))) as journal:
            yield journal
    except LlmspellError as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def writing(target: object) -> Generator[None]:
    """Have trouble with writing *target* said in one line.

    Raises:
        click.ClickException: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE:  # whoever read has seen enough
            raise
        raise click.ClickException(f"{target} cannot be written: {error.strerror}") from error


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
        click.BadParameter: *text* has no operator, or none that is known.
    """
    if (found := _CONDITION.fullmatch(text)) is None:
        mend = "write data.amount>=500, with one of = != > >= < <="
        raise click.BadParameter(f"{text!r} is no condition; {mend}")
    path, operator, value = found.groups()
    try:
        return path, (operator, json.loads(value))
    except ValueError:
        return path, (operator, value)


def run_of(journal: Journal, name: str) -> str:
    """The run called *name*, or that begins like this; `last` is the latest.

    Raises:
        click.ClickException: there is none, or more than one.
    """
    if _WHOLE.fullmatch(name):
        return name  # looking for it among the others could take longer than the question
    if name == "last":
        return _last(journal)
    names = [run for run, _, _ in journal.runs(_LISTED, name)]
    if name in names or len(names) == 1:
        return name if name in names else names[0]
    many = f"{len(names)} runs begin" if names else "no run begins"
    mend = "`llmspell-otel timeline` lists the latest"
    raise click.ClickException(f"{many} with {name!r}; {mend}")


def _last(journal: Journal) -> str:
    """The run of the latest event that belongs to one."""
    for event in journal.query(newest_first=True):
        if event.correlation_id:
            return event.correlation_id
    raise click.ClickException("no runs are kept")
