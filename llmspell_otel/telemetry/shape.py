"""What a span looks like: its name and kind, and the attributes an operation always has."""

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.trace import SpanKind

from llmspell_otel.telemetry import names, semconv
from llmspell_otel.telemetry.semconv import Operation

# By kind of operation: its `gen_ai.operation.name`, and the attribute that carries its own name.
_KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "agent": (Operation.INVOKE_AGENT.value, semconv.AGENT_NAME),
    "tool": (Operation.EXECUTE_TOOL.value, semconv.TOOL_NAME),
    "workflow": (Operation.INVOKE_WORKFLOW.value, semconv.AGENT_NAME),
    "stage": (names.RUN_STAGE, names.COMPONENT_NAME),
    "model": (Operation.CHAT.value, semconv.REQUEST_MODEL),
}

# By operation name: the attributes whose values follow it in the span's name.
_TARGETS: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(semconv.INFERENCE, (semconv.REQUEST_MODEL,)),
    Operation.EMBEDDINGS: (semconv.REQUEST_MODEL,),
    Operation.RETRIEVAL: (semconv.DATA_SOURCE_ID,),
    Operation.CREATE_AGENT: (semconv.AGENT_NAME,),
    Operation.INVOKE_AGENT: (semconv.AGENT_NAME,),
    Operation.INVOKE_WORKFLOW: (semconv.AGENT_NAME,),
    Operation.PLAN: (semconv.AGENT_NAME,),
    Operation.EXECUTE_TOOL: (
        semconv.TOOL_NAME,
        semconv.SKILL_NAME,
        semconv.SKILL_RESOURCE_NAME,
        semconv.PROCESS_EXECUTABLE_NAME,
    ),
    names.RUN_STAGE: (names.COMPONENT_NAME,),
}

_MCP_TARGETS: Final = (semconv.TOOL_NAME, semconv.PROMPT_NAME)

# Operations that always cross to another process; `invoke_agent` does if it names a server.
_CLIENT: Final = frozenset(
    {
        *semconv.INFERENCE,
        *semconv.MEMORY,
        Operation.EMBEDDINGS,
        Operation.RETRIEVAL,
        Operation.FETCH_RESPONSE,
        Operation.CREATE_AGENT,
    },
)


IMPLIED: Final = 2
"""How many attributes at most an operation's kind and name imply."""


def attributes_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of the operation in *data*, completed by what its kind and name imply."""
    given = data.get("attributes")
    if type(given) is dict:
        attributes: dict[str, Any] = given.copy()
    else:
        attributes = dict(given) if isinstance(given, Mapping) else {}
    implied = _KINDS.get(data.get("kind", ""))
    if implied is None:
        return attributes
    operation, key = implied
    if not isinstance(attributes.get(semconv.OPERATION_NAME), str):
        attributes[semconv.OPERATION_NAME] = operation
    if key not in attributes and (name := data.get("name")):
        attributes[key] = name
    return attributes


# By operation name: the one attribute of the span's name, and the span's kind, where these are all.
_PLAIN_CALLS: Final[Mapping[str, tuple[str, SpanKind]]] = {
    **dict.fromkeys(semconv.INFERENCE, (semconv.REQUEST_MODEL, SpanKind.CLIENT)),
    Operation.EMBEDDINGS: (semconv.REQUEST_MODEL, SpanKind.CLIENT),
    Operation.EXECUTE_TOOL: (semconv.TOOL_NAME, SpanKind.INTERNAL),
    Operation.INVOKE_AGENT: (semconv.AGENT_NAME, SpanKind.INTERNAL),
    Operation.INVOKE_WORKFLOW: (semconv.AGENT_NAME, SpanKind.INTERNAL),
    names.RUN_STAGE: (names.COMPONENT_NAME, SpanKind.INTERNAL),
}


# What makes the span of some operation other than plain.
_SPECIAL: Final = {
    semconv.MCP_METHOD_NAME,
    *_TARGETS[Operation.EXECUTE_TOOL][1:],
}


def described(attributes: Mapping[str, Any]) -> tuple[str, SpanKind]:
    """The name and the kind of the span with *attributes*."""
    operation = attributes.get(semconv.OPERATION_NAME, "")
    plain = _PLAIN_CALLS.get(operation)
    if plain is None or not _SPECIAL.isdisjoint(attributes):
        return span_name(attributes), span_kind(attributes)
    key, kind = plain
    if key == semconv.AGENT_NAME:
        kind = span_kind(attributes)
    target = attributes.get(key)
    return (f"{operation} {target}" if target else operation), kind


def span_name(attributes: Mapping[str, Any]) -> str:
    """`{operation} {target}` as the conventions compose it for this sort of operation."""
    if method := attributes.get(semconv.MCP_METHOD_NAME):
        return _joined(method, _MCP_TARGETS, attributes)
    operation = attributes.get(semconv.OPERATION_NAME, "operation")
    targets = _TARGETS.get(operation, ())
    if len(targets) == 1:
        target = attributes.get(targets[0])
        return f"{operation} {target}" if target else f"{operation}"
    return _joined(operation, targets, attributes)


def span_kind(attributes: Mapping[str, Any]) -> SpanKind:
    """CLIENT for a call that leaves the process, else INTERNAL."""
    operation = attributes.get(semconv.OPERATION_NAME)
    if operation in _CLIENT or semconv.MCP_METHOD_NAME in attributes:
        return SpanKind.CLIENT
    if operation == Operation.INVOKE_AGENT and semconv.SERVER_ADDRESS in attributes:
        return SpanKind.CLIENT
    return SpanKind.INTERNAL


def _joined(first: str, keys: tuple[str, ...], attributes: Mapping[str, Any]) -> str:
    return " ".join([first, *(str(attributes[key]) for key in keys if attributes.get(key))])
