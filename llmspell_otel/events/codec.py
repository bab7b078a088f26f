"""Events as JSON, and back: the round trip gives the same event."""

import json
from typing import Any

import msgspec
from msgspec import NODEFAULT
from msgspec.structs import force_setattr

from llmspell_otel.errors import EventError
from llmspell_otel.events.event import UniversalEvent
from llmspell_otel.events.ids import derived, fingerprint
from llmspell_otel.events.payload import marker, plain

_FIELDS = tuple(
    zip(
        UniversalEvent.__struct_fields__,
        UniversalEvent.__struct_encode_fields__,
        (NODEFAULT, *UniversalEvent.__struct_defaults__),
        strict=True,
    )
)
_KNOWN = frozenset(UniversalEvent.__struct_encode_fields__) - {"extra"}
_USUAL = {encoded: usual for _, encoded, usual in _FIELDS}
_LANGUAGE, _VERSION = _USUAL["language"], _USUAL["schema_version"]

_encode = msgspec.json.Encoder(enc_hook=marker).encode
_decode = msgspec.json.Decoder(UniversalEvent).decode


def encode(event: UniversalEvent) -> bytes:
    """Write *event* as one line of JSON, for readers anywhere.

    What JSON cannot hold becomes a marker with the name of its type; NaN becomes null.
    """
    told = b"" if event.given_id else b',"id":"%b"' % event.id.encode()
    if event.language is _LANGUAGE:  # so it was left out: msgspec, too, looks for the same object
        told += b',"language":"%b"' % event.language.encode()
    if event.schema_version is _VERSION:
        told += b',"schema_version":"%b"' % event.schema_version.encode()
    return b"%b%b}" % (record(event)[:-1], told)


def record(event: UniversalEvent) -> bytes:
    """The same without what `decode` knows: the derived id, the usual language and version.

    It begins with the type, by which readers of many find where one begins.
    """
    if event.extra is None:
        try:
            return _encode(event)
        except (TypeError, ValueError, OverflowError, RecursionError):
            pass  # lone surrogates, odd keys, cycles, great depth: written the slower way
    values = ((encoded, getattr(event, name), usual) for name, encoded, usual in _FIELDS)
    fields = {encoded: value for encoded, value, usual in values if value is not usual}
    first, extra = {"event_type": event.event_type}, fields.pop("extra", {})
    return json.dumps(plain({**first, **extra, **fields}), allow_nan=False).encode()


def decode(line: bytes | str) -> UniversalEvent:
    """Read an event back. Fields of a later format are kept in `extra`.

    Raises:
        EventError: *line* is not an event.
    """
    try:
        return _settled(_decode(line))
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
    extra = {name: value for name, value in fields.items() if name not in _KNOWN}
    known = {name: value for name, value in fields.items() if name in _KNOWN}
    return _settled(msgspec.convert({**known, "extra": extra or None}, UniversalEvent))


def _settled(event: UniversalEvent) -> UniversalEvent:
    """A decoded *event* without the id that follows from the rest; one with another is foreign."""
    given = event.given_id
    if given is not None:
        if given == derived(event.timestamp, event.sequence, event.origin):
            force_setattr(event, "given_id", None)
        else:
            force_setattr(event, "origin", fingerprint(given))
    return event
