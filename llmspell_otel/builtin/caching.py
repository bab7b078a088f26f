"""The caching hook: equal calls are answered from what an earlier one gave."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from opentelemetry import metrics
from pydantic import Field

from llmspell_otel.builtin.description import Builtin, BuiltinSettings, Parts, Row, Words
from llmspell_otel.builtin.fingerprint import Unkeyable, fingerprint
from llmspell_otel.builtin.flights import Flight, Flights, would_deadlock
from llmspell_otel.builtin.identity import conversation_of, user_of
from llmspell_otel.builtin.state import PerOperation, in_event_loop, offloaded, publish
from llmspell_otel.builtin.vault import Entry, Memory, packed, unpacked, weigh
from llmspell_otel.guard import guard
from llmspell_otel.hooks.context import Decision, HookContext
from llmspell_otel.hooks.options import HookOptions
from llmspell_otel.hooks.profiles import BreakerProfile
from llmspell_otel.hooks.results import Redirect, Replace, Result
from llmspell_otel.hooks.store import MISSING
from llmspell_otel.operations.advice import StoredStream
from llmspell_otel.telemetry import names, semconv
from llmspell_otel.telemetry.names import CacheResult

if TYPE_CHECKING:
    from llmspell_otel.builtin.shared import Redis

SAVED_TIME: Final = "llmspell.cache.saved.time"
SAVED_COST: Final = "llmspell.cache.saved.cost"


class CachingSettings(BuiltinSettings):
    """Which calls are answered from the cache, and for how long. Times are in seconds."""

    include: Words = ("model:*",)
    """Components that are cached; name tools only where an old answer is as good as a new one."""
    ttl: float = Field(300.0, gt=0)
    """How long an output serves."""
    ttls: dict[str, float] = Field(default_factory=dict)
    """Other times for components, by pattern; the first that fits holds."""
    extend_on_hit: bool = False
    """Whether a hit begins the time anew."""
    max_entries: int = Field(1000, ge=1)
    """Outputs kept in memory; the least recently used goes first."""
    max_bytes: int = Field(64 * 1024 * 1024, ge=1024)
    """What they may take together, roughly."""
    max_entry_bytes: int = Field(1024 * 1024, ge=64)
    """Larger outputs are not kept."""
    min_seconds: float = Field(0.0, ge=0)
    """Calls that take less are not kept."""
    key_fields: Words = ()
    """The arguments that make two calls equal; all, if none is named."""
    ignore_fields: Words = (
        "created_at",
        "extra_body",
        "metadata",
        "request_id",
        "timeout",
        "timestamp",
        "user",
        "safety_identifier",
        "prompt_cache_key",
    )
    """Arguments that do not."""
    ignore_times: bool = False
    """Whether dates and times within texts are the same to it."""
    scope: Literal["all", "user", "conversation"] = "all"
    """Who shares answers."""
    trust_baggage: bool = False
    """Whether the user is also read from OpenTelemetry baggage."""
    single_flight: bool = True
    """Whether equal calls at the same time wait for the first of them."""
    wait: float = Field(30.0, gt=0)
    """How long they wait before they call themselves."""
    cache_errors: bool = False
    """Whether failures are kept too, in this process only."""
    error_ttl: float = Field(5.0, gt=0)
    """How long."""
    redis: str | None = None
    """Where several processes share outputs: ``redis://host:6379/0``."""
    redis_timeout: float = Field(0.25, gt=0, le=10)
    """Seconds that Redis may take; after that, the memory of this process serves alone."""
    redis_prefix: str = "llmspell:cache:"
    """What keys in Redis begin with."""

    def ttl_of(self, component: str) -> float:
        """How long outputs of *component* serve."""
        for pattern, seconds in self.ttls.items():
            if fnmatchcase(component, pattern):
                return seconds
        return self.ttl


@dataclass(slots=True)
class _Asked:
    """What is known of one operation that may be cached."""

    key: str
    began: float
    hit: bool = False
    flight: Flight[Entry] | None = None


class Cacher:
    """Answers calls, and keeps their outputs.

    Args:
        settings: the settings.
        redis: where outputs are shared; None for nowhere.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        settings: CachingSettings,
        redis: "Redis | None" = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.memory = Memory(settings.max_entries, settings.max_bytes, clock)
        self.flights: Flights[Entry] = Flights()
        self._redis = redis
        self._clock = clock
        self._asked: PerOperation[_Asked] = PerOperation()
        meter = metrics.get_meter(names.SCOPE)
        self._saved_time = meter.create_counter(SAVED_TIME, "s", "Time that cache hits saved.")
        self._saved_cost = meter.create_counter(SAVED_COST, "{USD}", "Money that they saved.")

    # -- keys

    def key_of(self, context: HookContext) -> str:
        """The key of the call of *context*.

        Raises:
            Unkeyable: its input has none.
        """
        given = context.input if isinstance(context.input, dict) else {"input": context.input}
        wanted, unwanted = self.settings.key_fields, self.settings.ignore_fields
        chosen = {
            name: value
            for name, value in given.items()
            if (name in wanted if wanted else name not in unwanted)
        }
        about = [context.component.type, context.component.name, *_endpoint(context.operation)]
        if self.settings.scope != "all":
            about.append(self._sharing(context))
        return fingerprint([about, chosen], without_times=self.settings.ignore_times)

    def _sharing(self, context: HookContext) -> str:
        """Among whom answers are shared."""
        if self.settings.scope == "user":
            return user_of(context, trust_baggage=self.settings.trust_baggage)
        return conversation_of(context)

    # -- before a call

    def look_up(self, context: HookContext) -> Any:
        """Answer from the cache, if it holds the call's output."""
        if not self.settings.selects(context.component) or context.operation is None:
            return None
        asked = self._asked.get(context)
        if asked is None:
            try:
                asked = _Asked(self.key_of(context), self._clock())
            except Unkeyable:
                self._note(context, CacheResult.BYPASS)
                return None
            self._asked.set(context, asked)
        entry = self.memory.get(asked.key)
        if entry is not None or self._redis is None:
            return self._answer(context, asked, entry)
        return offloaded(partial(self._fetch, asked.key), partial(self._answer, context, asked))

    def _fetch(self, key: str) -> Entry | None:
        if self._redis is None:
            return None
        name = f"{self.settings.redis_prefix}{key}"
        entry = unpacked(self._redis.ask(lambda client: client.get(name)))
        if entry is not None:
            left = self._redis.ask(lambda client: client.pttl(name))
            if isinstance(left, int) and left > 0:
                self.memory.set(key, _aged(entry, left / 1000))
        return entry

    def _answer(self, context: HookContext, asked: _Asked, entry: Entry | None) -> Result | None:
        if entry is None:
            operation: Any = context.operation
            operation.kept = []  # a stream's chunks are wanted as they came
            self._note(context, CacheResult.MISS)
            return None
        asked.hit = True
        self._hit(context, asked, entry)
        if entry.error:
            return Redirect(partial(_raise, entry.value))
        return Replace(_own(entry.value))

    def _hit(self, context: HookContext, asked: _Asked, entry: Entry) -> None:
        if self.settings.extend_on_hit:
            self.memory.set(asked.key, entry)
        context.notes = {names.CACHE_NAME: "caching", names.CACHE_RESULT: CacheResult.HIT.value}
        labels = {names.COMPONENT_TYPE: context.component.type}
        self._saved_time.add(entry.seconds, labels)
        if entry.dollars:
            self._saved_cost.add(entry.dollars, labels)
        saved = {"saved_seconds": entry.seconds, "saved_dollars": entry.dollars}
        publish("cache:hit", context, {"key": asked.key, **saved})

    def _note(self, context: HookContext, result: CacheResult) -> None:
        attributes = {names.CACHE_NAME: "caching", names.CACHE_RESULT: result.value}
        context.decisions.append(
            Decision("caching", context.point.spelling, "continue", attributes=attributes)
        )

    def join(self, context: HookContext) -> Any:
        """Make the call, asked last of all; or wait for who makes an equal one already."""
        asked = self._asked.get(context)
        operation: Any = context.operation
        if asked is None or asked.hit or asked.flight is not None:
            return None
        flight, leads = self.flights.join(asked.key, operation)
        if leads:
            asked.flight = flight
            return None
        if would_deadlock(flight, operation):
            return None
        if in_event_loop():
            return self._landed_async(context, asked, flight)
        return self._landed(context, asked, flight.wait(self.settings.wait))

    async def _landed_async(
        self, context: HookContext, asked: _Asked, flight: Flight[Entry]
    ) -> Result | None:
        return self._landed(context, asked, await flight.wait_async(self.settings.wait))

    def _landed(self, context: HookContext, asked: _Asked, entry: Entry | None) -> Result | None:
        return None if entry is None else self._answer(context, asked, entry)

    def recall(self, context: HookContext) -> Any:
        """The output kept for the call of *context*, or `MISSING`; other hooks ask for it."""
        try:
            entry = self.memory.get(self.key_of(context))
        except Unkeyable:
            return MISSING
        return MISSING if entry is None or entry.error else _own(entry.value)

    # -- after a call

    def keep(self, context: HookContext) -> Any:
        """Keep the call's output, and give it to those who wait for it."""
        asked = self._asked.pop(context)
        if asked is None or asked.hit:
            return None
        entry = guard.contained("caching an output", self._entry, context, asked)
        if entry is not None:
            self.memory.set(asked.key, entry)
        if asked.flight is not None:
            self.flights.land(asked.flight, entry)
        if entry is None or entry.error or self._redis is None:
            return None
        models = context.component.type == "model"
        if isinstance(entry.value, StoredStream):
            # Chunks do not travel; what they amount to does, and is streamed anew.
            entry = replace(entry, value=context.output)
        return offloaded(partial(self._store, asked.key, entry, models=models), _nothing)

    def _entry(self, context: HookContext, asked: _Asked) -> Entry | None:
        """The entry for what the call gave; None if that is not to be kept."""
        failure = context.error
        operation: Any = context.operation
        if operation.partial or (failure is not None and not self._keeps(failure)):
            return None
        value = failure if failure is not None else context.output
        if failure is None and operation.kept:
            value = StoredStream(tuple(operation.kept))
        size = weigh(value, self.settings.max_entry_bytes)
        seconds = self._clock() - asked.began
        if size > self.settings.max_entry_bytes or seconds < self.settings.min_seconds:
            return None
        component = f"{context.component.type}:{context.component.name}"
        ttl = self.settings.ttl_of(component) if failure is None else self.settings.error_ttl
        cost = float(getattr(context.operation, "cost", None) or 0)
        return Entry(_own(value), ttl, seconds, cost, error=failure is not None, size=size)

    def _keeps(self, failure: Any) -> bool:
        return self.settings.cache_errors and isinstance(failure, Exception)

    def _store(self, key: str, entry: Entry, *, models: bool) -> None:
        data = packed(entry, models=models)
        if data is not None and self._redis is not None:
            name, expiry = f"{self.settings.redis_prefix}{key}", max(1, int(entry.ttl * 1000))
            self._redis.ask(lambda client: client.set(name, data, px=expiry))


def _endpoint(operation: Any) -> list[str]:
    """Where the call goes: two servers may have models of one name; and by which method."""
    call = operation.call
    read = guard.contained("reading a request", operation.aspect.codec.request, call) or {}
    keys = (semconv.OPERATION_NAME, semconv.SERVER_ADDRESS, semconv.SERVER_PORT)
    return [str(read.get(key)) for key in keys] + [getattr(call.target, "__qualname__", "")]


def _aged(entry: Entry, ttl: float) -> Entry:
    size = weigh(entry.value, _SIZE_OF_FETCHED)
    return Entry(entry.value, ttl, entry.seconds, entry.dollars, entry.error, size)


_SIZE_OF_FETCHED: Final = 1 << 30


def _own(value: Any) -> Any:
    """A copy: what a caller does to an output must not reach the next one's."""
    try:
        return copy.deepcopy(value)
    except Exception:
        return value


def _raise(error: Exception, **_: Any) -> Any:
    raise error


def _nothing(_: object) -> None:
    """There is nothing more to do."""


def build(settings: CachingSettings) -> Parts:
    """Hooks around the calls of each kind that is cached."""
    redis: Redis | None = None
    if settings.redis:
        from llmspell_otel.builtin import shared

        redis = shared.Redis("builtin.caching", settings.redis, settings.redis_timeout)
    cacher = Cacher(settings, redis)
    close = redis.close if redis is not None else _unopened
    return Parts(rows_of(settings, cacher), close, offers={"recall": cacher.recall})


def _unopened() -> None:
    """There is nothing to close."""


def rows_of(settings: CachingSettings, cacher: Cacher) -> list[Row]:
    """The hooks of *cacher*."""
    common: dict[str, Any] = {"tags": ("builtin", "caching"), "name": "caching"}
    asking = HookOptions(
        **common,
        priority="high",
        breaker=settings.breaker_profile,
        timeout=max(1.0, 4 * settings.redis_timeout),
    )
    keeping = HookOptions(
        **common,
        priority="lowest",
        breaker=settings.breaker_profile,
        timeout=max(1.0, 4 * settings.redis_timeout),
    )
    joining = HookOptions(
        **common,
        priority="lowest",
        timeout=settings.wait + 1,
        # It is slow because it waits for a call, as it should.
        breaker=BreakerProfile(slow_call_duration=settings.wait + 2),
    )
    rows: list[Row] = []
    for kind in ("model", "tool", "agent"):
        verb = "call" if kind == "model" else "execution"
        rows.append((f"{kind}:before_{verb}", cacher.look_up, asking))
        if settings.single_flight:
            rows.append((f"{kind}:before_{verb}", cacher.join, joining))
        rows.append((f"{kind}:after_{verb}", cacher.keep, keeping))
        rows.append((f"{kind}:error", cacher.keep, keeping))
    return rows


BUILTIN: Final = Builtin(
    name="caching",
    about="equal calls are answered from what an earlier one gave",
    settings=CachingSettings,
    build=build,
    profiles={
        "default": None,
        "production": {"ttl": 600.0, "breaker": "production"},
        "conservative": None,
    },
)
