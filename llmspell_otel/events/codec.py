"""Events as JSON, and back: the round trip gives the same event."""

import json
from typing import Any

import msgspec

from llmspell_otel.errors import EventError
from llmspell_otel.events.event import UniversalEvent
from llmspell_otel.events.payload import marker, plain

_FIELDS = frozenset(UniversalEvent.__struct_fields__) - {"extra"}

_SHORT = 4_096  # bytes of JSON that nearly every event takes less than

_encoder = msgspec.json.Encoder(enc_hook=marker)
_encode, _encode_into = _encoder.encode, _encoder.encode_into
_decode = msgspec.json.Decoder(UniversalEvent).decode


def encode(event: UniversalEvent) -> bytes:
    """Write *event* as one line of JSON.

    What JSON cannot hold becomes a marker with the name of its type; NaN becomes null.
    """
    if event.extra is None:
        try:
            return _encode(event)
        except (TypeError, ValueError, OverflowError, RecursionError):
            pass  # lone surrogates, odd keys, cycles, great depth: written the slower way
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    extra = fields.pop("extra") or {}
    return json.dumps(plain({**extra, **fields}), allow_nan=False).encode()


def encode_short(event: UniversalEvent) -> bytes | bytearray:
    """The same, if it takes little room and no detour; else nothing, at no great cost.

    However large the data is, no more than `_SHORT` bytes are written: the room is not to grow.
    """
    room = bytearray(_SHORT)
    _view = memoryview(room)  # while it is looked at, a bytearray refuses to grow
    if event.extra is None:
        try:
            _encode_into(event, room)
        except (BufferError, TypeError, ValueError, OverflowError, RecursionError):
            return b""
        return room
    return b""


def decode(line: bytes | str) -> UniversalEvent:
    """Read an event back. Fields of a later format are kept in `extra`.

    Raises:
        EventError: *line* is not an event.
    """
    try:
        return _decode(line)
    except msgspec.MsgspecError:
        pass  # fields of a later format, or a lone surrogate: read the slower way
    try:
        return revive(json.loads(line))
    except (ValueError, TypeError, RecursionError) as error:
        mend = "give one JSON object with at least `event_type`"
        raise EventError("this text", f"is no event ({error})", mend) from error


def revive(fields: Any) -> UniversalEvent:
    """Make an event of decoded *fields*, keeping those that this version does not know.

    Raises:
        msgspec.ValidationError: a field is missing or of another type.
    """
    if not isinstance(fields, dict):
        raise msgspec.ValidationError("it is no object")
    extra = {name: value for name, value in fields.items() if name not in _FIELDS}
    known = {name: value for name, value in fields.items() if name in _FIELDS}
    return msgspec.convert({**known, "extra": extra or None}, UniversalEvent)
