"""A timeline in a terminal."""

import unicodedata
from collections.abc import Callable, Iterator
from decimal import ROUND_HALF_UP, Decimal

import click

from llmspell_otel.events.terminal import plain
from llmspell_otel.events.timeline.model import Operation, Timeline
from llmspell_otel.events.timeline.sums import Sum, spending, times

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
_LARGEST = 6  # lines of what it came to
_LEAST = 0.005  # of a share that is told in per cent
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
        text = _fit(f"{branch}{plain(operation.kind)} {plain(operation.name)}", label)
        drawn = click.style(_bar(timeline, operation, bar), fg=_colour(operation))
        yield f"{mark} {text} {drawn} {figures(operation)}"
        for decision in operation.acts:
            yield click.style(f"  {' ' * len(branch)}  ⚑ {decided(decision)}", fg="yellow")
    yield from _came_to("What the run waited for", times(timeline), lambda it: seconds(float(it)))
    yield from _came_to("What was paid for", spending(timeline), dollars)


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
        "" if operation.outcome == "ok" else plain(operation.outcome),
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


def per_cent(share: float) -> str:
    """A share of a whole: `12 %`, `< 1 %`."""
    return f"{share:.0%}".replace("%", " %") if share >= _LEAST or not share else "< 1 %"


def _came_to(title: str, told: list[Sum], shown: Callable[[Decimal], str]) -> Iterator[str]:
    """The largest of *told* in a few lines."""
    if told:
        yield ""
        yield click.style(title, bold=True)
    for each in told[:_LARGEST]:
        named = plain(f"{each.kind} {each.name}".strip())
        many = f"{each.calls:,} calls" if each.calls > 1 else "1 call"
        yield f"{per_cent(each.share):>6}  {shown(each.value):>10}  {named}  ({many})"


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
    """The *text* in just *width* columns; letters of East Asia take two."""
    if text.isascii():
        return text.ljust(width) if len(text) <= width else f"{text[: width - 1]}…"
    used, kept = 0, ""
    for letter in text:
        used += _columns(letter)
        if used >= width:
            return f"{kept}…".ljust(width - _columns(kept) - 1 + len(kept))
        kept += letter
    return kept + " " * (width - used)


def _columns(text: str) -> int:
    wide = sum(unicodedata.east_asian_width(each) in "WF" for each in text)
    return len(text) + wide - sum(unicodedata.combining(each) > 0 for each in text)
