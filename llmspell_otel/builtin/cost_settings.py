"""What the cost hook can be told."""

from typing import Any, Final, Literal

from pydantic import Field, field_validator

from llmspell_otel.builtin.budgets import Budget
from llmspell_otel.builtin.description import BuiltinSettings
from llmspell_otel.telemetry.price_table import parse_table

_DAY: Final = 86_400.0


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
    redis: str | None = None
    """Where several processes share their budgets: ``redis://host:6379/0``."""
    redis_timeout: float = Field(0.25, gt=0, le=10)
    """Seconds that Redis may take; after that, this process counts for itself."""
    redis_prefix: str = "llmspell:cost:"
    """What keys in Redis begin with."""
    redis_hold: float = Field(900.0, gt=0)
    """Seconds that money is held for a call under way, should its process die."""
    on_redis_failure: Literal["continue", "cancel"] = "continue"
    """Whether calls go on while Redis does not answer, or are refused."""

    @field_validator("prices")
    @classmethod
    def _priced(cls, prices: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        parse_table(prices)
        return prices
