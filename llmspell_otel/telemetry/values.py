"""Attribute values: what OpenTelemetry takes as it is, and what has to be made fit."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from opentelemetry.util.types import AnyValue

_PLAIN: Final = frozenset({str, bool, int, float})
_SAFE: Final = frozenset({str, bool, float})
_TEXT: Final = frozenset({str})
_INT64: Final = 2**63

MAX_ATTRIBUTES: Final = 120
"""Attributes of one span. The SDK holds 128 and drops the oldest, the most telling ones, first."""


def clean(attributes: Mapping[str, Any]) -> Mapping[str, AnyValue]:
    """*attributes* with every value one that an exporter can carry; the same object if they are.

    None is left out; a value of a foreign type becomes its text, and an integer that no
    64 bits hold does too. Keys that are not strings are left out.
    """
    for value in attributes.values():
        kind = type(value)
        if kind in _SAFE or (kind is int and -_INT64 <= value < _INT64):
            continue
        if kind is not list or not _TEXT.issuperset(map(type, value)):
            return _cleaned(attributes)
    return attributes if _TEXT.issuperset(map(type, attributes)) else _cleaned(attributes)


def _cleaned(attributes: Mapping[str, Any]) -> dict[str, AnyValue]:
    return {
        key: _fit(value)
        for key, value in attributes.items()
        if value is not None and type(key) is str
    }


Primitive = str | bool | int | float
"""What a metric attribute may be."""


def plain(attributes: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Primitive]:
    """Those of *attributes* that are named in *keys* and are primitives: fit for a metric.

    A metric with a list or a map among its attributes makes a series per value.
    """
    found: dict[str, Primitive] = {}
    for key in keys:
        value = attributes.get(key)
        if value is not None and type(value) in _PLAIN:
            found[key] = value
        elif isinstance(value, str | int | float):
            found[key] = _bare(value)
    return found


def whole(value: Any) -> int | None:
    """*value* if it is a count (an integer, not negative), else None."""
    if type(value) is int and value >= 0:
        return value
    if type(value) is float and value >= 0 and value.is_integer():
        return int(value)
    return None


def _fit(value: Any) -> AnyValue:
    if type(value) is int:
        return value if -_INT64 <= value < _INT64 else str(value)
    return _FITTING.get(type(value), _other)(value)


def _sequence(value: Sequence[Any]) -> AnyValue:
    return [None if item is None else _item(item) for item in value]


def _mapping(value: Mapping[Any, Any]) -> AnyValue:
    return {str(key): None if item is None else _item(item) for key, item in value.items()}


def _item(value: Any) -> AnyValue:
    return value if type(value) is str else _fit(value)


def _other(value: Any) -> AnyValue:
    if isinstance(value, str | int | float):
        return _fit(_bare(value))
    if isinstance(value, Mapping):
        return _mapping(value)
    if isinstance(value, (set, frozenset, list, tuple)):
        return _sequence(tuple(value))
    return str(value)


def _bare(value: str | float) -> Primitive:
    """An enumeration's member as the string or number that it is too."""
    if isinstance(value, str):
        return str.__str__(value)
    return int(value) if isinstance(value, int) else float(value)


def _same(value: AnyValue) -> AnyValue:
    return value


_FITTING: Final[Mapping[type, Callable[[Any], AnyValue]]] = {
    str: _same,
    bool: _same,
    float: _same,
    bytes: _same,
    list: _sequence,
    tuple: _sequence,
    dict: _mapping,
}
