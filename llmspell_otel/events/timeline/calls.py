"""The calls of a timeline as data for the page's script: small, and nothing to interpret."""

import base64
import zlib
from typing import Any, Final

import msgspec

from llmspell_otel.events.terminal import plain
from llmspell_otel.events.timeline.inside import acts, inside, listed
from llmspell_otel.events.timeline.model import Operation, Timeline
from llmspell_otel.events.timeline.text import dollars, seconds

ROOM: Final = 256 * 1_048_576
"""Bytes of what is inside calls that a page holds; calls beyond show their figures alone."""
_KINDS: Final = frozenset({"agent", "workflow", "stage", "tool", "model"})
_FEW: Final = ("figures", "refusal", "error")


def packed(timeline: Timeline, room: int = ROOM) -> str:
    """Everything that the page's script shows: JSON, deflated, in base64.

    Each call knows its caller by its place in the list; times are in microseconds after the start.
    """
    waits = timeline.waits()
    places = {each.id: place for place, each in enumerate(timeline.operations)}
    calls: list[msgspec.Raw] = []
    for operation in timeline.operations:
        told = _call(timeline, operation, places, waits.get(operation.id))
        line = msgspec.json.encode(told)
        if len(line) > room:
            told["inside"] = {key: told["inside"][key] for key in _FEW if key in told["inside"]}
            line = msgspec.json.encode(told)
        room = max(0, room - len(line))
        calls.append(msgspec.Raw(line))
    whole = {
        "duration": _microseconds(timeline.end - timeline.start),
        "calls": calls,
        "events": listed(timeline.events, timeline.start),
    }
    return base64.b64encode(zlib.compress(msgspec.json.encode(whole))).decode()


def kind_class(kind: str) -> str:
    """The style of operations of *kind*."""
    return kind if kind in _KINDS else "other"


def tokens(given: int, taken: int) -> str:
    """Input and output tokens, if there are any."""
    return f"{given:,} → {taken:,}" if given or taken else ""


def _call(
    timeline: Timeline, operation: Operation, places: dict[str, int], waited: float | None
) -> dict[str, Any]:
    told = {
        "id": plain(operation.id),
        "kind": plain(operation.kind),
        "style": kind_class(operation.kind),
        "name": plain(operation.name),
        "start": _microseconds(operation.start - timeline.start),
        "long": _microseconds(max(0, operation.end - operation.start)),
        "time": seconds(operation.duration),
        "tokens": tokens(*operation.tokens),
        "cost": dollars(operation.cost),
        "outcome": plain(operation.outcome) if operation.outcome != "ok" else "",
        "attempts": operation.attempts if operation.attempts > 1 else 0,
        "critical": waited is not None,
        "acts": acts(operation),
        "inside": inside(timeline, operation, waited),
    }
    known = {
        "parent": operation.parent.id if operation.parent else "",
        "branch": operation.branch_of,
    }
    others = {name: places[known_id] for name, known_id in known.items() if known_id in places}
    return {name: value for name, value in told.items() if value} | others


def _microseconds(nanoseconds: int) -> float:
    return round(nanoseconds / 1000, 3)
