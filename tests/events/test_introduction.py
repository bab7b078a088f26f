"""What a journal keeps of the process that writes: told with its events, and anew where needed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmspell_otel.events import make
from llmspell_otel.events.introduction import RESOURCE, introduce
from llmspell_otel.events.journal import Journal
from llmspell_otel.events.store import writer

Known = dict[str, Any]


@pytest.fixture
def known() -> Iterator[list[Known | None]]:
    """What telemetry says of the process, last; the test may add."""
    said: list[Known | None] = [None]
    introduce(lambda: said[-1])
    yield said
    introduce(lambda: None)


def told(journal: Journal) -> list[Known]:
    """What the journal was told, in order."""
    return [event.data for event in journal.query(RESOURCE)]


def work(journal: Journal, count: int = 1, size: int = 1) -> None:
    """Have *count* events of some *size* committed."""
    for _ in range(count):
        assert journal.append(make("tool:done", "x" * size))
    assert journal.flush()


def test_nothing_is_told_while_nothing_is_known(tmp_path: Path, known: list[Known | None]) -> None:
    """A journal without telemetry keeps events, and no more."""
    journal = Journal(tmp_path)
    work(journal)
    assert told(journal) == []
    known.append({"attributes": {"service.name": "desk"}})
    work(journal)
    assert told(journal) == [{"attributes": {"service.name": "desk"}}]
    journal.close()


def test_it_is_told_before_the_first_event_and_once(
    tmp_path: Path, known: list[Known | None]
) -> None:
    """By the same origin as the events, however often they are committed."""
    known.append({"content": "NO_CONTENT"})
    journal = Journal(tmp_path)
    for _ in range(3):
        work(journal)
    first, *others = journal.query()
    assert first.event_type == RESOURCE
    assert {event.event_type for event in others} == {"tool:done"}
    assert {event.origin for event in others} == {first.origin}
    journal.close()


def test_what_changes_is_told_again(tmp_path: Path, known: list[Known | None]) -> None:
    """A process may learn more of itself."""
    journal = Journal(tmp_path)
    for number in range(3):
        known.append({"attributes": {"number": number}})
        work(journal)
    assert told(journal) == known[1:]
    journal.close()


def test_every_file_of_the_log_tells_it(
    tmp_path: Path, known: list[Known | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retention forgets the oldest: what it keeps of a long run is still introduced."""
    monkeypatch.setattr(writer, "SEGMENT_BYTES", 10_000)
    known.append({"attributes": {"service.name": "desk"}})
    journal = Journal(tmp_path)
    for _ in range(5):
        work(journal, count=20, size=1_000)
    assert len(told(journal)) == 5
    journal.close()


def test_the_books_do_not_count_it(tmp_path: Path, known: list[Known | None]) -> None:
    """Nobody gave it to the journal; and it does not seem to lag behind."""
    known.append({"attributes": {}})
    journal = Journal(tmp_path)
    work(journal, count=10)
    assert journal.catch_up()
    stats = journal.stats
    assert (stats.accepted, stats.committed, stats.dropped, stats.lag) == (10, 10, 0, 0)
    assert journal.summary()["types"] == {RESOURCE: 1, "tool:done": 10}
    journal.close()
