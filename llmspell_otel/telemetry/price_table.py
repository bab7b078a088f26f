"""A user's own prices: a plain table, which wins over every other source."""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from llmspell_otel.errors import LlmspellError
from llmspell_otel.telemetry import semconv
from llmspell_otel.telemetry.rates import Rate, Rates

SOURCE: Final = "user"
_MILLION: Final = Decimal(1_000_000)

# By column: the usage it prices, the columns that are parts of it, whether it is output.
_COLUMNS: Final[Mapping[str, tuple[str, tuple[str, ...], bool]]] = {
    "cache_read": (semconv.USAGE_CACHE_READ_INPUT_TOKENS, (), False),
    "cache_write": (semconv.USAGE_CACHE_WRITE_INPUT_TOKENS, (), False),
    "input": (semconv.USAGE_INPUT_TOKENS, ("cache_read", "cache_write"), False),
    "reasoning": (semconv.USAGE_REASONING_OUTPUT_TOKENS, (), True),
    "output": (semconv.USAGE_OUTPUT_TOKENS, ("reasoning",), True),
}

# The same columns in the price map of LiteLLM, which counts per token.
_LITELLM: Final[Mapping[str, str]] = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "reasoning": "output_cost_per_reasoning_token",
}


class PriceTableError(LlmspellError, ValueError):
    """A user's price table has an entry that says no price."""

    def __init__(self, model: str, problem: str) -> None:
        super().__init__(
            f"the price table's entry for {model!r} {problem}; an entry reads "
            "{'input': 1.25, 'output': 10, 'cache_read': 0.125} in dollars per million tokens",
        )
        self.model = model


def parse_table(table: Mapping[str, Mapping[str, Any]]) -> dict[str, Rates]:
    """Rates by `model` or `provider/model`, out of *table*.

    An entry's columns are `input`, `output`, `cache_read`, `cache_write` and `reasoning`, per
    million tokens, and `currency` (ISO 4217, `USD` by default). An entry of LiteLLM's price map
    (`input_cost_per_token`, …) is taken too.

    Raises:
        PriceTableError: an entry has no prices, or one that is no number above or at zero.
    """
    return {model: _rates(model, entry) for model, entry in table.items()}


def _rates(model: str, entry: Any) -> Rates:
    if not isinstance(entry, Mapping):
        raise PriceTableError(model, f"is {type(entry).__name__}, not a table")
    prices = _litellm(model, entry) or _own(model, entry)
    if not prices:
        raise PriceTableError(model, "names no price")
    rates: list[Rate] = []
    order: dict[str, int] = {}
    for column, (usage, parts, output) in _COLUMNS.items():
        if column in prices:
            priced = tuple(order[part] for part in parts if part in order)
            order[column] = len(rates)
            rates.append(Rate(usage=usage, price=prices[column], parts=priced, output=output))
    currency = str(entry.get("currency", "USD")).upper()
    return Rates(rates=tuple(rates), model=model, source=SOURCE, currency=currency)


def _own(model: str, entry: Mapping[str, Any]) -> dict[str, Decimal]:
    unknown = entry.keys() - _COLUMNS.keys() - {"currency"}
    if unknown:
        raise PriceTableError(model, f"has the unknown column {min(unknown, key=str)!r}")
    given = {column: entry[column] for column in _COLUMNS if column in entry}
    return {column: _number(model, column, value) / _MILLION for column, value in given.items()}


def _litellm(model: str, entry: Mapping[str, Any]) -> dict[str, Decimal]:
    given = {column: entry.get(name) for column, name in _LITELLM.items()}
    return {
        column: _number(model, _LITELLM[column], value)
        for column, value in given.items()
        if value is not None
    }


def _number(model: str, column: str, value: Any) -> Decimal:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        number = Decimal("NaN")
    if isinstance(value, bool) or not number.is_finite() or number < 0:
        raise PriceTableError(model, f"says {value!r} for {column!r}, which is no price")
    return number
