"""Names under `llmspell.*`, for what the GenAI conventions do not cover.

Every attribute, event and metric of our own is spelt here and nowhere else. None of them sits
under a namespace of OpenTelemetry, but `gen_ai.usage.cost`, which other tools' dashboards read.
"""

from enum import StrEnum
from typing import Final

SCOPE: Final = "llmspell_otel"
"""The instrumentation scope of everything this package emits."""


class Outcome(StrEnum):
    """How an operation ended."""

    OK = "ok"
    ERROR = "error"
    CANCELLED = "cancelled"
    CLOSED = "closed"
    """The consumer closed a stream before its end."""
    ABANDONED = "abandoned"
    """The consumer let go of a stream before its end."""


class CacheResult(StrEnum):
    """Values of `llmspell.cache.result`."""

    HIT = "hit"
    MISS = "miss"
    BYPASS = "bypass"
    STALE = "stale"
    ERROR = "error"


class BreakerState(StrEnum):
    """Values of `llmspell.circuit_breaker.state`."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


RUN_STAGE: Final = "run_stage"
"""The `gen_ai.operation.name` of a workflow's stage; the conventions list none."""

# Attributes.
OPERATION_OUTCOME: Final = "llmspell.operation.outcome"
COMPONENT_TYPE: Final = "llmspell.component.type"
COMPONENT_NAME: Final = "llmspell.component.name"
EVENT_SEQUENCE: Final = "llmspell.event.sequence"
CORRELATION_ID: Final = "llmspell.correlation.id"
HOOK_NAME: Final = "llmspell.hook.name"
HOOK_POINT: Final = "llmspell.hook.point"
HOOK_RESULT: Final = "llmspell.hook.result"
HOOK_RESULTS: Final = "llmspell.hook.results"
HOOK_REASON: Final = "llmspell.hook.reason"
HOOK_PRIORITY: Final = "llmspell.hook.priority"
GUARDRAIL_NAME: Final = "llmspell.guardrail.name"
GUARDRAIL_TARGET_TYPE: Final = "llmspell.guardrail.target.type"
GUARDRAIL_VERDICT_TYPE: Final = "llmspell.guardrail.verdict.type"
GUARDRAIL_ACTION_TYPE: Final = "llmspell.guardrail.action.type"
COST_TOTAL: Final = "llmspell.cost.total"
COST_INPUT: Final = "llmspell.cost.input"
COST_OUTPUT: Final = "llmspell.cost.output"
COST_CURRENCY: Final = "llmspell.cost.currency"
COST_SOURCE: Final = "llmspell.cost.source"
COST_MODEL: Final = "llmspell.cost.model"
CACHE_NAME: Final = "llmspell.cache.name"
CACHE_RESULT: Final = "llmspell.cache.result"
RATE_LIMITING_POLICY: Final = "llmspell.rate_limiting.policy"
RATE_LIMITING_RESULT: Final = "llmspell.rate_limiting.result"
RATE_LIMITING_WAIT: Final = "llmspell.rate_limiting.wait"
RETRY_ATTEMPT: Final = "llmspell.retry.attempt"
RETRY_COUNT: Final = "llmspell.retry.count"
RETRY_REASON: Final = "llmspell.retry.reason"
RETRY_DELAY: Final = "llmspell.retry.delay"
BREAKER_NAME: Final = "llmspell.circuit_breaker.name"
BREAKER_STATE: Final = "llmspell.circuit_breaker.state"
SESSION_RECORDING_ID: Final = "llmspell.session.recording.id"
REPLAY: Final = "llmspell.replay"
SAMPLING_REASON: Final = "llmspell.sampling.reason"
CONTENT_TRUNCATED: Final = "llmspell.content.truncated"

# Events (log records).
EVENT_HOOK_EXECUTED: Final = "llmspell.hook.executed"
EVENT_HOOK_EXCEPTION: Final = "llmspell.hook.exception"
EVENT_GUARDRAIL_RESULT: Final = "llmspell.guardrail.result"
EVENT_RETRY_SCHEDULED: Final = "llmspell.retry.scheduled"
EVENT_RATE_LIMITED: Final = "llmspell.rate_limiting.rejected"
EVENT_STAGE_EXCEPTION: Final = "llmspell.run_stage.exception"
EVENT_BREAKER_CHANGED: Final = "llmspell.circuit_breaker.state_changed"

# Metrics.
HOOK_DURATION: Final = "llmspell.hook.duration"
GUARDRAIL_DURATION: Final = "llmspell.guardrail.duration"
STAGE_DURATION: Final = "llmspell.stage.duration"
INFERENCE_COST: Final = "llmspell.inference.cost"
INFERENCE_OPERATION_COST: Final = "llmspell.inference.operation.cost"
INFERENCE_UNPRICED: Final = "llmspell.inference.unpriced"
USAGE_COST: Final = "gen_ai.usage.cost"
CACHE_REQUESTS: Final = "llmspell.cache.requests"
RATE_LIMITING_REQUESTS: Final = "llmspell.rate_limiting.requests"
RATE_LIMITING_TIME_IN_QUEUE: Final = "llmspell.rate_limiting.request.time_in_queue"
RETRY_ATTEMPTS: Final = "llmspell.retry.attempts"
BREAKER_STATUS: Final = "llmspell.circuit_breaker.status"
QUEUE_SIZE: Final = "llmspell.event.queue.size"
QUEUE_CAPACITY: Final = "llmspell.event.queue.capacity"
EVENTS_PROCESSED: Final = "llmspell.event.processed"

HOOK_SECONDS: Final[tuple[float, ...]] = (
    *(1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4),
    *(1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 1e-1, 1.0, 10.0),
)
"""Buckets of a hook's duration: 1 microsecond ... 10 seconds."""

MONEY: Final[tuple[float, ...]] = (
    *(1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2),
    *(5e-2, 1e-1, 2e-1, 5e-1, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0),
)
"""Buckets of one call's cost: 0.00001 ... 100 units of the currency."""
