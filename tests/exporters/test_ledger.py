"""The books of exported records."""

import os
import subprocess
import sys
import textwrap
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from llmspell_exporters.ledger import Account, Book, Held, Ledger, Signal


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5))))
def test_books_balance_whatever_is_entered(moves: list[tuple[int, int]]) -> None:
    """No order of entries, however senseless, makes a record appear or vanish."""
    book = Book(Signal.TRACES)
    for kind, count in moves:
        (
            book.make,
            book.adopt,
            book.spool,
            book.acknowledge,
            lambda n: book.acknowledge(n, Held.SPOOLED),
            lambda n: book.reject(n, "http_400", held=Held.SPOOLED),
            lambda n: book.lose(n, "queue_full"),
        )[kind](count)
        assert book.account().balanced


def test_books_balance_at_every_moment_under_threads() -> None:
    """A reader among eight writers never sees a record between two places."""
    book = Book(Signal.LOGS)

    def write() -> None:
        for _ in range(2000):
            book.make(3)
            book.spool(1)
            book.acknowledge(1)
            book.lose(1, "queue_full")

    writers = [Thread(target=write) for _ in range(8)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert book.account().balanced
    account = book.account()
    assert (account.made, account.spooled, account.acknowledged) == (48000, 16000, 16000)
    assert account.lost == {"queue_full": 16000}


def test_unbalanced_books_are_told() -> None:
    """`balanced` can be False: it is computed, not promised."""
    assert not Account(signal=Signal.TRACES, made=2, acknowledged=1).balanced


def test_a_snapshot_cannot_be_changed() -> None:
    """What was read stays as it was read."""
    ledger = Ledger()
    ledger.book(Signal.TRACES).make(1)
    ledger.book(Signal.TRACES).lose(1, "shutdown")
    account = ledger.snapshot()["traces"]
    with pytest.raises(AttributeError):
        account.made = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        account.lost["shutdown"] = 5  # type: ignore[index]
    ledger.book(Signal.TRACES).make(1)
    assert account.made == 1


def test_one_line_says_what_did_not_arrive() -> None:
    """The line names counts and reasons, and only the signals that fell short."""
    ledger = Ledger()
    assert ledger.snapshot().losses() is None
    ledger.book(Signal.LOGS).make(1)
    ledger.book(Signal.LOGS).acknowledge(1)
    book = ledger.book(Signal.TRACES)
    book.make(12)
    book.acknowledge(7)
    book.lose(3, "queue_full")
    book.reject(2, "http_400", "no")
    assert ledger.snapshot().losses() == (
        "exported 7 of 12 spans, http_400 rejected 2, queue_full lost 3"
    )
    assert ledger.snapshot()["traces"].messages == {"http_400": "no"}


def test_the_books_are_metrics() -> None:
    """Made, settled by outcome and reason, and pending by state; once per ledger."""
    ledger, reader = Ledger(), InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    ledger.observe(provider)
    ledger.observe(provider)
    book = ledger.book(Signal.TRACES)
    book.make(10)
    book.spool(2)
    book.acknowledge(4)
    book.lose(3, "queue_full")
    data = reader.get_metrics_data()
    assert data is not None
    points = {
        (metric.name, *sorted(point.attributes.values())): point.value
        for scope in data.resource_metrics[0].scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
        if point.attributes["llmspell.export.signal"] == "traces"
    }
    provider.shutdown()
    assert points == {
        ("llmspell.export.made", "traces"): 10,
        ("llmspell.export.records", "acknowledged", "traces"): 4,
        ("llmspell.export.records", "lost", "queue_full", "traces"): 3,
        ("llmspell.export.pending", "queued", "traces"): 1,
        ("llmspell.export.pending", "spooled", "traces"): 2,
    }


def test_a_forked_child_starts_at_zero() -> None:
    """The parent's records are the parent's, even if it forks while a book is locked."""
    ledger = Ledger()
    book = ledger.book(Signal.TRACES)
    book.make(5)
    with book._lock:
        child = os.fork()
        if child == 0:
            book.make(1)
            os._exit(book.account().made)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 1
    assert book.account().made == 5


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("book.lose(2, 'queue_full')", "llmspell: exported 0 of 2 spans, queue_full lost 2\n"),
        ("book.acknowledge(2)", ""),
        ("book.lose(2, 'shutdown'); sys.stderr.close()", ""),
    ],
    ids=["lost", "nothing lost", "no stderr"],
)
def test_a_loss_is_said_at_exit(entry: str, expected: str) -> None:
    """One line on stderr if something was lost, none otherwise, and no traceback in any case."""
    program = textwrap.dedent(f"""
        import sys
        from llmspell_exporters.ledger import ledger, Signal
        book = ledger.book(Signal.TRACES)
        book.make(2)
        {entry}
    """)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stderr == expected
