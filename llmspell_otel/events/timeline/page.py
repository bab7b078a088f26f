"""A timeline as one page of HTML: nothing to load, nothing to run."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from decimal import Decimal
from html import escape
from typing import Any

from llmspell_otel.events.event import UniversalEvent
from llmspell_otel.events.payload import plain as bounded
from llmspell_otel.events.timeline.model import Operation, Timeline
from llmspell_otel.events.timeline.text import decided, dollars, figures, headline, plain, seconds

_SHOWN_BYTES = 65_536
_INDENT = 14  # pixels a level

# No scripts, no network, whatever stands in the data.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"

_STYLE = """
:root { color-scheme: light dark; --line: #8883; --agent: #4c78d8; --workflow: #a05ac8;
  --stage: #c07ad8; --tool: #3a9d5d; --model: #1a9aa8; --bad: #d04a3a; }
body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem;
  padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0 } h2 { font-size: 1rem; margin: 2rem 0 .5rem }
.run { color: #888; font-family: ui-monospace, monospace }
.sums { display: grid; gap: 0 2rem; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)) }
table { border-collapse: collapse; width: 100% }
td, th { border-bottom: 1px solid var(--line); padding: .2rem .5rem; text-align: left;
  vertical-align: top }
td.n { text-align: right; white-space: nowrap }
td.w { width: 40% } td.w div { height: .8rem; border-radius: 2px }
details { border-bottom: 1px solid var(--line) }
summary { align-items: center; cursor: pointer; display: grid; gap: .5rem;
  grid-template-columns: minmax(12rem, 2fr) 3fr minmax(9rem, 1.4fr); padding: .15rem 0 }
summary:hover, summary:focus-visible { background: #8882 }
.name { overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
.kind { color: #888 } .track { height: 1rem; position: relative }
.track div { border-radius: 2px; height: 100%; min-width: 2px; position: absolute }
.agent { background: var(--agent) } .workflow { background: var(--workflow) }
.stage { background: var(--stage) } .tool { background: var(--tool) }
.model { background: var(--model) } .other { background: #888 }
.bad { background: var(--bad) } .critical { box-shadow: 0 0 0 2px #e0a030 }
.flag { color: #b8860b } .inside { padding: .3rem 0 1rem 1.5rem }
pre { background: #8881; margin: .3rem 0; overflow: auto; padding: .5rem; white-space: pre-wrap;
  overflow-wrap: anywhere }
"""


def page(timeline: Timeline, run: str = "") -> Iterator[str]:
    """The pieces of a page on which one sees where time and money went, and who decided what."""
    title = escape(plain(run or "run"))
    yield (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title} · timeline</title><style>{_STYLE}</style></head><body>"
        f'<h1>{escape(headline(timeline))}</h1><p class="run">{title}</p>'
    )
    yield '<div class="sums">'
    yield from _sums("Where the time went", timeline, _time, lambda value: seconds(float(value)))
    yield from _sums("Where the money went", timeline, _money, dollars)
    yield "</div>"
    yield from _hooks(timeline)
    yield "<h2>Every call (open one to look inside; the outlined ones are the critical path)</h2>"
    critical = {id(each) for each in timeline.critical_path()}
    for operation in timeline.operations:
        yield from _call(timeline, operation, critical=id(operation) in critical)
    if timeline.events:
        yield "<h2>Other events</h2>"
        yield from _events(timeline.events)
    yield "</body></html>\n"


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
    rows = sorted(((v, k) for k, v in totals.items() if v > 0), reverse=True)[:12]
    if not rows:
        return
    whole = sum(totals.values())
    yield f"<section><h2>{title}</h2><table>"
    for value, (kind, name) in rows:
        share = float(value / whole * 100)
        yield (
            f'<tr><td><span class="kind">{escape(plain(kind))}</span> {escape(plain(name))}</td>'
            f'<td class="w"><div class="{_class(kind)}" style="width:{share:.1f}%"></div></td>'
            f'<td class="n">{escape(shown(value))}</td><td class="n">{share:.0f} %</td></tr>'
        )
    yield "</table></section>"


def _hooks(timeline: Timeline) -> Iterator[str]:
    """Which hook did what, where and how often."""
    counts: dict[tuple[str, ...], int] = defaultdict(int)
    for operation in timeline.operations:
        for decision in operation.decisions:
            known = [str(decision.get(key, "")) for key in ("hook", "result", "point", "reason")]
            counts[(*known[:3], operation.name, known[3])] += 1
    if not counts:
        return
    yield (
        "<h2>What the hooks did</h2><table><tr><th>hook<th>result<th>at<th>call<th>why"
        '<th class="n">times</tr>'
    )
    for row, count in sorted(counts.items(), key=lambda each: -each[1]):
        cells = "".join(f"<td>{escape(plain(cell))}</td>" for cell in row)
        yield f'<tr>{cells}<td class="n">{count}</td></tr>'
    yield "</table>"


def _call(timeline: Timeline, operation: Operation, *, critical: bool) -> Iterator[str]:
    whole = max(1, timeline.end - timeline.start)
    left = (operation.start - timeline.start) * 100 / whole
    width = max(0, operation.end - operation.start) * 100 / whole
    colour = _class(operation.kind) if operation.outcome == "ok" else "bad"
    outline = " critical" if critical else ""
    flags = ' <span class="flag">⚑</span>' if operation.decisions else ""
    yield (
        f'<details id="{escape(operation.id)}"><summary>'
        f'<span class="name" style="padding-left:{operation.depth * _INDENT}px">'
        f'<span class="kind">{escape(plain(operation.kind))}</span> '
        f"{escape(plain(operation.name))}{flags}</span>"
        f'<span class="track"><div class="{colour}{outline}"'
        f' style="left:{left:.3f}%;width:{width:.3f}%"></div></span>'
        f"<span>{escape(figures(operation))}</span></summary>"
        '<div class="inside">'
    )
    yield from _facts(timeline, operation)
    yield "</div></details>"


def _facts(timeline: Timeline, operation: Operation) -> Iterator[str]:
    facts: dict[str, Any] = {
        "operation": operation.id,
        "called by": " → ".join(each.name for each in operation.chain()[:-1]),
        "began": f"{seconds((operation.start - timeline.start) / 1e9)} after the start",
        "own time": seconds(operation.own_time),
        **{str(key): value for key, value in operation.attributes.items()},
    }
    yield "<table>"
    for name, value in facts.items():
        if value not in (None, ""):
            yield f"<tr><td>{escape(plain(name))}</td><td>{_shown(value)}</td></tr>"
    yield "</table>"
    for decision in operation.decisions:
        yield f'<p class="flag">⚑ {escape(decided(decision))}</p>'
    if operation.chunks:
        yield f"<p>stream: {_stream(operation.chunks)}</p>"
    if operation.error:
        yield f"<pre>{_text(_error(operation.error))}</pre>"
    yield from _events(operation.events)


def _stream(chunks: Any) -> str:
    first = chunks.get("first")
    after = f", the first after {seconds(first)}" if isinstance(first, int | float) else ""
    return escape(f"{chunks.get('count', '?')} chunks{after}")


def _error(error: Any) -> str:
    return "\n".join(str(error[key]) for key in ("stacktrace", "type", "message") if key in error)


def _events(events: list[UniversalEvent]) -> Iterator[str]:
    for event in events:
        yield f"<p>{escape(plain(event.event_type))}</p><pre>{_shown(event.data)}</pre>"


def _shown(value: Any) -> str:
    """A value as text of bounded length, safe within HTML."""
    if isinstance(value, str):
        return _text(value)
    return _text(json.dumps(bounded(value, _SHOWN_BYTES), indent=1, ensure_ascii=False))


def _text(text: str) -> str:
    cut = text if len(text) <= _SHOWN_BYTES else f"{text[:_SHOWN_BYTES]}<truncated>"
    return "\n".join(escape(plain(line)) for line in cut.split("\n"))


def _class(kind: str) -> str:
    return kind if kind in {"agent", "workflow", "stage", "tool", "model"} else "other"
