"""Prices: exact, off the request path, the user's own first, and never a guess."""

import subprocess
import sys
import threading
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import Any

import pytest
from genai_prices import data_snapshot
from genai_prices.types import Usage
from hypothesis import given, settings
from hypothesis import strategies as st

from llmspell_otel.telemetry.genai_prices import GenaiPrices
from llmspell_otel.telemetry.price_table import PriceTableError
from llmspell_otel.telemetry.prices import PENDING, Prices, default_prices
from llmspell_otel.telemetry.rates import Price, Rates

IN, OUT = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
READ, WRITE = "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_write.input_tokens"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def call(provider: str, model: str, **usage: int) -> dict[str, Any]:
    """The attributes of a finished call."""
    names = {"input": IN, "output": OUT, "read": READ, "write": WRITE}
    return {
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
        **{names[name]: count for name, count in usage.items()},
    }


@pytest.fixture(scope="module")
def prices() -> Prices:
    """Prices from the bundled data, as of a day on which they are known."""
    loaded = Prices(provider=GenaiPrices(), clock=NOW.timestamp)
    assert loaded.preload_now()
    return loaded


@pytest.mark.parametrize(
    ("attributes", "total"),
    [
        (call("openai", "gpt-4o-mini", input=1_000_000, output=1_000_000), "0.75"),
        (call("openai", "gpt-5", input=1000, output=100), "0.00225"),
        (call("openai", "gpt-5", input=1000, read=800, output=0), "0.00035"),
        (call("anthropic", "claude-opus-4-5", input=1000, output=1000), "0.03"),
        (call("gcp.gemini", "gemini-2.5-pro", input=1000, output=0), "0.00125"),
        (call("gcp.vertex_ai", "gemini-2.5-pro", input=300_000, output=0), "0.75"),
        (call("openai", "text-embedding-3-small", input=1_000_000), "0.02"),
        (call("x_ai", "grok-4", input=1_000_000, output=0), None),
        (call("azure.ai.openai", "gpt-4o", input=1_000_000, output=0), None),
        (call("aws.bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", input=1000), None),
    ],
    ids=lambda value: value.get("gen_ai.request.model") if isinstance(value, dict) else None,
)
def test_known_models(prices: Prices, attributes: dict[str, Any], total: str | None) -> None:
    """Published rates, cached input and long contexts among them; exact to the last digit."""
    priced = prices.quote(attributes)
    assert isinstance(priced, Price)
    assert priced.source == "genai-prices"
    if total is not None:
        assert priced.total == Decimal(total)


@pytest.mark.parametrize("provider", ["azure.ai.openai", "x_ai", "gcp.gen_ai", "mistral_ai"])
def test_providers_are_mapped(prices: Prices, provider: str) -> None:
    """Names that the price data spells otherwise, or would take for another's."""
    models = {
        "azure.ai.openai": "gpt-4o",
        "x_ai": "grok-4",
        "gcp.gen_ai": "gemini-2.5-pro",
        "mistral_ai": "mistral-large-2512",
    }
    assert isinstance(prices.quote(call(provider, models[provider], input=10)), Price)


MODELS = [
    (provider.id, model.id)
    for provider in data_snapshot.get_snapshot().providers
    for model in provider.models
]


SOURCE = GenaiPrices()
USAGES = st.fixed_dictionaries(
    {
        "fresh": st.integers(0, 400_000),
        "read": st.integers(0, 100_000),
        "write": st.integers(0, 100_000),
        "output": st.integers(0, 50_000),
    }
)


def _published(model: tuple[str, str], usage: dict[str, int], tier: str | None) -> Decimal:
    context = {"processing" if tier == "batch" else "service_tier": tier} if tier else None
    counted = Usage(
        input_tokens=usage["input"],
        output_tokens=usage["output"],
        cache_read_tokens=usage["read"],
        cache_write_tokens=usage["write"],
    )
    provider, name = model
    snapshot = data_snapshot.get_snapshot()
    try:
        return snapshot.calc(counted, name, provider, None, NOW, context).total_price
    except LookupError:
        return Decimal(0)


@given(
    st.sampled_from(MODELS), USAGES, st.sampled_from([None, "batch", "flex", "priority", "default"])
)
@settings(max_examples=300, deadline=None)
def test_agrees_with_the_package(
    model: tuple[str, str], usage: dict[str, int], tier: str | None
) -> None:
    """Every model's price is what the package itself computes, slowly.

    A model that is paid for by the hour or page has no price per token, there as here.
    """
    SOURCE.load()
    fresh, *cached = (usage[name] for name in ("fresh", "read", "write"))
    usage = usage | {"input": fresh + sum(cached)}
    del usage["fresh"]
    rates = SOURCE.rates(*model, tier, NOW)
    priced = None if rates is None else rates.price(call(*model, **usage))
    published = _published(model, usage, tier)
    assert (Decimal(0) if priced is None else priced.total) == published


def test_pending_until_loaded() -> None:
    """Nothing is imported on the request path: the first answer is 'not yet'."""
    prices = default_prices()
    attributes = call("openai", "gpt-5", input=1000, output=100)
    assert prices.price(attributes) is PENDING
    assert prices.totals == {}
    settled = prices.settle(attributes)
    assert isinstance(settled, Price)
    assert prices.totals == {"USD": Decimal("0.00225")}
    assert isinstance(prices.price(attributes), Price)


def test_preload_does_not_wait() -> None:
    """It loads on a thread of its own, and prices are there some time later."""
    prices = default_prices()
    prices.preload()
    for thread in threading.enumerate():
        if thread.name == "llmspell-prices":
            thread.join(30)
    assert isinstance(prices.price(call("openai", "gpt-5", input=1)), Price)


def test_importing_and_asking_load_nothing() -> None:
    """`genai-prices` stays unimported until somebody loads it."""
    script = (
        "import sys; from llmspell_otel.telemetry.prices import default_prices as d; p = d();"
        f"p.price({call('openai', 'gpt-5', input=1)!r});"
        "assert not any(m.startswith('genai_prices') for m in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_without_the_package_calls_are_unpriced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is not installed: no price, no error, and no second attempt."""
    monkeypatch.setitem(sys.modules, "genai_prices.data_snapshot", None)
    prices = default_prices()
    attributes = call("openai", "gpt-5", input=1000)
    assert prices.settle(attributes) is None
    assert prices.price(attributes) is None
    assert prices.guard.failures == 0


@pytest.mark.parametrize(
    "attributes",
    [
        call("openai", "no-such-model", input=10),
        call("ollama", "llama3", input=10),
        call("openai", "gpt-5"),
        call("openai", "gpt-5", input=10, read=11),
        {IN: 10},
        {IN: "ten", "gen_ai.request.model": "gpt-5"},
        {IN: 10, "gen_ai.request.model": ["gpt-5"], "gen_ai.provider.name": "openai"},
        {IN: 10, "gen_ai.request.model": 5, "gen_ai.provider.name": "openai"},
    ],
    ids=str,
)
def test_what_cannot_be_priced_is_not_guessed(prices: Prices, attributes: dict[str, Any]) -> None:
    """Unknown model or provider, no usage, usage that contradicts itself, wrong types."""
    assert prices.quote(attributes) is None


def test_the_model_that_answered_is_billed(prices: Prices) -> None:
    """The response names it exactly; the request's name is only the fallback."""
    attributes = call("openai", "gpt-5", input=1_000_000)
    assert _total(prices, attributes | {"gen_ai.response.model": "gpt-4o-mini"}) == Decimal("0.15")
    assert _total(prices, attributes | {"gen_ai.response.model": "unheard-of"}) == Decimal("1.25")


def test_the_service_tier_counts(prices: Prices) -> None:
    """Priority service costs more than the flexible one."""
    attributes = call("openai", "gpt-5", input=1_000_000, output=1_000_000)
    tier = "openai.response.service_tier"
    flex, usual, fast = (
        _total(prices, attributes | ({tier: name} if name else {}))
        for name in ("flex", None, "priority")
    )
    assert flex < usual < fast


def _total(prices: Prices, attributes: dict[str, Any]) -> Decimal:
    priced = prices.quote(attributes)
    assert isinstance(priced, Price)
    return priced.total


def test_the_users_table_wins() -> None:
    """And needs neither package nor loading; the entry with the provider before the plain one."""
    table = {
        "gpt-5": {"input": 2, "output": "4.5", "cache_read": 0.5},
        "azure.ai.openai/gpt-5": {"input": 1, "output": 1, "currency": "eur"},
    }
    prices = default_prices(table)
    priced = prices.price(call("openai", "gpt-5", input=1_000_000, read=500_000, output=2_000_000))
    assert isinstance(priced, Price)
    assert (priced.input, priced.output) == (Decimal("1.25"), Decimal(9))
    assert (priced.source, priced.currency) == ("user", "USD")
    prices.price(call("azure.ai.openai", "gpt-5", input=1_000_000))
    assert prices.totals == {"USD": Decimal("10.25"), "EUR": Decimal(1)}


def test_litellm_entries_are_taken() -> None:
    """A user's LiteLLM price map counts per token."""
    entry = {"input_cost_per_token": 1.25e-06, "output_cost_per_token": 1e-05, "mode": "chat"}
    priced = Prices({"gpt-5": entry}).price(call("openai", "gpt-5", input=1000, output=100))
    assert isinstance(priced, Price)
    assert priced.total == Decimal("0.00225")


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (5, "is int, not a table"),
        ({}, "names no price"),
        ({"currency": "EUR"}, "names no price"),
        ({"input": "cheap"}, "'cheap' for 'input'"),
        ({"input": -1}, "-1 for 'input'"),
        ({"input": True}, "True for 'input'"),
        ({"input": float("nan")}, "nan for 'input'"),
        ({"input": 1, "outputs": 2}, "unknown column 'outputs'"),
    ],
    ids=str,
)
def test_a_wrong_table_is_refused(entry: Any, problem: str) -> None:
    """What, where, and how to mend it."""
    with pytest.raises(PriceTableError, match=r"gpt-5.*million tokens") as caught:
        Prices({"gpt-5": entry})
    assert problem in str(caught.value)


def test_the_hosts_decimal_precision_is_not_ours() -> None:
    """A host that rounds its own decimals does not round our sums."""
    prices = Prices({"m": {"input": "1.23456789"}})
    with localcontext(prec=3):
        priced = prices.price(call("x", "m", input=1_234_567))
    assert isinstance(priced, Price)
    assert priced.total == Decimal("1.23456789") * 1_234_567 / 1_000_000


def test_a_hundred_threads_lose_no_cent() -> None:
    """The running total is the sum of all calls."""
    prices = Prices({"m": {"input": "0.1"}})

    def spend() -> None:
        for _ in range(100):
            prices.price(call("x", "m", input=1))

    threads = [threading.Thread(target=spend) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert prices.totals == {"USD": Decimal("0.0002")}


class Changing:
    """A provider whose price changes at second 100."""

    ready = True

    def load(self) -> bool:
        """Nothing to load."""
        return True

    def rates(
        self, provider: str | None, model: str, tier: str | None, when: datetime
    ) -> Rates | None:
        """The source data's own rates, ending at 100."""
        del provider, model, tier
        source = GenaiPrices()
        source.load()
        rates = source.rates(
            "openai", "gpt-5" if when.timestamp() < 100 else "gpt-4o-mini", None, NOW
        )
        assert rates is not None
        return Rates(rates=rates.rates, model=rates.model, source="test", until=100.0)


def test_rates_end_when_they_say() -> None:
    """A price that changes is asked for again at the moment of the change."""
    now = [50.0]
    prices = Prices(provider=Changing(), clock=lambda: now[0])
    attributes = call("openai", "any", input=1_000_000)
    assert _total(prices, attributes) == Decimal("1.25")
    now[0] = 100.0
    assert _total(prices, attributes) == Decimal("0.15")


def test_off_peak_prices_change_with_the_hour() -> None:
    """Where the data knows times of day, the rates hold until the next of them."""
    source = GenaiPrices()
    source.load()
    noon = datetime(2025, 8, 1, 12, tzinfo=UTC)
    night = datetime(2025, 8, 1, 20, tzinfo=UTC)
    day_rates = source.rates("deepseek", "deepseek-chat", None, noon)
    night_rates = source.rates("deepseek", "deepseek-chat", None, night)
    assert day_rates is not None
    assert night_rates is not None
    assert day_rates.rates != night_rates.rates
    assert day_rates.until == datetime(2025, 8, 1, 16, 30, tzinfo=UTC).timestamp()


class Broken:
    """A provider that fails at everything."""

    @property
    def ready(self) -> bool:
        """No."""
        raise RuntimeError

    def load(self) -> bool:
        """No."""
        raise RuntimeError

    def rates(self, *args: Any) -> Rates | None:
        """No."""
        raise RuntimeError


def test_a_broken_provider_is_contained() -> None:
    """It costs the price, not the call."""
    prices = Prices(provider=Broken())
    assert prices.price(call("openai", "gpt-5", input=1)) is None
    assert prices.settle(call("openai", "gpt-5", input=1)) is None
    assert prices.guard.failures == 3


def test_attributes_of_a_price() -> None:
    """What a span shows."""
    priced = Prices({"m": {"input": 1, "output": 2}}).price(call("x", "m", input=1000, output=500))
    assert isinstance(priced, Price)
    assert priced.attributes == {
        "llmspell.cost.total": 0.002,
        "llmspell.cost.input": 0.001,
        "llmspell.cost.output": 0.001,
        "llmspell.cost.currency": "USD",
        "llmspell.cost.source": "user",
        "llmspell.cost.model": "m",
    }
