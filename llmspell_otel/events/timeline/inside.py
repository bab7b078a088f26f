"""What is inside a call, as plain texts: what a page shows when the call is opened."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from llmspell_otel.events.event import UniversalEvent
from llmspell_otel.events.payload import plain as bounded
from llmspell_otel.events.terminal import plain
from llmspell_otel.events.timeline.model import Operation, Timeline
from llmspell_otel.events.timeline.text import dollars, seconds

_SHOWN: Final = 65_536  # characters of one text
_DECISION: Final = ("hook", "point", "result", "reason")
_HIGHER: Final = ("gen_ai.input.", "gen_ai.system_", "gen_ai.tool.call.arg", "gen_ai.tool.def")

Rows = list[list[str]]


def inside(timeline: Timeline, operation: Operation, waited: float | None) -> dict[str, Any]:
    """The sections of *operation*, those that are empty left out.

    Args:
        timeline: The run that it is part of.
        operation: A call.
        waited: Seconds on the critical path; None if it is not on it.
    """
    sections = {
        "figures": list(_figures(timeline, operation, waited)),
        "refusal": shown(operation.refusal) if operation.refusal else "",
        "error": shown(_error(operation.error)) if operation.error else "",
        "content": list(_content(operation.content)),
        "decisions": [_decision(each) for each in operation.decisions],
        "firings": [_firing(each) for each in operation.firings],
        "attributes": _named(operation.attributes),
        "events": listed(operation.events, timeline.start),
    }
    return {name: section for name, section in sections.items() if section}


def listed(events: Iterable[UniversalEvent], start: int) -> Rows:
    """Each of *events*: when it was after *start*, its type and its data."""
    return [
        [f"{(event.timestamp - start) / 1e6:+,.1f} ms", plain(event.event_type), shown(event.data)]
        for event in events
    ]


def shown(value: Any) -> str:
    """Any value: a text as it is, else as JSON, cut where it is too long."""
    text = value if isinstance(value, str) else _json(bounded(value, _SHOWN))
    cut = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}<truncated>"
    return "\n".join(map(plain, cut.split("\n")))


def _json(value: Any) -> str:
    if isinstance(value, dict | list):
        try:
            return msgspec.json.format(msgspec.json.encode(value), indent=1).decode()
        except (TypeError, ValueError):
            pass  # a lone surrogate: written the slower way
    return json.dumps(value, indent=1, ensure_ascii=False)


def acts(operation: Operation) -> list[str]:
    """What hooks did, the same once."""
    counts: dict[str, int] = {}
    for decision in operation.acts:
        act = plain(f"{decision.get('hook', '?')}: {decision.get('result', '?')}")
        counts[act] = counts.get(act, 0) + 1
    return [f"{act}, {count} times" if count > 1 else act for act, count in counts.items()]


def _figures(
    timeline: Timeline, operation: Operation, waited: float | None
) -> Iterator[tuple[str, str, str]]:
    """Name, value and a note of the figures to read first."""
    told = {
        "Time": (seconds(operation.duration), ""),
        "Own time": (seconds(operation.own_time), "") if operation.children else ("", ""),
        "The run waited": (seconds(waited), "on the critical path") if waited else ("", ""),
        **_usage(operation),
        "Cost": (dollars(operation.cost), ""),
        "Outcome": (plain(operation.outcome), ""),
        "Attempts": (str(operation.attempts) if operation.attempts != 1 else "", ""),
        **_stream(operation.chunks or {}),
        "Began after": (seconds((operation.start - timeline.start) / 1e9), ""),
    }
    for name, (value, note) in told.items():
        if value:
            yield name, value, note


def _usage(operation: Operation) -> dict[str, tuple[str, str]]:
    given, taken = operation.tokens
    if not given and not taken:
        return {}
    cached = _note(operation, "gen_ai.usage.cache_read.input_tokens", "from cache")
    thought = _note(operation, "gen_ai.usage.reasoning.output_tokens", "reasoning")
    return {"Input tokens": (f"{given:,}", cached), "Output tokens": (f"{taken:,}", thought)}


def _note(operation: Operation, attribute: str, words: str) -> str:
    count = operation.attributes.get(attribute)
    return f"{count:,} {words}" if isinstance(count, int) and count else ""


def _stream(chunks: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    return {
        "Chunks": (plain(str(chunks.get("count", ""))), ""),
        "First chunk after": (_lasted(chunks.get("first")), ""),
    }


def _content(content: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Input first, then output: `input` or `output`, the name, and the text."""
    sides: dict[str, list[tuple[str, str, str]]] = {"input": [], "output": []}
    for key, value in content.items():
        side = "input" if str(key).startswith(_HIGHER) else "output"
        sides[side].append((side, plain(str(key)), _spoken(value) or shown(value)))
    yield from sides["input"]
    yield from sides["output"]


def _spoken(value: Any) -> str:
    """Messages as a person reads them; empty if *value* is something else."""
    if not isinstance(value, list) or not all(_is_message(each) for each in value):
        return ""
    return shown("\n\n".join(f"{each['role']}: {_parts(each['parts'])}" for each in value))


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and "role" in value and isinstance(value.get("parts"), list)


def _parts(parts: list[Any]) -> str:
    texts = (each.get("content") if isinstance(each, dict) else None for each in parts)
    return "\n".join(
        text if isinstance(text, str) else json.dumps(bounded(part, _SHOWN), ensure_ascii=False)
        for part, text in zip(parts, texts, strict=True)
    )


def _decision(decision: Mapping[str, Any]) -> list[str]:
    noted = decision.get("attributes")
    pairs = noted.items() if isinstance(noted, Mapping) else ()
    words = [plain(str(decision.get(key, ""))) for key in _DECISION]
    return [*words, ", ".join(f"{plain(str(key))}: {shown(value)}" for key, value in pairs)]


def _firing(firing: Mapping[str, Any]) -> list[str]:
    point, hooks = (plain(str(firing.get(key, ""))) for key in ("point", "hook"))
    return [point, hooks, _lasted(firing.get("duration"))]


def _named(attributes: Mapping[str, Any]) -> Rows:
    return [[plain(str(key)), shown(value)] for key, value in attributes.items()]


def _lasted(duration: object) -> str:
    return seconds(duration) if isinstance(duration, int | float) else ""


def _error(error: Mapping[str, Any]) -> str:
    """Type and message first: a stack trace may be long."""
    headline = ": ".join(str(error[key]) for key in ("type", "message") if error.get(key))
    return "\n".join(text for text in (headline, str(error.get("stacktrace") or "")) if text)
