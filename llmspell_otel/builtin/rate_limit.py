"""The rate-limit hook: so many operations, tokens or dollars in a time, and what happens then."""

import math
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from string import Formatter
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from llmspell_otel.builtin.allowance import Allowances, span
from llmspell_otel.builtin.bucket import Buckets, Grant, Limit, MemoryBuckets
from llmspell_otel.builtin.description import Builtin, BuiltinSettings, Parts, Row, Words
from llmspell_otel.builtin.failures import headers_of, retry_after, status_of
from llmspell_otel.builtin.identity import conversation_of, user_of
from llmspell_otel.builtin.state import PerOperation, characters_in, offloaded, publish
from llmspell_otel.hooks.context import Decision, HookContext
from llmspell_otel.hooks.options import HookOptions, OnFailure
from llmspell_otel.hooks.results import Cancel, Redirect, Replace, Result, Retry
from llmspell_otel.hooks.store import MISSING
from llmspell_otel.operations.answered import headers_of as headers_of_answer
from llmspell_otel.telemetry import names, semconv

_TEMPLATES: Final = {
    "global": "all",
    "component": "{kind}:{component}",
    "user": "{user}",
}
_FIELDS: Final = frozenset({"kind", "component", "user", "conversation"})
_TOO_MANY: Final = 429
_LONGEST_KEY: Final = 512


class Quota(BaseModel):
    """*rate* tokens in *per* seconds, and up to *burst* at once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rate: float = Field(gt=0)
    per: float = Field(1.0, gt=0)
    burst: float | None = Field(None, gt=0)

    @property
    def limit(self) -> Limit:
        """As buckets take it; the burst is *rate* where none is given."""
        return Limit(self.rate / self.per, self.rate if self.burst is None else self.burst)


class RateLimitSettings(BuiltinSettings):
    """How much is let through, counted for whom, and what becomes of the rest."""

    include: Words = ("model:*", "tool:*")
    """Components, as ``kind:name`` with wildcards, that are counted."""
    rate: float = Field(10.0, gt=0)
    """Operations, tokens or dollars in `per` seconds."""
    per: float = Field(1.0, gt=0)
    """Seconds."""
    burst: float | None = Field(100.0, gt=0)
    """How much may come at once after a quiet time; `rate` if null."""
    unit: Literal["operations", "tokens", "dollars"] = "operations"
    """What is counted. Tokens and dollars are known, and taken, only after a call: a bucket in
    debt lets nothing through until time has paid it off."""
    key: str = "global"
    """Whose bucket: ``global``, ``component``, ``user``, or a template of ``{kind}``,
    ``{component}``, ``{user}`` and ``{conversation}``."""
    trust_baggage: bool = False
    """Whether the user is also read from OpenTelemetry baggage."""
    limits: dict[str, Quota] = Field(default_factory=dict)
    """Quotas of their own for components, by pattern; the first that fits holds."""
    action: Literal["cancel", "delay", "redirect", "cached"] = "cancel"
    """What becomes of a call beyond the limit; `delay` and `cached` may have to cancel too."""
    max_delay: float = Field(5.0, gt=0)
    """Seconds that `delay` makes a call wait at most."""
    redirect_to: str | None = None
    """The model, tool or agent that does it instead."""
    warn_at: float = Field(0.8, gt=0, le=1)
    """The share of a bucket in use that is told as an event."""
    headers: bool = True
    """Whether the context's metadata say `X-RateLimit-Limit`, `-Remaining`, `-Reset`, …"""
    learn: bool = True
    """Whether calls are held back as a provider asks: by its refusals (429), and by what its
    answers say is left of its own limits."""
    redis: str | None = None
    """Where several processes share their buckets: ``redis://host:6379/0``."""
    redis_timeout: float = Field(0.25, gt=0, le=10)
    """Seconds that Redis may take; after that, this process counts for itself."""
    redis_prefix: str = "llmspell:rate_limit:"
    """What keys in Redis begin with."""
    on_failure: OnFailure = "cancel"
    """Whether calls go on (`skip`) should the limiter itself break."""

    @field_validator("key")
    @classmethod
    def _template(cls, key: str) -> str:
        if key in _TEMPLATES:
            return key
        try:
            fields = {name for _, name, _, _ in Formatter().parse(key) if name is not None}
        except ValueError as error:
            raise ValueError(f"{key!r} is no template: {error}") from None
        if not fields or fields - _FIELDS:
            known = ", ".join([*_TEMPLATES, *(f"{{{name}}}" for name in sorted(_FIELDS))])
            raise ValueError(f"use one of, or a text with, {known}")
        return key

    @model_validator(mode="after")
    def _target(self) -> Self:
        if self.action == "redirect" and not self.redirect_to:
            raise ValueError("action 'redirect' needs 'redirect_to', the name of what does it")
        return self

    def limit_of(self, component: str) -> tuple[str, Limit]:
        """The name of the quota that holds for *component*, and the quota."""
        for pattern, quota in self.limits.items():
            if fnmatchcase(component, pattern):
                return pattern, quota.limit
        return "", Quota(rate=self.rate, per=self.per, burst=self.burst).limit


@dataclass(slots=True)
class _Admitted:
    """An operation that may run: whose bucket it takes from."""

    key: str
    limit: Limit


class Limiter:
    """Counts calls, and answers those beyond the limit."""

    def __init__(
        self, settings: RateLimitSettings, buckets: Buckets, allowances: Allowances | None = None
    ) -> None:
        self.settings = settings
        self.buckets = buckets
        self.allowances = allowances or Allowances()
        self._template = _TEMPLATES.get(settings.key, settings.key)
        self._policy = f"{settings.key} {settings.unit}"
        self._admitted: PerOperation[_Admitted] = PerOperation()
        self._limits: dict[str, tuple[str, Limit]] = {}
        self._high: set[str] = set()
        self._blocks = isinstance(buckets, MemoryBuckets)

    # -- before a call

    def before(self, context: HookContext) -> Any:
        """Take a token for the operation, once, or say what becomes of it."""
        if not self.settings.selects(context.component) or self._admitted.get(context):
            return None
        admitted = _Admitted(*self._bucket(context))
        left = self._left(context)
        if left is not None and not left.granted:
            return self._answer(context, admitted, left)
        amount = 1.0 if self.settings.unit == "operations" else math.ulp(0.0)
        wait = self.settings.max_delay if self.settings.action == "delay" else 0.0

        def take() -> Grant:
            grant = self.buckets.take(admitted.key, amount, admitted.limit, wait)
            slower = left is not None and grant.granted and left.wait > grant.wait
            return replace(grant, wait=left.wait) if slower and left is not None else grant

        if self._blocks:
            return self._answer(context, admitted, take())
        return offloaded(take, lambda grant: self._answer(context, admitted, grant))

    def _left(self, context: HookContext) -> Grant | None:
        """What the model's provider will make of one more request, as far as it told."""
        if not self.settings.learn or context.component.type != "model":
            return None
        wait = self.settings.max_delay if self.settings.action == "delay" else 0.0
        tokens = characters_in(context.input) / _CHARACTERS
        return self.allowances.take(context.component.name, tokens, wait)

    def _bucket(self, context: HookContext) -> tuple[str, Limit]:
        component = f"{context.component.type}:{context.component.name}"
        known = self._limits.get(component)
        if known is None:
            known = self.settings.limit_of(component)
            if len(self._limits) < _REMEMBERED:
                self._limits[component] = known
        pattern, limit = known
        key = self._template
        if "{" in key:
            key = key.format(
                kind=context.component.type,
                component=context.component.name,
                user=self._user(context) if "{user}" in key else "",
                conversation=conversation_of(context) if "{conversation}" in key else "",
            )
        return f"{pattern}|{key}"[:_LONGEST_KEY], limit

    def _user(self, context: HookContext) -> str:
        return user_of(context, trust_baggage=self.settings.trust_baggage)

    def _answer(self, context: HookContext, asked: _Admitted, grant: Grant) -> Result | None:
        if self.settings.headers:
            _tell(context, asked.limit, grant)
        self._warn(context, asked, grant)
        if not grant.granted:
            return self._refused(context, asked, grant)
        self._admitted.set(context, asked)
        if grant.wait <= 0:
            self._note(context, "acquired", None)
            return None
        context.notes = self._attributes("delayed", grant.wait)
        facts = {"key": asked.key, "delay": grant.wait}
        publish("rate_limit:delayed", context, facts)
        # One round more than any wait needs: the second finds the operation admitted.
        return Retry(delay=grant.wait, max_attempts=100, reason="rate limit")

    def _refused(self, context: HookContext, asked: _Admitted, grant: Grant) -> Result:
        facts = {"key": asked.key, "retry_after": grant.wait, "action": self.settings.action}
        publish("rate_limit:exceeded", context, facts)
        if self.settings.action == "redirect" and self.settings.redirect_to:
            context.notes = self._attributes("redirected", None)
            return Redirect(self.settings.redirect_to)
        if self.settings.action == "cached":
            kept = _recalled(context)
            if kept is not MISSING:
                context.notes = self._attributes("cached", None)
                return Replace(kept)
        context.notes = self._attributes("rejected", None)
        return Cancel(f"Rate limit exceeded; try again in {grant.wait:.3g} s")

    def _attributes(self, result: str, wait: float | None) -> dict[str, Any]:
        attributes: dict[str, Any] = {
            names.RATE_LIMITING_POLICY: self._policy,
            names.RATE_LIMITING_RESULT: result,
        }
        if wait is not None:
            attributes[names.RATE_LIMITING_WAIT] = wait
        return attributes

    def _note(self, context: HookContext, result: str, wait: float | None) -> None:
        attributes = self._attributes(result, wait)
        context.decisions.append(
            Decision("rate_limit", context.point.spelling, "continue", attributes=attributes)
        )

    def _warn(self, context: HookContext, asked: _Admitted, grant: Grant) -> None:
        """Tell once when a bucket is nearly empty, and anew only after it was not."""
        used = 1 - grant.tokens / asked.limit.burst
        if used < self.settings.warn_at:
            self._high.discard(asked.key)
        elif asked.key not in self._high and len(self._high) < _REMEMBERED:
            self._high.add(asked.key)
            publish("rate_limit:warning", context, {"key": asked.key, "used": min(used, 1.0)})

    # -- after a call

    def after(self, context: HookContext) -> Any:
        """Take what the call turned out to use."""
        admitted = self._admitted.pop(context)
        amount = self._used(context)
        if admitted is None or amount <= 0:
            return None
        return self._charged(admitted, amount)

    def _used(self, context: HookContext) -> float:
        operation: Any = context.operation
        if self.settings.unit == "dollars":
            return float(getattr(operation, "cost", None) or 0)
        used = getattr(operation, "attributes", {})
        counted = (semconv.USAGE_INPUT_TOKENS, semconv.USAGE_OUTPUT_TOKENS)
        return float(sum(used.get(key) or 0 for key in counted))

    def answered(self, context: HookContext) -> None:
        """Learn what the provider's answer says is left of its own limits."""
        if self.settings.selects(context.component):
            self.allowances.learn(context.component.name, headers_of_answer(context.operation))

    def failed(self, context: HookContext) -> Any:
        """Hold further calls back as long as the provider's refusal asks."""
        admitted = self._admitted.get(context)
        if admitted is None or status_of(context.error) != _TOO_MANY:
            return None
        wait = retry_after(context.error)
        if wait is None:
            wait = _reset(headers_of(context.error))
        if not wait:
            return None
        publish("rate_limit:learned", context, {"key": admitted.key, "wait": wait})
        limit = admitted.limit
        # Empty the bucket, and owe what would come in meanwhile.
        return self._charged(admitted, limit.burst + min(wait, _LONGEST_PAUSE) * limit.rate)

    def _charged(self, admitted: _Admitted, amount: float) -> Any:
        def charge() -> Grant:
            return self.buckets.charge(admitted.key, amount, admitted.limit)

        if self._blocks:
            charge()
            return None
        return offloaded(charge, lambda _: None)


_REMEMBERED: Final = 4096
_CHARACTERS: Final = 4  # of a token, roughly
_LONGEST_PAUSE: Final = 600.0  # seconds that a provider's word holds a bucket back


def _tell(context: HookContext, limit: Limit, grant: Grant) -> None:
    """The headers that HTTP services answer with, in seconds and whole tokens."""
    context.metadata["X-RateLimit-Limit"] = limit.burst
    context.metadata["X-RateLimit-Remaining"] = max(0, math.floor(grant.tokens))
    context.metadata["X-RateLimit-Reset"] = limit.wait(limit.burst - grant.tokens)
    if not grant.granted:
        context.metadata["X-RateLimit-Retry-After"] = grant.wait


def _recalled(context: HookContext) -> Any:
    """What the caching hook holds for this call."""
    from llmspell_otel.builtin.registry import enabled

    caching = enabled().get("caching")
    if caching is None:
        return MISSING
    return caching.parts.offers["recall"](context)


def _reset(headers: Any) -> float | None:
    """Seconds until a provider's limit is whole again, by its `x-ratelimit-reset-*` headers."""
    spans = [
        span(str(value))
        for name, value in headers.items()
        if str(name).lower().startswith("x-ratelimit-reset")
    ]
    return max((span for span in spans if span is not None), default=None)


def build(settings: RateLimitSettings) -> Parts:
    """A hook before every counted call; after it, where the count is known only then."""
    close = _nothing
    buckets: Buckets = MemoryBuckets()
    if settings.redis:
        from llmspell_otel.builtin.shared import Redis, SharedBuckets

        redis = Redis("builtin.rate_limit", settings.redis, settings.redis_timeout)
        buckets, close = SharedBuckets(redis, settings.redis_prefix), redis.close
    return Parts(rows_of(settings, Limiter(settings, buckets)), close)


def rows_of(settings: RateLimitSettings, limiter: Limiter) -> list[Row]:
    """The hooks of *limiter*."""
    options = HookOptions(
        name="rate_limit",
        priority="highest",
        tags=("builtin", "rate_limit"),
        on_failure=settings.on_failure,
        timeout=max(1.0, settings.redis_timeout * 4),
        breaker=settings.breaker_profile,
    )
    rows: list[Row] = []
    for kind in ("model", "tool", "agent"):
        verb = "call" if kind == "model" else "execution"
        rows.append((f"{kind}:before_{verb}", limiter.before, options))
        if settings.unit != "operations":
            rows.append((f"{kind}:after_{verb}", limiter.after, options))
    if settings.learn:
        rows.append(("model:error", limiter.failed, options))
        rows.append(("model:after_call", limiter.answered, options))
    return rows


def _nothing() -> None:
    """Nothing is to be closed."""


BUILTIN: Final = Builtin(
    name="rate_limit",
    about="so many operations, tokens or dollars in a time, and what happens then",
    settings=RateLimitSettings,
    build=build,
    profiles={
        "default": None,
        "production": {"rate": 50.0, "action": "delay", "breaker": "production"},
        "conservative": {"rate": 10.0, "burst": 20.0, "breaker": "conservative"},
    },
)
