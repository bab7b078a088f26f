"""Values as HTML: escaped, bounded, with nothing in them that a browser would obey."""

import json
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

from llmspell_otel.events.event import UniversalEvent
from llmspell_otel.events.payload import plain as bounded
from llmspell_otel.events.timeline.text import plain

_SHOWN_BYTES = 65_536
_KINDS = frozenset({"agent", "workflow", "stage", "tool", "model"})


def line(value: object) -> str:
    """A text on one line."""
    return escape(plain(str(value)))


def shown(value: Any) -> str:
    """Any value: a text as it is, else as JSON, cut where it is too long."""
    text = value
    if not isinstance(value, str):
        text = json.dumps(bounded(value, _SHOWN_BYTES), indent=1, ensure_ascii=False)
    cut = text if len(text) <= _SHOWN_BYTES else f"{text[:_SHOWN_BYTES]}<truncated>"
    return "\n".join(line(each) for each in cut.split("\n"))


def facts(pairs: Mapping[str, str], style: str) -> str:
    """A list of names with their values, which are markup; the empty ones are left out."""
    rows = "".join(
        f"<div><dt>{line(name)}</dt><dd>{value}</dd></div>"
        for name, value in pairs.items()
        if value
    )
    return f'<dl class="{style}">{rows}</dl>'


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """A table of *rows*, whose cells are markup. A head that begins with # is one of numbers."""
    columns = [(head.lstrip("#"), ' class="n"' if head.startswith("#") else "") for head in heads]
    yield "<table>"
    if any(head for head, _ in columns):
        yield f"<tr>{''.join(f'<th{style}>{line(head)}</th>' for head, style in columns)}</tr>"
    for row in rows:
        cells = zip(row, columns, strict=True)
        yield f"<tr>{''.join(f'<td{style}>{cell}</td>' for cell, (_, style) in cells)}</tr>"
    yield "</table>"


def events(listed: list[UniversalEvent], start: int) -> Iterator[str]:
    """Events to open, each with its milliseconds after *start*."""
    for event in listed:
        after = (event.timestamp - start) / 1e6
        yield (
            f'<details class="event"><summary><span class="faint">{after:+,.1f} ms</span> '
            f"{line(event.event_type)}</summary><pre>{shown(event.data)}</pre></details>"
        )


def kind_class(kind: str) -> str:
    """The style of operations of *kind*."""
    return kind if kind in _KINDS else "other"
