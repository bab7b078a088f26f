"""Conditions on the fields of an event: `{"data.amount": (">=", 500), "source": "desk"}`."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

from llmspell_otel.errors import EventError
from llmspell_otel.events.event import UniversalEvent

Conditions = Mapping[str, Any]
"""Paths of dots into an event, each with a value to equal or an (operator, value)."""

_MISSING = object()


def _compared(compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], bool]:
    def test(found: Any, wanted: Any) -> bool:
        try:
            return found is not _MISSING and bool(compare(found, wanted))
        except TypeError:  # a text and a number have no order: they do not meet the condition
            return False

    return test


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": _compared(operator.eq),
    "==": _compared(operator.eq),
    "!=": lambda found, wanted: found is _MISSING or found != wanted,
    ">": _compared(operator.gt),
    ">=": _compared(operator.ge),
    "<": _compared(operator.lt),
    "<=": _compared(operator.le),
    "in": _compared(lambda found, wanted: found in wanted),
    "contains": _compared(lambda found, wanted: wanted in found),
    "starts_with": _compared(lambda found, wanted: str(found).startswith(wanted)),
    "exists": lambda found, wanted: (found is not _MISSING) is bool(wanted),
}


def meets(conditions: Conditions) -> Callable[[UniversalEvent], bool]:
    """A filter that is true for events that meet all *conditions*.

    Raises:
        EventError: an operator is unknown.
    """
    tests = [(path.split("."), *_test(path, given)) for path, given in conditions.items()]

    def wanted(event: UniversalEvent) -> bool:
        return all(test(_follow(event, path), value) for path, test, value in tests)

    return wanted


def _test(path: str, given: Any) -> tuple[Callable[[Any, Any], bool], Any]:
    if not isinstance(given, tuple | list):
        return _OPERATORS["="], given
    name, value = given if len(given) == len(("operator", "value")) else (None, None)
    test = _OPERATORS.get(name) if isinstance(name, str) else None
    if test is None:
        mend = f"give a value, or (operator, value) with one of {', '.join(_OPERATORS)}"
        raise EventError(f"condition on {path!r}", f"is {given!r}", mend)
    return test, value


def _follow(event: UniversalEvent, path: list[str]) -> Any:
    first, *rest = path
    found = getattr(event, first, _MISSING)
    for step in rest:
        if isinstance(found, Mapping):
            found = found.get(step, _MISSING)
        elif isinstance(found, list | tuple) and step.isdecimal() and int(step) < len(found):
            found = found[int(step)]
        else:
            return getattr(found, step, _MISSING) if first == "metadata" else _MISSING
    return found
