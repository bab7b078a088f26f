"""The cost hook: exact sums, budgets that stop the next call before it is paid for."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from opentelemetry import metrics

from llmspell_otel.builtin.budgets import (
    Claim,
    OwnPurses,
    Purses,
    Refused,
    UnreachableError,
)
from llmspell_otel.builtin.cost_settings import CostSettings
from llmspell_otel.builtin.description import Builtin, Parts, Row
from llmspell_otel.builtin.identity import identity_of
from llmspell_otel.builtin.rendering import inert
from llmspell_otel.builtin.spending import ALL, Ledger, Sum
from llmspell_otel.builtin.state import characters_in, offloaded
from llmspell_otel.events import default_bus, make
from llmspell_otel.guard import guard
from llmspell_otel.hooks.context import HookContext
from llmspell_otel.hooks.options import HookOptions
from llmspell_otel.hooks.profiles import BreakerProfile
from llmspell_otel.hooks.results import Cancel
from llmspell_otel.operations.ports import ports
from llmspell_otel.telemetry import names, semconv
from llmspell_otel.telemetry.prices import Prices
from llmspell_otel.telemetry.rates import EXACT, Price

if TYPE_CHECKING:
    from llmspell_otel.builtin.shared import Redis

_Found = TypeVar("_Found")
_logger: Final = logging.getLogger("llmspell_otel.cost")
SPENT: Final = "llmspell.cost.spent"


class Tracker:
    """The sums of one process, and what guards its budgets."""

    def __init__(
        self,
        settings: CostSettings,
        clock: Callable[[], float] = time.time,
        redis: "Redis | None" = None,
        ledger: Ledger | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.ledger = ledger or Ledger(settings.window)
        self.shared = redis is not None
        self.purses = (
            OwnPurses(self.ledger) if redis is None else _shared(settings, redis, self.ledger)
        )
        self._own = Prices(settings.prices) if settings.prices else None
        self._lock = threading.Lock()
        self._told: set[tuple[int, str, str]] = set()
        self._window = -1
        meter = metrics.get_meter(names.SCOPE)
        self._counter = meter.create_counter(
            SPENT, "{currency}", "Money spent, by agent and model."
        )

    # -- before a call

    def before(self, context: HookContext) -> Any:
        """Whether the budgets have room for the call that *context* is about."""
        settings = self.settings
        if not settings.budgets or not settings.selects(context.component):
            return None
        who, estimate = self._names(context), self._estimate(context)
        if estimate is None and settings.on_unpriced == "block":
            return Cancel(f"cost: the price of {inert(context.component.name[:200])!r} is unknown")
        claims, operation, now = self._claims(who, estimate), context.operation, self.clock()
        if not claims or operation is None:
            return None

        def reserve() -> Refused | UnreachableError | None:
            try:
                return self.purses.reserve(operation, claims, now)
            except UnreachableError as error:
                return error

        return self._asked(reserve, partial(self._answer, context))

    def _asked(self, blocking: Callable[[], _Found], then: Callable[[_Found], Any]) -> Any:
        """What *then* makes of *blocking*, which is done in a thread where it must not block."""
        return offloaded(blocking, then) if self.shared else then(blocking())

    def _answer(
        self, context: HookContext, refused: Refused | UnreachableError | None
    ) -> Cancel | None:
        if refused is None:
            return None
        if isinstance(refused, UnreachableError):
            return Cancel("cost: the shared budgets cannot be reached")
        self._alert(refused.claim, "cost.budget.exceeded", Decimal(1), refused.spent, context)
        return Cancel(_refusal(refused))

    def _claims(self, who: Mapping[str, str], price: Price | None) -> list[Claim]:
        """What a call of *price* takes of each budget that it falls under."""
        claims: list[Claim] = []
        for number, budget in enumerate(self.settings.budgets):
            name = "" if budget.by == ALL else who.get(budget.by, "")
            if budget.by == ALL or name:
                costs = price is not None and price.currency == budget.currency
                cost = price.total if costs and price is not None else Decimal(0)
                claims.append(Claim(number, budget, name, cost))
        return claims

    def _estimate(self, context: HookContext) -> Price | None:
        """What the call will cost at most, as far as its request says."""
        asked = dict(getattr(context.operation, "attributes", None) or {})
        limit = asked.get(semconv.REQUEST_MAX_TOKENS) or _limit_of(context.data.get("input"))
        asked.setdefault(semconv.REQUEST_MODEL, context.component.name)
        asked[semconv.USAGE_INPUT_TOKENS] = max(1, characters_in(context.data.get("input")) // 3)
        asked[semconv.USAGE_OUTPUT_TOKENS] = limit or self.settings.output_tokens
        return self._price(asked)

    def _price(self, attributes: Mapping[str, Any]) -> Price | None:
        own = self._own.quote(attributes) if self._own is not None else None
        if isinstance(own, Price):
            return own
        known: Prices | None = getattr(ports.telemetry, "prices", None)
        quoted = known.quote(attributes) if known is not None else None
        return quoted if isinstance(quoted, Price) else None

    # -- after a call

    def after(self, context: HookContext) -> Any:
        """Put down what the call cost."""
        operation: Any = context.operation
        attributes = dict(getattr(operation, "attributes", None) or {})
        if not self.settings.selects(context.component) or not context.attempt:
            return None
        used = any(key in attributes for key in _USAGE)
        attributes.setdefault(semconv.REQUEST_MODEL, context.component.name)
        # A call that failed before the model answered is not charged.
        charged = context.error is None or used
        price, who, now = (
            self._price(attributes) if charged else None,
            self._names(context),
            self.clock(),
        )
        if charged:
            self._put_down(context, who, price, now)
        return self._settle(context, self._claims(who, price), now)

    def _put_down(
        self, context: HookContext, who: Mapping[str, str], price: Price | None, now: float
    ) -> None:
        cost, currency = (price.total, price.currency) if price is not None else (None, "USD")
        self.ledger.add(who, cost, currency, now)
        self._publish(context, who, price)
        if cost is not None:
            self._measure(who, cost, currency)

    def _settle(self, context: HookContext, claims: list[Claim], now: float) -> Any:
        if not claims or context.operation is None:
            return None
        return self._asked(
            partial(self.purses.settle, context.operation, claims, now),
            partial(self._thresholds, context, claims),
        )

    def _measure(self, who: Mapping[str, str], cost: Decimal, currency: str) -> None:
        labels = {names.COST_CURRENCY: currency, semconv.REQUEST_MODEL: who["model"][:200]}
        if agent := who.get("agent"):
            labels[semconv.AGENT_NAME] = agent[:200]
        guard.contained("measuring cost", self._counter.add, float(cost), labels)

    def _thresholds(self, context: HookContext, claims: list[Claim], sums: list[Decimal]) -> None:
        for claim, spent in zip(claims, sums, strict=True):
            if not claim.cost:
                continue
            for share in claim.budget.warn:
                if spent >= claim.budget.limit * share:
                    self._alert(claim, "cost.threshold.warning", share, spent, context)
            if spent >= claim.budget.limit:
                self._alert(claim, "cost.threshold.exceeded", Decimal(1), spent, context)

    def _alert(
        self, claim: Claim, event: str, share: Decimal, spent: Decimal, context: HookContext
    ) -> None:
        """Tell of it, once in a window."""
        if not self._is_first(claim, f"{event} {share}"):
            return
        budget, name = claim.budget, claim.name
        said = {
            "by": budget.by,
            "name": name,
            "limit": str(budget.limit),
            "spent": str(spent),
            "share": str(share),
            "currency": budget.currency,
        }
        _logger.warning(
            "%s: %s of %s %s spent by %s %s",
            *(event, spent, budget.limit, budget.currency, budget.by, inert(name[:200])),
        )
        _tell(event, said, context)

    def _is_first(self, claim: Claim, what: str) -> bool:
        with self._lock:
            window = self.ledger.number(self.clock())
            if window != self._window:
                self._window, self._told = window, set()
            key = (claim.number, what, claim.name)
            if key in self._told or len(self._told) >= _ALERTS:
                return False
            self._told.add(key)
        return True

    def _publish(self, context: HookContext, who: Mapping[str, str], price: Price | None) -> None:
        said: dict[str, Any] = {**who, "priced": price is not None}
        if price is not None:
            said |= {
                "cost": str(price.total),
                "input": str(price.input),
                "output": str(price.output),
                "currency": price.currency,
                "source": price.source,
            }
        _tell("cost.recorded", said, context)

    def _names(self, context: HookContext) -> dict[str, str]:
        """Whom the call belongs to, by kind."""
        identity = identity_of(context, trust_baggage=self.settings.trust_baggage)
        found = {
            "model": context.component.name,
            "run": context.correlation_id,
            "user": identity.user,
            "tenant": identity.tenant,
            "session": identity.session,
        }
        at: Any = getattr(context.operation, "parent", None)
        while at is not None:
            found.setdefault(str(at.aspect.kind), at.name)
            at = at.parent
        return {kind: name for kind, name in found.items() if name and kind in _KINDS}

    def totals(self, by: str = ALL, *, windowed: bool = False) -> dict[str, dict[str, Sum]]:
        """What was spent, by name and currency; *by* is one of `spending.BY`, or `total`."""
        return self.ledger.report(by, windowed=windowed)


_KINDS: Final = frozenset({"model", "run", "user", "tenant", "session", "agent", "tool"})
_USAGE: Final = (semconv.USAGE_INPUT_TOKENS, semconv.USAGE_OUTPUT_TOKENS)
_ALERTS: Final = 10_000  # in one window; more names than that are told of in the sums only


def _limit_of(given: Any) -> int | None:
    if isinstance(given, Mapping):
        for name in ("max_completion_tokens", "max_output_tokens", "max_tokens"):
            if isinstance(given.get(name), int):
                return int(given[name])
    return None


def _refusal(refused: Refused) -> str:
    (_, budget, name, cost), spent = refused
    whose = f"{budget.by} {inert(name[:100])}".strip()
    left = max(Decimal(0), EXACT.subtract(budget.limit, spent))
    return (
        f"cost: the budget of {budget.limit} {budget.currency} ({whose}) has {left} left,"
        f" and the call may cost {cost}"
    )


def _tell(event: str, said: dict[str, Any], context: HookContext) -> None:
    bus = default_bus()
    if bus.wants(event):
        bus.publish(make(event, said, context.correlation_id, context.traceparent))


class Around:
    """What `build` leaves for whoever asks for the sums."""

    tracker: Tracker | None = None


around: Final = Around()


def totals(by: str = ALL, *, windowed: bool = False) -> dict[str, dict[str, Sum]]:
    """What this process has spent since the hook was switched on; empty if it is off."""
    return around.tracker.totals(by, windowed=windowed) if around.tracker is not None else {}


def _present(_context: HookContext) -> None:
    """Nothing is to be done."""


def _rows(tracker: Tracker, settings: CostSettings) -> Iterator[Row]:
    asked: tuple[tuple[str, Callable[[HookContext], Any]], ...] = (
        ("model:before_call", tracker.before),
        ("model:after_call", tracker.after),
        ("model:error", tracker.after),
        # Who a call belongs to is known only of operations that somebody looks at.
        ("agent:before_execution", _present),
        ("tool:before_execution", _present),
    )
    for point, function in asked:
        guards = point == "model:before_call"
        options = HookOptions(
            name="cost_tracking",
            # Before a call: after all others, which may answer it for nothing or change it.
            priority="lowest" if guards else "low",
            tags=("builtin", "cost"),
            on_failure="cancel" if guards and settings.on_redis_failure == "cancel" else "skip",
            timeout=max(1.0, 4 * settings.redis_timeout),
            breaker=_patient(settings),
        )
        yield point, function, options


def _patient(settings: CostSettings) -> BreakerProfile:
    """A Redis that is slow within its time is no reason to stop counting."""
    profile = settings.breaker_profile
    if not settings.redis:
        return profile
    slow = max(profile.slow_call_duration, 2 * settings.redis_timeout)
    return replace(profile, slow_call_duration=slow)


def _shared(settings: CostSettings, redis: "Redis", ledger: Ledger) -> Purses:
    from llmspell_otel.builtin.shared_budgets import SharedPurses

    return SharedPurses(
        redis,
        settings.redis_prefix,
        ledger,
        window=settings.window,
        hold=settings.redis_hold,
        closed=settings.on_redis_failure == "cancel",
    )


def build(settings: CostSettings) -> Parts:
    """Guards before model calls, sums after them."""
    redis: Redis | None = None
    if settings.redis:
        from llmspell_otel.builtin import shared

        redis = shared.Redis("builtin.cost_tracking", settings.redis, settings.redis_timeout)
    before = around.tracker
    same = before is not None and before.settings.window == settings.window
    tracker = Tracker(settings, redis=redis, ledger=before.ledger if before and same else None)

    def begin() -> None:
        around.tracker = tracker

    def close() -> None:
        if around.tracker is tracker:
            around.tracker = None
        if redis is not None:
            redis.close()

    return Parts(tuple(_rows(tracker, settings)), close, begin)


BUILTIN: Final = Builtin(
    name="cost_tracking",
    about="sums what model calls cost, and stops calls that a budget has no room for",
    settings=CostSettings,
    build=build,
    profiles={
        "default": {},
        "production": {"output_tokens": 2048, "breaker": "production"},
        "conservative": {
            "output_tokens": 8192,
            "on_unpriced": "block",
            "on_redis_failure": "cancel",
            "breaker": "conservative",
        },
    },
)
