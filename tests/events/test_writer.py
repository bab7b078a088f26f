"""What is on its way to the log: batches, books at every moment, threads, signals, the end."""

import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from llmspell_otel.events import make
from llmspell_otel.events.journal import Journal
from llmspell_otel.events.store import writer
from tests.events.kit import eventually
from tests.events.test_journal import fill, numbers


def test_the_books_balance_at_every_moment(tmp_path: Path) -> None:
    """Eight threads publish at once; each one's order is kept, and nothing is lost or twice."""
    journal, done = Journal(tmp_path, interval=0.001), threading.Event()

    def work(name: str) -> None:
        fill(journal, 4_000, correlation_id=name)

    threads = [threading.Thread(target=work, args=(f"thread-{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    before = 0
    while not done.is_set():
        if not any(thread.is_alive() for thread in threads):
            done.set()
        stats = journal.stats
        assert stats.accepted == stats.committed + stats.dropped + stats.waiting
        assert stats.accepted >= before
        before = stats.accepted
    assert journal.flush(30)
    stats = journal.stats
    assert (stats.accepted, stats.committed, stats.waiting) == (32_000, 32_000, 0)
    for n in range(8):
        assert numbers(journal.query(correlation_id=f"thread-{n}")) == list(range(4_000))
    journal.close()


def test_books_balance_while_events_are_dropped(tmp_path: Path) -> None:
    """Four threads publish into too little room: every event is committed or counted as lost."""
    journal = Journal(tmp_path, interval=0.001, max_waiting_bytes=20_000)
    threads = [threading.Thread(target=fill, args=(journal, 5_000)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.flush(30)
    stats = journal.stats
    assert stats.accepted == 20_000 == stats.committed + stats.dropped
    assert len(list(journal.query("n"))) == stats.committed
    journal.close()


def test_an_event_is_told_to_be_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While there is no room, at once; when there is again, it is accepted."""
    journal = Journal(tmp_path, max_waiting_bytes=5_000)
    with monkeypatch.context() as patch:
        patch.setattr(journal._writer, "_round", lambda: time.sleep(0.001))
        answers = [journal.append(make("n", number)) for number in range(1_000)]
        assert answers[0] is True
        assert answers[-1] is False
        assert sorted(answers, reverse=True) == answers
    assert journal.flush(10)
    assert journal.append(make("n", "more"))
    assert numbers(journal.query("n"))[-1] == "more"
    stats = journal.stats
    assert stats.dropped > answers.count(False) - writer.BATCH
    journal.close()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer's signal")
def test_a_signals_handler_may_publish(tmp_path: Path) -> None:
    """It interrupts publishers anywhere, in the middle of a batch too, and waits for nobody."""
    journal, rung = Journal(tmp_path), list[int]()

    def ring(*_: Any) -> None:
        rung.append(len(rung))
        for number in range(100):
            journal.append(make("rung", number))
        signal.setitimer(signal.ITIMER_REAL, 0.001)

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    try:
        fill(journal, 50_000)
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert journal.flush(30)
    assert numbers(journal.query("n")) == list(range(50_000))
    assert journal.summary()["types"]["rung"] == 100 * len(rung) > 100
    journal.close()


def test_much_does_not_wait_for_a_long_interval(tmp_path: Path) -> None:
    """It is committed as soon as a quarter of the room is taken."""
    journal = Journal(tmp_path, interval=600, max_waiting_bytes=4_000_000)
    for number in range(1_600):
        journal.append(make("n", [number, "x" * 1_000]))
    assert eventually(lambda: journal.stats.committed > 500)
    assert journal.stats.dropped == 0
    journal.close()
    assert journal.stats.committed == 1_600


def test_without_a_thread_the_end_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As at the end of the interpreter, which starts no thread any more."""

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    journal = Journal(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        patch.setattr(journal._writer, "after_commit", lambda: None)
        fill(journal, 200)
        assert journal.stats.waiting == 200
        journal.close()
    assert journal.stats.committed == 200
    again = Journal(tmp_path)
    assert numbers(again.query()) == list(range(200))
    again.close()


def test_a_thread_comes_when_the_system_has_one_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That there was none for a while loses nothing."""
    journal = Journal(tmp_path, interval=0.001)
    with monkeypatch.context() as patch:
        patch.setattr(journal._writer, "_hire", journal._writer._hiring.release)
        fill(journal, 100)
    journal.append(make("n", 100))
    assert eventually(lambda: journal.stats.committed == 101)
    journal.close()


def test_a_quiet_publisher_is_heard_every_time(tmp_path: Path) -> None:
    """One event now and then, whenever the thread has just gone to sleep or not."""
    journal = Journal(tmp_path, interval=0.0001)
    for number in range(500):
        journal.append(make("n", number))
        time.sleep(0.0001 * (number % 7))
        if number % 50 == 0:
            assert eventually(lambda: journal.stats.waiting == 0)
    assert eventually(lambda: journal.stats.committed == 500)
    journal.close()


def test_data_that_is_changed_meanwhile_harms_nobody_else(tmp_path: Path) -> None:
    """It is not to be, but who does it spoils no other event, and the books are exact."""
    journal, shared, done = Journal(tmp_path, interval=0.001), dict[int, int](), threading.Event()

    def change() -> None:
        while not done.is_set():
            for number in range(200):
                shared[number] = number
            shared.clear()

    thread = threading.Thread(target=change)
    thread.start()
    for number in range(5_000):
        journal.append(make("shared", {"it": shared}))
        journal.append(make("n", number))
    done.set()
    thread.join()
    assert journal.flush(30)
    assert numbers(journal.query("n")) == list(range(5_000))
    stats = journal.stats
    assert journal.summary()["types"]["shared"] == 5_000 - stats.dropped
    assert stats.dropped == 0
    journal.close()
