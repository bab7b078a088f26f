"""Events become log records: failures, what hooks decided, and a call's details if wanted."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry import _logs
from opentelemetry._logs import LoggerProvider, SeverityNumber
from opentelemetry.context import Context

from llmspell_otel.guard import Guard
from llmspell_otel.telemetry import names, semconv
from llmspell_otel.telemetry.capture import bounded
from llmspell_otel.telemetry.endings import closing_attributes, decisions, failure
from llmspell_otel.telemetry.values import clean

_UNREMARKABLE: Final = frozenset({"continue", "skipped"})
_DENIED: Final = frozenset({"deny", "block"})

# What else a record about an operation repeats of it.
_ABOUT: Final = (
    semconv.OPERATION_NAME,
    semconv.PROVIDER_NAME,
    semconv.REQUEST_MODEL,
    semconv.AGENT_NAME,
    semconv.TOOL_NAME,
    names.COMPONENT_NAME,
)

# By operation name; any other is a client's.
_EXCEPTIONS: Final[Mapping[str, str]] = {
    semconv.Operation.EXECUTE_TOOL: semconv.EVENT_TOOL_EXCEPTION,
    semconv.Operation.INVOKE_AGENT: semconv.EVENT_AGENT_EXCEPTION,
    semconv.Operation.INVOKE_WORKFLOW: semconv.EVENT_WORKFLOW_EXCEPTION,
    semconv.Operation.PLAN: semconv.EVENT_PLAN_EXCEPTION,
    names.RUN_STAGE: names.EVENT_STAGE_EXCEPTION,
}


@dataclass(frozen=True, slots=True)
class Record:
    """One log record to be."""

    name: str
    severity: SeverityNumber
    attributes: Mapping[str, Any]
    timestamp: int
    """Nanoseconds since the epoch."""


def told(
    data: Mapping[str, Any], attributes: Mapping[str, Any], *, content: bool, details: bool
) -> Iterator[Record]:
    """Every record that the end of an operation owes.

    Args:
        data: the event's.
        attributes: all attributes of the operation, as `attributes_of` completes them.
        content: whether records may carry content, error texts included.
        details: whether the record with all of the operation's details is wanted.
    """
    end = data["end_time"]
    if failure(data) is not None and data.get("error"):
        yield _exception(data, attributes, end, content=content)
    for decision in decisions(data):
        if (record := _decision(decision, attributes, end, content=content)) is not None:
            yield record
    if details and attributes.get(semconv.OPERATION_NAME) in semconv.INFERENCE:
        yield _details(data, attributes, end, content=content)


class LogWriter:
    """Emits records, containing whatever goes wrong.

    Args:
        logger_provider: where records go; by default the global provider, even a later one.
        version: the version of the instrumentation scope.
    """

    def __init__(self, logger_provider: LoggerProvider | None = None, *, version: str = "") -> None:
        self.guard = Guard()
        self._logger = _logs.get_logger(names.SCOPE, version, logger_provider, semconv.SCHEMA_URL)

    def write(self, record: Record, context: Context | None = None) -> None:
        """Emit *record* as part of the span in *context*."""
        try:
            if self._wanted(record, context):
                self._logger.emit(
                    timestamp=record.timestamp,
                    context=context,
                    severity_number=record.severity,
                    attributes=clean(record.attributes),
                    event_name=record.name,
                )
        except Exception as error:
            self.guard.report(f"emitting {record.name}", error)

    def _wanted(self, record: Record, context: Context | None) -> bool:
        # Older API packages have no such question.
        enabled = getattr(self._logger, "enabled", None)
        return enabled is None or enabled(
            context=context, severity_number=record.severity, event_name=record.name
        )


def breaker_changed(name: str, state: str, *, reason: str | None, timestamp: int) -> Record:
    """The record of a circuit breaker's change of *state*."""
    severity = SeverityNumber.WARN if state.endswith("open") else SeverityNumber.INFO
    if state == names.BreakerState.HALF_OPEN:
        severity = SeverityNumber.INFO
    attributes = {names.BREAKER_NAME: name, names.BREAKER_STATE: state, names.HOOK_REASON: reason}
    return Record(names.EVENT_BREAKER_CHANGED, severity, attributes, timestamp)


def _exception(
    data: Mapping[str, Any], attributes: Mapping[str, Any], end: int, *, content: bool
) -> Record:
    error = data["error"]
    operation = attributes.get(semconv.OPERATION_NAME, "")
    # A caller that cancels its own call has no problem.
    cancelled = data.get("outcome") == names.Outcome.CANCELLED
    return Record(
        _EXCEPTIONS.get(operation, semconv.EVENT_CLIENT_EXCEPTION),
        SeverityNumber.DEBUG if cancelled else SeverityNumber.WARN,
        {
            **_about(attributes),
            semconv.ERROR_TYPE: failure(data),
            semconv.EXCEPTION_TYPE: error.get("exception_type") or failure(data),
            semconv.EXCEPTION_STACKTRACE: error.get("stacktrace"),
            semconv.EXCEPTION_MESSAGE: error.get("message") if content else None,
        },
        end,
    )


def _decision(
    decision: Mapping[str, Any], about: Mapping[str, Any], end: int, *, content: bool
) -> Record | None:
    result, error = decision.get("result"), decision.get("error")
    attributes = decision.get("attributes") or {}
    if result in _UNREMARKABLE and not error and not attributes:
        return None
    name, severity = _sort(decision, attributes)
    return Record(
        name,
        severity,
        {
            **_about(about),
            **attributes,
            names.HOOK_NAME: decision.get("hook"),
            names.HOOK_POINT: decision.get("point"),
            names.HOOK_RESULT: result,
            # A hook's own words may quote what it judged.
            names.HOOK_REASON: decision.get("reason") if content else None,
            semconv.ERROR_TYPE: error,
        },
        decision.get("time") or end,
    )


def _sort(decision: Mapping[str, Any], attributes: Mapping[str, Any]) -> tuple[str, SeverityNumber]:
    if decision.get("error"):
        return names.EVENT_HOOK_EXCEPTION, SeverityNumber.WARN
    if names.GUARDRAIL_NAME in attributes:
        denied = attributes.get(names.GUARDRAIL_VERDICT_TYPE) in _DENIED
        severity = SeverityNumber.WARN if denied else SeverityNumber.INFO
        return names.EVENT_GUARDRAIL_RESULT, severity
    if attributes.get(names.RATE_LIMITING_RESULT) in {"rejected", "timed_out"}:
        return names.EVENT_RATE_LIMITED, SeverityNumber.WARN
    if decision.get("result") == "retry":
        return names.EVENT_RETRY_SCHEDULED, SeverityNumber.INFO
    return names.EVENT_HOOK_EXECUTED, SeverityNumber.DEBUG


def _details(
    data: Mapping[str, Any], attributes: Mapping[str, Any], end: int, *, content: bool
) -> Record:
    every = {**attributes, **closing_attributes(data)}
    if content and (given := data.get("content")):
        every |= bounded(given)
    return Record(semconv.EVENT_INFERENCE_DETAILS, SeverityNumber.DEBUG, every, end)


def _about(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: attributes[key] for key in _ABOUT if key in attributes}
