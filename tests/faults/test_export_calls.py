"""Whatever becomes of what it exports, no call that ends a span is held up beyond the bound."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from opentelemetry.sdk.trace import TracerProvider

from llmspell_exporters.batching import BOUND
from llmspell_exporters.exit_budget import Budget
from llmspell_exporters.ledger import Signal
from llmspell_exporters.processors import LedgeredSpanProcessor
from llmspell_exporters.segments import Frame
from llmspell_exporters.spool import Spool
from tests.exporters.support import account, span_exporter
from tests.kit import otlp_faults as faults
from tests.kit.held_up import held_up
from tests.kit.otlp import OtlpReceiver

FAULTS: Final[dict[str, Callable[[OtlpReceiver], None]]] = {
    "none": OtlpReceiver.behave,
    "down": OtlpReceiver.refuse,
    **{
        name: lambda receiver, fault=fault: receiver.keep_misbehaving(fault)  # type: ignore[misc]
        for name, fault in {
            "503": faults.error(503),
            "400": faults.error(400),
            "garbage": faults.garbage(),
            "partial": faults.partial(1),
            "hangs": faults.hang(),
            "drips": faults.drip(0.1),
            "hangs up": faults.disconnect(),
        }.items()
    },
}


class SlowDisk(Spool):
    """A disk that takes four times the bound for every batch."""

    def write(self, signal: Signal, body: bytes, count: int) -> Frame:
        """Store one batch, late."""
        time.sleep(4 * BOUND)
        return super().write(signal, body, count)


def slowest(provider: TracerProvider, spans: int, pause: float = 0.0) -> float:
    """Seconds that the slowest of so many spans' ends held up its caller."""
    tracer, found = provider.get_tracer("calls"), 0.0
    for number in range(spans):
        span = tracer.start_span("call", attributes={"number": number})
        found = max(found, held_up(span.end))
        if number % 16 == 0:
            time.sleep(pause)
    return found


@pytest.mark.parametrize("disk", [None, Spool, SlowDisk], ids=["no disk", "disk", "slow disk"])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_no_fault_reaches_the_caller(
    fault: Callable[[OtlpReceiver], None], disk: type[Spool] | None, tmp_path: Path
) -> None:
    """Spans end as if the receiver and the disk were well."""
    with OtlpReceiver(grpc=False) as receiver:
        fault(receiver)
        exporter, ledger = span_exporter(
            receiver,
            store=disk and disk(tmp_path, fsync=True),
            shutdown_budget=Budget(0.5),
            timeout=0.2,
        )
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(LedgeredSpanProcessor(exporter, batch=32, delay=0.02))
        assert slowest(provider, 640, 0.01) < BOUND
        provider.shutdown()
        assert account(ledger).made == 640


def test_a_burst_with_nobody_to_take_it_is_held_up_by_its_own_encoding(tmp_path: Path) -> None:
    """Ten times the queue at once, no receiver, a slow disk: the bound holds for every span."""
    with OtlpReceiver(grpc=False) as receiver:
        receiver.refuse()
        exporter, ledger = span_exporter(
            receiver, store=SlowDisk(tmp_path), shutdown_budget=Budget(0.5)
        )
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(LedgeredSpanProcessor(exporter, queue=64, batch=32, delay=0.02))
        assert slowest(provider, 640) < BOUND
        assert account(ledger).lost == {}
        provider.shutdown()
