"""The scrape endpoint: served over real HTTP, read with prometheus-client's own parser."""

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from llmspell_exporters.prometheus import PrometheusReader

RESOURCE = Resource(
    {
        "service.name": "desk",
        "service.namespace": "shop",
        "service.version": "1",
        "service.instance.id": "a",
        "deployment.environment.name": "test",
        "host.name": "not promoted",
    }
)


@contextmanager
def serving(*views: View) -> Iterator[tuple[MeterProvider, PrometheusReader]]:
    """A meter provider that is scraped on any free port."""
    reader = PrometheusReader(registry=CollectorRegistry(), host="127.0.0.1", port=0)
    provider = MeterProvider([reader], resource=RESOURCE, views=views, shutdown_on_exit=False)
    try:
        yield provider, reader
    finally:
        provider.shutdown()


def scrape(port: int | None) -> dict[str, list[Any]]:
    """The samples of one scrape, by name."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    found: dict[str, list[Any]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample)
    return found


def test_series_carry_the_promoted_resource_and_no_scope() -> None:
    """The labels are those that a collector or Prometheus's OTLP receiver would give."""
    with serving() as (provider, reader):
        provider.get_meter("scope").create_counter("calls").add(2, {"model": "m"})
        (sample,) = scrape(reader.port)["calls_total"]
        assert sample.value == 2
        assert sample.labels == {
            "model": "m",
            "service_name": "desk",
            "service_namespace": "shop",
            "service_version": "1",
            "service_instance_id": "a",
            "deployment_environment_name": "test",
        }


def test_an_exponential_histogram_does_not_break_the_scrape() -> None:
    """It is shown as a classic one, its counts exact, beside all other metrics."""
    view = View(instrument_type=Histogram, aggregation=ExponentialBucketHistogramAggregation())
    with serving(view) as (provider, reader):
        meter = provider.get_meter("scope")
        meter.create_counter("calls").add(1)
        duration = meter.create_histogram("duration", unit="s")
        values = [0.0, 0.3, 0.5, 0.7, 1.0, 3.0, 900.0]
        for value in values:
            duration.record(value)
        found = scrape(reader.port)
        assert found["calls_total"][0].value == 1
        assert found["duration_seconds_count"][0].value == len(values)
        assert found["duration_seconds_sum"][0].value == pytest.approx(sum(values))
        for bucket in found["duration_seconds_bucket"]:
            bound = float(bucket.labels["le"])
            assert bucket.value == sum(value <= bound for value in values), bound


@pytest.mark.parametrize("scale", [-3, -1, 0, 1, 5, 20])
def test_bounds_are_powers_of_two_at_any_scale(scale: int) -> None:
    """Every bucket's own upper bound lies at or below the power of two that stands for it."""
    from llmspell_exporters.prometheus import _bound

    for index in (-2000, -3, -1, 0, 1, 2, 1000):
        exponent = (index + 1) * 2.0**-scale
        if -1000 < exponent < 1000:
            assert 2.0**exponent <= _bound(index, scale) <= 2.0 ** (exponent + 1)


def test_a_port_in_use_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """The program goes on without the endpoint, and is told how to mend it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        reader = PrometheusReader(registry=CollectorRegistry(), host="127.0.0.1", port=port)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    provider.get_meter("scope").create_counter("calls").add(1)
    provider.shutdown()
    assert reader.port is None
    (line,) = [record.message for record in caplog.records]
    assert line.startswith(f"llmspell: no metrics are served on 127.0.0.1:{port} (")
    assert line.endswith("free it, or set OTEL_EXPORTER_PROMETHEUS_PORT")


def test_shutdown_gives_the_port_back() -> None:
    """Nothing listens any more, and nothing holds the socket."""
    with serving() as (_, reader):
        port, held = reader.port, reader._server.socket
    assert reader.port is None
    assert held.fileno() == -1
    with pytest.raises(urllib.error.URLError):
        scrape(port)


def test_a_plain_program_uses_it_by_name() -> None:
    """`OTEL_METRICS_EXPORTER=llmspell_prometheus` serves on the standard variables' port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = f"""
import urllib.request
from opentelemetry import metrics
from opentelemetry.sdk._configuration import _initialize_components
_initialize_components()
metrics.get_meter("t").create_counter("calls").add(5)
print(b"calls_total{{" in urllib.request.urlopen("http://127.0.0.1:{port}/metrics").read())
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            "OTEL_METRICS_EXPORTER": "llmspell_prometheus",
            "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1",
            "OTEL_EXPORTER_PROMETHEUS_PORT": str(port),
            "PATH": os.environ["PATH"],
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.stdout, done.stderr) == ("True\n", "")
