"""What the wire formats share: ids, pieces of text, and server-sent events."""

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from threading import Lock
from typing import Any

from llmspell_otel.testing.script import Reply, ScriptedToolCall

CREATED = 1_767_225_600
"""When every reply says it was made (2026-01-01), in seconds: runs are alike to the byte."""

_PIECE = re.compile(r"\S+\s*|\s+")
_ARGUMENT_PIECE = 12


class Ids:
    """Hands out ids in a fixed sequence: `call_000001`, `call_000002`, …, for each prefix."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: dict[str, int] = {}

    def next(self, prefix: str) -> str:
        """The next id that begins with *prefix*."""
        with self._lock:
            count = self._counts[prefix] = self._counts.get(prefix, 0) + 1
        return f"{prefix}{count:06d}"


def text_pieces(reply: Reply, text: str) -> Iterable[str]:
    """The pieces in which a stream brings *text*: words, again and again if the reply repeats."""
    pieces = _PIECE.findall(text)
    return itertools.cycle(pieces) if reply.repeat else pieces


def argument_pieces(call: ScriptedToolCall) -> Iterator[str]:
    """The pieces in which a stream brings a call's arguments; they may split anywhere."""
    whole = call.json
    for start in range(0, len(whole), _ARGUMENT_PIECE):
        yield whole[start : start + _ARGUMENT_PIECE]


def sse(data: Any, *, event: str | None = None) -> bytes:
    """Encode one server-sent event."""
    name = f"event: {event}\n" if event else ""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return f"{name}data: {text}\n\n".encode()
