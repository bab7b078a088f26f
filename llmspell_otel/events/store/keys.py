"""The few fields of a kept event that questions are decided by, read without the rest."""

from collections.abc import Iterator

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


_keys = msgspec.json.Decoder(Key)


def keys(body: bytes) -> list[Key]:
    """The keys of the events in *body*, lines of JSON; lines that are no events are left out."""
    try:
        return _keys.decode_lines(body)
    except (msgspec.MsgspecError, ValueError):
        return [key for key, _ in _one_by_one(body)]


def keyed(body: bytes) -> list[tuple[Key, str]]:
    """The same, each with its line."""
    try:
        return list(zip(_keys.decode_lines(body), body.decode().split("\n"), strict=True))
    except (msgspec.MsgspecError, ValueError):
        return list(_one_by_one(body))


def text(given: str) -> str:
    """The *given* text as SQLite can hold it: without lone surrogates."""
    return given if given.isascii() else given.encode(errors="replace").decode()


def _one_by_one(body: bytes) -> Iterator[tuple[Key, str]]:
    """For a line with a lone surrogate, or that is no event."""
    for line in body.split(b"\n") if body else ():
        try:
            event = decode(line)
        except EventError:
            continue
        run, kind = text(event.correlation_id), text(event.event_type)
        given = event.given_id and text(event.given_id)
        key = Key(kind, event.timestamp, event.sequence, event.origin, given, run)
        yield key, line.decode()
