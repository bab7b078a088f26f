"""The trace as a tree in the terminal, when the program ends."""

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from threading import Lock
from typing import Any, Final, TextIO

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import StatusCode

from llmspell_otel.telemetry import names, semconv

LIMIT: Final = 10_000
"""Spans that are kept for the tree; further ones are counted."""
_WIDTH: Final = 140
_LEAST: Final = 0.000_001
"""US dollars below which a cost is not spelt out."""


class ConsoleTreeExporter(SpanExporter):
    """Keeps finished spans, and prints them as trees when it is shut down.

    Args:
        out: Where to; standard error by default, so that the program's own output stays clean.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out
        self._spans: list[ReadableSpan] = []
        self._left_out = 0
        self._lock = Lock()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Keep *spans* for the end."""
        with self._lock:
            room = LIMIT - len(self._spans)
            self._spans.extend(spans[:room])
            self._left_out += max(0, len(spans) - room)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Print what there is, once."""
        with self._lock:
            spans, self._spans = self._spans, []
        if spans:
            print_trees(spans, self._out or sys.stderr, left_out=self._left_out)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """There is nothing to wait for: the tree is printed at the end."""
        del timeout_millis
        return True


@dataclass(slots=True)
class _Totals:
    """What the last line says."""

    kinds: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    unpriced: int = 0
    decisions: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, span: ReadableSpan) -> None:
        attributes = span.attributes or {}
        kind = _kind(attributes)
        self.kinds[kind] += 1
        for decision in _decisions(attributes):
            self.decisions[decision.partition(": ")[2]] += 1
        if kind != "model call":
            return
        self.tokens_in += _whole(attributes, semconv.USAGE_INPUT_TOKENS)
        self.tokens_out += _whole(attributes, semconv.USAGE_OUTPUT_TOKENS)
        cost = attributes.get(names.COST_TOTAL)
        if isinstance(cost, float):
            self.cost += cost
        elif semconv.USAGE_INPUT_TOKENS in attributes:
            self.unpriced += 1

    def __str__(self) -> str:
        parts = [
            f"{count} {kind}{'s' if count != 1 else ''}"
            for kind in ("agent", "workflow", "model call", "tool call")
            if (count := self.kinds.get(kind, 0))
        ]
        parts += [f"{self.tokens_in:,} -> {self.tokens_out:,} tokens", _dollars(self.cost)]
        if self.unpriced:
            parts.append(f"{self.unpriced} unpriced")
        if self.decisions:
            told = ", ".join(f"{count} {name}" for name, count in sorted(self.decisions.items()))
            parts.append(f"hooks: {told}")
        return " · ".join(parts)


def print_trees(spans: Iterable[ReadableSpan], out: TextIO, *, left_out: int = 0) -> None:
    """Print *spans* as one tree a trace, and what they add up to."""
    from rich.console import Console
    from rich.text import Text

    spans = sorted(spans, key=lambda span: span.start_time or 0)
    console = Console(file=out, highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    console.print()
    roots, below = _families(spans)
    for service, own in groupby(sorted(roots, key=_service), key=_service):
        console.print(_tree(service, own, below))
    totals = _Totals()
    for span in spans:
        totals.add(span)
    console.print(Text.assemble(("total  ", "bold"), str(totals)))
    if left_out:
        console.print(f"{left_out:,} more spans than fit here were left out")


_Below = Mapping[int, Sequence[ReadableSpan]]


def _families(spans: Sequence[ReadableSpan]) -> tuple[list[ReadableSpan], _Below]:
    """The roots among *spans*, and the children of every span id."""
    known = {span.context.span_id for span in spans if span.context}
    below: dict[int, list[ReadableSpan]] = defaultdict(list)
    roots: list[ReadableSpan] = []
    for span in spans:
        if span.parent is not None and span.parent.span_id in known:
            below[span.parent.span_id].append(span)
        else:
            roots.append(span)
    return roots, below


def _tree(service: str, roots: Iterable[ReadableSpan], below: _Below) -> Any:
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(Text(service, "bold"))
    # A stack, not recursion: a trace may be as deep as the program's own calls.
    waiting = [(tree, root) for root in reversed(list(roots))]
    while waiting:
        above, span = waiting.pop()
        branch = above.add(_line(span, is_root=above is tree))
        children = below.get(span.context.span_id, ()) if span.context else ()
        waiting.extend((branch, child) for child in reversed(children))
    return tree


def _service(span: ReadableSpan) -> str:
    return str(span.resource.attributes.get("service.name", "program"))


def _line(span: ReadableSpan, *, is_root: bool) -> Any:
    from rich.text import Text

    attributes = span.attributes or {}
    failed = span.status.status_code is StatusCode.ERROR
    line = Text(span.name, style="red" if failed else _STYLES.get(_kind(attributes), ""))
    for text, style in _remarks(span, attributes):
        if text:
            line.append(f"  {text}", style=style)
    if is_root and span.context:
        line.append(f"  trace {span.context.trace_id:032x}", style="dim")
    return line


def _remarks(span: ReadableSpan, attributes: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield _tokens(attributes), "cyan"
    cost = attributes.get(names.COST_TOTAL)
    yield (_dollars(cost) if isinstance(cost, float) else ""), "green"
    yield _seconds(span), "dim"
    retries = _whole(attributes, names.RETRY_COUNT)
    yield (f"{retries + 1} attempts" if retries else ""), "yellow"
    cached = attributes.get(names.CACHE_RESULT) == "hit"
    yield ("from cache" if cached else ""), "magenta"
    outcome = attributes.get(names.OPERATION_OUTCOME, "")
    yield (str(outcome).upper() if outcome else ""), "bold yellow"
    error = attributes.get(semconv.ERROR_TYPE, "")
    yield (f"error {error}" if error else ""), "red"
    told = "; ".join(_decisions(attributes))
    yield (f"[{told}]" if told else ""), "yellow"


def _tokens(attributes: Mapping[str, Any]) -> str:
    if semconv.USAGE_INPUT_TOKENS not in attributes or _kind(attributes) == "agent":
        return ""
    read = _whole(attributes, semconv.USAGE_CACHE_READ_INPUT_TOKENS)
    cached = f" ({read:,} cached)" if read else ""
    given = _whole(attributes, semconv.USAGE_INPUT_TOKENS)
    got = _whole(attributes, semconv.USAGE_OUTPUT_TOKENS)
    return f"{given:,}{cached} -> {got:,} tokens"


def _dollars(cost: float) -> str:
    return f"${cost:.6f}" if cost >= _LEAST or cost == 0 else f"<${_LEAST:.6f}"


def _seconds(span: ReadableSpan) -> str:
    if span.start_time is None or span.end_time is None:
        return ""
    seconds = (span.end_time - span.start_time) / 1e9
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def _decisions(attributes: Mapping[str, Any]) -> list[str]:
    told = attributes.get(names.HOOK_RESULTS, ())
    return [str(each) for each in told] if isinstance(told, (list, tuple)) else []


def _whole(attributes: Mapping[str, Any], key: str) -> int:
    value = attributes.get(key)
    return value if isinstance(value, int) else 0


def _kind(attributes: Mapping[str, Any]) -> str:
    operation = attributes.get(semconv.OPERATION_NAME)
    return _KINDS.get(str(operation), "other")


_KINDS: Final = {
    "invoke_agent": "agent",
    "invoke_workflow": "workflow",
    "execute_tool": "tool call",
    **dict.fromkeys(
        ("chat", "generate_content", "text_completion", "embeddings", "fetch_response"),
        "model call",
    ),
}
_STYLES: Final = {"agent": "bold", "workflow": "bold", "tool call": "blue"}
