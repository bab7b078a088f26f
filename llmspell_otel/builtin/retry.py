"""The retry hook: calls that failed for a passing reason are made again, later."""

import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from random import Random
from typing import Any, Final, Literal

from pydantic import Field

from llmspell_otel.builtin.backoff import Backoff, Jitter, Strategy
from llmspell_otel.builtin.description import Builtin, BuiltinSettings, Numbers, Row, Words
from llmspell_otel.builtin.failures import is_a, retry_after, says, status_of
from llmspell_otel.builtin.state import PerOperation, publish
from llmspell_otel.errors import LlmspellError
from llmspell_otel.hooks.context import HookContext
from llmspell_otel.hooks.options import HookOptions
from llmspell_otel.hooks.results import Retry
from llmspell_otel.telemetry import names

_TIMEOUT: Final = 408
_TOO_MANY: Final = 429

Reason = Literal["rate_limit", "timeout", "status", "type", "text"]


class RetrySettings(BuiltinSettings):
    """Which failures are retried, how often, and after which time. Times are in seconds."""

    max_attempts: int = Field(3, ge=1, le=100)
    """Calls in all, the first one counted."""
    strategy: Strategy = "exponential"
    """How delays grow."""
    base_delay: float = Field(0.1, ge=0, le=3600)
    """The first delay."""
    factor: float = Field(2.0, ge=1, le=100)
    """What an exponential delay is multiplied with each time."""
    max_delay: float = Field(60.0, ge=0, le=86_400)
    """Where delays stop growing."""
    jitter: Jitter = "full"
    """How delays are spread at random."""
    max_elapsed: float = Field(300.0, gt=0)
    """No attempt begins later than this after the call began."""
    respect_retry_after: bool = True
    """Whether a server's `Retry-After` is waited for where it is longer."""
    max_retry_after: float = Field(60.0, ge=0)
    """Servers that ask for more than this are not asked again."""
    statuses: Numbers = (408, 425, 429, 500, 502, 503, 504)
    """HTTP statuses that are retried; an error with another status is not."""
    errors: Words = (
        "TimeoutError",
        "ConnectionError",
        "APIConnectionError",
        "RemoteProtocolError",
        "TransportError",
    )
    """Names of exception classes, bases included, that are retried."""
    texts: Words = (
        "connection error",
        "connection_error",
        "internal_server_error",
        "service unavailable",
        "service_unavailable",
        "timed out",
    )
    """Parts of an error's text that are retried, where it has no status."""
    never_statuses: Numbers = ()
    """HTTP statuses that are not retried, whatever else says so."""
    never_errors: Words = ()
    """Exception classes that are not."""
    never_texts: Words = ("insufficient_quota",)
    """Parts of texts that are not."""
    on_timeout: bool = True
    """Whether time-outs are retried."""
    on_rate_limit: bool = True
    """Whether refusals for too many requests (429) are retried."""
    tools: Words = ()
    """Tools that may safely run twice, wildcards allowed; no other is retried."""
    agents: Words = ()
    """Agents whose whole runs, tools included, may be repeated; no other is retried."""


class Retries:
    """Judges the failures of calls.

    Args:
        settings: the settings.
        random: where jitter comes from.
        clock: seconds, comparable with the operations' own `perf_counter`.
    """

    def __init__(
        self,
        settings: RetrySettings,
        random: Random | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.settings = settings
        self._backoff = Backoff(
            strategy=settings.strategy,
            jitter=settings.jitter,
            base=settings.base_delay,
            factor=settings.factor,
            ceiling=settings.max_delay,
        )
        self._random = random or Random()  # noqa: S311 - spreading load is no secret
        self._clock = clock
        self._delays: PerOperation[float] = PerOperation()

    def failed(self, context: HookContext) -> Retry | None:
        """Answer `Retry` to a failure that may pass, None to any other."""
        error = context.error
        if not isinstance(error, Exception) or not self._may(context):
            return None
        reason = self.reason(error)
        if reason is None:
            return None
        delay = self._delay(context, error)
        if delay is None:
            facts = {"attempts": context.attempt, "reason": reason, "error": type(error).__name__}
            publish("retry:exhausted", context, facts)
            return None
        return self._again(context, error, reason, delay)

    def _may(self, context: HookContext) -> bool:
        """Whether the call can be made twice without harm, and has not begun to answer."""
        if getattr(context.operation, "handed_over", False):
            return False
        kind, name = context.component.type, context.component.name
        repeatable = {"tool": self.settings.tools, "agent": self.settings.agents}.get(kind)
        if repeatable is not None and not any(fnmatchcase(name, each) for each in repeatable):
            return False
        return self.settings.selects(context.component)

    def reason(self, error: Exception) -> Reason | None:
        """Why *error* is worth another attempt; None if it is not."""
        given = self.settings
        status = status_of(error)
        if (
            isinstance(error, LlmspellError)
            or status in given.never_statuses
            or is_a(error, given.never_errors)
            or says(error, given.never_texts)
        ):
            return None
        reason = self._wanted(error, status)
        if reason == "timeout" and not given.on_timeout:
            return None
        return None if reason == "rate_limit" and not given.on_rate_limit else reason

    def _wanted(self, error: Exception, status: int | None) -> Reason | None:
        if status is not None:
            if status not in self.settings.statuses:
                return None
            return {_TIMEOUT: "timeout", _TOO_MANY: "rate_limit"}.get(status, "status")  # type: ignore[return-value] # the words are Reason's
        late = is_a(error, ("*Timeout*",))
        if is_a(error, self.settings.errors):
            return "timeout" if late else "type"
        if says(error, self.settings.texts):
            return "timeout" if late or says(error, ("timed out", "timeout")) else "text"
        return None

    def _delay(self, context: HookContext, error: Exception) -> float | None:
        """Seconds until the next attempt; None when there shall be none."""
        given = self.settings
        if context.attempt >= given.max_attempts:
            return None
        previous = self._delays.get(context) or given.base_delay
        delay = self._backoff.delay(context.attempt, previous, self._random)
        self._delays.set(context, delay)
        asked = retry_after(error) if given.respect_retry_after else None
        if asked is not None:
            if asked > given.max_retry_after:
                return None
            delay = max(delay, asked)
        return None if self._elapsed(context) + delay > given.max_elapsed else delay

    def _elapsed(self, context: HookContext) -> float:
        began = getattr(context.operation, "began", None)
        return 0.0 if began is None else self._clock() - began / 1e9

    def _again(self, context: HookContext, error: Exception, reason: Reason, delay: float) -> Retry:
        facts: dict[str, Any] = {"attempt": context.attempt + 1, "reason": reason, "delay": delay}
        context.notes = {
            names.RETRY_ATTEMPT: facts["attempt"],
            names.RETRY_REASON: reason,
            names.RETRY_DELAY: delay,
        }
        publish("retry:scheduled", context, {**facts, "error": type(error).__name__})
        return Retry(delay=delay, max_attempts=self.settings.max_attempts, reason=reason)


def build(settings: RetrySettings) -> list[Row]:
    """Hooks at the error points of the kinds that may be retried."""
    retries = Retries(settings)
    points = ["model:error"]
    points += ["tool:error"] if settings.tools else []
    points += ["agent:error"] if settings.agents else []
    options = HookOptions(
        name="retry",
        priority="high",
        tags=("builtin", "retry"),
        breaker=settings.breaker_profile,
    )
    return [(point, retries.failed, options) for point in points]


BUILTIN: Final = Builtin(
    name="retry",
    about="calls that failed for a passing reason are made again, later",
    settings=RetrySettings,
    build=build,
    profiles={
        "default": {},
        "production": {"max_attempts": 4, "jitter": "decorrelated", "breaker": "production"},
        "conservative": {"max_attempts": 2, "max_elapsed": 60.0, "breaker": "conservative"},
    },
)
