"""Batch processors under bursts, forks and signals: every record is accounted for."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from llmspell_exporters.exit_budget import Budget
from llmspell_exporters.ledger import Ledger
from llmspell_exporters.otlp import LedgeredLogExporter, LedgeredSpanExporter
from llmspell_exporters.processors import (
    LedgeredLogProcessor,
    LedgeredSpanProcessor,
    log_processor,
    span_processor,
)
from llmspell_exporters.spool import Spool
from tests.exporters.support import account, distinct, endpoint, make_spans, span_exporter
from tests.kit import otlp_faults as faults
from tests.kit.otlp import OtlpReceiver


@contextmanager
def batching(
    exporter: LedgeredSpanExporter, sampler: Any = None, **limits: Any
) -> Iterator[TracerProvider]:
    """A provider with our batch processor; shut down at the end."""
    provider = TracerProvider(shutdown_on_exit=False, sampler=sampler)
    provider.add_span_processor(LedgeredSpanProcessor(exporter, **limits))
    try:
        yield provider
    finally:
        provider.shutdown()


def burst(provider: TracerProvider, threads: int, spans: int) -> None:
    """Several threads end spans as fast as they can."""
    makers = [Thread(target=make_spans, args=(provider, spans)) for _ in range(threads)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()


def test_a_burst_ten_times_the_queue_is_kept_or_counted() -> None:
    """Eight threads, a small queue: made is acknowledged or lost, to the last span."""
    with OtlpReceiver(grpc=False) as receiver:
        exporter, ledger = span_exporter(receiver)
        with batching(exporter, queue=256, batch=64, ahead=50_000) as provider:
            burst(provider, 8, 500)
        found = account(ledger)
        assert found.made == 4000
        assert set(found.lost) <= {"queue_full"}
        assert found.acknowledged == 4000 - sum(found.lost.values()) == distinct(receiver)
        assert found.queued == found.spooled == 0


@pytest.mark.parametrize("threads", [1, 4, 8])
def test_threads_that_only_end_spans_lose_none(threads: int) -> None:
    """Ten times the usual queue, as fast as they can: what has no room they encode themselves."""
    with OtlpReceiver(grpc=False) as receiver:
        exporter, ledger = span_exporter(receiver)
        with batching(exporter) as provider:
            burst(provider, threads, 20_480 // threads)
            assert provider.force_flush(30_000)
        assert account(ledger).lost == {}
        assert account(ledger).acknowledged == 20_480 == distinct(receiver)


def test_a_shutdown_amid_a_burst_leaves_exact_books() -> None:
    """What makers had in hand when it came is delivered or counted, like everything else."""
    with OtlpReceiver(grpc=False) as receiver:
        exporter, ledger = span_exporter(receiver)
        with batching(exporter, queue=64, batch=32) as provider:
            makers = Thread(target=burst, args=(provider, 4, 1000))
            makers.start()
            while account(ledger).made < 500:
                time.sleep(0.001)
            provider.shutdown()
            makers.join()
        found = account(ledger)
        assert found.made == 4000
        assert set(found.lost) <= {"shutdown"}
        assert found.acknowledged == 4000 - sum(found.lost.values()) == distinct(receiver)
        assert found.queued == 0


def test_a_burst_loses_nothing_with_a_spool(tmp_path: Path) -> None:
    """The receiver hangs while four threads end ten times the queue: all of it arrives later."""
    with OtlpReceiver(grpc=False) as receiver:
        receiver.keep_misbehaving(faults.hang())
        exporter, ledger = span_exporter(
            receiver, store=Spool(tmp_path), memory=200_000, timeout=1.0
        )
        with batching(exporter, queue=512, batch=128) as provider:
            burst(provider, 4, 1300)
            assert account(ledger).lost == {}
            receiver.behave()
            receiver.refuse()
            receiver.accept()
            assert provider.force_flush(15_000)
        assert account(ledger).acknowledged == 5200 == distinct(receiver)


def test_who_finds_a_full_queue_encodes_and_waits_for_nobody() -> None:
    """When the worker is stuck, makers encode up to `ahead` bytes; then spans are lost."""
    with OtlpReceiver(grpc=False) as receiver:
        exporter, ledger = span_exporter(receiver)
        with batching(exporter, queue=8, batch=8, delay=60, ahead=10_000) as provider:
            with exporter.pipe.delivery._changed:  # the worker cannot hand anything over
                make_spans(provider, 40)
                assert account(ledger).lost == {}
                started = time.monotonic()
                make_spans(provider, 400)
                assert time.monotonic() - started < 1.0
            lost = account(ledger).lost["queue_full"]
            assert 0 < lost < 400
            assert provider.force_flush(5000)
            make_spans(provider, 5)
        assert account(ledger).acknowledged == 440 - lost + 5 == distinct(receiver)


@pytest.mark.parametrize("fault", [faults.hang(), faults.drip(0.3)], ids=["hang", "drip"])
def test_shutdown_with_a_full_queue_is_bounded(fault: faults.Fault) -> None:
    """Queue, batches and attempt under way end with the budget, and are counted."""
    with OtlpReceiver(grpc=False) as receiver:
        receiver.keep_misbehaving(fault)
        exporter, ledger = span_exporter(receiver, shutdown_budget=Budget(0.7))
        with batching(exporter) as provider:
            make_spans(provider, 1500)
            started = time.monotonic()
        assert time.monotonic() - started < 0.7 + 0.5
        assert account(ledger).lost == {"shutdown": 1500}
        receiver.behave()


def test_force_flush_keeps_its_timeout() -> None:
    """The SDK's ignores it; ours returns False in time, and True once all is delivered."""
    with OtlpReceiver(grpc=False) as receiver:
        receiver.misbehave(faults.hang(0.8))
        exporter, ledger = span_exporter(receiver)
        with batching(exporter) as provider:
            make_spans(provider, 3)
            started = time.monotonic()
            assert not provider.force_flush(200)
            assert time.monotonic() - started < 0.4
            assert provider.force_flush(5000)
            assert account(ledger).acknowledged == 3


def test_spans_after_shutdown_are_lost_and_counted() -> None:
    """Nothing is raised, nothing is kept, the count is right."""
    with OtlpReceiver(grpc=False) as receiver:
        exporter, ledger = span_exporter(receiver)
        with batching(exporter) as provider:
            make_spans(provider, 2)
            provider.shutdown()
            make_spans(provider, 3)
        assert account(ledger).acknowledged == 2
        assert account(ledger).lost == {"shutdown": 3}


def test_unsampled_spans_are_not_made() -> None:
    """What the sampler left out is in no book."""
    with OtlpReceiver(grpc=False) as receiver:
        exporter, ledger = span_exporter(receiver)
        with batching(exporter, sampler=ALWAYS_OFF) as provider:
            make_spans(provider, 2)
        assert account(ledger).made == 0


def test_one_bad_span_does_not_spoil_its_batch() -> None:
    """A span that cannot be encoded is lost alone."""
    with OtlpReceiver(grpc=False) as receiver:
        exporter, ledger = span_exporter(receiver)
        with batching(exporter) as provider:
            make_spans(provider, 2)
            bad = provider.get_tracer("t").start_span("bad")
            bad.end(end_time=-1)
            make_spans(provider, 2)
        assert account(ledger).acknowledged == 4 == distinct(receiver)
        assert account(ledger).lost == {"encode_error": 1}


def test_a_defect_of_ours_ends_no_thread(caplog: pytest.LogCaptureFixture) -> None:
    """A sender that raises: its batch is counted as lost, the next one is delivered."""
    with OtlpReceiver(grpc=False) as receiver:
        exporter, ledger = span_exporter(receiver)
        sender = exporter.pipe.delivery._sender
        with batching(exporter) as provider:
            sender.send = None  # type: ignore[method-assign,assignment]
            make_spans(provider, 3)
            assert provider.force_flush(5000)
            del sender.send  # type: ignore[attr-defined]
            make_spans(provider, 2)
        assert account(ledger).lost == {"internal_error": 3}
        assert account(ledger).acknowledged == 2 == distinct(receiver)


def test_log_records_are_booked_alike() -> None:
    """Log records are batched, delivered and counted in their own book."""
    with OtlpReceiver(grpc=False) as receiver:
        ledger = Ledger()
        exporter = LedgeredLogExporter(
            endpoint=endpoint(receiver, "http/protobuf", "logs"), ledger=ledger
        )
        provider = LoggerProvider(shutdown_on_exit=False)
        provider.add_log_record_processor(LedgeredLogProcessor(exporter))
        for number in range(20):
            record = LogRecord(
                timestamp=time.time_ns(),
                body=f"line {number}",
                severity_number=SeverityNumber.INFO,
                event_name="test.line",
            )
            provider.get_logger("t").emit(record)
        assert provider.force_flush(5000)
        provider.shutdown()
        assert ledger.snapshot()["logs"].acknowledged == 20
        assert [log.body for log in receiver.logs("test.line")] == [f"line {n}" for n in range(20)]


def test_the_factories_choose_the_processor() -> None:
    """Our processors for our exporters, the SDK's for any other."""
    with OtlpReceiver(grpc=False) as receiver:
        exporter, _ = span_exporter(receiver)
        logs = LedgeredLogExporter(endpoint=endpoint(receiver, "http/protobuf", "logs"))
        ours, theirs = span_processor(exporter), span_processor(ConsoleSpanExporter())
        processors = [ours, theirs, log_processor(logs)]
        assert isinstance(ours, LedgeredSpanProcessor)
        assert isinstance(theirs, BatchSpanProcessor)
        assert isinstance(processors[2], LedgeredLogProcessor)
        for processor in processors:
            processor.shutdown()


def test_fork_with_a_full_queue_and_locks_held() -> None:
    """Parent and child go on: no deadlock, no span twice, both books exact."""
    with OtlpReceiver(grpc=False) as receiver:
        exporter, ledger = span_exporter(receiver)
        with batching(exporter, delay=60) as provider:
            make_spans(provider, 5)
            provider.force_flush(5000)
            make_spans(provider, 300)  # these wait in the parent's queue
            batcher = provider._active_span_processor._span_processors[0]._batcher
            with batcher._changed, exporter.pipe.delivery._changed, exporter.pipe.book._lock:
                child = os.fork()
            if child == 0:
                make_spans(provider, 7)
                flushed = provider.force_flush(5000)
                found = account(ledger)
                os._exit(0 if flushed and (found.made, found.acknowledged) == (7, 7) else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            make_spans(provider, 2)
        assert account(ledger).acknowledged == 307
        assert len(receiver.spans()) == 314 == distinct(receiver)


SERVER = """
import os, signal, sys, time
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from llmspell_exporters import sigterm
from llmspell_exporters.otlp import LedgeredSpanExporter
from llmspell_exporters.processors import LedgeredSpanProcessor

def goodbye(number, frame):
    print("goodbye", flush=True)
    sys.exit(3)

if "chained" in sys.argv:
    signal.signal(signal.SIGTERM, goodbye)
assert sigterm.install()
provider = TracerProvider()
provider.add_span_processor(LedgeredSpanProcessor(LedgeredSpanExporter()))
trace.set_tracer_provider(provider)
for number in range(40):
    trace.get_tracer("t").start_span("work").end()
print("ready", flush=True)
while True:
    time.sleep(0.1)
"""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [([], -signal.SIGTERM, ""), (["chained"], 3, "goodbye\n")],
    ids=["alone", "chained"],
)
def test_sigterm_flushes_and_then_does_what_it_did(
    arguments: list[str], code: int, said: str
) -> None:
    """The queue is delivered, then the previous handler runs, or the process dies of the signal."""
    with OtlpReceiver(grpc=False) as receiver:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**receiver.environment(), "PATH": "/usr/bin:/bin"},
        )
        with server:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            server.terminate()
            out, err = server.communicate(timeout=20)
        assert (server.returncode, out, err) == (code, said, "")
        assert distinct(receiver) == 40


def test_sigterm_with_a_receiver_that_hangs_is_bounded_and_says_what_is_lost() -> None:
    """The process dies of the signal within the budget, with one line about its spans."""
    with OtlpReceiver(grpc=False) as receiver:
        receiver.keep_misbehaving(faults.hang())
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **receiver.environment(),
                "PATH": "/usr/bin:/bin",
                "LLMSPELL_OTEL_SHUTDOWN_TIMEOUT": "1",
            },
        )
        with server:
            assert server.stdout is not None
            server.stdout.readline()
            started = time.monotonic()
            server.terminate()
            _, err = server.communicate(timeout=20)
        assert time.monotonic() - started < 1.0 + 0.5
        assert server.returncode == -signal.SIGTERM
        assert err == "llmspell: exported 0 of 40 spans, shutdown lost 40\n"
        receiver.behave()


AT_EXIT = textwrap.dedent("""
    import atexit
    from opentelemetry.sdk.trace import TracerProvider
    from llmspell_exporters.otlp import LedgeredSpanExporter
    from llmspell_exporters.processors import LedgeredSpanProcessor
    provider = TracerProvider()
    provider.add_span_processor(LedgeredSpanProcessor(LedgeredSpanExporter()))
    tracer = provider.get_tracer("t")
    atexit.register(lambda: tracer.start_span("at exit").end())
    class Late:
        def __del__(self):
            tracer.start_span("in a finaliser").end()
    late = Late()
    tracer.start_span("ordinary").end()
""")


def test_spans_at_exit_leave_no_traceback() -> None:
    """Spans of `atexit` handlers arrive; those of finalisers, after all is over, are counted."""
    with OtlpReceiver(grpc=False) as receiver:
        done = subprocess.run(
            [sys.executable, "-c", AT_EXIT],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            env={**receiver.environment(), "PATH": "/usr/bin:/bin"},
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert {span.name for span in receiver.spans()} == {"ordinary", "at exit"}


def test_nothing_is_traced_while_exporting() -> None:
    """Our own threads run under suppression: no span of theirs enters the pipe."""
    with OtlpReceiver(grpc=False) as receiver:
        exporter, ledger = span_exporter(receiver)
        with batching(exporter) as provider:
            make_spans(provider, 1)
            assert provider.force_flush(5000)
        assert account(ledger).made == 1
        assert not trace.get_current_span().is_recording()
