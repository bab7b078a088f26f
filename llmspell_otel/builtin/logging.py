"""The logging hook: one line for each moment of a call, through the standard `logging`."""

import logging
import re
import time
from collections.abc import Mapping
from typing import Any, Final, Literal

from opentelemetry import _logs, trace
from opentelemetry import context as context_api
from opentelemetry._logs import SeverityNumber
from pydantic import Field, field_validator

from llmspell_otel.builtin.description import Builtin, BuiltinSettings, Row, Words, chosen, place_of
from llmspell_otel.builtin.rendering import SECRET_KEYS, SECRET_PATTERNS, Renderer, inert
from llmspell_otel.guard import guard
from llmspell_otel.hooks.context import HookContext
from llmspell_otel.hooks.options import HookOptions
from llmspell_otel.points import POINTS, HookPoint, Moment
from llmspell_otel.telemetry import names, semconv

TRACE: Final = 5
"""The level below DEBUG."""

Level = Literal["trace", "debug", "info", "warning", "error", "critical", "off"]
_NUMBERS: Final[Mapping[str, int]] = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "off": 0,
}
_SEVERITIES: Final = {
    TRACE: SeverityNumber.TRACE,
    logging.DEBUG: SeverityNumber.DEBUG,
    logging.INFO: SeverityNumber.INFO,
    logging.WARNING: SeverityNumber.WARN,
    logging.ERROR: SeverityNumber.ERROR,
    logging.CRITICAL: SeverityNumber.FATAL,
}
_BY_MOMENT: Final[Mapping[Moment, int]] = {
    Moment.BEFORE: logging.DEBUG,
    Moment.AFTER: logging.INFO,
    Moment.ERROR: logging.ERROR,
    Moment.CHUNK: TRACE,
    Moment.NOTICE: logging.INFO,
}


class LoggingSettings(BuiltinSettings):
    """What is logged, at which level, and what is kept out of the log."""

    level: Level = "info"
    """The threshold: moments of a lower level are not logged, and cost nothing."""
    levels: dict[str, Level] = Field(default_factory=dict)
    """The level of hook points, as ``{"tool:*": "debug"}``; the last pattern that fits holds."""
    points: Words = ("*",)
    """Hook points that are logged, in their spelling ``tool:after_execution``; wildcards."""
    exclude_points: Words = ()
    """Hook points that are not; they win."""
    content: bool = False
    """Whether inputs, outputs and error texts are logged; redacted even then."""
    metadata: bool = False
    """Whether the context's metadata are logged."""
    max_bytes: int = Field(1024, ge=16, le=1_048_576)
    """Bytes of UTF-8 that one value may take in the line."""
    redact_keys: Words = SECRET_KEYS
    """Names whose values are masked, at every depth, also as the end of a longer name."""
    redact_patterns: tuple[str, ...] = SECRET_PATTERNS
    """Regular expressions of what is masked wherever it stands."""
    logger: str = Field("llmspell_otel.calls", min_length=1)
    """The name of the standard logger."""
    otel: bool = True
    """Whether the line is an OpenTelemetry log record too, unless a handler makes it one."""

    @field_validator("redact_patterns")
    @classmethod
    def _compile(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return patterns

    def level_at(self, point: HookPoint) -> int:
        """The number of the level of *point*; 0 where nothing is logged."""
        if not chosen(point.spelling, self.points, self.exclude_points):
            return 0
        level = _BY_MOMENT[point.moment]
        if point.spelling.startswith("event:") and point.moment is not Moment.ERROR:
            level = TRACE  # every call publishes events: logging them too says all twice
        for pattern, named in self.levels.items():
            if chosen(point.spelling, (pattern,), ()) or pattern == point.name:
                level = _NUMBERS[named]
        threshold = _NUMBERS[self.level]
        return level if threshold and level >= threshold else 0


class Lines:
    """Writes the lines."""

    def __init__(self, settings: LoggingSettings) -> None:
        self.settings = settings
        self.logger = logging.getLogger(settings.logger)
        self.renderer = Renderer.of(
            settings.max_bytes, settings.redact_keys, settings.redact_patterns
        )

    def at(self, level: int) -> "At":
        """The hook that logs at *level*."""
        return At(self, level)

    def write(self, level: int, context: HookContext) -> None:
        """Log one line, if anybody takes it."""
        standard = self.logger.isEnabledFor(level)
        emitted = self.settings.otel and _provided() and not _bridged(self.logger)
        if not (standard or emitted):
            return
        fields = _fields(context)
        body = f"{context.point.spelling} {inert(context.component.type)}"
        body = f"{body} {self.renderer.line(context.component.name)}{self._details(context)}"
        own: Any = getattr(context.operation, "context", None)
        if standard:
            self._log(level, body, fields, own)
        if emitted:
            _emit(level, body, fields, own)

    def _log(self, level: int, body: str, fields: dict[str, Any], own: Any) -> None:
        # Current for the line only, so that handlers that read the span find the call's.
        token = context_api.attach(own) if own is not None else None
        try:
            self.logger.log(level, "%s", body, extra={**fields, **_ids(own)})
        finally:
            if token is not None:
                context_api.detach(token)

    def _details(self, context: HookContext) -> str:
        said: list[str] = []
        began = getattr(context.operation, "began", None)
        if began is not None and context.point.moment in (Moment.AFTER, Moment.ERROR):
            said.append(f"{(time.perf_counter_ns() - began) / 1e6:.1f} ms")
        if context.attempt > 1:
            said.append(f"attempt={context.attempt}")
        if context.correlation_id:
            said.append(f"correlation={context.correlation_id}")
        error = context.error
        if error is not None:
            said.append(f"error={type(error).__name__}")
        if self.settings.metadata:
            said.append(f"metadata={self.renderer.text(context.metadata)}")
        if self.settings.content:
            said += [f"{key}={self._value(value)}" for key, value in context.data.items()]
        return "".join(f" {each}" for each in said)

    def _value(self, value: Any) -> str:
        if isinstance(value, BaseException):
            return self.renderer.line(guard.contained("reading an error", str, value) or "")
        return self.renderer.text(value)


class At:
    """The hook of one point."""

    __slots__ = ("_level", "_lines")

    def __init__(self, lines: Lines, level: int) -> None:
        self._lines = lines
        self._level = level

    def __call__(self, context: HookContext) -> None:
        """Log the moment of *context*."""
        if self._lines.settings.selects(context.component):
            self._lines.write(self._level, context)


def _fields(context: HookContext) -> dict[str, Any]:
    fields: dict[str, Any] = {
        names.HOOK_POINT: context.point.spelling,
        names.COMPONENT_TYPE: context.component.type,
        names.COMPONENT_NAME: inert(context.component.name[:256]),
    }
    if context.correlation_id:
        fields[names.CORRELATION_ID] = context.correlation_id
    if context.error is not None:
        fields[semconv.ERROR_TYPE] = type(context.error).__name__
    return fields


def _ids(own: Any) -> dict[str, str]:
    span = trace.get_current_span(own).get_span_context()
    if not span.is_valid:
        return {}
    return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}


def _bridged(logger: logging.Logger) -> bool:
    """Whether a handler makes OpenTelemetry log records of what *logger* is given."""
    at: logging.Logger | None = logger
    while at is not None:
        for handler in at.handlers:
            kind = type(handler)
            if kind.__name__ == "LoggingHandler" and kind.__module__.startswith("opentelemetry."):
                return True
        at = at.parent if at.propagate else None
    return False


def _provided() -> bool:
    """Whether the process has a provider of OpenTelemetry loggers."""
    return type(_logs.get_logger_provider()).__name__ not in _NO_PROVIDERS


_NO_PROVIDERS: Final = frozenset({"ProxyLoggerProvider", "NoOpLoggerProvider"})


def _emit(level: int, body: str, fields: Mapping[str, Any], own: Any) -> None:
    logger = _logs.get_logger(names.SCOPE, schema_url=semconv.SCHEMA_URL)
    logger.emit(
        timestamp=time.time_ns(),
        context=own,
        severity_number=_SEVERITIES[level],
        severity_text="TRACE" if level == TRACE else logging.getLevelName(level),
        body=body,
        attributes=dict(fields),
    )


def build(settings: LoggingSettings) -> list[Row]:
    """A hook at each point that is logged, and none elsewhere."""
    lines = Lines(settings)
    rows: list[Row] = []
    for point in POINTS:
        level = settings.level_at(point)
        if level:
            options = HookOptions(
                name="logging",
                priority=place_of(point, "low"),
                tags=("builtin", "logging"),
                breaker=settings.breaker_profile,
            )
            rows.append((point.spelling, lines.at(level), options))
    return rows


BUILTIN: Final = Builtin(
    name="logging",
    about="one line for each moment of a call, through the standard logging",
    settings=LoggingSettings,
    build=build,
    profiles={
        "default": {"level": "info"},
        "production": {"level": "warning", "breaker": "production"},
        "conservative": {"level": "debug", "breaker": "conservative"},
    },
)
