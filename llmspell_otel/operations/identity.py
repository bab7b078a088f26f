"""Places in traces: the ids of operations, and the text that events carry of them."""

from typing import TYPE_CHECKING, Final

from opentelemetry import context as context_api
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext, get_current_span

if TYPE_CHECKING:
    from llmspell_otel.operations.operation import Operation

_SUPPRESSED: Final = (
    "suppress_instrumentation",
    context_api._SUPPRESS_INSTRUMENTATION_KEY,  # noqa: SLF001 - no public name for the key
)


def foreign_span(operation: "Operation") -> SpanContext | None:
    """The span around *operation*, if that is nearer than the operation around it."""
    parent, around = operation.parent, operation.around
    if not around or (parent is not None and around is parent.context):
        return None
    span = get_current_span(around).get_span_context()
    near = span.is_valid and (parent is None or not _above(span, parent))
    return span if near else None


def _above(span: SpanContext, parent: "Operation") -> bool:
    """Whether *parent* lies nearer than *span*: it is its own, or was there before it."""
    own = span.span_id == parent.span_id
    return own or (parent.context is None and span.span_id == parent.parent_span_id)


def suppressed(present: Context) -> bool:
    """Whether somebody asked instrumentations to be silent in the *present* context."""
    return bool(present) and any(map(present.get, _SUPPRESSED))


def trace_text(trace_id: int) -> str:
    """A trace id as W3C headers have it."""
    return trace_id.to_bytes(16, "big").hex()


def span_text(span_id: int) -> str:
    """A span id as W3C headers have it."""
    return span_id.to_bytes(8, "big").hex()


_FLAGS: Final = tuple(f"{flags:02x}" for flags in range(256))


def traceparent_of(trace: str, span: str, flags: int) -> str:
    """The W3C header of the span of that text."""
    return f"00-{trace}-{span}-{_FLAGS[flags]}"


def correlation_of(trace: str) -> str:
    """The UUID form of a trace id's text."""
    return f"{trace[:8]}-{trace[8:12]}-{trace[12:16]}-{trace[16:20]}-{trace[20:]}"
