"""What the end of an operation says: its outcome, its failure, its hooks' decisions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from llmspell_otel.telemetry import names, semconv
from llmspell_otel.telemetry.names import CacheResult, Outcome

_FAILED: Final = frozenset({Outcome.ERROR, Outcome.CANCELLED})
_UNREMARKABLE: Final = frozenset({"continue", "skipped"})
_CACHE_RESULTS: Final = frozenset(CacheResult)

MAX_HOOK_RESULTS: Final = 16
"""Hook decisions that one span names; the log records name them all."""


def failure(data: Mapping[str, Any]) -> str | None:
    """The `error.type` of the operation in *data*; None if it did not fail.

    A cancelled operation failed, and one whose response says so. A stream that its consumer
    closed or let go of did not.
    """
    error = data.get("error")
    outcome = data.get("outcome")
    if outcome not in _FAILED and (error is None or outcome is not None):
        # A response may say that it failed where nothing is raised.
        return (data.get("attributes") or {}).get(semconv.ERROR_TYPE)
    named = error.get("type") if isinstance(error, Mapping) else None
    if named:
        return str(named)
    return Outcome.CANCELLED.value if outcome == Outcome.CANCELLED else semconv.ERROR_TYPE_OTHER


def error_message(data: Mapping[str, Any]) -> str | None:
    """The error's text, which the event holds only while content capture is on."""
    error = data.get("error")
    message = error.get("message") if isinstance(error, Mapping) else None
    return str(message) if message else None


def decisions(data: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What hooks answered during the operation in *data*, in order."""
    given = data.get("decisions")
    if isinstance(given, Sequence):
        yield from (decision for decision in given if isinstance(decision, Mapping))


def closing_attributes(data: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that only the end of an operation gives it, beside its own."""
    closing: dict[str, Any] = {}
    outcome = data.get("outcome")
    if outcome != "ok":
        closing = _ended_badly(data, outcome)
    if (attempts := data.get("attempts")) and attempts > 1:
        closing[names.RETRY_COUNT] = attempts - 1
    if (cost := data.get("cost")) is not None:
        # The sum over all attempts, where the attributes tell of the last one.
        closing[names.COST_TOTAL] = float(cost)
    if chunks := data.get("chunks"):
        closing |= _streamed(chunks)
    if data.get("decisions"):
        closing |= _decided(data)
    return closing


def cache_result(decision: Mapping[str, Any]) -> str | None:
    """What a response cache answered in *decision*: `hit`, `miss`, …; None if it was not asked."""
    attributes = decision.get("attributes") or {}
    if named := attributes.get(names.CACHE_RESULT):
        return str(named)
    reason = decision.get("reason")
    is_cache = decision.get("result") == "cache" and isinstance(reason, str)
    return reason if is_cache and reason in _CACHE_RESULTS else None


def _ended_badly(data: Mapping[str, Any], outcome: Any) -> dict[str, Any]:
    ended: dict[str, Any] = {}
    if (error_type := failure(data)) is not None:
        ended[semconv.ERROR_TYPE] = error_type
    if outcome is not None and outcome != Outcome.ERROR:
        ended[names.OPERATION_OUTCOME] = str(outcome)
    return ended


def _streamed(chunks: Mapping[str, Any]) -> dict[str, Any]:
    first = chunks.get("first") if chunks.get("count") else None
    return {} if first is None else {semconv.RESPONSE_TIME_TO_FIRST_CHUNK: float(first)}


def _decided(data: Mapping[str, Any]) -> dict[str, Any]:
    notable = [
        each
        for each in decisions(data)
        if each.get("result") not in _UNREMARKABLE and each.get("effective", True)
    ]
    return _looked_after(data) | (_said(notable) if notable else {})


def _looked_after(data: Mapping[str, Any]) -> dict[str, Any]:
    """What caches and rate limits told, also where they let the call go on."""
    told: dict[str, Any] = {}
    for each in decisions(data):
        if result := cache_result(each):
            told[names.CACHE_RESULT] = result
        attributes = each.get("attributes") or {}
        told |= {key: attributes[key] for key in _LIMITED if key in attributes}
    return told


_LIMITED: Final = (names.RATE_LIMITING_POLICY, names.RATE_LIMITING_RESULT)


def _said(notable: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    last = notable[-1]
    decided: dict[str, Any] = {
        names.HOOK_NAME: last.get("hook"),
        names.HOOK_POINT: last.get("point"),
        names.HOOK_RESULT: last.get("result"),
        names.HOOK_RESULTS: [
            f"{each.get('hook')}: {each.get('result')}" for each in notable[:MAX_HOOK_RESULTS]
        ],
    }
    return {key: value for key, value in decided.items() if value is not None}
