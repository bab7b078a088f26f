"""What an ended operation measures: points for the instruments, as a function of its event."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from llmspell_otel.telemetry import names, semconv
from llmspell_otel.telemetry.endings import cache_result, decisions, failure
from llmspell_otel.telemetry.instruments import Point
from llmspell_otel.telemetry.rates import has_usage
from llmspell_otel.telemetry.semconv import Modality, Operation
from llmspell_otel.telemetry.values import Primitive, plain, whole

Attributes = Mapping[str, Any]
Labels = dict[str, Primitive]

_NANO: Final = 1e-9

CLIENT_LABELS: Final = (
    semconv.OPERATION_NAME,
    semconv.REQUEST_MODEL,
    semconv.PROVIDER_NAME,
    semconv.SERVER_ADDRESS,
    semconv.SERVER_PORT,
    semconv.RESPONSE_MODEL,
)
AGENT_LABELS: Final = (semconv.OPERATION_NAME, semconv.AGENT_NAME, semconv.REQUEST_MODEL)
TOOL_LABELS: Final = (semconv.TOOL_NAME, semconv.TOOL_TYPE, semconv.AGENT_NAME)
STAGE_LABELS: Final = (names.COMPONENT_NAME,)
MCP_LABELS: Final = (
    semconv.MCP_METHOD_NAME,
    semconv.TOOL_NAME,
    semconv.PROMPT_NAME,
    semconv.SERVER_ADDRESS,
    semconv.SERVER_PORT,
    semconv.NETWORK_TRANSPORT,
    semconv.RPC_RESPONSE_STATUS_CODE,
)
COST_LABELS: Final = (
    semconv.OPERATION_NAME,
    semconv.PROVIDER_NAME,
    semconv.REQUEST_MODEL,
    semconv.RESPONSE_MODEL,
)

_Parts = tuple[tuple[Modality, str], ...]

# By counter: its total, and the attributes that say how much of it is of which modality.
_TOTALS: Final[tuple[tuple[str, str, _Parts], ...]] = (
    (
        semconv.CLIENT_USAGE_INPUT_TOKENS,
        semconv.USAGE_INPUT_TOKENS,
        (
            (Modality.TEXT, semconv.USAGE_TEXT_INPUT_TOKENS),
            (Modality.IMAGE, semconv.USAGE_IMAGE_INPUT_TOKENS),
            (Modality.AUDIO, semconv.USAGE_AUDIO_INPUT_TOKENS),
        ),
    ),
    (
        semconv.CLIENT_USAGE_OUTPUT_TOKENS,
        semconv.USAGE_OUTPUT_TOKENS,
        (
            (Modality.TEXT, semconv.USAGE_TEXT_OUTPUT_TOKENS),
            (Modality.IMAGE, semconv.USAGE_IMAGE_OUTPUT_TOKENS),
            (Modality.AUDIO, semconv.USAGE_AUDIO_OUTPUT_TOKENS),
        ),
    ),
)
_SUBSETS: Final[tuple[tuple[str, str, _Parts], ...]] = (
    (
        semconv.CLIENT_USAGE_CACHE_READ,
        semconv.USAGE_CACHE_READ_INPUT_TOKENS,
        (
            (Modality.TEXT, semconv.USAGE_TEXT_CACHE_READ_INPUT_TOKENS),
            (Modality.IMAGE, semconv.USAGE_IMAGE_CACHE_READ_INPUT_TOKENS),
            (Modality.AUDIO, semconv.USAGE_AUDIO_CACHE_READ_INPUT_TOKENS),
        ),
    ),
    (semconv.CLIENT_USAGE_CACHE_WRITE, semconv.USAGE_CACHE_WRITE_INPUT_TOKENS, ()),
    (semconv.CLIENT_USAGE_REASONING, semconv.USAGE_REASONING_OUTPUT_TOKENS, ()),
)
_PER_OPERATION: Final = (
    (semconv.CLIENT_OPERATION_INPUT_TOKENS, semconv.USAGE_INPUT_TOKENS),
    (semconv.CLIENT_OPERATION_OUTPUT_TOKENS, semconv.USAGE_OUTPUT_TOKENS),
)


def measured(data: Mapping[str, Any], attributes: Attributes) -> Iterator[Point]:
    """Every point that the end of an operation owes, but its cost.

    Args:
        data: the event's.
        attributes: all attributes of the operation, as `attributes_of` completes them.
    """
    family = _FAMILIES.get(attributes.get(semconv.OPERATION_NAME, ""), _client_operation)
    if family is _agent and semconv.SERVER_ADDRESS in attributes:
        family = _client_operation
    yield from family(data, attributes)
    if semconv.MCP_METHOD_NAME in attributes:
        labels = _failing(plain(attributes, MCP_LABELS), data)
        yield Point(semconv.MCP_CLIENT_OPERATION_DURATION, _seconds(data), labels)
    yield from _retried(data, attributes)
    for firing in data.get("hooks") or ():
        yield Point(names.HOOK_DURATION, firing["duration"], _hook_labels(firing))
    for decision in decisions(data):
        yield from _decided(decision)


def costing(attributes: Attributes, total: float, currency: str, source: str) -> Iterator[Point]:
    """The points that a price owes."""
    labels = plain(attributes, COST_LABELS)
    labels[names.COST_CURRENCY] = currency
    labels[names.COST_SOURCE] = source
    for instrument in (names.INFERENCE_COST, names.USAGE_COST, names.INFERENCE_OPERATION_COST):
        yield Point(instrument, total, labels)


def unpriced(attributes: Attributes) -> Point:
    """The point that says that a price is missing."""
    labels = plain(attributes, (semconv.PROVIDER_NAME, semconv.REQUEST_MODEL))
    return Point(names.INFERENCE_UNPRICED, 1, labels)


def was_called(data: Mapping[str, Any]) -> bool:
    """Whether the model was asked at all: a hook may have answered in its place."""
    return data.get("attempts") != 0


def _seconds(data: Mapping[str, Any]) -> float:
    elapsed: int = data["end_time"] - data["start_time"]
    return max(0, elapsed) * _NANO


def _failing(labels: Labels, data: Mapping[str, Any]) -> Labels:
    error_type = failure(data)
    return labels if error_type is None else {**labels, semconv.ERROR_TYPE: error_type}


def _inference(data: Mapping[str, Any], attributes: Attributes) -> Iterator[Point]:
    labels = plain(attributes, CLIENT_LABELS)
    failing = _failing(labels, data)
    yield Point(semconv.CLIENT_INFERENCE_DURATION, _seconds(data), failing)
    yield from _streamed(data, labels)
    if not was_called(data):
        return
    failed = failing is not labels
    if failed and not has_usage(attributes):
        yield from _no_usage(labels, failing)
        return
    for counter, total, parts in _TOTALS:
        yield from _by_modality(counter, attributes, total, parts, labels)
    for counter, total, parts in _SUBSETS:
        yield from _by_modality(counter, attributes, total, parts, labels)
    for histogram, total in _PER_OPERATION:
        if (count := whole(attributes.get(total))) is not None:
            yield Point(histogram, count, failing)


def _no_usage(labels: Labels, failing: Labels) -> Iterator[Point]:
    unknown = {**labels, semconv.MODALITY: Modality.UNKNOWN.value}
    for counter, _, _ in _TOTALS:
        yield Point(counter, 0, unknown)
    for histogram, _ in _PER_OPERATION:
        yield Point(histogram, 0, failing)


def _by_modality(
    counter: str,
    attributes: Attributes,
    total: str,
    parts: _Parts,
    labels: Labels,
) -> Iterator[Point]:
    left = whole(attributes.get(total)) or 0
    for modality, name in parts:
        if count := whole(attributes.get(name)):
            left -= count
            yield Point(counter, count, {**labels, semconv.MODALITY: modality.value})
    if left > 0:
        yield Point(counter, left, {**labels, semconv.MODALITY: Modality.UNKNOWN.value})


def _streamed(data: Mapping[str, Any], labels: Labels) -> Iterator[Point]:
    chunks = data.get("chunks")
    if not isinstance(chunks, Mapping) or not chunks.get("count"):
        return
    if (first := chunks.get("first")) is not None:
        yield Point(semconv.CLIENT_TIME_TO_FIRST_CHUNK, first, labels)
    for interval in chunks.get("intervals") or ():
        yield Point(semconv.CLIENT_TIME_PER_OUTPUT_CHUNK, interval, labels)


def _embeddings(data: Mapping[str, Any], attributes: Attributes) -> Iterator[Point]:
    labels = _failing(plain(attributes, CLIENT_LABELS), data)
    yield Point(semconv.CLIENT_EMBEDDINGS_DURATION, _seconds(data), labels)
    if was_called(data) and (count := whole(attributes.get(semconv.USAGE_INPUT_TOKENS))):
        yield Point(semconv.CLIENT_EMBEDDINGS_INPUT_TOKENS, count, labels)


def _client_operation(data: Mapping[str, Any], attributes: Attributes) -> Iterator[Point]:
    labels = _failing(plain(attributes, CLIENT_LABELS), data)
    yield Point(semconv.CLIENT_OPERATION_DURATION, _seconds(data), labels)


def _agent(data: Mapping[str, Any], attributes: Attributes) -> Iterator[Point]:
    labels = plain(attributes, AGENT_LABELS)
    yield Point(semconv.INVOKE_AGENT_DURATION, _seconds(data), _failing(labels, data))
    if attributes.get(semconv.OPERATION_NAME) != Operation.INVOKE_AGENT:
        return
    calls = data.get("calls") or {}
    name = plain(attributes, (semconv.AGENT_NAME,))
    yield Point(semconv.INVOKE_AGENT_INFERENCE_CALLS, calls.get("inference", 0), name)
    yield Point(semconv.INVOKE_AGENT_TOOL_CALLS, calls.get("tool", 0), name)


def _tool(data: Mapping[str, Any], attributes: Attributes) -> Iterator[Point]:
    labels = _failing(plain(attributes, TOOL_LABELS), data)
    yield Point(semconv.EXECUTE_TOOL_DURATION, _seconds(data), labels)


def _stage(data: Mapping[str, Any], attributes: Attributes) -> Iterator[Point]:
    labels = _failing(plain(attributes, STAGE_LABELS), data)
    yield Point(names.STAGE_DURATION, _seconds(data), labels)


def _nothing(data: Mapping[str, Any], attributes: Attributes) -> Iterator[Point]:
    # The conventions have a span for planning, and no metric.
    del data, attributes
    return iter(())


def _retried(data: Mapping[str, Any], attributes: Attributes) -> Iterator[Point]:
    retries = (data.get("attempts") or 1) - 1
    if retries < 1:
        return
    labels = plain(attributes, (semconv.OPERATION_NAME,))
    asked = [each for each in decisions(data) if each.get("result") == "retry"][:retries]
    for decision in asked:
        reason = (decision.get("attributes") or {}).get(names.RETRY_REASON)
        yield Point(names.RETRY_ATTEMPTS, 1, {**labels, names.RETRY_REASON: _word(reason)})
    if rest := retries - len(asked):
        other = {**labels, names.RETRY_REASON: semconv.ERROR_TYPE_OTHER}
        yield Point(names.RETRY_ATTEMPTS, rest, other)


def _word(reason: Any) -> str:
    return reason if isinstance(reason, str) else semconv.ERROR_TYPE_OTHER


def _decided(decision: Mapping[str, Any]) -> Iterator[Point]:
    duration = decision.get("duration")
    attributes = decision.get("attributes") or {}
    if result := cache_result(decision):
        cache = attributes.get(names.CACHE_NAME) or decision.get("hook")
        labels = {names.CACHE_NAME: str(cache), names.CACHE_RESULT: result}
        yield Point(names.CACHE_REQUESTS, 1, labels)
    if names.RATE_LIMITING_RESULT in attributes:
        yield from _limited(attributes)
    if names.GUARDRAIL_NAME in attributes and duration is not None:
        yield Point(names.GUARDRAIL_DURATION, duration, plain(attributes, GUARDRAIL_LABELS))


GUARDRAIL_LABELS: Final = (
    names.GUARDRAIL_NAME,
    names.GUARDRAIL_TARGET_TYPE,
    names.GUARDRAIL_VERDICT_TYPE,
    names.GUARDRAIL_ACTION_TYPE,
    semconv.ERROR_TYPE,
)


def _hook_labels(decision: Mapping[str, Any]) -> Labels:
    labels: Labels = {
        names.HOOK_NAME: str(decision.get("hook")),
        names.HOOK_POINT: str(decision.get("point")),
        names.HOOK_RESULT: str(decision.get("result")),
    }
    if error := decision.get("error"):
        labels[semconv.ERROR_TYPE] = str(error)
    return labels


def _limited(attributes: Attributes) -> Iterator[Point]:
    labels = plain(attributes, (names.RATE_LIMITING_POLICY, names.RATE_LIMITING_RESULT))
    yield Point(names.RATE_LIMITING_REQUESTS, 1, labels)
    if (waited := attributes.get(names.RATE_LIMITING_WAIT)) is not None:
        yield Point(names.RATE_LIMITING_TIME_IN_QUEUE, waited, labels)


_Family = Callable[[Mapping[str, Any], Attributes], Iterator[Point]]

_FAMILIES: Final[Mapping[str, _Family]] = {
    **dict.fromkeys(semconv.INFERENCE, _inference),
    Operation.EMBEDDINGS: _embeddings,
    Operation.INVOKE_AGENT: _agent,
    Operation.INVOKE_WORKFLOW: _agent,
    Operation.EXECUTE_TOOL: _tool,
    Operation.PLAN: _nothing,
    names.RUN_STAGE: _stage,
}
