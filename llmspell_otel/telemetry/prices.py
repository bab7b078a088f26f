"""The cost of model calls: resolved off the request path, summed on it in exact decimals."""

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final, Protocol

from llmspell_otel.guard import Guard
from llmspell_otel.telemetry import semconv
from llmspell_otel.telemetry.genai_prices import GenaiPrices
from llmspell_otel.telemetry.price_table import parse_table
from llmspell_otel.telemetry.rates import EXACT, Price, Rates, has_usage

MAX_CACHED: Final = 4096
"""Models whose rates are remembered; unknown ones are remembered too."""


class Pending(Enum):
    """The answer while prices are still being loaded."""

    PENDING = "pending"


PENDING: Final = Pending.PENDING


class PriceProvider(Protocol):
    """A source of rates. `rates` is asked once per model, and the answer remembered."""

    @property
    def ready(self) -> bool:
        """Whether `rates` answers at once; until then it is not asked on the request path."""
        ...

    def load(self) -> bool:
        """Get ready, however long it takes; false if there is nothing to be had."""
        ...

    def rates(
        self, provider: str | None, model: str, tier: str | None, when: datetime
    ) -> Rates | None:
        """The rates of *model* at *when*, None if it is unknown.

        *provider* is a `gen_ai.provider.name`, *tier* a provider's service tier.
        """
        ...


_Key = tuple[str | None, str, str | None]


class Prices:
    """Prices model calls, and keeps the running totals.

    Args:
        table: the user's own prices (see `parse_table`); they win over *provider*'s.
        provider: where other prices come from; None for nowhere.
        clock: seconds since the epoch.

    Raises:
        PriceTableError: *table* has an entry that says no price.
    """

    def __init__(
        self,
        table: Mapping[str, Mapping[str, Any]] | None = None,
        provider: PriceProvider | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.guard = Guard()
        self._table = parse_table(table or {})
        self._provider = provider
        self._clock = clock
        self._rates: dict[_Key, Rates | None] = {}
        self._totals: dict[str, Decimal] = {}
        self._lock = threading.Lock()

    @property
    def totals(self) -> Mapping[str, Decimal]:
        """What all calls so far have cost, by currency."""
        with self._lock:
            return dict(self._totals)

    def price(self, attributes: Mapping[str, Any]) -> Price | Pending | None:
        """Price a finished call by its *attributes*, and add it to the totals; call it once.

        Returns:
            None where model or usage is unknown; `PENDING` while prices are being loaded, in
            which case the telemetry worker settles the call. Costs a few microseconds, once
            per model some hundred.
        """
        priced = self.quote(attributes)
        if isinstance(priced, Price):
            self._charge(priced)
        return priced

    def quote(self, attributes: Mapping[str, Any]) -> Price | Pending | None:
        """As `price`, but nothing is charged."""
        try:
            return self._quote(attributes)
        except Exception as error:
            self.guard.report("pricing a call", error)
            return None

    def settle(self, attributes: Mapping[str, Any]) -> Price | None:
        """As `price`, after loading what has to be loaded: for the worker, not for a request."""
        self.preload_now()
        priced = self.price(attributes)
        return priced if isinstance(priced, Price) else None

    def preload(self) -> None:
        """Load prices in the background; returns at once."""
        if self._provider is not None and not self._provider.ready:
            name = "llmspell-prices"
            threading.Thread(target=self.preload_now, name=name, daemon=True).start()

    def preload_now(self) -> bool:
        """Load prices and wait for them; whether a source of prices is there."""
        if self._provider is None:
            return bool(self._table)
        try:
            return self._provider.load() or bool(self._table)
        except Exception as error:
            self.guard.report("loading prices", error)
            return bool(self._table)

    def _quote(self, attributes: Mapping[str, Any]) -> Price | Pending | None:
        if not has_usage(attributes):
            return None
        provider = attributes.get(semconv.PROVIDER_NAME)
        tier = attributes.get(semconv.OPENAI_RESPONSE_SERVICE_TIER) or attributes.get(
            semconv.OPENAI_REQUEST_SERVICE_TIER
        )
        # A provider bills the model that answered, which is the more exact name too.
        for name in (semconv.RESPONSE_MODEL, semconv.REQUEST_MODEL):
            if model := attributes.get(name):
                rates = self._resolved((provider, model, tier))
                if rates is PENDING:
                    return PENDING
                if rates is not None:
                    return rates.price(attributes)
        return None

    def _resolved(self, key: _Key) -> Rates | Pending | None:
        try:
            rates = self._rates[key]
        except KeyError:
            return self._resolve(key)
        if rates is not None and rates.until is not None and rates.until <= self._clock():
            return self._resolve(key)
        return rates

    def _resolve(self, key: _Key) -> Rates | Pending | None:
        provider, model, tier = key
        rates = self._table.get(f"{provider}/{model}") or self._table.get(model)
        if rates is None and self._provider is not None:
            if not self._provider.ready:
                return PENDING
            when = datetime.fromtimestamp(self._clock(), UTC)
            rates = self._provider.rates(provider, model, tier, when)
        if len(self._rates) >= MAX_CACHED:
            self._rates.clear()
        self._rates[key] = rates
        return rates

    def _charge(self, price: Price) -> None:
        with self._lock:
            known = self._totals.get(price.currency, Decimal(0))
            self._totals[price.currency] = EXACT.add(known, price.total)


def default_prices(table: Mapping[str, Mapping[str, Any]] | None = None) -> Prices:
    """Prices from the user's *table* first, then from `genai-prices` where it is installed."""
    return Prices(table, GenaiPrices())
