"""The books on disk: whole at every moment, whosever process it is, and not for ever."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmspell_exporters import books
from llmspell_exporters.books import Keeper, kept
from llmspell_exporters.ledger import Ledger, Signal


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where books are kept, which are looked at often."""
    monkeypatch.setenv("LLMSPELL_OTEL_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(books, "EVERY", 0.005)
    return tmp_path


@pytest.fixture
def keeper(folder: Path, ledger: Ledger) -> Iterator[Keeper]:
    """What keeps them there."""
    assert folder
    one = Keeper(ledger)
    one.start()
    yield one
    one.end()


@pytest.fixture
def ledger() -> Ledger:
    """A ledger of the test's own."""
    return Ledger()


def read(folder: Path, seconds: float = 30.0) -> list[books.Books]:
    """The books in *folder*, as soon as there are any."""
    deadline = time.monotonic() + seconds
    while not (found := kept(folder)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


@pytest.mark.usefixtures("keeper")
def test_a_reader_never_sees_half_of_a_change(folder: Path, ledger: Ledger) -> None:
    """Books that grow and change while they are read are whole and balanced, each time."""
    book = ledger.book(Signal.TRACES)
    book.make(1)
    assert read(folder)
    for number in range(300):
        book.make(2)
        book.reject(1, f"http_{400 + number % 100}", "x" * (number % 150))
        (found,) = kept(folder)
        assert all(account.balanced for account in found.accounts)
        assert found.alive
    last = book.account()
    deadline = time.monotonic() + 5
    while kept(folder)[0].accounts[0] != last and time.monotonic() < deadline:
        time.sleep(0.01)
    assert kept(folder)[0].accounts[0] == last


@pytest.mark.usefixtures("keeper")
def test_nothing_made_nothing_written(folder: Path, ledger: Ledger) -> None:
    """A program that exports nothing leaves no file."""
    time.sleep(0.1)
    assert list(folder.iterdir()) == []


def test_a_forked_child_has_books_of_its_own(folder: Path, ledger: Ledger, keeper: Keeper) -> None:
    """The child's are another file; its end does not make the parent look dead."""
    ledger.book(Signal.TRACES).make(5)
    assert read(folder)
    child = os.fork()
    if child == 0:
        keeper.start()
        ledger.book(Signal.TRACES).make(1)
        deadline = time.monotonic() + 5
        while len(kept(folder)) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        os._exit(0)
    os.waitpid(child, 0)
    found = {one.pid: one for one in kept(folder)}
    assert {pid: one.accounts[0].made for pid, one in found.items()} == {os.getpid(): 5, child: 1}
    assert {pid: one.alive for pid, one in found.items()} == {os.getpid(): True, child: False}


@pytest.mark.usefixtures("keeper")
def test_old_books_go_when_new_ones_come(folder: Path, ledger: Ledger) -> None:
    """After a day, and beyond 64, but never those of a process that lives."""
    now = time.time()
    for number in range(80):
        path = folder / f"{number:020d}-1-a.books"
        path.touch()
        os.utime(path, (now, now - (90_000 if number >= 70 else 0)))
    ledger.book(Signal.TRACES).make(1)
    assert read(folder)
    # Of the latest 64 that were there, ten were too old.
    assert len(list(folder.glob("*.books"))) == 64 - 10 + 1


@pytest.mark.usefixtures("keeper")
def test_only_the_owner_can_read_them(folder: Path, ledger: Ledger) -> None:
    """The receiver's words are in them."""
    ledger.book(Signal.TRACES).make(1)
    assert read(folder)
    assert [path.stat().st_mode & 0o777 for path in folder.glob("*.books")] == [0o600]


def test_somebody_elses_folder_is_not_written_to(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name under the temporary folder may have been taken by another user's link."""
    monkeypatch.delenv("LLMSPELL_OTEL_STATE_DIR")
    monkeypatch.delenv("LLMSPELL_OTEL_SPOOL_DIR", raising=False)
    monkeypatch.setattr(books.tempfile, "gettempdir", lambda: str(folder))
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (folder / f"llmspell-otel-{os.getuid()}").symlink_to(elsewhere)
    one = Ledger()
    one.book(Signal.TRACES).make(1)
    keeper = Keeper(one)
    keeper.start()
    keeper.end()
    assert list(elsewhere.iterdir()) == []
