"""The tables of a page: what a run came to, added up."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from html import escape
from typing import Final
from urllib.parse import quote

from llmspell_otel.events.terminal import plain
from llmspell_otel.events.timeline import sums
from llmspell_otel.events.timeline.calls import kind_class
from llmspell_otel.events.timeline.model import Operation, Timeline
from llmspell_otel.events.timeline.text import dollars, per_cent, seconds

ACTS: Final = 40
"""Rows of the table of hooks."""
_DECISION: Final = ("hook", "result", "point", "reason")


def line(value: object) -> str:
    """A text on one line, escaped."""
    return escape(plain(str(value)))


def times(timeline: Timeline) -> Iterator[str]:
    """What the run waited for, by kind and name; nothing if there are no calls."""
    rows = (
        (*_share(each), seconds(float(each.value)), seconds(each.busy), f"{each.calls:,}")
        for each in sums.times(timeline)
    )
    heads = ("", "", "#", "#the run waited", "#at work", "#calls")
    yield from _section("Where the time went", heads, rows)


def spending(timeline: Timeline) -> Iterator[str]:
    """What was paid for, and by which agents if there are several."""
    told = {"Where the money went": sums.spending(timeline)}
    agents = sums.spending_of_agents(timeline)
    told |= {"Which agent spent it": agents} if len(agents) > 1 else {}
    heads = ("", "", "#", "#cost", "#calls")
    for title, found in told.items():
        rows = ((*_share(each), dollars(each.value), f"{each.calls:,}") for each in found)
        yield from _section(title, heads, rows)


def hooks(timeline: Timeline) -> Iterator[str]:
    """Which hook did what, where, why and how often, with a way to the first call of each."""
    counts: dict[tuple[str, ...], int] = defaultdict(int)
    first: dict[tuple[str, ...], Operation] = {}
    for operation in timeline.operations:
        for decision in operation.acts:
            hook, result, point, reason = (str(decision.get(key, "")) for key in _DECISION)
            row = (hook, result, point, operation.name, reason)
            counts[row] += 1
            first.setdefault(row, operation)
    ranked = sorted(counts.items(), key=lambda each: -each[1])
    rows = (
        (
            f'<span class="hook">⚑ {line(hook)}</span>',
            *map(line, (result, point)),
            f'<a href="#{quote(plain(first[row].id))}">{line(name)}</a>',
            line(why),
            f"{count:,}",
        )
        for row, count in ranked[:ACTS]
        for hook, result, point, name, why in [row]
    )
    more = f"{len(ranked) - ACTS:,} more: search for a hook below" if len(ranked) > ACTS else ""
    heads = ("hook", "result", "at", "call", "why", "#times")
    yield from _section("What the hooks did", heads, rows, more)


def _share(told: sums.Sum) -> tuple[str, str, str]:
    """What it is, a bar, and per cent."""
    style = kind_class(told.kind)
    named = f'<span class="kind {style}">{line(told.kind)}</span> {line(told.name)}'
    bar = (
        f'<svg class="{style}" viewBox="0 0 100 8" preserveAspectRatio="none"'
        f' aria-hidden="true"><rect width="{told.share * 100:.2f}" height="8"/></svg>'
    )
    return named, bar, line(per_cent(told.share))


def _section(
    title: str, heads: tuple[str, ...], rows: Iterable[Iterable[str]], more: str = ""
) -> Iterator[str]:
    """A table of *rows*, whose cells are markup; nothing if there are none. # heads numbers."""
    columns = [(head.lstrip("#"), ' class="n"' if head.startswith("#") else "") for head in heads]
    lines = [
        "".join(f"<td{style}>{cell}</td>" for cell, (_, style) in zip(row, columns, strict=True))
        for row in rows
    ]
    if lines:
        yield f"<section><h2>{title}</h2><table><tr>"
        yield "".join(f"<th{style}>{head}</th>" for head, style in columns)
        yield f"</tr><tr>{'</tr><tr>'.join(lines)}</tr></table>"
        yield f'<p class="faint">{more}</p></section>' if more else "</section>"
