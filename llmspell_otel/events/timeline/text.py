"""A timeline in a terminal."""

import unicodedata
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal

import click

from llmspell_otel.events.timeline.model import Operation, Timeline

_BAR = "█"
_MICRO = Decimal("0.000001")
_COLOURS = {
    "agent": "blue",
    "workflow": "magenta",
    "stage": "magenta",
    "tool": "green",
    "model": "cyan",
}
_LABEL_SHARE = 0.4
_LONG = 120  # seconds, from which on they are told in minutes
_LONGER = 3_600  # the same, in hours
_UNITS = (("s", 1), ("ms", 1e-3), ("µs", 1e-6))


def waterfall(timeline: Timeline, width: int = 100) -> Iterator[str]:
    """The lines of a waterfall *width* columns wide, coloured for a terminal.

    `◆` marks the critical path: what the duration of the run was made of.
    """
    yield click.style(headline(timeline), bold=True)
    critical = {id(each) for each in timeline.critical_path()}
    label = max(20, int(width * _LABEL_SHARE))
    bar = max(10, width - label - 30)
    for operation, branch in _branches(timeline):
        mark = "◆" if id(operation) in critical else " "
        text = _fit(f"{branch}{operation.kind} {plain(operation.name)}", label)
        drawn = click.style(_bar(timeline, operation, bar), fg=_colour(operation))
        yield f"{mark} {text} {drawn} {figures(operation)}"
        for decision in operation.acts:
            yield click.style(f"  {' ' * len(branch)}  ⚑ {decided(decision)}", fg="yellow")


def headline(timeline: Timeline) -> str:
    """The run in one line."""
    failed = len(timeline.select(outcome="error"))
    parts = [f"{len(timeline)} operations", seconds(timeline.duration), dollars(timeline.cost)]
    if failed:
        parts.append(f"{failed} failed")
    return ", ".join(part for part in parts if part)


def figures(operation: Operation) -> str:
    """Time, money, tokens and trouble of one operation."""
    given, taken = operation.tokens
    parts = [
        seconds(operation.duration),
        dollars(operation.cost),
        f"{given}→{taken} tokens" if given or taken else "",
        f"{operation.attempts} attempts" if operation.attempts > 1 else "",
        "" if operation.outcome == "ok" else operation.outcome,
        plain(str((operation.error or {}).get("type", ""))),
    ]
    return "  ".join(part for part in parts if part)


def decided(decision: object) -> str:
    """What a hook answered, and why."""
    known = decision if isinstance(decision, dict) else {}
    reason = f": {known['reason']}" if known.get("reason") else ""
    text = f"{known.get('hook', '?')} at {known.get('point', '?')} → {known.get('result', '?')}"
    return plain(text + reason)


def seconds(value: float) -> str:
    """A duration in the unit that suits it: `45 ms`, `1.23 s`, `20 min 05 s`, `3 h 07 min`."""
    if value >= _LONG:
        minutes, rest = divmod(round(value), 60)
        hours = f"{minutes // 60} h {minutes % 60:02} min"
        return f"{minutes} min {rest:02} s" if value < _LONGER else hours
    for unit, size in _UNITS:
        if value >= size * 0.9995:  # three digits make it 1
            return f"{value / size:.3g} {unit}"
    return "0 s"


def dollars(value: Decimal) -> str:
    """An amount of money; empty if there is none."""
    return f"${value.quantize(_MICRO, ROUND_HALF_UP).normalize():f}" if value else ""


def plain(text: str) -> str:
    """The *text* on one line, with nothing in it that a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(
        character if unicodedata.category(character)[0] != "C" else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def _branches(timeline: Timeline) -> Iterator[tuple[Operation, str]]:
    """Every operation with the lines that lead to it."""
    waiting = [(root, "", "") for root in reversed(timeline.roots)]
    while waiting:
        operation, branch, below = waiting.pop()
        yield operation, branch
        steps = [(child, f"{below}├─ ", f"{below}│  ") for child in operation.children]
        steps[-1:] = [(child, f"{below}└─ ", f"{below}   ") for child in operation.children[-1:]]
        waiting.extend(reversed(steps))


def _bar(timeline: Timeline, operation: Operation, width: int) -> str:
    whole = max(1, timeline.end - timeline.start)
    first = min(width - 1, (operation.start - timeline.start) * width // whole)
    length = max(1, round((operation.end - operation.start) * width / whole))
    return (" " * first + _BAR * min(length, width - first)).ljust(width)


def _colour(operation: Operation) -> str:
    return "red" if operation.outcome != "ok" else _COLOURS.get(operation.kind, "white")


def _fit(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else f"{text[: width - 1]}…"
