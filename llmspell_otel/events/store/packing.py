"""Events as chunks of JSON: many at a time, and however large their data is, within bounds."""

import contextlib
from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from llmspell_otel.events.codec import record
from llmspell_otel.events.event import UniversalEvent
from llmspell_otel.events.payload import marker, plain, unwieldy, weighs_more

Chunk = tuple[bytes | bytearray, int]
"""Events as an array of JSON, and how many."""

_ROOM = 65_536  # bytes that a batch of the usual events takes less than
_SLACK = 4_096  # bytes that the fields beside the data may take
_SHARES = (0.65, 0.125, 0)  # of the limit, that data is cut to: escapes lengthen it up to six times

_encode_into = msgspec.json.Encoder(enc_hook=marker).encode_into


def pack(events: list[UniversalEvent], limit: int, spare: int, *, watched: bool) -> Iterator[Chunk]:
    """Encode *events*, as few chunks as may be; data of more than *limit* bytes is cut.

    Nothing is ever written that is much longer than *limit*. With *watched*, texts that are not
    ASCII are not either copied by the encoder before they are found to be too long. What cannot be
    encoded at all is an empty chunk.

    Args:
        events: One at least.
        limit: Bytes of one event.
        spare: Bytes that a chunk of several events should not pass.
        watched: Whether to look at all data first; that costs more than encoding it.
    """
    if len(events) > 1:
        chunk = _together(events, min(limit, spare), watched=watched)
        if chunk:
            yield chunk, len(events)
            return
    for event in events:
        yield _alone(event, limit), 1


def _together(events: list[UniversalEvent], limit: int, *, watched: bool) -> bytes | bytearray:
    """All *events*, if none is odd and they take at most *limit* bytes; else nothing."""
    try:
        if watched and unwieldy([event.data for event in events]):
            return b""
        return _written(events, min(_ROOM, limit)) or _written(events, limit)
    except Exception:  # somebody changes the data meanwhile, or it is a hostile subclass
        return b""


def _alone(event: UniversalEvent, limit: int) -> bytes | bytearray:
    with contextlib.suppress(Exception):
        return _bounded(event, limit)
    with contextlib.suppress(Exception):
        return _bounded(replace(event, data=marker(event.data)), limit)
    return b""


def _bounded(event: UniversalEvent, limit: int) -> bytes | bytearray:
    """The *event* alone, its data cut as far as it has to be."""
    most = limit + _SLACK
    if not weighs_more(event.data, limit) and (
        chunk := _written([event], min(_ROOM, most)) or _written([event], most)
    ):
        return chunk
    for share in _SHARES:
        event = replace(event, data=plain(event.data, int(share * limit)))
        if chunk := _written([event], most):
            return chunk
    return b"[%b]" % record(event)


def _written(events: list[UniversalEvent], size: int) -> bytes | bytearray:
    """All *events*, if they take at most *size* bytes; else nothing, at no great cost.

    Nothing, too, if one of several needs a detour.
    """
    if [event for event in events if event.extra is not None]:
        return _detour(events, size)
    room = bytearray(size)
    try:
        with memoryview(room):  # while it is looked at, a bytearray refuses to grow
            _encode_into(events, room)
    except BufferError:
        return b""
    except (TypeError, ValueError, OverflowError, RecursionError):
        return _detour(events, size)
    # A copy of the usual ones: the room is in the processor's cache, for the next batch too.
    return bytes(room) if size <= _ROOM else room


def _detour(events: list[UniversalEvent], size: int) -> bytes:
    line = b"[%b]" % record(events[0]) if len(events) == 1 else b""
    return line if len(line) <= size else b""
