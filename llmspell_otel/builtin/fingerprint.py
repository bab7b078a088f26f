"""One short key for one input: the same for equal inputs, whatever the order of their names."""

import dataclasses
import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

import msgspec

_MAX_DEPTH: Final = 64
_MAX_SIZE: Final = 2_000_000
"""Characters and members; what is larger is not worth the time that its key would take."""

_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"
)


class Unkeyable(Exception):  # noqa: N818 - no failure: the input has no key
    """The input holds what has no stable form, or is too large or too deep."""


def fingerprint(value: object, *, without_times: bool = False) -> str:
    """The key of *value*: of its canonical JSON, in effect, for all that JSON knows.

    Args:
        value: mappings, sequences, texts, numbers, bytes, records of such, and types.
        without_times: whether dates and times within texts count.

    Raises:
        Unkeyable: *value* has none.
    """
    encoded = None if without_times else _encoded(value)
    if encoded is not None:
        return blake2b(encoded, digest_size=16).hexdigest()
    return _Digest(without_times=without_times).of(value)


_canonical: Final = msgspec.json.Encoder(order="deterministic").encode


def _encoded(value: object) -> bytes | None:
    """The canonical JSON of *value*; None for all that is not made of JSON's own types.

    Those are most inputs, and this takes a tenth of the time.
    """
    if not _is_plain(value):
        return None
    try:
        return _canonical(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None  # halves of surrogate pairs, huge numbers


def _is_plain(value: object) -> bool:
    """Whether JSON tells *value* from every other one, and it is not too large."""
    room = _MAX_SIZE
    todo: list[Any] = [value]
    while todo:
        item = todo.pop()
        kind = type(item)
        if kind is str:
            room -= len(item)
        elif kind is dict:
            if not _texts(item):
                return False
            room -= sum(map(len, item))
            todo.extend(item.values())
        elif kind is list or kind is tuple:
            todo.extend(item)
        elif kind not in _EXACT and not (kind is float and item == item):  # noqa: PLR0124 - NaN
            return False
        room -= 1
        if room < 0:
            return False
    return True


_EXACT: Final = frozenset({int, bool, type(None)})


def _texts(mapping: Any) -> bool:
    return all(type(key) is str for key in mapping)


class _Digest:
    """Feeds a value to a hash, each part with its sort and its length."""

    def __init__(self, *, without_times: bool) -> None:
        self._hash = blake2b(digest_size=16)
        self._room = _MAX_SIZE
        self._without_times = without_times

    def of(self, value: object) -> str:
        self._feed(value, 0)
        return self._hash.hexdigest()

    def _put(self, sort: str, data: bytes) -> None:
        self._room -= len(data) + 1
        if self._room < 0:
            raise Unkeyable("it is too large")
        self._hash.update(f"{sort}{len(data)}:".encode())
        self._hash.update(data)

    def _feed(self, value: object, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise Unkeyable("it is nested too deeply")
        if isinstance(value, str):
            self._text(value)
        elif value is None or isinstance(value, (bool, int, float)):
            self._put("n", _number(value))
        elif isinstance(value, Mapping):
            self._mapping(value, depth)
        elif isinstance(value, (list, tuple)):
            self._put("l", str(len(value)).encode())
            for item in value:
                self._feed(item, depth + 1)
        else:
            self._other(value, depth)

    def _text(self, value: str) -> None:
        if len(value) > self._room:
            raise Unkeyable("it is too large")
        text = _TIME.sub("<time>", value) if self._without_times else value
        self._put("s", text.encode("utf-8", "surrogatepass"))

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> None:
        if not all(isinstance(key, str) for key in value):
            raise Unkeyable("it has names that are no texts")
        self._put("m", str(len(value)).encode())
        for key in sorted(value):
            self._text(key)
            self._feed(value[key], depth + 1)

    def _other(self, value: object, depth: int) -> None:
        if isinstance(value, (bytes, bytearray)):
            self._put("b", bytes(value))
        elif isinstance(value, type):
            self._put("t", f"{value.__module__}.{value.__qualname__}".encode())
        elif isinstance(value, (set, frozenset)):
            own = (fingerprint(item, without_times=self._without_times) for item in value)
            self._feed(sorted(own), depth + 1)
        else:
            fields = _fields(value)
            self._put("o", type(value).__qualname__.encode())
            self._mapping(fields, depth)


def _number(value: Any) -> bytes:
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > _MAX_DEPTH:
        return hex(value).encode()  # the decimal digits of a huge number take quadratic time
    return repr(value).encode()


def _fields(value: object) -> dict[str, Any]:
    """The fields of a record: a dataclass, or a model of pydantic's."""
    if dataclasses.is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    fields = getattr(type(value), "model_fields", None)
    if isinstance(fields, Mapping):
        return {name: getattr(value, name) for name in fields}
    raise Unkeyable(f"it holds a {type(value).__name__}")
