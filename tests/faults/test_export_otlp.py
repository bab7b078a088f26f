"""What the exporters do when the receiver misbehaves: exact counts, bounded waits."""

import logging
import subprocess
import sys
import textwrap
import time

import pytest

from llmspell_exporters.exit_budget import Budget
from llmspell_exporters.ledger import Ledger
from tests.exporters.support import (
    PROTOCOLS,
    account,
    distinct,
    endpoint,
    make_spans,
    span_exporter,
    tracing,
)
from tests.kit import otlp_faults as faults
from tests.kit.otlp import OtlpReceiver


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "fault",
    [
        faults.error(503),
        faults.error(429, retry_after=0.3),
        faults.disconnect(),
        faults.hang(),
        faults.drip(0.5),
    ],
    ids=["503", "429", "disconnect", "hang", "drip"],
)
def test_a_passing_fault_loses_nothing(protocol: str, fault: faults.Fault) -> None:
    """What may be repeated is repeated, and every span is acknowledged once."""
    with OtlpReceiver() as receiver:
        exporter, ledger = span_exporter(receiver, protocol, timeout=0.4)
        receiver.misbehave(fault)
        with tracing(exporter) as provider:
            make_spans(provider, 100)
            provider.force_flush()
            assert exporter.force_flush(5000)
        assert account(ledger).acknowledged == 100
        assert distinct(receiver) == 100


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_refused_batch_is_rejected_and_not_repeated(protocol: str) -> None:
    """A permanent error is sent once, counted with its reason and its message."""
    with OtlpReceiver() as receiver:
        exporter, ledger = span_exporter(receiver, protocol)
        receiver.misbehave(faults.error(400, message="no such tenant"))
        with tracing(exporter) as provider:
            make_spans(provider, 10)
            provider.force_flush()
            make_spans(provider, 5)
        reason = "grpc_invalid_argument" if protocol == "grpc" else "http_400"
        found = account(ledger)
        assert found.rejected == {reason: 10}
        assert found.messages == {reason: "no such tenant"}
        assert found.acknowledged == 5 == distinct(receiver)
        assert len(receiver.exports) == 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_partial_success_counts_what_was_rejected(protocol: str) -> None:
    """The SDK reports the whole batch as exported; the books do not."""
    with OtlpReceiver() as receiver:
        exporter, ledger = span_exporter(receiver, protocol)
        receiver.misbehave(faults.partial(3, "attribute too long"))
        with tracing(exporter) as provider:
            make_spans(provider, 10)
        found = account(ledger)
        assert (found.acknowledged, found.rejected) == (7, {"partial_success": 3})
        assert found.messages == {"partial_success": "attribute too long"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_unreadable_success_is_no_acknowledgement(protocol: str) -> None:
    """A 200 with garbage means that something else than a receiver has answered."""
    with OtlpReceiver() as receiver:
        exporter, ledger = span_exporter(receiver, protocol)
        receiver.misbehave(faults.garbage(b"<html>log in first</html>"))
        with tracing(exporter) as provider:
            make_spans(provider, 10)
        assert account(ledger).lost == {"unreadable_answer": 10}


def test_a_collector_that_starts_late_gets_everything() -> None:
    """What was made before the receiver listens is kept in memory."""
    receiver = OtlpReceiver(grpc=False)
    exporter, ledger = span_exporter(receiver)
    with tracing(exporter) as provider:
        make_spans(provider, 700)
        provider.force_flush()
        assert account(ledger).queued == 700
        with receiver:
            make_spans(provider, 300)
            provider.force_flush()
            assert exporter.force_flush(5000)
            assert distinct(receiver) == 1000
    assert account(ledger).acknowledged == 1000


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_collector_that_restarts_loses_nothing(protocol: str) -> None:
    """Down for a second among a thousand spans: all of them arrive, in order."""
    with OtlpReceiver() as receiver:
        exporter, ledger = span_exporter(receiver, protocol)
        with tracing(exporter) as provider:
            make_spans(provider, 300)
            provider.force_flush()
            receiver.refuse()
            make_spans(provider, 400)
            time.sleep(1.0)
            receiver.accept()
            make_spans(provider, 300)
            provider.force_flush()
            assert exporter.force_flush(8000)
        assert account(ledger).acknowledged == 1000
        seen: dict[str, int] = {}
        for span in receiver.spans():
            seen.setdefault(span.span_id, span.attributes["number"])
        assert list(seen.values()) == [*range(300), *range(400), *range(300)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_receiver_that_is_always_too_slow_gets_more_time(protocol: str) -> None:
    """Only the first batch is sent twice: later attempts wait for the receiver's own pace."""
    with OtlpReceiver() as receiver:
        exporter, ledger = span_exporter(receiver, protocol, timeout=0.4)
        receiver.keep_misbehaving(faults.drip(0.05))  # its answer takes about 0.6 s
        with tracing(exporter) as provider:
            for _ in range(3):
                make_spans(provider, 5)
                provider.force_flush()
            assert exporter.force_flush(8000)
        assert account(ledger).acknowledged == 15 == distinct(receiver)
        assert len(receiver.exports) == 4


def test_retry_after_is_kept() -> None:
    """No attempt is made before the receiver's time, though a flush asks for one."""
    with OtlpReceiver(grpc=False) as receiver:
        exporter, _ = span_exporter(receiver)
        receiver.misbehave(faults.error(429, retry_after=0.8))
        with tracing(exporter) as provider:
            make_spans(provider, 1)
            provider.force_flush()
            assert not exporter.force_flush(300)
            assert exporter.force_flush(3000)
        first, second = receiver.exports
        assert second.at - first.at >= 0.8


def test_a_full_memory_is_counted() -> None:
    """Without a disk there is an end to what can be kept; nothing passes it unseen."""
    receiver = OtlpReceiver(grpc=False)  # listens to nobody yet
    exporter, ledger = span_exporter(receiver, memory=100_000)
    with tracing(exporter) as provider:
        for _ in range(10):
            make_spans(provider, 200)
            provider.force_flush()
        kept = account(ledger).queued
        assert 0 < kept < 2000
        assert account(ledger).lost == {"backlog_full": 2000 - kept}
        with receiver:
            assert exporter.force_flush(5000)
            assert distinct(receiver) == kept


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "fault", [faults.hang(), faults.drip(0.5), faults.error(503)], ids=["hang", "drip", "503"]
)
def test_shutdown_is_bounded(protocol: str, fault: faults.Fault) -> None:
    """A receiver that hangs or drips holds a shutdown for its budget, and no longer."""
    with OtlpReceiver() as receiver:
        exporter, ledger = span_exporter(receiver, protocol, shutdown_budget=Budget(0.6))
        receiver.keep_misbehaving(fault)
        ledger.book(exporter.pipe.book.signal).make(2)
        exporter.pipe.delivery.submit(b"", 2)
        started = time.monotonic()
        exporter.shutdown()
        assert time.monotonic() - started < 0.6 + 0.5
        found = account(ledger)
        assert found.lost == {"shutdown": 2}
        receiver.behave()


def test_shutdowns_that_follow_each_other_share_one_budget() -> None:
    """Three exporters of one receiver that hangs take no longer than one."""
    with OtlpReceiver(grpc=False) as receiver:
        receiver.keep_misbehaving(faults.hang())
        ledger, budget = Ledger(), Budget(0.5)
        exporters = [
            span_exporter(receiver, ledger=ledger, shutdown_budget=budget)[0] for _ in range(3)
        ]
        for exporter in exporters:
            exporter.pipe.book.make(1)
            exporter.pipe.delivery.submit(b"", 1)
        started = time.monotonic()
        for exporter in exporters:
            exporter.shutdown()
        assert time.monotonic() - started < 0.5 + 0.5
        assert account(ledger).lost == {"shutdown": 3}
        receiver.behave()


def test_after_shutdown_records_are_lost_and_counted() -> None:
    """A late batch is refused with a failure, not swallowed."""
    with OtlpReceiver(grpc=False) as receiver:
        exporter, ledger = span_exporter(receiver)
        with tracing(exporter) as provider:
            make_spans(provider, 1)
            provider.force_flush()
            exporter.shutdown()
            make_spans(provider, 4)
        assert account(ledger).lost == {"shutdown": 4}


def test_an_outage_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """One warning when it begins and one when it ends, however many attempts fail."""
    with OtlpReceiver(grpc=False) as receiver, caplog.at_level(logging.WARNING):
        exporter, _ = span_exporter(receiver)
        receiver.misbehave(*[faults.error(503)] * 3)
        with tracing(exporter) as provider:
            make_spans(provider, 1)
            for _ in range(4):
                provider.force_flush()
                exporter.force_flush(50)
            assert exporter.force_flush(5000)
        lines = [record.message for record in caplog.records if "llmspell" in record.name]
        assert len(lines) == 2, lines
        assert "kept and sent again" in lines[0]
        assert "exported again" in lines[1]


PROGRAM = textwrap.dedent("""
    import sys
    from opentelemetry import trace, metrics
    from opentelemetry.sdk._configuration import _initialize_components
    _initialize_components()
    metrics.get_meter("m").create_counter("calls").add(1)
    tracer = trace.get_tracer("t")
    for number in range(50):
        tracer.start_span("work").end()
    sys.exit(7)
""")


def run(
    receiver: OtlpReceiver, protocol: str, **more: str
) -> tuple[subprocess.CompletedProcess[str], float]:
    """A plain OpenTelemetry program with our exporters by name; how it ended, and its seconds."""
    environment = {
        **receiver.environment(protocol),
        "OTEL_TRACES_EXPORTER": "llmspell_otlp",
        "OTEL_METRICS_EXPORTER": "llmspell_otlp",
        "OTEL_LOGS_EXPORTER": "llmspell_otlp",
        "PATH": "/usr/bin:/bin",
        **more,
    }
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done, time.monotonic() - started


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_plain_program_uses_the_exporters_by_name(protocol: str) -> None:
    """`OTEL_TRACES_EXPORTER=llmspell_otlp` is all it takes; exit code and stderr stay clean."""
    with OtlpReceiver() as receiver:
        done, _ = run(receiver, protocol)
        assert (done.returncode, done.stderr) == (7, "")
        assert distinct(receiver) == 50
        assert receiver.points("calls")[0].value == 1


@pytest.mark.parametrize(
    "fault", [faults.hang(), faults.drip(1.0), None], ids=["hang", "drip", "refused"]
)
def test_a_program_ends_in_time(fault: faults.Fault | None) -> None:
    """Exit takes the budget and half a second at most, says what was lost, and keeps its code."""
    with OtlpReceiver(grpc=False) as receiver:
        receiver.keep_misbehaving(fault) if fault else receiver.refuse()
        done, seconds = run(receiver, "http/protobuf", LLMSPELL_OTEL_SHUTDOWN_TIMEOUT="1.5")
        assert done.returncode == 7
        start_up = 3.0  # of Python and the SDK, on a busy machine
        assert seconds < 1.5 + 0.5 + start_up
        assert "Traceback" not in done.stderr
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("llmspell: exported 0 of 50 spans, shutdown lost 50")
        receiver.behave()


def test_a_destination_that_cannot_be_used_is_one_clear_reason() -> None:
    """A host that does not exist keeps the batch; nothing is raised."""
    ledger = Ledger()
    with OtlpReceiver(grpc=False) as receiver:
        exporter, _ = span_exporter(receiver, ledger=ledger)
    with tracing(exporter) as provider:  # the receiver is closed for good
        make_spans(provider, 2)
        provider.force_flush()
        assert account(ledger).queued == 2
    assert account(ledger).lost == {"shutdown": 2}
    assert endpoint(receiver, "http/protobuf").startswith("http://127.0.0.1:")
