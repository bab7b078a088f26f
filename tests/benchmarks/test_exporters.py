"""The exporter benchmark runs, and every variant delivers; nothing here depends on speed."""

import pytest

from tests.benchmarks import exporters
from tests.kit.otlp import OtlpReceiver


@pytest.mark.benchmark_report
@pytest.mark.parametrize("variant", exporters.VARIANTS)
def test_every_variant_delivers(
    variant: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each variant's spans arrive, all but those of the one that throws them away."""
    monkeypatch.setattr(exporters, "SPANS", exporters.PACE)
    with OtlpReceiver(grpc=False) as receiver:
        exporters.measure(variant, f"{receiver.http_endpoint}/v1/traces")
        expected = 0 if "alone" in variant else 2 * (exporters.WARM + exporters.PACE)
        assert len(receiver.spans()) == expected
    assert all(float(number) > 0 for number in capsys.readouterr().out.split())
