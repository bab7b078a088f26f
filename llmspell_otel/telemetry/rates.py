"""What a model call costs: rates per token, and exact sums of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any, Final

from llmspell_otel.telemetry import names, semconv
from llmspell_otel.telemetry.values import whole

REQUESTS: Final = "requests"
"""The usage that every call has one of."""

EXACT: Final = Context(prec=60)
"""The arithmetic of money here, whatever precision the host has set for its own."""

_ZERO: Final = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
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

    def at(self, input_tokens: int) -> Decimal:
        """The price per unit in a call with *input_tokens*."""
        price = self.price
        for start, tier in self.tiers:
            if input_tokens > start:
                price = tier
        return price


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Everything that a model's usage is charged for; parts come before what they are part of."""

    rates: tuple[Rate, ...]
    model: str
    source: str
    currency: str = "USD"
    until: float | None = None
    """Seconds since the epoch up to which these rates hold; None if no end is known."""

    def price(self, attributes: Mapping[str, Any]) -> Price | None:
        """The price of the usage in *attributes*; None if its parts exceed their whole."""
        input_tokens = whole(attributes.get(semconv.USAGE_INPUT_TOKENS)) or 0
        left: list[int] = []
        sums = [_ZERO, _ZERO]
        for rate in self.rates:
            count = 1 if rate.usage == REQUESTS else whole(attributes.get(rate.usage)) or 0
            for part in rate.parts:
                count -= left[part]
            if count < 0:
                return None
            left.append(count)
            if count:
                price = rate.at(input_tokens) if rate.tiers else rate.price
                sums[rate.output] = EXACT.add(sums[rate.output], EXACT.multiply(price, count))
        return Price(
            total=EXACT.add(sums[0], sums[1]),
            input=sums[0],
            output=sums[1],
            currency=self.currency,
            source=self.source,
            model=self.model,
        )


def has_usage(attributes: Mapping[str, Any]) -> bool:
    """Whether *attributes* tell how many tokens were used."""
    return bool(
        whole(attributes.get(semconv.USAGE_INPUT_TOKENS))
        or whole(attributes.get(semconv.USAGE_OUTPUT_TOKENS))
    )
