"""Telemetry: events become spans, log records, metrics and cost.

The names below are imported when they are first asked for: `semconv` alone is cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

_ROOMS = {
    "capture": ("CaptureMode",),
    "pipeline": ("Options", "Telemetry"),
    "price_table": ("PriceTableError",),
    "prices": ("PENDING", "PriceProvider", "Prices", "default_prices"),
    "providers": ("Providers",),
    "rates": ("Price", "Rate", "Rates"),
    "spans": ("SpanBridge",),
    "worker": ("Books", "Worker"),
}
_HOME = {name: room for room, inside in _ROOMS.items() for name in inside}


def __getattr__(name: str) -> Any:
    room = _HOME.get(name)
    if room is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    found = getattr(import_module(f"{__name__}.{room}"), name)
    globals()[name] = found
    return found
