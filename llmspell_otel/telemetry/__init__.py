"""Telemetry: events become spans, log records, metrics and cost.

The names below are imported when they are first asked for: `semconv` alone is cheap.
"""

from typing import TYPE_CHECKING

from llmspell_otel.lazy import rooms

if TYPE_CHECKING:
    from llmspell_otel.telemetry.capture import CaptureMode
    from llmspell_otel.telemetry.pipeline import Options, Telemetry
    from llmspell_otel.telemetry.price_table import PriceTableError
    from llmspell_otel.telemetry.prices import PENDING, PriceProvider, Prices, default_prices
    from llmspell_otel.telemetry.providers import Providers
    from llmspell_otel.telemetry.rates import Price, Rate, Rates
    from llmspell_otel.telemetry.spans import SpanBridge
    from llmspell_otel.telemetry.worker import Books, Worker

__all__ = [
    "PENDING",
    "Books",
    "CaptureMode",
    "Options",
    "Price",
    "PriceProvider",
    "PriceTableError",
    "Prices",
    "Providers",
    "Rate",
    "Rates",
    "SpanBridge",
    "Telemetry",
    "Worker",
    "default_prices",
]

__getattr__ = rooms(
    __name__,
    {
        "capture": ("CaptureMode",),
        "pipeline": ("Options", "Telemetry"),
        "price_table": ("PriceTableError",),
        "prices": ("PENDING", "PriceProvider", "Prices", "default_prices"),
        "providers": ("Providers",),
        "rates": ("Price", "Rate", "Rates"),
        "spans": ("SpanBridge",),
        "worker": ("Books", "Worker"),
    },
)
