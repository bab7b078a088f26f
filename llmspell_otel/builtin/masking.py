"""Looking through a value, however deep, and making a copy of it with parts masked."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from time import monotonic
from typing import Any, Final, NamedTuple

from msgspec import structs

from llmspell_otel.builtin.detection import OutOfTimeError
from llmspell_otel.builtin.rendering import MASK

MAX_DEPTH: Final = 64
MAX_NODES: Final = 200_000


class UnscannedError(Exception):
    """A value is too large, too deep, or took too long: not all of it was looked at."""


class Text(NamedTuple):
    """A text found in a value, and where."""

    where: str
    key: str
    text: str


class Limits:
    """How much may still be looked at."""

    def __init__(self, characters: int, seconds: float) -> None:
        self.characters = characters
        self.nodes = MAX_NODES
        self.deadline = monotonic() + seconds

    def take(self, characters: int) -> None:
        """Count one value of so many *characters*.

        Raises:
            UnscannedError: that is more than may be looked at.
        """
        self.nodes -= 1
        self.characters -= characters
        if self.nodes < 0 or self.characters < 0:
            raise UnscannedError("too large to be looked through")
        if not self.nodes % 256 and monotonic() > self.deadline:
            raise OutOfTimeError


def texts(value: object, where: str, limits: Limits) -> Iterator[Text]:
    """Every text in *value*, keys and the ends of long names included; cycles end.

    Raises:
        UnscannedError: there is more than the *limits* allow.
        OutOfTimeError: it took too long.
    """
    yield from _texts(value, (where, ""), limits, set(), MAX_DEPTH)


def _texts(
    value: object, at: tuple[str, str], limits: Limits, seen: set[int], depth: int
) -> Iterator[Text]:
    if isinstance(value, (str, bytes, bytearray)):
        limits.take(len(value))
        yield Text(*at, value if isinstance(value, str) else value.decode("latin-1"))
        return
    limits.take(0)
    held = _held(value)
    if held is None or id(value) in seen:
        if held is None and type(value) in _NUMBERS:
            yield Text(*at, str(value)[:_LONGEST])
        return
    if depth == 0:
        raise UnscannedError("nested too deep to be looked through")
    seen.add(id(value))
    for key, item in held:
        name = key if isinstance(key, str) else ""
        if name:
            limits.take(len(name))
            yield Text(at[0], NAME, name)
        inner = (f"{at[0]}.{key}"[:_WHERE], name or at[1])
        yield from _texts(item, inner, limits, seen, depth - 1)


NAME: Final = "<name>"
"""The key of a text that is a key itself."""
_WHERE: Final = 200
_LONGEST: Final = 64
_NUMBERS: Final = frozenset({int})


def _held(value: object) -> Iterator[tuple[Any, Any]] | None:
    """What a container or record holds, by key; None for everything else."""
    if isinstance(value, Mapping):
        return iter([(key, value[key]) for key in value])
    if isinstance(value, (list, tuple, set, frozenset)):
        return iter(enumerate(tuple(value)))
    fields = fields_of(value)
    return None if fields is None else iter(fields.items())


def fields_of(value: object) -> dict[str, Any] | None:
    """The fields of a pydantic model, a dataclass or a msgspec record."""
    kind: Any = type(value)
    if isinstance(value, type):
        return None
    if hasattr(kind, "__pydantic_fields__"):
        return {**vars(value), **(getattr(value, "__pydantic_extra__", None) or {})}
    names: tuple[str, ...] = ()
    if dataclasses.is_dataclass(kind):
        names = tuple(field.name for field in dataclasses.fields(kind))
    elif hasattr(kind, "__struct_fields__"):
        names = kind.__struct_fields__
    return {name: getattr(value, name) for name in names if hasattr(value, name)} or None


Mask = Callable[[Text], str | None]
"""What shall stand in the place of a text; None to leave it."""


def masked(value: Any, where: str, mask: Mask) -> Any:
    """A copy of *value* with texts replaced; the same object where nothing is.

    Containers that are shared or hold themselves do so in the copy too.
    """
    return _Masking(mask).copied(value, (where, ""))


class _Masking:
    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        self._made: dict[int, Any] = {}

    def copied(self, value: Any, at: tuple[str, str]) -> Any:
        if isinstance(value, str):
            new = self._mask(Text(*at, value))
            return value if new is None else new
        if isinstance(value, (bytes, bytearray)):
            new = self._mask(Text(*at, value.decode("latin-1")))
            return value if new is None else type(value)(new.encode("latin-1", "replace"))
        if type(value) in _NUMBERS:
            return value if self._mask(Text(*at, str(value)[:_LONGEST])) is None else MASK
        if id(value) in self._made:
            return self._made[id(value)]
        return self._container(value, at)

    def _container(self, value: Any, at: tuple[str, str]) -> Any:
        if isinstance(value, Mapping):
            return self._mapping(value, at)
        if isinstance(value, list):
            items: list[Any] = []
            self._made[id(value)] = items
            items.extend(self._items(value, at))
            return items
        if isinstance(value, (tuple, set, frozenset)):
            return self._fixed(value, at)
        fields = fields_of(value)
        return value if fields is None else self._record(value, fields, at)

    def _mapping(self, value: Mapping[Any, Any], at: tuple[str, str]) -> dict[Any, Any]:
        copied: dict[Any, Any] = {}
        self._made[id(value)] = copied
        for key, item in list(value.items()):
            name = key if isinstance(key, str) else ""
            shown = self._mask(Text(at[0], NAME, name)) if name else None
            inner = (f"{at[0]}.{key}"[:_WHERE], name or at[1])
            copied[key if shown is None else shown] = self.copied(item, inner)
        return copied

    def _items(self, value: Any, at: tuple[str, str]) -> Iterator[Any]:
        for index, item in enumerate(tuple(value)):
            yield self.copied(item, (f"{at[0]}.{index}"[:_WHERE], at[1]))

    def _fixed(self, value: Any, at: tuple[str, str]) -> Any:
        self._made[id(value)] = value
        items = list(self._items(value, at))
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        kind: Any = type(value)
        return kind(*items) if hasattr(kind, "_fields") else kind(items)

    def _record(self, value: Any, fields: Mapping[str, Any], at: tuple[str, str]) -> Any:
        self._made[id(value)] = value
        changed = {
            name: new
            for name, old in fields.items()
            if (new := self.copied(old, (f"{at[0]}.{name}"[:_WHERE], name))) is not old
        }
        if not changed:
            return value
        if hasattr(type(value), "__struct_fields__"):
            return structs.replace(value, **changed)
        made = copy(value)
        extra = getattr(made, "__pydantic_extra__", None) or {}
        for name, new in changed.items():
            if name in extra:
                extra[name] = new
            else:
                object.__setattr__(made, name, new)
        return made
