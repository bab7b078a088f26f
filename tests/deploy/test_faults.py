"""Nothing that was acknowledged is lost: real servers, killed and starved, and exact counts."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy import servers
from tests.deploy.sending import Sender, arrived
from tests.deploy.servers import Server

pytestmark = pytest.mark.timeout(180)


@dataclass
class Line:
    """A collector before a Jaeger, neither of them running yet."""

    collector: Server
    jaeger: Server
    otlp: int
    query: int
    metrics: int

    def counter(self, name: str) -> float:
        """The sum of one of the collector's own counters."""
        text = servers.get(f"http://127.0.0.1:{self.metrics}/metrics")
        lines = [x for x in text.splitlines() if x.startswith((f"{name}{{", f"{name} "))]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


@pytest.fixture
def line(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Line]:
    """The single host's collector and Jaeger; marks may change the collector's environment."""
    jaeger, seen = servers.jaeger(tmp_path / "jaeger")
    settings = getattr(request, "param", {})
    collector, taken = servers.collector(
        tmp_path / "host",
        "single-host.yaml",
        LLMSPELL_JAEGER=f"127.0.0.1:{seen['OTLP']}",
        **settings,
    )
    try:
        yield Line(collector, jaeger, taken["OTLP_GRPC"], seen["QUERY"], taken["METRICS"])
    finally:
        collector.kill()
        jaeger.kill()


def test_a_killed_collector_loses_nothing(line: Line) -> None:
    """Jaeger is away, the collector is killed with its queue full of work: all of it arrives."""
    line.collector.start()
    sender = Sender(line.otlp, "killed-collector")
    for _ in range(20):
        assert sender.send(sender.batch())
    line.collector.kill()  # at once: what was just acknowledged must be on the disk
    sender.close()
    line.jaeger.start()
    line.collector.start()
    assert arrived(line.query, sender) == sender.acknowledged
    assert len(sender.acknowledged) == 1000


def test_a_jaeger_that_is_killed_and_away_for_ten_seconds_misses_nothing(line: Line) -> None:
    """It dies amid the stream, is gone for 10 s, and has every span in the end."""
    line.jaeger.start()
    line.collector.start()
    sender = Sender(line.otlp, "killed-jaeger")
    for number in range(60):
        assert sender.send(sender.batch(20))
        if number == 10:
            line.jaeger.kill()
        servers.eventually(lambda: False, 0.2)
    sender.close()
    line.jaeger.start()
    assert arrived(line.query, sender) == sender.acknowledged
    assert len(sender.acknowledged) == 1200


def test_a_collector_that_is_asked_to_end_hands_over_what_it_has(line: Line) -> None:
    """SIGTERM, as at every rollout: it ends in peace, and what it could not send is on its disk."""
    line.jaeger.start()
    line.collector.start()
    sender = Sender(line.otlp, "asked-to-end")
    for _ in range(10):
        assert sender.send(sender.batch())
    line.collector.stop()
    sender.close()
    assert line.collector.process is not None
    assert line.collector.process.returncode == 0, line.collector.tail()
    line.collector.start()
    assert arrived(line.query, sender) == sender.acknowledged


@pytest.mark.parametrize("line", [{"LLMSPELL_QUEUE_BYTES": "5000000"}], indirect=True)
def test_a_full_queue_refuses_instead_of_losing(line: Line) -> None:
    """What does not fit is refused, so that the sender knows; what was taken arrives."""
    line.collector.start()
    sender = Sender(line.otlp, "full-queue", timeout=1)
    for _ in range(20):
        sender.send(sender.batch(20, llmspell__content="x" * 20_000))
    sender.close()
    assert len(sender.acknowledged) >= 100
    assert sender.refused
    # Counted at every attempt, and the SDK attempts more than once.
    assert line.counter("otelcol_exporter_enqueue_failed_spans_total") >= len(sender.refused)
    line.jaeger.start()
    found = arrived(line.query, sender)
    assert sender.acknowledged <= found <= sender.acknowledged | sender.refused


def test_a_full_disk_refuses_instead_of_losing(line: Line) -> None:
    """The disk takes no more than 8 MB: what does not fit is refused; what was taken arrives."""
    # The kernel fails every write past the limit, as a full disk does.
    program = line.collector.command
    line.collector.command = ["bash", "-c", 'ulimit -f 8192; exec "$@"', "collector", *program]
    line.collector.start()
    sender = Sender(line.otlp, "full-disk", timeout=1)
    for _ in range(25):
        sender.send(sender.batch(20, llmspell__content="x" * 20_000))
    sender.close()
    assert sender.acknowledged
    assert sender.refused
    line.jaeger.start()
    found = arrived(line.query, sender)
    assert sender.acknowledged <= found <= sender.acknowledged | sender.refused
