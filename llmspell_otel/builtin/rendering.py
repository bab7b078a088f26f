"""Values as one line of text: bounded in length and time, secrets masked, nothing left to act."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from json.encoder import encode_basestring as _quoted
from typing import Any, Final

MASK: Final = "[redacted]"
ELLIPSIS: Final = "…"
_MAX_DEPTH: Final = 12
_MAX_ITEMS: Final = 1000
_MARGIN: Final = 512  # characters beyond the limit that are masked too: a secret may lie across it

SECRET_KEYS: Final = (
    "api_key",
    "auth",
    "authorization",
    "cookie",
    "credential",
    "passwd",
    "password",
    "private_key",
    "secret",
    "token",
)
SECRET_PATTERNS: Final = (
    r"\bsk-[A-Za-z0-9_-]{8,}",
    r"\bgh[opsur]_[A-Za-z0-9]{16,}",
    r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    r"\bAIza[A-Za-z0-9_-]{35}",
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
    r"(?i)\bbearer\s+[A-Za-z0-9._~+/-]{8,}=*",
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----",
)

# Control characters, line separators, marks that reorder text, and halves of surrogate pairs.
_ACTIVE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def inert(text: str) -> str:
    """*text* as one line that no terminal acts on: what would act is written as an escape."""
    return _ACTIVE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    character = match.group()
    return _SHORT.get(character) or f"\\u{ord(character):04x}"


_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def cut(text: str, limit: int) -> str:
    """*text*, no longer than *limit* bytes of UTF-8, with a mark where something was cut off."""
    if len(text) * 4 <= limit:
        return text
    encoded = text[: limit + 1].encode("utf-8", "replace")
    if len(encoded) <= limit and len(text) <= limit:
        return text
    room = max(0, limit - len(ELLIPSIS.encode()))
    return encoded[:room].decode("utf-8", "ignore") + ELLIPSIS


@dataclass(frozen=True, slots=True)
class Told:
    """What is said of a value that is none of JSON's own."""

    text: str


@dataclass(frozen=True, slots=True)
class Record:
    """The fields of an object, and its class."""

    kind: str
    fields: dict[str, Any]


_ATOMS: Final = frozenset({int, float, bool, type(None)})


_LEAVES: Final = _ATOMS | {str}
_SHORT_DICT: Final = 16


def _is_short(mapping: dict[Any, Any], room: int) -> bool:
    """Whether it holds a few texts and numbers: most inputs are arguments of that sort."""
    if len(mapping) > _SHORT_DICT:
        return False
    for key, item in mapping.items():
        kind = type(item)
        if type(key) is not str or kind not in _LEAVES:
            return False
        room -= len(key) + (len(item) if kind is str else 1)
    return room > 0


class _Taking:
    """Copies as much of a value as a line of text has room for."""

    __slots__ = ("_room",)

    def __init__(self, room: int) -> None:
        self._room = room

    def of(self, value: object, depth: int) -> object:
        kind = type(value)
        self._room -= 1
        if kind in _ATOMS:
            return value
        if isinstance(value, str):
            kept = value[: max(0, self._room)]
            self._room -= len(kept)
            return kept
        return Told(ELLIPSIS) if depth >= _MAX_DEPTH else self._inside(value, depth)

    def _inside(self, value: object, depth: int) -> object:
        if isinstance(value, dict):
            return self._mapping(value, depth)
        if isinstance(value, (list, tuple, set, frozenset)):
            return self._items(value, depth)
        fields = _fields(value)
        if fields is None:
            return Told(_plain(value))
        return Record(type(value).__name__, self._mapping(fields, depth))

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        copied: dict[str, Any] = {}
        for key in tuple(islice(value, _MAX_ITEMS + 1)):
            if self._room <= 0:
                break
            name = key[: self._room] if isinstance(key, str) else _plain(key)
            self._room -= len(name)
            copied[name] = self.of(value.get(key), depth + 1)
        return copied

    def _items(self, value: Iterable[Any], depth: int) -> list[object]:
        copied: list[object] = []
        for item in tuple(islice(value, _MAX_ITEMS + 1)):
            if self._room <= 0:
                break
            copied.append(self.of(item, depth + 1))
        return copied


@dataclass(frozen=True, slots=True)
class Renderer:
    """Writes values as text no longer than *limit* bytes.

    The time it takes is bounded too, whatever the value holds: 100 MB of text, cycles, a
    thousand levels of nesting. It calls no method of a foreign object.
    """

    limit: int
    keys: re.Pattern[str] | None
    patterns: re.Pattern[str] | None

    @classmethod
    def of(cls, limit: int, keys: Sequence[str], patterns: Sequence[str]) -> "Renderer":
        """One that masks what stands under *keys* and what fits *patterns*."""
        return cls(limit, _keys(keys), _patterns(patterns))

    def taken(self, value: object) -> object:
        """As much of *value* as `text` shows, copied: it can be written later.

        What comes of it is the same, unless two names that are no texts are told alike.
        """
        room = self.limit + _MARGIN
        if type(value) is dict and _is_short(value, room):
            return value.copy()
        try:
            return _Taking(room).of(value, 0)
        except Exception:
            return Told("<unreadable>")  # an object that fails whatever it is asked

    def text(self, value: object) -> str:
        """*value* as one line."""
        pieces: list[str] = []
        room = self.limit + _MARGIN
        try:
            for piece in self._pieces(value, 0):
                pieces.append(piece)
                room -= len(piece)
                if room <= 0:
                    break
        except Exception:
            pieces.append("<unreadable>")  # an object that fails whatever it is asked
        return self.line("".join(pieces))

    def line(self, text: str) -> str:
        """*text* as one line, masked and cut."""
        whole = text[: self.limit + _MARGIN]
        masked = whole if self.patterns is None else self.patterns.sub(MASK, whole)
        if len(whole) < len(text):
            masked += ELLIPSIS
        return cut(inert(masked), self.limit)

    def _pieces(self, value: object, depth: int) -> Iterator[str]:
        if isinstance(value, str):
            # Escaping all of a text of 100 MB to keep a thousand characters of it would hurt.
            yield _quoted(value[: self.limit + _MARGIN])
        elif depth >= _MAX_DEPTH:
            yield ELLIPSIS
        elif isinstance(value, dict):
            yield from self._mapping(value, depth)
        elif isinstance(value, (list, tuple, set, frozenset)):
            yield from self._sequence(value, depth)
        else:
            yield from self._other(value, depth)

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> Iterator[str]:
        yield "{"
        for count, key in enumerate(tuple(value)[:_MAX_ITEMS]):
            name = key if isinstance(key, str) else _plain(key)
            yield (", " if count else "") + _quoted(name[: self.limit])
            yield ": "
            item = value.get(key)
            if self.hides(name) and not isinstance(item, (int, float, type(None))):
                yield f'"{MASK}"'
            else:
                yield from self._pieces(item, depth + 1)
        yield f", {ELLIPSIS}}}" if len(value) > _MAX_ITEMS else "}"

    def _sequence(self, value: Any, depth: int) -> Iterator[str]:
        yield "["
        for count, item in enumerate(value):
            if count == _MAX_ITEMS:
                yield f", {ELLIPSIS}"
                break
            if count:
                yield ", "
            yield from self._pieces(item, depth + 1)
        yield "]"

    def _other(self, value: object, depth: int) -> Iterator[str]:
        if isinstance(value, Told):
            yield value.text
            return
        if isinstance(value, Record):
            yield value.kind
            yield from self._mapping(value.fields, depth)
            return
        fields = _fields(value)
        if fields is None:
            yield _plain(value)
        else:
            yield type(value).__name__
            yield from self._mapping(fields, depth)

    def hides(self, key: str) -> bool:
        """Whether what stands under *key* is a secret."""
        return self.keys is not None and self.keys.search(key[:_KEY]) is not None


_KEY: Final = 200


def _fields(value: object) -> dict[str, Any] | None:
    """The public fields of an object that is a record of some sort."""
    if isinstance(value, (type, BaseException)) or callable(value):
        return None
    try:
        held = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None
    if not isinstance(held, dict):
        return None
    return {key: held[key] for key in tuple(held) if str(key)[:1] != "_" and held[key] is not None}


def _plain(value: object) -> str:
    if isinstance(value, (bool, float, type(None))):
        return json.dumps(value)
    if isinstance(value, int):
        return str(int(value)) if value.bit_length() < _BITS else "<int>"
    if isinstance(value, (bytes, bytearray)):
        return f"<{len(value)} bytes>"
    return f"<{type(value).__name__}>"


_BITS: Final = 1024


def _keys(keys: Sequence[str]) -> re.Pattern[str] | None:
    if not keys:
        return None
    words = "|".join(re.escape(key).replace("_", "[_-]?") for key in keys)
    return re.compile(rf"(?:^|[_\W]|(?<=[a-z])(?=[A-Z]))(?i:{words})s?$")


def _patterns(patterns: Sequence[str]) -> re.Pattern[str] | None:
    if not patterns:
        return None
    # A flag counts for the whole expression only at its very beginning: give each its own group.
    own = (f"(?i:{each[4:]})" if each.startswith("(?i)") else f"(?:{each})" for each in patterns)
    return re.compile("|".join(own))
