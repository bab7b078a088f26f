"""A back end that is slow, refuses or answers nonsense: the collector counts what is gone."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.deploy import servers
from tests.deploy.sending import Sender
from tests.deploy.servers import Server
from tests.kit import otlp_faults as faults
from tests.kit.otlp import OtlpReceiver

pytestmark = pytest.mark.timeout(120)
FAILED = "otelcol_exporter_send_failed_spans_total"


@contextmanager
def line(folder: Path, receiver: OtlpReceiver) -> Generator[tuple[Server, Sender, int]]:
    """The single host's collector before a back end that can misbehave, and a sender to it."""
    collector, ports = servers.collector(
        folder / "host",
        "single-host.yaml",
        LLMSPELL_JAEGER=receiver.grpc_endpoint.removeprefix("http://"),
    )
    with servers.started(collector):
        yield collector, Sender(ports["OTLP_GRPC"], "back-end"), ports["METRICS"]


def send(sender: Sender, batches: int = 8) -> None:
    """Send batches so far apart that the collector hands each on by itself."""
    for _ in range(batches):
        assert sender.send(sender.batch())
        servers.eventually(lambda: False, 0.4)
    sender.close()


def stored(receiver: OtlpReceiver) -> set[str]:
    """The ids of all spans that the back end has."""
    return {span.span_id for span in receiver.spans()}


def failed(metrics: int) -> float:
    """How many spans the collector says that it could not deliver."""
    text = servers.get(f"http://127.0.0.1:{metrics}/metrics")
    lines = [x for x in text.splitlines() if x.startswith(FAILED)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


@pytest.mark.parametrize(
    "fault",
    [faults.hang(2.0), faults.disconnect(), faults.error(503), faults.drip(0.1)],
    ids=["hangs", "hangs up", "unavailable", "slow"],
)
def test_what_may_be_sent_again_is(tmp_path: Path, fault: faults.Fault) -> None:
    """A passing trouble of the back end costs no span, and none is counted as failed."""
    with OtlpReceiver() as receiver, line(tmp_path, receiver) as (_, sender, metrics):
        receiver.misbehave(fault, fault, fault, signal="traces")
        send(sender)
        servers.eventually(lambda: stored(receiver) >= sender.acknowledged, 40)
        assert stored(receiver) == sender.acknowledged
        assert failed(metrics) == 0


def test_what_is_refused_for_good_is_counted(tmp_path: Path) -> None:
    """Each span that was acknowledged to the agent is stored, or in the counter: exactly."""
    with OtlpReceiver() as receiver, line(tmp_path, receiver) as (_, sender, metrics):
        receiver.misbehave(faults.error(400), faults.error(400), signal="traces")
        send(sender)
        whole = len(sender.acknowledged)
        servers.eventually(lambda: len(stored(receiver)) + failed(metrics) >= whole, 40)
        assert len(stored(receiver)) + failed(metrics) == whole
        assert failed(metrics) >= 100


def test_an_answer_that_is_nonsense_is_counted(tmp_path: Path) -> None:
    """Nobody said that those spans were taken: the counter has them, even if they are there."""
    with OtlpReceiver() as receiver, line(tmp_path, receiver) as (_, sender, metrics):
        receiver.misbehave(faults.garbage(), faults.garbage(), signal="traces")
        send(sender)
        servers.eventually(lambda: stored(receiver) >= sender.acknowledged, 40)
        unsure = [export for export in receiver.exports if export.fault is not None]
        assert failed(metrics) == sum(len(export.records) for export in unsure) >= 100


def test_a_partial_success_is_only_in_the_log(tmp_path: Path) -> None:
    """The collector counts such a batch as sent; what was rejected, and why, is in its log."""
    with OtlpReceiver() as receiver, line(tmp_path, receiver) as (collector, sender, metrics):
        receiver.misbehave(faults.partial(3, "names are too long"), signal="traces")
        send(sender, 2)
        servers.eventually(lambda: "names are too long" in collector.tail(), 20)
        assert '"dropped_spans":3' in collector.tail().replace(" ", "")
        assert failed(metrics) == 0
