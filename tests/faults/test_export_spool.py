"""Outages, kills and full disks, with a spool: what was put by arrives, the rest is counted."""

import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from llmspell_exporters.exit_budget import Budget
from llmspell_exporters.spool import Spool
from tests.exporters.support import account, distinct, make_spans, span_exporter, tracing
from tests.kit import otlp_faults as faults
from tests.kit.otlp import OtlpReceiver


def numbers(receiver: OtlpReceiver) -> list[int]:
    """The spans as a store holds them: the first of each id, in order of arrival."""
    seen: dict[str, int] = {}
    for span in receiver.spans():
        seen.setdefault(span.span_id, span.attributes["number"])
    return list(seen.values())


def test_an_outage_is_put_by_and_replayed_in_order(tmp_path: Path) -> None:
    """Batches of an outage lie on disk, and leave it in order when the receiver is back."""
    with OtlpReceiver(grpc=False) as receiver:
        exporter, ledger = span_exporter(receiver, store=Spool(tmp_path))
        with tracing(exporter) as provider:
            receiver.refuse()
            for _ in range(4):
                make_spans(provider, 100)
                provider.force_flush()
            exporter.force_flush(100)
            assert account(ledger).spooled == 400
            assert account(ledger).queued == 0
            receiver.accept()
            make_spans(provider, 100)
            provider.force_flush()
            assert exporter.force_flush(5000)
        assert account(ledger).acknowledged == 500
        assert numbers(receiver) == [*range(100)] * 5
        assert list(tmp_path.glob("*.seg")) == []


def test_shutdown_in_an_outage_puts_everything_by_for_the_next_process(tmp_path: Path) -> None:
    """Nothing is lost: the next exporter of the directory sends it, and its books say so."""
    with OtlpReceiver(grpc=False) as receiver:
        receiver.refuse()
        program = textwrap.dedent(f"""
            from tests.exporters.support import *
            class Gone:
                http_endpoint = {receiver.http_endpoint!r}
            exporter, ledger = span_exporter(Gone)
            with tracing(exporter) as provider:
                make_spans(provider, 120)
            print(account(ledger))
        """)
        first = run(program, tmp_path)
        assert first.stdout == "0 of 120 spans, 120 spooled\n"
        receiver.accept()
        exporter, ledger = span_exporter(receiver, store=Spool(tmp_path))
        assert exporter.force_flush(5000)
        exporter.shutdown()
        found = account(ledger)
        assert (found.made, found.adopted, found.acknowledged) == (0, 120, 120)
        assert numbers(receiver) == [*range(120)]


def run(program: str, spool: Path) -> subprocess.CompletedProcess[str]:
    """Run a program with a spool directory."""
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"LLMSPELL_OTEL_SPOOL_DIR": str(spool), "PATH": "/usr/bin:/bin"},
    )


VICTIM = """
import sys
from tests.exporters.support import *
class Gone:
    http_endpoint = sys.argv[1]
exporter, ledger = span_exporter(Gone)
with tracing(exporter) as provider:
    while True:
        make_spans(provider, 50)
        provider.force_flush()
        print(account(ledger).spooled, flush=True)
"""


def test_what_was_put_by_survives_kill_9(tmp_path: Path) -> None:
    """Killed at a random moment, three times over: all that was reported as spooled arrives."""
    with OtlpReceiver(grpc=False) as receiver:
        receiver.refuse()
        promised = 0
        for _ in range(3):
            victim = subprocess.Popen(
                [sys.executable, "-c", VICTIM, receiver.http_endpoint],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={"LLMSPELL_OTEL_SPOOL_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
            )
            assert victim.stdout is not None
            lines = [victim.stdout.readline() for _ in range(20)]
            victim.send_signal(signal.SIGKILL)
            lines += victim.stdout.readlines()
            victim.wait()
            victim.stdout.close()
            # Each victim has taken over what those before it had left.
            promised = max(int(line) for line in lines if line.endswith("\n"))
        receiver.accept()
        exporter, ledger = span_exporter(receiver, store=Spool(tmp_path))
        assert exporter.force_flush(20_000)
        exporter.shutdown()
        found = account(ledger)
        assert found.adopted == found.acknowledged >= promised > 2000
        assert distinct(receiver) == found.adopted


def test_processes_share_a_directory(tmp_path: Path) -> None:
    """Three processes in one outage, two of which die: nothing is corrupted or sent twice."""
    with OtlpReceiver(grpc=False) as receiver:
        receiver.refuse()
        exporter, ledger = span_exporter(receiver, store=Spool(tmp_path))
        with tracing(exporter) as provider:
            make_spans(provider, 30)
            provider.force_flush()
            program = VICTIM.replace("while True:", "for _ in range(3):")
            for _ in range(2):
                run(program.replace("sys.argv[1]", repr(receiver.http_endpoint)), tmp_path)
            receiver.accept()
            other, others = span_exporter(receiver, store=Spool(tmp_path))
            assert other.force_flush(5000)
            assert exporter.force_flush(5000)
            other.shutdown()
        assert account(ledger).acknowledged == 30
        assert account(others).acknowledged == 300
        assert len(receiver.spans()) == 330 == distinct(receiver)


def test_a_full_disk_is_counted_and_passes(tmp_path: Path) -> None:
    """No room on disk: memory bridges what it can, the rest is lost and counted; then it heals."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with OtlpReceiver(grpc=False) as receiver:
        receiver.refuse()
        exporter, ledger = span_exporter(receiver, store=Spool(tmp_path), memory=60_000)
        with tracing(exporter) as provider:
            resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
            try:
                for _ in range(10):
                    make_spans(provider, 100)
                    provider.force_flush()
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            full = account(ledger)
            assert full.spooled > 0 < full.queued
            assert full.lost == {"backlog_full": 1000 - full.spooled - full.queued}
            make_spans(provider, 100)  # there is room again
            provider.force_flush()
            assert account(ledger).spooled > full.spooled
            receiver.accept()
            assert exporter.force_flush(5000)
        kept = full.spooled + full.queued + 100
        assert account(ledger).acknowledged == kept == distinct(receiver)


def test_a_damaged_batch_is_lost_alone(tmp_path: Path) -> None:
    """A bit flips on the disk: the batch is counted as lost, those around it arrive."""
    with OtlpReceiver(grpc=False) as receiver:
        receiver.refuse()
        exporter, ledger = span_exporter(receiver, store=Spool(tmp_path))
        with tracing(exporter) as provider:
            for count in (10, 7, 10):
                make_spans(provider, count)
                provider.force_flush()
            exporter.force_flush(100)
            assert account(ledger).spooled == 27
            frames = [parcel.place for parcel in exporter.pipe.delivery._pending]
            with frames[1].path.open("r+b") as file:
                file.seek(frames[1].offset + 40)
                file.write(b"\xff\xff\xff")
            receiver.accept()
            assert exporter.force_flush(5000)
        assert account(ledger).lost == {"spool_damaged": 7}
        assert account(ledger).acknowledged == 20 == distinct(receiver)


def test_a_spool_directory_that_vanishes_is_counted(tmp_path: Path) -> None:
    """Somebody removes the directory in an outage: what lay there is lost and counted."""
    folder = tmp_path / "spool"
    with OtlpReceiver(grpc=False) as receiver:
        receiver.refuse()
        exporter, ledger = span_exporter(receiver, store=Spool(folder))
        with tracing(exporter) as provider:
            make_spans(provider, 10)
            provider.force_flush()
            make_spans(provider, 10)
            provider.force_flush()
            shutil.rmtree(folder)
            receiver.accept()
            assert exporter.force_flush(5000)
            make_spans(provider, 5)
            provider.force_flush()
            assert exporter.force_flush(5000)
        found = account(ledger)
        assert found.lost == {"spool_damaged": 20}
        assert found.acknowledged == 5 == distinct(receiver)


def test_a_directory_that_cannot_be_used_harms_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file where the directory should be: one warning, and export goes on from memory."""
    (tmp_path / "file").write_text("")
    with OtlpReceiver(grpc=False) as receiver:
        receiver.misbehave(faults.error(503))
        exporter, ledger = span_exporter(receiver, store=Spool(tmp_path / "file" / "spool"))
        with tracing(exporter) as provider:
            make_spans(provider, 10)
            provider.force_flush()
            assert exporter.force_flush(5000)
        assert account(ledger).acknowledged == 10 == distinct(receiver)
    assert sum("spool cannot be" in record.message for record in caplog.records) <= 1


def test_with_a_spool_a_shutdown_does_not_wait_for_the_budget(tmp_path: Path) -> None:
    """One refused attempt is enough to know: everything is safe on disk."""
    with OtlpReceiver(grpc=False) as receiver:
        receiver.refuse()
        exporter, ledger = span_exporter(
            receiver, store=Spool(tmp_path), shutdown_budget=Budget(5.0)
        )
        exporter.pipe.book.make(1)
        exporter.pipe.delivery.submit(b"", 1)
        started = time.monotonic()
        exporter.shutdown()
        assert time.monotonic() - started < 1.0
        assert account(ledger).spooled == 1
