"""Protobuf by hand, for the two messages that OTLP repeats most: key-values and records.

The official encoder builds a Python object for every attribute before it writes a byte. These
functions write the bytes of the usual types at once, and cache those of short strings, of which
most attributes are made. Whatever they do not know they refuse with `Unusual`; the caller then
asks the official encoder. Wire format: https://protobuf.dev/programming-guides/encoding/.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

_SMALL: Final = [bytes((n,)) for n in range(128)]
_CACHED_LENGTH: Final = 64  # characters of a value that is worth remembering
_CACHE_SIZE: Final = 4096
_DOUBLE: Final = struct.Struct("<d").pack
_INT64: Final = 1 << 63


class Unusual(Exception):  # noqa: N818 - a signal between two encoders, not a failure
    """Something that only the official encoder should encode."""


def varint(number: int) -> bytes:
    """Encode a number of 0 or more."""
    if number < 128:  # noqa: PLR2004 - seven bits, as in the format
        return _SMALL[number]
    if number < 16384:  # noqa: PLR2004 - fourteen bits
        return bytes((number & 127 | 128, number >> 7))
    out = bytearray()
    while number > 127:  # noqa: PLR2004
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def delimited(tag: bytes, content: bytes) -> bytes:
    """A length-delimited field."""
    return b"".join((tag, varint(len(content)), content))


_keys: dict[str, bytes] = {}
_strings: dict[tuple[str, str], bytes] = {}


def _key(key: str) -> bytes:
    """Field 1 of a KeyValue."""
    found = _keys.get(key)
    if found is None:
        if type(key) is not str or not key:
            raise Unusual
        if len(_keys) >= _CACHE_SIZE:
            _keys.clear()
        found = _keys[key] = delimited(b"\x0a", key.encode())
    return found


def _string_pair(key: str, value: str) -> bytes:
    """A KeyValue of a string, with its length in front."""
    text = value.encode()
    any_value = delimited(b"\x0a", text)
    pair = delimited(b"", _key(key) + delimited(b"\x12", any_value))
    if len(value) <= _CACHED_LENGTH:
        if len(_strings) >= _CACHE_SIZE:
            _strings.clear()
        _strings[key, value] = pair
    return pair


def _integer(value: int) -> bytes:
    if not -_INT64 <= value < _INT64:
        raise Unusual
    return b"\x18" + varint(value if value >= 0 else value + (1 << 64))


def _array(value: Sequence[Any]) -> bytes:
    return delimited(b"\x2a", b"".join(delimited(b"\x0a", any_value(each)) for each in value))


def _map(value: Mapping[str, Any]) -> bytes:
    pairs = [
        delimited(b"\x0a", _key(key) + delimited(b"\x12", any_value(each)))
        for key, each in value.items()
    ]
    return delimited(b"\x32", b"".join(pairs))


_ANY: Final[dict[type, Callable[[Any], bytes]]] = {
    str: lambda value: delimited(b"\x0a", value.encode()),
    bool: lambda value: b"\x10\x01" if value else b"\x10\x00",
    int: _integer,
    float: lambda value: b"\x21" + _DOUBLE(value),
    bytes: lambda value: delimited(b"\x3a", value),
    tuple: _array,
    list: _array,
    dict: _map,
    type(None): lambda _: b"",
}


def any_value(value: object) -> bytes:
    """The content of an AnyValue.

    Raises:
        Unusual: its type is none of the plain ones.
    """
    encode = _ANY.get(type(value))
    if encode is None:
        raise Unusual
    return encode(value)


def attributes(tag: bytes, pairs: Mapping[str, Any], out: list[bytes]) -> None:
    """Append the repeated KeyValue field *tag*.

    Raises:
        Unusual: a key or a value is none of the plain ones.
        UnicodeEncodeError: a string holds half a character.
    """
    for key, value in pairs.items():
        if type(value) is str:
            pair = _strings.get((key, value)) or _string_pair(key, value)
        else:
            pair = delimited(b"", _key(key) + delimited(b"\x12", any_value(value)))
        out.append(tag)
        out.append(pair)
