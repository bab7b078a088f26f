"""The few fields of a kept event that questions are decided by, read without the rest."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, count
from operator import attrgetter
from typing import NamedTuple

import msgspec

from llmspell_otel.errors import EventError
from llmspell_otel.events.codec import decode


class Key(msgspec.Struct, gc=False):
    """The fields of an event that questions are decided by.

    An event that came with an id of its own has `given_id`, and as `origin` the fingerprint of it.
    """

    event_type: str
    timestamp: int
    sequence: int
    origin: int = 0
    given_id: str | None = msgspec.field(default=None, name="id")
    correlation_id: str = ""


class Facts(NamedTuple):
    """What indexes need of some events, field by field."""

    types: list[str]
    times: list[int]
    runs: list[str]

    def by_run(self, first: int = 0) -> Iterator[tuple[str, int, int, int]]:
        """For each run: events, the last one's position from *first* on, and the first time."""
        last = dict(zip(self.runs, count(first)))
        oldest = dict(zip(reversed(self.runs), reversed(self.times), strict=True))
        if self.times != sorted(self.times):
            for name, time in zip(self.runs, self.times, strict=True):
                oldest[name] = min(oldest[name], time)
        for name, number in Counter(self.runs).items():
            if name:
                yield name, number, last[name], oldest[name]


def facts(keys: list[Key]) -> Facts:
    """What indexes need of *keys*, of which there is one at least."""
    return Facts(list(map(_type, keys)), list(map(_time, keys)), list(map(_run, keys)))


class Group(NamedTuple):
    """Events that are kept together.

    Attributes:
        keys: Their keys.
        body: An array of JSON.
    """

    keys: list[Key]
    body: str


_BOUNDARY = '},{"event_type":'  # between two events: each begins with its type
_ENDED = '}\n{"event_type":'
_GROUP = 256  # events that are kept together at most
_GROUP_BYTES = 262_144  # and bytes, unless one line of the log has more
_type, _time, _run = map(attrgetter, ("event_type", "timestamp", "correlation_id"))
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


def groups(bodies: Iterable[bytes]) -> Iterator[Group]:
    """The events in *bodies*, some hundreds at a time; what needs a detour is alone."""
    found: list[Key] = []
    lines: list[memoryview] = []
    size = 0
    for known, line in chain.from_iterable(map(_listed, bodies)):
        size += len(line)
        full = len(found) + len(known) > _GROUP or size > _GROUP_BYTES
        if lines and (full or not known):
            yield Group(found, _joined(lines))
            found, lines, size = [], [], len(line)
        if known:
            found = found + known if found else known
            lines.append(line)
        else:
            yield from (Group([key], f"[{event}]") for key, event in _one_by_one(bytes(line)))
    if lines:
        yield Group(found, _joined(lines))


def events(body: str, number: int) -> list[str]:
    """The JSON of each of the *number* events in the *body* of a group."""
    if number == 1:
        return [body[1:-1]]
    # JSON has no bare ends of lines: whatever lies between two of them is an event, unless the
    # boundary stands in the data of one. Then there is more than events.
    found = body[1:-1].replace(_BOUNDARY, _ENDED).split("\n")
    if len(found) != number:
        found = [bytes(event).decode() for event in _events.decode(body)]
    return found


def keys_of(body: str) -> list[Key]:
    """The keys of the events in the *body* of a group."""
    try:
        return _keys.decode(body)
    except (msgspec.MsgspecError, ValueError):
        return [key for key, _ in _one_by_one(body.encode())]


def _joined(lines: list[memoryview]) -> str:
    return f"[{str(b','.join([line[1:-1] for line in lines]), 'utf-8')}]"


def _listed(body: bytes) -> Iterator[tuple[list[Key], memoryview]]:
    """The lines of *body*, each with its keys; a line with none needs a detour."""
    start, view = 0, memoryview(body)
    while start < len(body):
        end = body.find(b"\n", start)
        end = end if end >= 0 else len(body)
        yield _plain_keys(view[start:end]), view[start:end]
        start = end + 1


def _plain_keys(line: memoryview) -> list[Key]:
    try:
        return _keys.decode(line)
    except (msgspec.MsgspecError, ValueError):
        return []


def _keyed(body: bytes) -> list[tuple[Key, str]]:
    found = list(chain.from_iterable(_keys.decode_lines(body)))
    lines = body.decode().replace("]\n[", ",")
    return list(zip(found, events(lines, len(found)), strict=True))


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
