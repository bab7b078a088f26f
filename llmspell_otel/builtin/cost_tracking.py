"""The cost hook: exact sums, budgets that stop the next call before it is paid for."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final, Literal
from weakref import WeakKeyDictionary

from opentelemetry import metrics
from pydantic import BaseModel, ConfigDict, Field, field_validator

from llmspell_otel.builtin.description import Builtin, BuiltinSettings, Parts, Row
from llmspell_otel.builtin.identity import identity_of
from llmspell_otel.builtin.rendering import inert
from llmspell_otel.builtin.spending import ALL, Ledger, Sum
from llmspell_otel.events import default_bus, make
from llmspell_otel.guard import guard
from llmspell_otel.hooks.context import HookContext
from llmspell_otel.hooks.options import HookOptions
from llmspell_otel.hooks.results import Cancel
from llmspell_otel.operations.ports import ports
from llmspell_otel.telemetry import names, semconv
from llmspell_otel.telemetry.price_table import parse_table
from llmspell_otel.telemetry.prices import Prices
from llmspell_otel.telemetry.rates import EXACT, Price

_logger: Final = logging.getLogger("llmspell_otel.cost")
SPENT: Final = "llmspell.cost.spent"
_DAY: Final = 86_400.0


class Budget(BaseModel):
    """How much may be spent."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Decimal = Field(gt=0, allow_inf_nan=False)
    """Money in `currency`, within one window."""
    by: Literal["total", "run", "agent", "tool", "model", "user", "tenant", "session"] = "total"
    """Whose: the process's, or that of each run, agent, ….."""
    warn: tuple[Decimal, ...] = (Decimal("0.5"), Decimal("0.8"))
    """Shares of the limit that are told of, once in a window."""
    currency: str = "USD"
    block: bool = True
    """Whether calls that would pass the limit are stopped; otherwise it is only told of."""


class CostSettings(BuiltinSettings):
    """Prices, windows and budgets."""

    budgets: tuple[Budget, ...] = ()
    """How much may be spent; the first that is passed stops the call."""
    window: float = Field(_DAY, ge=0)
    """Seconds in which a budget holds; windows begin at multiples of it (UTC). 0: for ever."""
    prices: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Your own prices per million tokens, by `model` or `provider/model`; they win."""
    output_tokens: int = Field(1024, ge=0)
    """Output tokens that the estimate takes for a call that names no limit."""
    on_unpriced: Literal["count", "block"] = "count"
    """What a budget does with a model whose price is unknown."""
    trust_baggage: bool = False
    """Whether user, tenant and session are also read from OpenTelemetry baggage."""

    @field_validator("prices")
    @classmethod
    def _priced(cls, prices: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        parse_table(prices)
        return prices


class Tracker:
    """The sums of one process, and what guards its budgets."""

    def __init__(self, settings: CostSettings, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.clock = clock
        self.ledger = Ledger(settings.window)
        self._own = Prices(settings.prices) if settings.prices else None
        self._lock = threading.Lock()
        self._told: set[tuple[int, str, str]] = set()
        self._window = -1
        self._held: WeakKeyDictionary[Any, list[tuple[int, str, Decimal]]] = WeakKeyDictionary()
        meter = metrics.get_meter(names.SCOPE)
        self._counter = meter.create_counter(
            SPENT, "{currency}", "Money spent, by agent and model."
        )

    # -- before a call

    def before(self, context: HookContext) -> Cancel | None:
        """Whether the budgets have room for the call that *context* is about."""
        settings = self.settings
        if not settings.budgets or not settings.selects(context.component):
            return None
        who, estimate = self._names(context), self._estimate(context)
        if estimate is None and settings.on_unpriced == "block":
            return Cancel(f"cost: the price of {inert(context.component.name[:200])!r} is unknown")
        with self._lock:
            return self._reserved(context, who, estimate)

    def _reserved(
        self, context: HookContext, who: Mapping[str, str], estimate: Price | None
    ) -> Cancel | None:
        """Hold the money of the estimate, so that calls at once cannot each spend the rest."""
        self._release(context)
        now, held = self.clock(), list[tuple[int, str, Decimal]]()
        for number, budget in enumerate(self.settings.budgets):
            name = "" if budget.by == ALL else who.get(budget.by, "")
            if budget.by != ALL and not name:
                continue
            spent = self.ledger.spent(budget.by, name, budget.currency, now)
            costs = estimate is not None and estimate.currency == budget.currency
            cost = estimate.total if costs and estimate is not None else Decimal(0)
            waiting = self._waiting(number, name)
            full = spent >= budget.limit or spent + waiting + cost > budget.limit
            if full and budget.block:
                self._alert((number, name), "cost.budget.exceeded", Decimal(1), spent, context)
                return Cancel(_refusal(budget, name, spent, cost))
            held.append((number, name, cost))
        if context.operation is not None:
            self._held[context.operation] = held
        return None

    def _release(self, context: HookContext) -> None:
        if context.operation is not None:
            self._held.pop(context.operation, None)

    def _waiting(self, number: int, name: str) -> Decimal:
        """What the calls under way are expected to take of a budget."""
        # Summed anew: a call that is gone without a word takes nothing any more.
        return sum(
            (
                cost
                for held in list(self._held.values())
                for each, whose, cost in held
                if (each, whose) == (number, name)
            ),
            Decimal(0),
        )

    def _estimate(self, context: HookContext) -> Price | None:
        """What the call will cost at most, as far as its request says."""
        asked = dict(getattr(context.operation, "attributes", None) or {})
        limit = asked.get(semconv.REQUEST_MAX_TOKENS) or _limit_of(context.data.get("input"))
        asked.setdefault(semconv.REQUEST_MODEL, context.component.name)
        asked[semconv.USAGE_INPUT_TOKENS] = max(1, _characters(context.data.get("input")) // 3)
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

    def after(self, context: HookContext) -> None:
        """Put down what the call cost."""
        operation: Any = context.operation
        with self._lock:
            self._release(context)
        attributes = dict(getattr(operation, "attributes", None) or {})
        if not self.settings.selects(context.component) or not context.attempt:
            return
        used = any(key in attributes for key in _USAGE)
        if context.error is not None and not used:
            return  # a call that failed before the model answered is not charged
        attributes.setdefault(semconv.REQUEST_MODEL, context.component.name)
        price = self._price(attributes)
        currency = price.currency if price is not None else "USD"
        who, cost = self._names(context), price.total if price is not None else None
        self.ledger.add(who, cost, currency, self.clock())
        self._publish(context, who, price)
        if cost is not None:
            self._measure(who, cost, currency)
            with self._lock:
                self._thresholds(context, who, currency)

    def _measure(self, who: Mapping[str, str], cost: Decimal, currency: str) -> None:
        labels = {names.COST_CURRENCY: currency, semconv.REQUEST_MODEL: who["model"][:200]}
        if agent := who.get("agent"):
            labels[semconv.AGENT_NAME] = agent[:200]
        guard.contained("measuring cost", self._counter.add, float(cost), labels)

    def _thresholds(self, context: HookContext, who: Mapping[str, str], currency: str) -> None:
        now = self.clock()
        for number, budget in enumerate(self.settings.budgets):
            name = "" if budget.by == ALL else who.get(budget.by, "")
            if budget.currency != currency or (budget.by != ALL and not name):
                continue
            spent = self.ledger.spent(budget.by, name, currency, now)
            for share in budget.warn:
                if spent >= budget.limit * share:
                    self._alert((number, name), "cost.threshold.warning", share, spent, context)
            if spent >= budget.limit:
                self._alert((number, name), "cost.threshold.exceeded", Decimal(1), spent, context)

    def _alert(
        self,
        whose: tuple[int, str],
        event: str,
        share: Decimal,
        spent: Decimal,
        context: HookContext,
    ) -> None:
        number, name = whose
        window = self.ledger.number(self.clock())
        if window != self._window:
            self._window, self._told = window, set()
        key = (number, f"{event} {share}", name)
        if key in self._told or len(self._told) >= _ALERTS:
            return
        self._told.add(key)
        budget = self.settings.budgets[number]
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
_DEPTH: Final = 32


def _characters(value: Any, depth: int = _DEPTH) -> int:
    """How many characters the texts in *value* have."""
    if isinstance(value, str):
        return len(value)
    if depth == 0:
        return 0
    if isinstance(value, Mapping):
        return sum(_characters(each, depth - 1) for each in tuple(value.values()))
    if isinstance(value, (list, tuple)):
        return sum(_characters(each, depth - 1) for each in value)
    return 0


def _limit_of(given: Any) -> int | None:
    if isinstance(given, Mapping):
        for name in ("max_completion_tokens", "max_output_tokens", "max_tokens"):
            if isinstance(given.get(name), int):
                return int(given[name])
    return None


def _refusal(budget: Budget, name: str, spent: Decimal, cost: Decimal) -> str:
    whose = f"{budget.by} {inert(name[:100])}".strip()
    left = max(Decimal(0), EXACT.subtract(budget.limit, spent))
    return (
        f"cost: the budget of {budget.limit} {budget.currency} ({whose}) has {left} left,"
        f" and the call may cost {cost}"
    )


def _tell(event: str, said: dict[str, Any], context: HookContext) -> None:
    bus = default_bus()
    if bus.wants(event):
        bus.publish(make(event, said, context.correlation_id))


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
        options = HookOptions(
            name="cost_tracking",
            # Before a call: after all others, which may answer it for nothing or change it.
            priority="lowest" if point == "model:before_call" else "low",
            tags=("builtin", "cost"),
            breaker=settings.breaker_profile,
        )
        yield point, function, options


def build(settings: CostSettings) -> Parts:
    """Guards before model calls, sums after them."""
    tracker = Tracker(settings)
    around.tracker = tracker

    def close() -> None:
        if around.tracker is tracker:
            around.tracker = None

    return Parts(tuple(_rows(tracker, settings)), close)


BUILTIN: Final = Builtin(
    name="cost_tracking",
    about="sums what model calls cost, and stops calls that a budget has no room for",
    settings=CostSettings,
    build=build,
    profiles={
        "default": {},
        "production": {"breaker": "production"},
        "conservative": {"on_unpriced": "block", "breaker": "conservative"},
    },
)
