"""A Prometheus scrape endpoint: OpenTelemetry's reader, with its two traps closed.

One exponential histogram in the process makes the official reader fail every scrape; here such
histograms are shown as classic ones. Series carry the resource attributes that our dashboards ask
for, and no scope labels, as they do behind a collector or Prometheus's own OTLP receiver.
"""

import inspect
import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
)
from prometheus_client import REGISTRY, CollectorRegistry, start_http_server

from llmspell_exporters.exit_budget import number

try:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
except ImportError as error:
    message = "llmspell_prometheus needs its exporter: pip install 'llmspell-otel[prometheus]'"
    raise ImportError(message) from error

HOST: Final = "OTEL_EXPORTER_PROMETHEUS_HOST"
PORT: Final = "OTEL_EXPORTER_PROMETHEUS_PORT"
PROMOTED: Final = frozenset(
    {
        "service.name",
        "service.namespace",
        "service.version",
        "service.instance.id",
        "deployment.environment.name",
    }
)
"""Resource attributes that become labels of every series."""
_logger = logging.getLogger("llmspell_exporters")


class PrometheusReader(PrometheusMetricReader):
    """Serves metrics for Prometheus to scrape.

    Args:
        registry: prometheus-client's; its other collectors are served too.
        host: to listen on; `OTEL_EXPORTER_PROMETHEUS_HOST` or localhost unless given.
        port: to listen on; `OTEL_EXPORTER_PROMETHEUS_PORT` or 9464 unless given, 0 for any.
    """

    def __init__(
        self,
        *,
        registry: CollectorRegistry = REGISTRY,
        host: str | None = None,
        port: int | None = None,
    ) -> None:
        super().__init__(registry=registry, **_understood())
        self._server: Any = None
        self._listen(
            registry,
            host or os.environ.get(HOST, "").strip() or "localhost",
            int(number(PORT, 9464)) if port is None else port,
        )

    @property
    def port(self) -> int | None:
        """The port that it listens on; None if it could not."""
        return None if self._server is None else int(self._server.server_port)

    def _listen(self, registry: CollectorRegistry, host: str, port: int) -> None:
        try:
            self._server, self._thread = start_http_server(port, addr=host, registry=registry)
        except (OSError, OverflowError) as error:
            _logger.warning(
                "llmspell: no metrics are served on %s:%d (%s); free it, or set %s",
                host,
                port,
                error,
                PORT,
            )
            return
        if hasattr(os, "register_at_fork"):
            # The child has no thread that answers: it must not keep the port either.
            os.register_at_fork(after_in_child=self._server.socket.close)

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> None:
        super()._receive_metrics(classic(metrics_data), timeout_millis, **kwargs)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Stop serving, and give the port back."""
        super().shutdown(timeout_millis, **kwargs)
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None


def _understood() -> dict[str, Any]:
    """The options that the installed reader knows; older ones lack them."""
    wanted = {"scope_info_enabled": False, "resource_attribute_filter": PROMOTED.__contains__}
    known = inspect.signature(PrometheusMetricReader.__init__).parameters
    return {name: value for name, value in wanted.items() if name in known}


def classic(data: MetricsData | None) -> Any:
    """*data* with every exponential histogram as a classic one."""
    if data is None or not any(_exponential(metric) for metric in _metrics(data)):
        return data
    return replace(
        data,
        resource_metrics=[
            replace(
                resource,
                scope_metrics=[
                    replace(scope, metrics=[_classic(metric) for metric in scope.metrics])
                    for scope in resource.scope_metrics
                ],
            )
            for resource in data.resource_metrics
        ],
    )


def _metrics(data: MetricsData) -> Iterator[Metric]:
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            yield from scope.metrics


def _exponential(metric: Metric) -> bool:
    return isinstance(metric.data, ExponentialHistogram)


def _classic(metric: Metric) -> Metric:
    if not isinstance(metric.data, ExponentialHistogram):
        return metric
    points = [_point(point) for point in metric.data.data_points]
    return replace(metric, data=Histogram(points, AggregationTemporality.CUMULATIVE))


def _point(point: ExponentialHistogramDataPoint) -> HistogramDataPoint:
    """Powers of two as bounds: few, and the same at every scrape, whatever the scale."""
    counts: dict[float, int] = {0.0: point.zero_count + sum(point.negative.bucket_counts)}
    for index, count in enumerate(point.positive.bucket_counts, point.positive.offset):
        bound = _bound(index, point.scale)
        counts[bound] = counts.get(bound, 0) + count
    bounds = sorted(counts)
    return HistogramDataPoint(
        attributes=point.attributes,
        start_time_unix_nano=point.start_time_unix_nano,
        time_unix_nano=point.time_unix_nano,
        count=point.count,
        sum=point.sum,
        bucket_counts=[*(counts[bound] for bound in bounds), 0],
        explicit_bounds=bounds,
        min=point.min,
        max=point.max,
    )


def _bound(index: int, scale: int) -> float:
    """The upper bound of bucket *index* at *scale*, rounded up to a power of two.

    Bucket i holds (base^i, base^(i+1)] with base = 2^(2^-scale).
    """
    exponent = -((-(index + 1)) >> scale) if scale >= 0 else (index + 1) << -scale
    return float(2.0 ** max(min(exponent, 1023), -1022))
