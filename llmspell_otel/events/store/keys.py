"""The few fields of a kept event that questions are decided by, read without the rest."""

from collections.abc import Iterator
from itertools import chain

import msgspec

from llmspell_otel.errors import EventError
from llmspell_otel.events.codec import decode
from llmspell_otel.events.ids import derived


class Key(msgspec.Struct, gc=False):
    """The fields of an event that have columns of their own.

    An event that came with an id of its own has `given_id`, and as `origin` the fingerprint of it.
    """

    event_type: str
    timestamp: int
    sequence: int
    origin: int = 0
    given_id: str | None = msgspec.field(default=None, name="id")
    correlation_id: str = ""

    @property
    def id(self) -> str:
        """The event's id."""
        return self.given_id or derived(self.timestamp, self.sequence, self.origin)


_BOUNDARY = '},{"event_type":'  # between two events: each begins with its type
_keys = msgspec.json.Decoder(list[Key])
_events = msgspec.json.Decoder(list[msgspec.Raw])


def keys(body: bytes) -> list[Key]:
    """The keys of the events in *body*, lines of arrays; what is no event is left out."""
    try:
        return list(chain.from_iterable(_keys.decode_lines(body)))
    except (msgspec.MsgspecError, ValueError):
        return [key for key, _ in _line_by_line(body)]


def keyed(body: bytes) -> list[tuple[Key, str]]:
    """The same, each with its JSON."""
    try:
        return _keyed(body)
    except (msgspec.MsgspecError, ValueError):
        return list(_line_by_line(body))


def _keyed(body: bytes) -> list[tuple[Key, str]]:
    # JSON has no bare ends of lines: whatever lies between two of them is an event, unless the
    # boundary stands in the data of one. Then there is more than events, and `zip` says so.
    text = body[1:-1].decode().replace("]\n[", "\n")
    events = text.replace(_BOUNDARY, f"}}\n{_BOUNDARY[2:]}").split("\n")
    found = chain.from_iterable(_keys.decode_lines(body))
    return list(zip(found, events, strict=True))


def text(given: str) -> str:
    """The *given* text as SQLite can hold it: without lone surrogates."""
    return given if given.isascii() else given.encode(errors="replace").decode()


def _line_by_line(body: bytes) -> Iterator[tuple[Key, str]]:
    for line in body.split(b"\n") if body else ():
        try:
            yield from _keyed(line)
        except (msgspec.MsgspecError, ValueError):
            yield from _one_by_one(line)


def _one_by_one(line: bytes) -> Iterator[tuple[Key, str]]:
    """For an event whose data looks like two, one with a lone surrogate, or what is no event."""
    try:
        events = [bytes(event) for event in _events.decode(line)]
    except msgspec.MsgspecError:
        events = [line[1:-1]]  # a lone surrogate: such an event has a line of its own
    for each in events:
        try:
            event = decode(each)
        except EventError:
            continue
        run, kind = text(event.correlation_id), text(event.event_type)
        given = event.given_id and text(event.given_id)
        key = Key(kind, event.timestamp, event.sequence, event.origin, given, run)
        yield key, each.decode()
