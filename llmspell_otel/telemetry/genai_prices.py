"""Prices out of the package `genai-prices`: bundled data, never the network."""

import importlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

from llmspell_otel.telemetry import semconv
from llmspell_otel.telemetry.rates import REQUESTS, Rate, Rates
from llmspell_otel.telemetry.semconv import Provider

SOURCE: Final = "genai-prices"

# By `gen_ai.provider.name`: the package's own id. A name that is not here goes as it is. Left to
# itself the package takes Azure's OpenAI for OpenAI, and does not know some of the others.
PROVIDERS: Final[Mapping[str, str]] = {
    Provider.AZURE_AI_OPENAI: "azure",
    Provider.AZURE_AI_INFERENCE: "azure",
    Provider.AWS_BEDROCK: "aws",
    Provider.GCP_GEMINI: "google",
    Provider.GCP_GEN_AI: "google",
    Provider.GCP_VERTEX_AI: "google",
    Provider.MISTRAL_AI: "mistral",
    Provider.MOONSHOT_AI: "moonshotai",
    Provider.X_AI: "x-ai",
}


class _Unit(NamedTuple):
    """One sort of usage that the package prices and that an attribute counts."""

    price_key: str
    usage: str
    output: bool
    aspects: frozenset[str]
    """What narrows it down; a unit with more of them is a part of one with fewer."""
    per: int = 1_000_000


def _unit(price_key: str, usage: str, *aspects: str, output: bool = False) -> _Unit:
    return _Unit(price_key, usage, output, frozenset({"out" if output else "in", *aspects}))


# Narrower units first: what they count is taken off the wider ones.
_UNITS: Final = (
    _unit("cache_text_read_mtok", semconv.USAGE_TEXT_CACHE_READ_INPUT_TOKENS, "read", "text"),
    _unit("cache_image_read_mtok", semconv.USAGE_IMAGE_CACHE_READ_INPUT_TOKENS, "read", "image"),
    _unit("cache_audio_read_mtok", semconv.USAGE_AUDIO_CACHE_READ_INPUT_TOKENS, "read", "audio"),
    _unit("cache_read_mtok", semconv.USAGE_CACHE_READ_INPUT_TOKENS, "read"),
    _unit("cache_write_mtok", semconv.USAGE_CACHE_WRITE_INPUT_TOKENS, "write"),
    _unit("input_text_mtok", semconv.USAGE_TEXT_INPUT_TOKENS, "text"),
    _unit("input_image_mtok", semconv.USAGE_IMAGE_INPUT_TOKENS, "image"),
    _unit("input_audio_mtok", semconv.USAGE_AUDIO_INPUT_TOKENS, "audio"),
    _unit("input_mtok", semconv.USAGE_INPUT_TOKENS),
    _unit("output_reasoning_mtok", semconv.USAGE_REASONING_OUTPUT_TOKENS, "reasoning", output=True),
    _unit("output_text_mtok", semconv.USAGE_TEXT_OUTPUT_TOKENS, "text", output=True),
    _unit("output_image_mtok", semconv.USAGE_IMAGE_OUTPUT_TOKENS, "image", output=True),
    _unit("output_audio_mtok", semconv.USAGE_AUDIO_OUTPUT_TOKENS, "audio", output=True),
    _unit("output_mtok", semconv.USAGE_OUTPUT_TOKENS, output=True),
    _Unit("requests_kcount", REQUESTS, output=False, aspects=frozenset({"request"}), per=1000),
)

_BATCH: Final = "batch"


class GenaiPrices:
    """Reads the package's data into rates. Nothing is imported before `load`."""

    name = SOURCE

    def __init__(self) -> None:
        self._snapshot: Any = None
        self._failed = False

    @property
    def ready(self) -> bool:
        """Whether rates can be asked for at once."""
        return self._snapshot is not None or self._failed

    def load(self) -> bool:
        """Import the package and its data: some 0.2 s. False if it is not installed."""
        if not self.ready:
            try:
                data = importlib.import_module("genai_prices.data_snapshot")
                self._snapshot = data.get_snapshot()
            except Exception:
                self._failed = True
        return self._snapshot is not None

    def rates(
        self, provider: str | None, model: str, tier: str | None, when: datetime
    ) -> Rates | None:
        """What *model* of *provider* costs at *when*, in service tier *tier*; None if unknown."""
        if self._snapshot is None:
            return None
        known = PROVIDERS.get(provider or "", provider)
        try:
            seller, info = self._snapshot.find_provider_model(model, None, known, None)
        except LookupError:
            return None
        # The variants of a model that another provider sells on are not that provider's.
        context = _context(tier) if any(info is each for each in seller.models) else None
        rates = tuple(_compiled(info.get_prices(when, context)))
        if not any(rate.usage != REQUESTS for rate in rates):
            return None
        return Rates(rates=rates, model=info.id, source=SOURCE, until=_until(info, when))


def _compiled(prices: Any) -> Iterator[Rate]:
    given = vars(prices)
    priced = [unit for unit in _UNITS if given.get(unit.price_key) is not None]
    for index, unit in enumerate(priced):
        price = given[unit.price_key]
        yield Rate(
            usage=unit.usage,
            price=Decimal(getattr(price, "base", price)) / unit.per,
            tiers=tuple(
                (tier.start, Decimal(tier.price) / unit.per) for tier in getattr(price, "tiers", ())
            ),
            parts=tuple(n for n in range(index) if unit.aspects <= priced[n].aspects),
            output=unit.output,
        )


def _context(tier: str | None) -> dict[str, str] | None:
    if not tier:
        return None
    return {"processing": _BATCH} if tier == _BATCH else {"service_tier": tier}


def _until(info: Any, when: datetime) -> float | None:
    # Prices that change, change at a UTC midnight or at a time of day.
    conditional = [] if hasattr(info.prices, "__dict__") else list(info.prices)
    constraints = [each.constraint for each in (*conditional, *(info.price_variants or ()))]
    if not any(constraints):
        return None
    moments = {time(0)}
    for constraint in constraints:
        if (start := getattr(constraint, "start_time", None)) is not None:
            moments |= {start, constraint.end_time}
    today = when.astimezone(UTC).date()
    changes = (
        datetime.combine(today + timedelta(days=day), moment, moment.tzinfo or UTC)
        for day in (-1, 0, 1, 2)
        for moment in moments
    )
    return min(change.timestamp() for change in changes if change > when)
