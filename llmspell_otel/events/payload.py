"""Any Python value as a plain, bounded JSON value."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

MAX_DEPTH = 64
MAX_BYTES = 1_048_576
_NODE = 8  # bytes that a value is taken to cost beside its text
_CONTAINER = 64  # and a container beside its members
_MAX_BITS = 10_000  # of an integer; Python refuses to write out much longer ones
_LONG = 4_096  # characters, from which on a text is looked at more closely
_VERY_LONG = 65_536
_SCALARS = frozenset((int, float, bool, type(None)))
_CONTAINERS = (dict, list, tuple, set, frozenset)
_USUAL = 1 << 63
_TOO_DEEP, _CYCLE, _TOO_LARGE = "<too deep>", "<cycle>", "<truncated>"


def plain(value: object, limit: int = MAX_BYTES) -> Any:
    """Copy *value* as JSON types, cut with a marker where it is too deep, cyclic or too large.

    A foreign object becomes a marker with the name of its type; none of its methods is called.
    """
    return _Copy(limit).value(value, MAX_DEPTH)


def unwieldy(values: Iterable[object]) -> bool:
    """Whether an encoder that is short of room may be slow to find that *values* do not fit in.

    So it is with long texts, which it may have to convert first. Keys are not looked at.
    """
    containers: list[Any] = [values]
    for container in containers:  # which grows meanwhile
        for member in container:
            kind = type(member)
            if kind is str:
                if len(member) > _VERY_LONG:
                    return True
            elif kind not in _SCALARS and isinstance(member, _CONTAINERS):
                containers.append(member.values() if isinstance(member, dict) else member)
        if len(containers) > _LONG:  # or a cycle
            return True
    return False


def weighs_more(value: object, limit: int) -> bool:
    """Whether the texts in *value* are longer than *limit* bytes together; a cyclic one is, too.

    Looks no further than it has to, and spends little on the small values that are usual: numbers
    are not looked at.
    """
    containers: list[Any] = []
    limit -= _weight(value, containers)
    for container in containers:  # which grows meanwhile
        if len(container) > limit:
            return True
        members = container
        if isinstance(container, dict):
            limit -= sum([len(key) if type(key) is str else _NODE for key in container])
            members = container.values()
        limit -= _members_weight(members, containers)
        if limit < 0:
            return True
    return limit < 0


def _members_weight(members: Iterable[Any], containers: list[Any]) -> int:
    weight = 0
    for member in members:
        kind = type(member)
        if kind is str and len(member) < _LONG:  # the usual ones first; `is` is fastest
            weight += len(member)
        elif kind is int or member is None:
            continue
        elif kind is dict or kind is list:
            containers.append(member)
            weight += _CONTAINER
        elif kind is not float and kind is not bool:
            weight += _weight(member, containers)
    return weight


def _weight(value: object, containers: list[Any]) -> int:
    """The bytes of a text; a container is put with the *containers* still to look into."""
    if isinstance(value, _CONTAINERS):
        containers.append(value)
        return _CONTAINER
    if isinstance(value, str):
        exact = not value.isascii() and len(value) <= MAX_BYTES
        return sum(map(len, _encoded(value))) if exact else len(value)
    return len(value) if isinstance(value, bytes | bytearray | memoryview) else 0


def _encoded(text: str, size: int = _LONG) -> Iterator[bytes]:
    """A *text* as UTF-8, by *size* characters: all of it would be kept with the text."""
    for start in range(0, len(text), size):
        yield text[start : start + size].encode(errors="surrogatepass")


def _fitting(text: str, room: int) -> tuple[int, int]:
    """How many characters of *text*, nearly, take no more than *room* bytes, and the bytes."""
    kept = used = 0
    size = 16 + max(0, room) // 64
    for part in _encoded(text, size):
        if used + len(part) > room:
            return kept, room
        kept, used = min(kept + size, len(text)), used + len(part)
    return kept, used


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
        if isinstance(value, int):
            self._left -= value.bit_length() // 3  # digits
        if isinstance(value, dict | list | tuple | set | frozenset):
            return self._container(value, depth)
        if isinstance(value, bytes | bytearray | memoryview):
            # Base64 makes four of three: a little too long, it is cut with a marker.
            value = memoryview(value)[: self._left // 4 * 3 + 3]
        known = _scalar(value)
        return self._text(known) if isinstance(known, str) else known

    def _text(self, text: str) -> str:
        """The *text*, or its beginning; one that is not ASCII is in memory as UTF-8 besides."""
        if text.isascii():
            kept = cost = len(text) if len(text) <= self._left else max(0, self._left)
        else:
            kept, size = _fitting(text, self._left // 2)
            cost = 2 * size
        if kept == len(text):
            self._left -= cost
            return text
        self._left = 0
        return f"{text[:kept]}{_TOO_LARGE}"

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
            if type(item) is int and -_USUAL < item < _USUAL:  # there may be very many
                self._left -= _NODE
                copied.append(item)
            else:
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
