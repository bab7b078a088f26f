"""The worker: exact books, bounded waits, forks, and the end of the process."""

import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import context

from llmspell_otel.telemetry.worker import Books, Worker
from tests.telemetry.support import Call, Event

EVENT = Call().ended()

Make = Callable[..., Worker]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes workers that end with the test."""
    made: list[Worker] = []

    def build(process: Callable[[Any], None], **options: Any) -> Worker:
        made.append(Worker(process, **options))
        return made[-1]

    yield build
    for worker in made:
        worker.close(5)


def balanced(books: Books) -> bool:
    """Whether nothing is missing from *books*."""
    return books.offered == books.processed + books.dropped + books.queued


def test_everything_offered_is_processed_in_order(make: Make) -> None:
    """On one thread, which is not the caller's."""
    seen: list[int] = []
    threads: set[str] = set()

    def process(event: Event) -> None:
        seen.append(event.timestamp)
        threads.add(threading.current_thread().name)

    worker = make(process)
    for number in range(1000):
        assert worker.offer(Call(start=number, seconds=0).ended())
    assert worker.flush(10)
    assert seen == list(range(1000))
    assert threads == {"llmspell-telemetry"}
    assert worker.books == Books(
        offered=1000,
        processed=1000,
        failed=0,
        dropped_full=0,
        dropped_closed=0,
        queued=0,
        capacity=8192,
    )


def test_a_full_queue_drops_and_says_so_once(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Offering never waits; one message when it fills, one when there is room again."""
    gate = threading.Event()
    worker = make(lambda _: gate.wait(10), capacity=10)
    with caplog.at_level(logging.INFO, "llmspell_otel.telemetry.worker"):
        began = time.perf_counter()
        taken = [worker.offer(EVENT) for _ in range(100)]
        assert time.perf_counter() - began < 1
        assert sum(taken) == 10
        books = worker.books
        assert (books.dropped_full, books.queued) == (90, 10)
        assert balanced(books)
        gate.set()
        assert worker.flush(10)
        assert worker.offer(EVENT)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_the_books_balance_at_every_moment(make: Make) -> None:
    """Eight threads offering, a reader looking all the while."""
    worker = make(lambda _: time.sleep(0.00005), capacity=50)
    done = threading.Event()
    wrong: list[Books] = []

    def look() -> None:
        while not done.is_set():
            books = worker.books
            if not balanced(books):
                wrong.append(books)

    def offer() -> None:
        for _ in range(500):
            worker.offer(EVENT)

    reader = threading.Thread(target=look)
    writers = [threading.Thread(target=offer) for _ in range(8)]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    assert worker.flush(10)
    done.set()
    reader.join()
    assert wrong == []
    assert worker.books.offered == 4000
    assert worker.books.processed + worker.books.dropped == 4000


def test_failures_are_contained_and_counted(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """The events behind a bad one are processed; the log holds one traceback, not a hundred."""

    def process(event: Event) -> None:
        if event.timestamp % 2:
            raise ValueError

    worker = make(process)
    for number in range(100):
        worker.offer(Call(start=number, seconds=0).ended())
    assert worker.flush(10)
    assert (worker.books.processed, worker.books.failed) == (100, 50)
    assert len([record for record in caplog.records if record.exc_info]) == 1


def test_flush_and_close_are_bounded(make: Make) -> None:
    """A back end that hangs costs the timeout, and the books say what was not processed."""
    gate = threading.Event()
    worker = make(lambda _: gate.wait(30))
    for _ in range(5):
        worker.offer(EVENT)
    began = time.perf_counter()
    assert not worker.flush(0.2)
    assert not worker.close(0.2)
    assert time.perf_counter() - began < 2
    assert balanced(worker.books)
    assert worker.books.dropped_closed == 4
    gate.set()
    assert not worker.offer(EVENT)
    assert balanced(worker.books)


def test_closing_twice_is_closing_once(make: Make) -> None:
    """And closing what never began does nothing."""
    worker = make(lambda _: None)
    assert worker.close(1)
    assert worker.close(1)


def test_flushing_from_the_worker_itself_does_not_hang(make: Make) -> None:
    """It cannot wait for itself."""
    answers: list[bool] = []
    worker = make(lambda _: answers.append(worker.flush(5)))
    worker.offer(EVENT)
    assert worker.flush(5)
    assert answers == [False]


def test_the_work_is_suppressed(make: Make) -> None:
    """Exporters' own calls are not observed as calls of the application."""
    seen: list[Any] = []
    worker = make(lambda _: seen.append(context.get_value("suppress_instrumentation")))
    worker.offer(EVENT)
    assert worker.flush(5)
    assert seen == [True]


def test_offering_while_offering(make: Make) -> None:
    """A stream that is collected in the middle of an offer ends there and then."""
    worker = make(lambda _: None)
    with worker._lock:
        worker.offer(EVENT)
    assert worker.flush(5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_begins_anew(make: Make) -> None:
    """Empty queue, empty books, a thread of its own; the parent loses nothing."""
    gate = threading.Event()
    worker = make(lambda _: gate.wait(10))
    for _ in range(3):
        worker.offer(EVENT)
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        before = worker.books
        gate.set()
        worker.offer(EVENT)
        flushed = worker.flush(5)
        fine = before.offered == before.queued == 0 and flushed and worker.books.processed == 1
        os.write(write, b"fine" if fine else repr((before, worker.books)).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 1000) == b"fine"
    assert worker.books.queued == 3
    gate.set()
    assert worker.flush(5)
    assert worker.books.processed == 3


PROLOGUE = """
import sys, os
from opentelemetry import trace, metrics, _logs
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader, ConsoleMetricExporter
from llmspell_otel.telemetry.pipeline import Telemetry
from llmspell_otel.telemetry.prices import default_prices
from tests.telemetry.support import Call

def configure():
    exporter = ConsoleMetricExporter(formatter=lambda data: "".join(
        f"{m.name} {p.count}\\n" for r in data.resource_metrics for s in r.scope_metrics
        for m in s.metrics for p in m.data.data_points if hasattr(p, "count")))
    metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(exporter, 60000)]))
    trace.set_tracer_provider(TracerProvider())

def work(telemetry, n):
    for number in range(n):
        call = Call(operation=f"{number + 1:016x}")
        telemetry.bridge.start(call.started())
        telemetry.end(call.ended())
"""


@pytest.mark.parametrize(
    "script",
    [
        "configure(); t = Telemetry(); work(t, 500)",
        "t = Telemetry(); configure(); work(t, 500)",
        "t = Telemetry(prices=default_prices()); work(t, 1); configure(); work(t, 500)",
        "configure(); t = Telemetry(); work(t, 500); sys.exit(3)",
        "configure(); t = Telemetry(); work(t, 500); raise KeyboardInterrupt",
    ],
    ids=["providers first", "telemetry first", "providers late", "exit", "interrupt"],
)
def test_a_script_that_calls_nothing_at_its_end_loses_nothing(script: str) -> None:
    """Whatever the order of set-up, the queue is worked off before the providers shut down."""
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROLOGUE) + script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    counts = [line for line in ended.stdout.splitlines() if "inference.duration" in line]
    wanted = {"gen_ai.client.inference.duration 500", "gen_ai.client.inference.duration 501"}
    assert counts, ended.stderr
    assert wanted & set(counts), (counts, ended.stderr)


def test_a_hanging_back_end_does_not_hold_the_process(tmp_path: Any) -> None:
    """The end of the process waits for a bounded time."""
    script = """
    import time, threading
    from llmspell_otel.telemetry import worker
    from tests.telemetry.support import Call
    worker.EXIT_TIMEOUT = 0.3
    w = worker.Worker(lambda event: threading.Event().wait())
    w.offer(Call().ended())
    time.sleep(0.2)
    """
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], timeout=30, check=True)
    assert time.perf_counter() - began < 10
