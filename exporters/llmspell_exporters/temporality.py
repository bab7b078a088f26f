"""Temporality and aggregation of metrics, as `OTEL_EXPORTER_OTLP_METRICS_*` asks for them.

Source: https://opentelemetry.io/docs/specs/otel/metrics/sdk_exporters/otlp/.
"""

import logging
import os
from typing import Final

from opentelemetry.sdk.metrics import (
    Counter,
    Histogram,
    ObservableCounter,
    ObservableGauge,
    ObservableUpDownCounter,
    UpDownCounter,
)
from opentelemetry.sdk.metrics.export import AggregationTemporality
from opentelemetry.sdk.metrics.view import (
    Aggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
)

_logger = logging.getLogger(__name__)

_INSTRUMENTS: Final[tuple[type, ...]] = (
    Counter,
    UpDownCounter,
    Histogram,
    ObservableCounter,
    ObservableUpDownCounter,
    ObservableGauge,
)
_DELTA: Final[dict[str, tuple[type, ...]]] = {
    "CUMULATIVE": (),
    "DELTA": (Counter, Histogram, ObservableCounter),
    "LOWMEMORY": (Counter, Histogram),
}
_HISTOGRAMS: Final[dict[str, type[Aggregation]]] = {
    "EXPLICIT_BUCKET_HISTOGRAM": ExplicitBucketHistogramAggregation,
    "BASE2_EXPONENTIAL_BUCKET_HISTOGRAM": ExponentialBucketHistogramAggregation,
}


def preferred_temporality() -> dict[type, AggregationTemporality]:
    """The temporality of each kind of instrument."""
    chosen = _choice("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", list(_DELTA))
    return {
        kind: AggregationTemporality.DELTA
        if kind in _DELTA[chosen]
        else AggregationTemporality.CUMULATIVE
        for kind in _INSTRUMENTS
    }


def preferred_aggregation() -> dict[type, Aggregation]:
    """The aggregation of histograms."""
    variable = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"
    return {Histogram: _HISTOGRAMS[_choice(variable, list(_HISTOGRAMS))]()}


def _choice(variable: str, allowed: list[str]) -> str:
    """The value of *variable*; the first allowed one if it is unset or unknown."""
    chosen = os.environ.get(variable, "").strip().upper() or allowed[0]
    if chosen in allowed:
        return chosen
    _logger.warning(
        "llmspell: %s is %r; using %s (of %s)", variable, chosen, allowed[0], ", ".join(allowed)
    )
    return allowed[0]
