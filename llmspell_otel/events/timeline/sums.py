"""What the operations of a run come to, added up."""

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Final, NamedTuple

from llmspell_otel.events.timeline.model import Operation, Timeline

LARGEST: Final = 12
"""Sums that are told one by one; the others are added up in one more."""

_OTHERS: Final = ("", "others")
_Key = tuple[str, str]


class Sum(NamedTuple):
    """Operations of one kind and name.

    Attributes:
        kind: Of all of them.
        name: The same.
        value: Seconds that the run waited for them, or US dollars that they cost.
        share: Of the run's whole duration or cost.
        busy: Seconds in which they worked themselves.
        calls: How many.
    """

    kind: str
    name: str
    value: Decimal
    share: float
    busy: float
    calls: int


def times(timeline: Timeline) -> list[Sum]:
    """What the run waited for, by kind and name, the longest first."""
    waits = timeline.waits()
    whole = Decimal(timeline.duration)
    return _sums(timeline.operations, _called, lambda each: Decimal(waits.get(each.id, 0)), whole)


def spending(timeline: Timeline) -> list[Sum]:
    """What was paid for, by kind and name, the dearest first."""
    return _spent(timeline, _called)


def spending_of_agents(timeline: Timeline) -> list[Sum]:
    """The same, by the agent that asked for it."""
    return _spent(timeline, _agent)


def _spent(timeline: Timeline, key: Callable[[Operation], _Key]) -> list[Sum]:
    paid = (each for each in timeline.operations if each.spent)
    return _sums(paid, key, lambda each: each.spent, timeline.cost)


def _sums(
    operations: Iterable[Operation],
    key: Callable[[Operation], _Key],
    of: Callable[[Operation], Decimal],
    whole: Decimal,
) -> list[Sum]:
    sums: dict[_Key, list[Operation]] = {}
    for operation in operations:
        sums.setdefault(key(operation), []).append(operation)
    told = [_sum(name, some, sum(map(of, some), Decimal(0)), whole) for name, some in sums.items()]
    told.sort(key=lambda each: (each.value, each.busy), reverse=True)
    rest = told[LARGEST:]
    return told[:LARGEST] + ([_together(rest)] if rest else [])


def _sum(key: _Key, operations: list[Operation], value: Decimal, whole: Decimal) -> Sum:
    busy = sum(each.own_time for each in operations)
    return Sum(*key, value, float(value / whole) if whole else 0.0, busy, len(operations))


def _together(sums: list[Sum]) -> Sum:
    _, _, values, shares, busy, counts = zip(*sums, strict=True)
    return Sum(*_OTHERS, sum(values, Decimal(0)), sum(shares), sum(busy), sum(counts))


def _called(operation: Operation) -> _Key:
    return operation.kind, operation.name


def _agent(operation: Operation) -> _Key:
    above = [each for each in operation.chain() if each.kind == "agent"]
    return ("agent", above[-1].name) if above else ("", "no agent")
