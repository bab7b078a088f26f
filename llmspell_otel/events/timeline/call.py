"""One call of a timeline as HTML: a row of the waterfall, and what is inside."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from llmspell_otel.events.timeline.markup import events, facts, kind_class, line, shown, table
from llmspell_otel.events.timeline.model import Operation, Timeline
from llmspell_otel.events.timeline.text import dollars, seconds

_DEEPEST = 24  # levels that are indented
_BAD = frozenset({"error", "abandoned"})
DECISION = ("hook", "result", "point", "reason")


def call(timeline: Timeline, operation: Operation, *, critical: bool) -> Iterator[str]:
    """The row of *operation*, with its insides to open."""
    whole = max(1, timeline.end - timeline.start)
    start = (operation.start - timeline.start) * 100 / whole
    length = max(0, operation.end - operation.start) * 100 / whole
    classes = [kind_class(operation.kind)]
    classes += ["critical"] if critical else []
    classes += ["failed"] if operation.outcome in _BAD else []
    given, taken = operation.tokens
    yield (
        f'<details id="{line(operation.id)}" class="{" ".join(classes)}"'
        f' style="--depth:{min(operation.depth, _DEEPEST)}"><summary>'
        f'<span class="name"><span class="kind">{line(operation.kind)}</span>'
        f"<b>{line(operation.name)}</b>{_badges(operation)}</span>"
        f'<span class="track"><span class="bar" style="--from:{start:.3f}%;--long:{length:.3f}%">'
        f'</span></span><span class="n">{seconds(operation.duration)}</span>'
        f'<span class="n tokens">{tokens(given, taken)}</span>'
        f'<span class="n">{dollars(operation.cost)}</span>'
    )
    if acts := _acts(operation):
        yield f'<span class="acts">{acts}</span>'
    yield '</summary><div class="inside">'
    yield from _inside(timeline, operation, critical=critical)
    yield "</div></details>"


def _badges(operation: Operation) -> str:
    badges = ""
    if operation.outcome != "ok":
        trouble = " bad" if operation.outcome in _BAD else ""
        badges += f' <span class="badge{trouble}">{line(operation.outcome)}</span>'
    if operation.attempts > 1:
        badges += f' <span class="badge">{operation.attempts} attempts</span>'
    return badges


def _acts(operation: Operation) -> str:
    """What hooks answered, the same answer once."""
    acts = Counter(
        f"⚑ {decision.get('hook', '?')}: {decision.get('result', '?')}"
        for decision in operation.acts
    )
    return "".join(
        f'<span class="hook">{line(act)}{f", {count} times" if count > 1 else ""}</span>'
        for act, count in acts.items()
    )


def _inside(timeline: Timeline, operation: Operation, *, critical: bool) -> Iterator[str]:
    yield facts(_figures(timeline, operation, critical=critical), "figures")
    if operation.error:
        yield f"<h3>Error</h3><pre>{shown(_error(operation.error))}</pre>"
    yield from _hooks(operation)
    yield "<h3>Attributes</h3>"
    told = ((line(key), shown(value)) for key, value in operation.attributes.items())
    above = " → ".join(each.name for each in operation.chain()[:-1])
    known = (("called by", line(above)),) if above else ()
    yield from table(("", ""), (*known, ("operation", line(operation.id)), *told))
    if operation.events:
        yield "<h3>Events</h3>"
        yield from events(operation.events, timeline.start)


def _figures(timeline: Timeline, operation: Operation, *, critical: bool) -> dict[str, str]:
    """The figures to read first, as markup."""
    given, taken = operation.tokens
    cached = _note(operation, "gen_ai.usage.cache_read.input_tokens", "from cache")
    thought = _note(operation, "gen_ai.usage.reasoning.output_tokens", "reasoning")
    return {
        "Input tokens": f"{given:,}{cached}" if given or taken else "",
        "Output tokens": f"{taken:,}{thought}" if given or taken else "",
        "Cost": dollars(operation.cost),
        "Time": seconds(operation.duration),
        "Own time": seconds(operation.own_time) if operation.children else "",
        "Began after": seconds((operation.start - timeline.start) / 1e9),
        "Attempts": str(operation.attempts) if operation.attempts != 1 else "",
        "Outcome": line(operation.outcome),
        "Critical path": "yes" if critical else "",
        **_stream(operation.chunks or {}),
    }


def _note(operation: Operation, attribute: str, words: str) -> str:
    count = operation.attributes.get(attribute)
    return f" <small>{count:,} {words}</small>" if isinstance(count, int) and count else ""


def _stream(chunks: Mapping[str, Any]) -> dict[str, str]:
    first = chunks.get("first")
    told = seconds(first) if isinstance(first, int | float) else ""
    return {"Chunks": line(chunks.get("count", "")), "First chunk after": told}


def _hooks(operation: Operation) -> Iterator[str]:
    """Which hooks ran here, and what they answered."""
    if operation.decisions:
        yield "<h3>What hooks answered</h3>"
        rows = (
            (*(line(each.get(key, "")) for key in DECISION), _noted(each.get("attributes")))
            for each in operation.decisions
        )
        yield from table((*DECISION, "noted"), rows)
    if operation.firings:
        yield "<h3>Hooks that ran</h3>"
        yield from table(
            ("point", "hooks", "#time"),
            (
                (line(each.get("point", "")), line(each.get("hook", "")), _lasted(each))
                for each in operation.firings
            ),
        )


def _noted(attributes: object) -> str:
    if not isinstance(attributes, Mapping):
        return ""
    return "<br>".join(f"{line(key)}: {shown(value)}" for key, value in attributes.items())


def _lasted(firing: Mapping[str, Any]) -> str:
    duration = firing.get("duration")
    return seconds(duration) if isinstance(duration, int | float) else ""


def _error(error: Mapping[str, Any]) -> str:
    return "\n".join(str(error[key]) for key in ("stacktrace", "type", "message") if key in error)


def tokens(given: int, taken: int) -> str:
    """Input and output tokens, if there are any."""
    return f"{given:,} → {taken:,}" if given or taken else ""
