"""Which events are copies of others: told from a few numbers, nearly always."""

from collections.abc import Iterable
from operator import attrgetter
from typing import NamedTuple

from llmspell_otel.events.event import UniversalEvent
from llmspell_otel.events.store.keys import Key

Mark = str | tuple[int, int, int]
"""What an event and its copies have in common with no other: what its id follows from."""

Span = tuple[int, int, int]
"""An origin, and the least and the greatest sequence of some of its events."""

_mark = attrgetter("origin", "sequence", "timestamp")
_origin, _sequence = attrgetter("origin"), attrgetter("sequence")


class Identities(NamedTuple):
    """What tells some events from others.

    Attributes:
        spans: Of those that have no id of their own.
        foreign: The ids of those that came with one.
        distinct: Whether surely none of them is a copy of another.
    """

    spans: list[Span]
    foreign: list[str]
    distinct: bool


def marks(found: Iterable[Key | UniversalEvent]) -> list[Mark]:
    """What each of the events *found* is told from others by."""
    return [each.given_id or _mark(each) for each in found]


def identities(keys: list[Key]) -> Identities:
    """What tells the events of *keys*, one at least, from others."""
    foreign = [key.given_id for key in keys if key.given_id is not None]
    if not foreign and len(set(map(_origin, keys))) == 1:  # nearly always
        sequences = list(map(_sequence, keys))
        span = (keys[0].origin, min(sequences), max(sequences))
        return Identities([span], foreign, len(set(sequences)) == len(sequences))
    found: dict[int, list[int]] = {}
    for key in keys:
        if key.given_id is None:
            found.setdefault(key.origin, []).append(key.sequence)
    spans = [(origin, min(known), max(known)) for origin, known in found.items()]
    distinct = len(set(foreign)) + sum(len(set(known)) for known in found.values()) == len(keys)
    return Identities(spans, foreign, distinct)


class Seen:
    """Events that were seen one after the other."""

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self._spans: dict[int, tuple[int, int]] = {}
        self._foreign: set[str] = set()

    def add(self, keys: list[Key], told: Identities) -> None:
        """Note those of *keys* too, which are *told* from others so."""
        self.keys += keys
        self._foreign.update(told.foreign)
        for origin, low, high in told.spans:
            least, greatest = self._spans.get(origin, (low, high))
            self._spans[origin] = min(least, low), max(greatest, high)

    def may_have(self, told: Identities) -> bool:
        """Whether a copy of one of those *told* may be among them."""
        for origin, low, high in told.spans:
            known = self._spans.get(origin)
            if known is not None and low <= known[1] and known[0] <= high:
                return True
        return not self._foreign.isdisjoint(told.foreign)
