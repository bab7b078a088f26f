"""Content capture: whether prompts, outputs and tool arguments are recorded, and how much of them.

The switches are those of `opentelemetry-util-genai`: `CAPTURE`, `EMIT_EVENT`, `COMPLETION_HOOK`.
"""

import logging
import os
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

CAPTURE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
EMIT_EVENT: Final = "OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT"

MAX_TEXT: Final = 16_384
"""Characters of one string that are kept."""
MAX_TOTAL: Final = 131_072
"""Characters of one operation's content that are kept, all strings together."""
MAX_ITEMS: Final = 256
"""Members of one list or map that are kept."""
MAX_DEPTH: Final = 24
"""Levels of nesting that are kept."""

_OMITTED: Final = "[omitted: {} characters]"
_TRUNCATED: Final = "… [truncated: {} characters in all]"
_DEEPER: Final = "[omitted: nested too deeply]"
_MARKER_ROOM: Final = 64

_logger: Final = logging.getLogger(__name__)
_warned: Final[set[tuple[str, str]]] = set()


class CaptureMode(StrEnum):
    """Where content is recorded."""

    NO_CONTENT = "NO_CONTENT"
    SPAN_ONLY = "SPAN_ONLY"
    EVENT_ONLY = "EVENT_ONLY"
    SPAN_AND_EVENT = "SPAN_AND_EVENT"

    @property
    def on(self) -> bool:
        """Whether content is recorded anywhere."""
        return self is not CaptureMode.NO_CONTENT

    @property
    def on_span(self) -> bool:
        """Whether spans carry content."""
        return self in {CaptureMode.SPAN_ONLY, CaptureMode.SPAN_AND_EVENT}

    @property
    def on_event(self) -> bool:
        """Whether the details event carries content."""
        return self in {CaptureMode.EVENT_ONLY, CaptureMode.SPAN_AND_EVENT}


def capture_mode(environ: Mapping[str, str] = os.environ) -> CaptureMode:
    """The mode that *environ* asks for; an unknown value warns once and means `NO_CONTENT`."""
    value = environ.get(CAPTURE, "").strip().upper()
    if not value:
        return CaptureMode.NO_CONTENT
    try:
        return CaptureMode(value)
    except ValueError:
        choices = ", ".join(CaptureMode)
        _warn_once(CAPTURE, value, f"one of {choices}; content stays off")
        return CaptureMode.NO_CONTENT


def emits_details(mode: CaptureMode, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the details event is emitted: as *environ* says, else in the event modes."""
    value = environ.get(EMIT_EVENT, "").strip().lower()
    if value in {"true", "false"}:
        return value == "true"
    if value:
        _warn_once(EMIT_EVENT, value, "true or false; the capture mode decides")
    return mode.on_event


def bounded(content: Mapping[str, Any]) -> dict[str, Any]:
    """*content* cut down to what telemetry can carry, its structure intact.

    Long strings end in a marker that says how long they were, and base64 data is replaced by
    such a marker. Bounding what is bounded already changes nothing.
    """
    room = _Room()
    return {key: room.value(value, 0) for key, value in content.items()}


class _Room:
    """How much more content fits."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_TOTAL

    def value(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return _OMITTED.format(len(value))
        if isinstance(value, Mapping):
            return _DEEPER if depth >= MAX_DEPTH else self._mapping(value, depth)
        if isinstance(value, (list, tuple)):
            return _DEEPER if depth >= MAX_DEPTH else self._sequence(value, depth)
        return value

    def _text(self, text: str) -> str:
        cut = _without_data(text) if text.startswith("data:") else text
        keep = max(0, min(MAX_TEXT, self.left))
        if len(cut) > keep:
            cut = cut[: max(0, keep - _MARKER_ROOM)] + _TRUNCATED.format(len(text))
        self.left -= len(cut)
        return cut

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        blob = value.get("type") == "blob"
        result: dict[str, Any] = {}
        for key, item in list(value.items())[:MAX_ITEMS]:
            if blob and key == "content":
                result[key] = _blob(item)
            else:
                result[str(key)] = self.value(item, depth + 1)
        return result

    def _sequence(self, value: list[Any] | tuple[Any, ...], depth: int) -> list[Any]:
        # The newest messages come last, and tell most: room goes to them first.
        newest_first = value[: -MAX_ITEMS - 1 : -1]
        return [self.value(item, depth + 1) for item in newest_first][::-1]


def _blob(content: Any) -> Any:
    if isinstance(content, str) and content.startswith("[omitted:"):
        return content
    return _OMITTED.format(len(content)) if isinstance(content, (str, bytes)) else content


def _without_data(uri: str) -> str:
    head, separator, data = uri.partition(";base64,")
    if not separator or data.startswith("[omitted:"):
        return uri
    return f"{head};base64,{_OMITTED.format(len(data))}"


def _warn_once(variable: str, value: str, wanted: str) -> None:
    if (variable, value) not in _warned:
        _warned.add((variable, value))
        _logger.warning("%s=%s is not understood; it takes %s", variable, value, wanted)
