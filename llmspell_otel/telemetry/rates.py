"""What a model call costs: rates per token, and exact sums of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import Any, Final, NamedTuple

from llmspell_otel.telemetry import names, semconv
from llmspell_otel.telemetry.values import whole

REQUESTS: Final = "requests"
"""The usage that every call has one of."""

EXACT: Final = Context(prec=60)
"""The arithmetic of money here, whatever precision the host has set for its own."""


class Price(NamedTuple):
    """What one call cost, exactly."""

    total: Decimal
    input: Decimal
    output: Decimal
    currency: str
    source: str
    """Where the rates came from: `user` or `genai-prices`."""
    model: str
    """The model that the rates were found under."""

    @property
    def attributes(self) -> dict[str, str | float]:
        """The price as span attributes, `llmspell.cost.*`."""
        return {
            names.COST_TOTAL: float(self.total),
            names.COST_INPUT: float(self.input),
            names.COST_OUTPUT: float(self.output),
            names.COST_CURRENCY: self.currency,
            names.COST_SOURCE: self.source,
            names.COST_MODEL: self.model,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """The price of one sort of usage, less the parts of it that have a rate of their own."""

    usage: str
    """The usage attribute that counts it (`gen_ai.usage.…`), or `requests`."""
    price: Decimal
    """Per unit: per token, not per million."""
    tiers: tuple[tuple[int, Decimal], ...] = ()
    """From more than so many input tokens on, all of them cost this; ascending."""
    parts: tuple[int, ...] = ()
    """Which of the rates before this one price a part of the same usage."""
    output: bool = False

    @property
    def prices(self) -> tuple[Decimal, ...]:
        """Every price it knows."""
        return (self.price, *(price for _, price in self.tiers))


_Row = tuple[str, int, tuple[tuple[int, int], ...], tuple[int, ...], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Everything that a model's usage is charged for; parts come before what they are part of."""

    rates: tuple[Rate, ...]
    model: str
    source: str
    currency: str = "USD"
    until: float | None = None
    """Seconds since the epoch up to which these rates hold; None if no end is known."""
    _digits: int = field(init=False, repr=False, compare=False)
    _rows: tuple[_Row, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Whole numbers of the smallest amount that any rate names: exact, and quick to add.
        prices = [price for rate in self.rates for price in rate.prices]
        digits = max([0, *(-int(price.as_tuple().exponent) for price in prices)])

        def scaled(price: Decimal) -> int:
            return int(price.scaleb(digits, EXACT))

        rows = tuple(
            (
                rate.usage,
                scaled(rate.price),
                tuple((start, scaled(price)) for start, price in rate.tiers),
                rate.parts,
                rate.output,
            )
            for rate in self.rates
        )
        object.__setattr__(self, "_digits", digits)
        object.__setattr__(self, "_rows", rows)

    def price(self, attributes: Mapping[str, Any]) -> Price | None:
        """The price of the usage in *attributes*; None if its parts exceed their whole."""
        left: list[int] = []
        sums = [0, 0]
        for usage, price, tiers, parts, output in self._rows:
            count = 1 if usage == REQUESTS else whole(attributes.get(usage)) or 0
            for part in parts:
                count -= left[part]
            if count < 0:
                return None
            left.append(count)
            if count:
                sums[output] += count * (_tier(price, tiers, attributes) if tiers else price)
        given, made = sums
        return Price(
            self._money(given + made),
            self._money(given),
            self._money(made),
            self.currency,
            self.source,
            self.model,
        )

    def _money(self, amount: int) -> Decimal:
        return Decimal(amount).scaleb(-self._digits, EXACT)


def _tier(price: int, tiers: tuple[tuple[int, int], ...], attributes: Mapping[str, Any]) -> int:
    input_tokens = whole(attributes.get(semconv.USAGE_INPUT_TOKENS)) or 0
    for start, tier in tiers:
        if input_tokens > start:
            price = tier
    return price


def has_usage(attributes: Mapping[str, Any]) -> bool:
    """Whether *attributes* tell how many tokens were used."""
    return bool(
        whole(attributes.get(semconv.USAGE_INPUT_TOKENS))
        or whole(attributes.get(semconv.USAGE_OUTPUT_TOKENS))
    )
