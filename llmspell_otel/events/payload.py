"""Any Python value as a plain, bounded JSON value."""

import math
from collections.abc import Iterable
from typing import Any

import msgspec

MAX_DEPTH = 64
MAX_BYTES = 1_048_576
_NODE = 8  # bytes that a value is taken to cost beside its text
_CONTAINER = 64  # and a container beside its members
_MAX_BITS = 10_000  # of an integer; Python refuses to write out much longer ones
_TEXTS = (str, bytes, bytearray, memoryview)
_CONTAINERS = (dict, list, tuple, set, frozenset)
_TOO_DEEP, _CYCLE, _TOO_LARGE = "<too deep>", "<cycle>", "<truncated>"


def plain(value: object, limit: int = MAX_BYTES) -> Any:
    """Copy *value* as JSON types, cut with a marker where it is too deep, cyclic or too large.

    A foreign object becomes a marker with the name of its type; none of its methods is called.
    """
    return _Copy(limit).value(value, MAX_DEPTH)


def weighs_more(value: object, limit: int) -> bool:
    """Whether the texts in *value* are longer than *limit* together; a cyclic one is, too.

    Looks no further than it has to, and spends little on the small values that are usual: keys
    and numbers are not looked at.
    """
    containers: list[Any] = []
    limit -= _weight(value, containers)
    for container in containers:  # which grows meanwhile
        for member in container.values() if isinstance(container, dict) else container:
            kind = type(member)
            if kind is str:  # the usual ones first; `is` is faster than isinstance
                limit -= len(member)
            elif kind is int or member is None:
                continue
            elif kind is dict or kind is list:
                containers.append(member)
                limit -= _CONTAINER
            elif kind is not float and kind is not bool:
                limit -= _weight(member, containers)
        if limit < 0:
            return True
    return limit < 0


def _weight(value: object, containers: list[Any]) -> int:
    """The length of a text; a container is put with the *containers* still to look into."""
    if isinstance(value, _CONTAINERS):
        containers.append(value)
        return _CONTAINER
    return len(value) if isinstance(value, _TEXTS) else 0


def marker(value: object) -> str:
    """What stands for a value that JSON cannot hold; its own text might be hostile or secret."""
    return f"<unserializable: {type(value).__name__}>"


class _Copy:
    """One copy under way, with the bytes that it may still use."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._above: set[int] = set()

    def value(self, value: object, depth: int) -> Any:
        """The copy of *value*, at most *depth* levels deep."""
        self._left -= _NODE
        if self._left <= 0:
            return _TOO_LARGE
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict | list | tuple | set | frozenset):
            return self._container(value, depth)
        if isinstance(value, bytes | bytearray | memoryview):
            value = value[: self._left]  # base64 is longer still, and is cut with a marker
        known = _scalar(value)
        return self._text(known) if isinstance(known, str) else known

    def _text(self, text: str) -> str:
        room, self._left = self._left, self._left - len(text)
        return text if len(text) <= room else f"{text[:room]}{_TOO_LARGE}"

    def _container(self, value: dict[Any, Any] | Iterable[Any], depth: int) -> Any:
        if id(value) in self._above:
            return _CYCLE
        if depth == 0:
            return _TOO_DEEP
        self._above.add(id(value))
        try:
            if isinstance(value, dict):
                return self._members(value, depth)
            return self._items(value, depth)
        finally:
            self._above.discard(id(value))

    def _members(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        copied: dict[str, Any] = {}
        for key, member in value.items():
            if self._left <= 0:
                copied[_TOO_LARGE] = True
                break
            copied[self._key(key)] = self.value(member, depth - 1)
        return copied

    def _items(self, value: Iterable[Any], depth: int) -> list[Any]:
        copied: list[Any] = []
        for item in value:
            if self._left <= 0:
                copied.append(_TOO_LARGE)
                break
            copied.append(self.value(item, depth - 1))
        return copied

    def _key(self, key: object) -> str:
        if isinstance(key, str):
            return self._text(key)
        return self._text(str(key)) if isinstance(key, int | float) else marker(key)


def _scalar(value: object) -> Any:
    """A number, a truth value or None as it is; a date, decimal or UUID as its text."""
    if isinstance(value, int):
        return value if value.bit_length() <= _MAX_BITS else _TOO_LARGE
    if value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    try:
        known = msgspec.to_builtins(value, enc_hook=marker)
    except Exception:
        return marker(value)
    return known if isinstance(known, str | int | float) else marker(value)
