"""The tables of a page: what a run came to, added up."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from html import escape
from typing import Final
from urllib.parse import quote

from llmspell_otel.events.timeline.calls import kind_class
from llmspell_otel.events.timeline.model import Operation, Timeline
from llmspell_otel.events.timeline.text import dollars, plain, seconds

LARGEST: Final = 12
"""Rows of a table of shares; the others are added up in one more."""
ACTS: Final = 40
"""Rows of the table of hooks."""
_DECISION: Final = ("hook", "result", "point", "reason")
_OTHERS: Final = ("", "others")

_Key = tuple[str, str]


def line(value: object) -> str:
    """A text on one line, escaped."""
    return escape(plain(str(value)))


def times(timeline: Timeline) -> Iterator[str]:
    """What the run waited for, by kind and name; nothing if there are no calls."""
    waits = timeline.waits()
    sums = _sums(timeline.operations, _called, lambda each: Decimal(waits.get(each.id, 0)))
    whole = Decimal(timeline.duration)
    rows = (
        (*_share(key, waited, whole), seconds(float(waited)), seconds(busy), f"{count:,}")
        for key, (waited, busy, count) in sums
    )
    heads = ("", "", "#", "#the run waited", "#at work", "#calls")
    yield from _section("Where the time went", heads, rows)


def spending(timeline: Timeline) -> Iterator[str]:
    """What was paid for, and by which agents if there are several."""
    paid = [each for each in timeline.operations if each.spent]
    heads = ("", "", "#", "#cost", "#calls")
    for title, key in (("Where the money went", _called), ("Which agent spent it", _agent)):
        sums = _sums(paid, key, lambda each: each.spent)
        if key is _called or len(sums) > 1:
            rows = (
                (*_share(name, cost, timeline.cost), dollars(cost), f"{count:,}")
                for name, (cost, _, count) in sums
            )
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


def _sums(
    operations: list[Operation],
    key: Callable[[Operation], _Key],
    of: Callable[[Operation], Decimal],
) -> list[tuple[_Key, tuple[Decimal, float, int]]]:
    """By *key*: what *of* gives, seconds at work, and how many; the largest first."""
    sums: dict[_Key, tuple[Decimal, float, int]] = defaultdict(lambda: (Decimal(0), 0.0, 0))
    for operation in operations:
        _add(sums, key(operation), (of(operation), operation.own_time, 1))
    ranked = sorted(sums.items(), key=lambda each: each[1], reverse=True)
    few, others = dict(ranked[:LARGEST]), ranked[LARGEST:]
    for _, told in others:
        _add(few, _OTHERS, told)
    return list(few.items())


def _add(
    sums: dict[_Key, tuple[Decimal, float, int]], key: _Key, more: tuple[Decimal, float, int]
) -> None:
    one, two, three = sums.get(key, (Decimal(0), 0.0, 0))
    sums[key] = (one + more[0], two + more[1], three + more[2])


def _called(operation: Operation) -> _Key:
    return operation.kind, operation.name


def _agent(operation: Operation) -> _Key:
    above = [each for each in operation.chain() if each.kind == "agent"]
    return ("agent", above[-1].name) if above else ("", "no agent")


def _share(key: _Key, value: Decimal, whole: Decimal) -> tuple[str, str, str]:
    """What it is, a bar, and per cent."""
    kind, name = key
    share = float(value / whole * 100) if whole else 0.0
    named = f'<span class="kind {kind_class(kind)}">{line(kind)}</span> {line(name)}'
    bar = (
        f'<svg class="{kind_class(kind)}" viewBox="0 0 100 8" preserveAspectRatio="none"'
        f' aria-hidden="true"><rect width="{share:.2f}" height="8"/></svg>'
    )
    return named, bar, f"{share:.0f} %" if share >= 1 or not share else "&lt; 1 %"


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
