"""A timeline as one page of HTML: nothing to load, nothing to run."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from decimal import Decimal
from importlib.resources import files

from llmspell_otel.events.timeline.call import DECISION, call, tokens
from llmspell_otel.events.timeline.markup import events, facts, kind_class, line, table
from llmspell_otel.events.timeline.model import Operation, Timeline
from llmspell_otel.events.timeline.text import dollars, seconds

_TICKS = 6  # on the axis, about
_LARGEST = 12  # rows of a table of shares

# No scripts, no network, whatever stands in the data.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_LEGEND = (
    '<p class="legend"><span><i></i>on the critical path: shorten one of these, and the run may'
    ' end sooner</span><span><i class="pale"></i>not on it</span>'
    '<span><i class="failed"></i>failed</span><span>⚑ a hook acted</span>'
    "<span>open a call to look inside</span></p>"
)


def page(timeline: Timeline, run: str = "") -> Iterator[str]:
    """The pieces of a page on which one sees where time and money went, and who decided what."""
    title = line(run or "run")
    style = files("llmspell_otel.events.timeline").joinpath("page.css").read_text("utf-8")
    yield (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title} · timeline</title><style>{style}</style></head><body>"
        f'<h1>{_name(timeline)}</h1><p class="run">{title}</p>'
    )
    yield facts(_cards(timeline), "cards")
    yield '<div class="sums">'
    yield from _sums("Where the time went", timeline, _time, lambda value: seconds(float(value)))
    yield from _sums("Where the money went", timeline, _money, dollars)
    yield "</div>"
    yield from _hooks(timeline)
    yield from _calls(timeline)
    if timeline.events:
        yield '<h2>Other events</h2><div class="calls">'
        yield from events(timeline.events, timeline.start)
        yield "</div>"
    yield "</body></html>\n"


def _name(timeline: Timeline) -> str:
    names = [line(root.name) for root in timeline.roots]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}" if names else "No calls"


def _cards(timeline: Timeline) -> dict[str, str]:
    """The run in figures."""
    kinds = {kind: timeline.select(kind=kind) for kind in ("agent", "model", "tool")}
    given = sum(each.tokens[0] for each in kinds["model"])
    taken = sum(each.tokens[1] for each in kinds["model"])
    acts = sum(len(each.acts) for each in timeline.operations)
    return {
        "Time": seconds(timeline.duration),
        "Cost": dollars(timeline.cost),
        "Tokens, in → out": tokens(given, taken),
        "Calls": str(len(timeline)),
        "Agents": _count(kinds["agent"]),
        "Model calls": _count(kinds["model"]),
        "Tool calls": _count(kinds["tool"]),
        "Failed": _count(timeline.select(outcome="error")),
        "Acts of hooks": f"{acts}" if acts else "",
    }


def _count(operations: list[Operation]) -> str:
    return f"{len(operations)}" if operations else ""


def _time(operation: Operation) -> Decimal:
    return Decimal(operation.own_time)


def _money(operation: Operation) -> Decimal:
    below = any(child.cost for child in operation.children)
    return Decimal(0) if below else operation.cost


def _sums(
    title: str,
    timeline: Timeline,
    of: Callable[[Operation], Decimal],
    shown: Callable[[Decimal], str],
) -> Iterator[str]:
    """A table of shares by kind and name, the largest first; nothing if there is nothing."""
    totals: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for operation in timeline.operations:
        totals[operation.kind, operation.name] += of(operation)
    rows = sorted(((v, k) for k, v in totals.items() if v > 0), reverse=True)[:_LARGEST]
    if not rows:
        return
    whole = sum(totals.values())
    yield f"<section><h2>{title}</h2><table>"
    for value, (kind, name) in rows:
        share, style = float(value / whole * 100), kind_class(kind)
        yield (
            f'<tr class="{style}"><td><span class="kind">{line(kind)}</span> {line(name)}</td>'
            f'<td class="share"><div class="fill" style="width:{share:.1f}%"></div></td>'
            f'<td class="n">{line(shown(value))}</td><td class="n faint">{share:.0f} %</td></tr>'
        )
    yield "</table></section>"


def _hooks(timeline: Timeline) -> Iterator[str]:
    """Which hook did what, where and how often."""
    counts: dict[tuple[str, ...], int] = defaultdict(int)
    first: dict[tuple[str, ...], Operation] = {}
    for operation in timeline.operations:
        for decision in operation.acts:
            known = [str(decision.get(key, "")) for key in DECISION]
            row = (*known[:3], operation.name, known[3])
            counts[row] += 1
            first.setdefault(row, operation)
    if not counts:
        return
    yield "<h2>What the hooks did</h2><section>"
    rows = (
        (
            f'<span class="hook">⚑ {line(hook)}</span>',
            *map(line, (result, point)),
            f'<a href="#{line(first[row].id)}">{line(name)}</a>',
            line(why),
            str(count),
        )
        for row, count in sorted(counts.items(), key=lambda each: -each[1])
        for hook, result, point, name, why in [row]
    )
    yield from table(("hook", "result", "at", "call", "why", "#times"), rows)
    yield "</section>"


def _calls(timeline: Timeline) -> Iterator[str]:
    """The waterfall: every call in its place on one axis of time."""
    step = _step(timeline.duration)
    share = step / timeline.duration * 100 if step else 100
    ticks = "".join(
        f'<span style="left:{number * share:.3f}%">{seconds(number * step)}</span>'
        for number in range(int(99.9 / share) + 1 if step else 1)
    )
    yield (
        f'<h2>Every call</h2>{_LEGEND}<div class="calls" style="--tick:{share:.3f}%">'
        f'<div class="axis"><span>call</span><span class="ticks">{ticks}</span>'
        '<span class="n">time</span><span class="n tokens">tokens</span><span class="n">cost</span>'
        "</div>"
    )
    critical = {id(each) for each in timeline.critical_path()}
    for operation in timeline.operations:
        yield from call(timeline, operation, critical=id(operation) in critical)
    yield "</div>"


def _step(duration: float) -> float:
    """Seconds between two ticks of an axis: 1, 2 or 5 of a power of ten; 0 without duration."""
    if duration <= 0:
        return 0
    least = duration / _TICKS
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * each for each in (1, 2, 5, 10) if power * each >= least * 0.999)
