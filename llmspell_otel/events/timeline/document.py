"""A timeline as one page of HTML: nothing to load, and no code in it but its own."""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from importlib.resources import files

from llmspell_otel.events.timeline.calls import packed, tokens
from llmspell_otel.events.timeline.model import Operation, Timeline
from llmspell_otel.events.timeline.tables import hooks, line, spending, times
from llmspell_otel.events.timeline.text import dollars, seconds

_SCRIPTS = ("rows.js", "inside.js", "page.js")


def page(timeline: Timeline, run: str = "") -> Iterator[str]:
    """The pieces of a page on which one sees where time and money went, and who decided what.

    Its script draws the calls that are in sight. No network, code or style is allowed to it but
    its own, whatever stands in the data: its Content-Security-Policy names the two by their
    hashes.
    """
    style, script = _file("page.css"), "".join(map(_file, _SCRIPTS))
    yield (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(style, script)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_name(timeline)} · timeline</title><style>{style}</style></head><body>"
        f'<h1>{_name(timeline)}</h1><p class="run">{line(run)}{_when(timeline)}</p>'
    )
    yield _cards(timeline)
    yield '<div class="sums"><div>'
    yield from times(timeline)
    yield "</div><div>"
    yield from spending(timeline)
    yield "</div></div>"
    yield from hooks(timeline)
    yield _file("page.html")
    yield f'<script type="application/octet-stream" id="data">{packed(timeline)}</script>'
    yield f"<script>{script}</script></body></html>\n"


@cache
def _file(name: str) -> str:
    return files("llmspell_otel.events.timeline").joinpath(name).read_text("utf-8")


def _policy(style: str, script: str) -> str:
    styles, scripts = (
        f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"
        for text in (style, script)
    )
    return (
        f"default-src 'none'; style-src {styles}; script-src {scripts}; base-uri 'none'; "
        "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _name(timeline: Timeline) -> str:
    names = [line(root.name) for root in timeline.roots]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}" if names else "No calls"


def _when(timeline: Timeline) -> str:
    if not timeline.operations:
        return ""
    began = datetime.fromtimestamp(timeline.start // 10**9, UTC)
    return f' <time datetime="{began.isoformat()}">{began:%Y-%m-%d %H:%M:%S} UTC</time>'


def _cards(timeline: Timeline) -> str:
    """The run in figures; those that are nothing are left out."""
    of = {kind: timeline.select(kind=kind) for kind in ("agent", "model", "tool")}
    given, taken = (sum(each.tokens[side] for each in of["model"]) for side in (0, 1))
    told = {
        "Time": seconds(timeline.duration),
        "Cost": dollars(timeline.cost),
        "Tokens, in → out": tokens(given, taken),
        "Calls": f"{len(timeline):,}",
        "Agents": f"{len(of['agent']):,}",
        "Model calls": f"{len(of['model']):,}",
        "Tool calls": f"{len(of['tool']):,}",
        "Failed": f"{len(timeline.select(outcome='error')):,}",
        "Acts of hooks": f"{sum(len(each.acts) for each in timeline.operations):,}",
        "Time in hooks": seconds(sum(map(_in_hooks, timeline.operations))),
    }
    rows = (
        f"<div><dt>{name}</dt><dd>{value}</dd></div>"
        for name, value in told.items()
        if value not in {"", "0", "0 s"}
    )
    return f'<dl class="cards">{"".join(rows)}</dl>'


def _in_hooks(operation: Operation) -> float:
    durations = (firing.get("duration") for firing in operation.firings)
    return sum(each for each in durations if isinstance(each, int | float))
