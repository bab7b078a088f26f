"""The journal: keeps events on disk, across crashes, and answers questions about them.

Publishers collect events and encode them by batches; a writer thread appends blocks of them to a
log: that is the commit. A second thread takes the log into a SQLite database, which queries read.
"""

import logging
import sqlite3
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import compress, islice
from pathlib import Path
from time import monotonic, time_ns
from typing import Any, Literal, get_args

from llmspell_otel.errors import EventError, JournalError
from llmspell_otel.events.bus import EventBus, at_last
from llmspell_otel.events.codec import decode
from llmspell_otel.events.event import UniversalEvent, make
from llmspell_otel.events.forks import in_child
from llmspell_otel.events.payload import MAX_BYTES
from llmspell_otel.events.router import Pattern
from llmspell_otel.events.store.conditions import Conditions, meets
from llmspell_otel.events.store.identity import marks
from llmspell_otel.events.store.index import Index, Run
from llmspell_otel.events.store.indexer import Indexer
from llmspell_otel.events.store.log import SUFFIX
from llmspell_otel.events.store.query import Query
from llmspell_otel.events.store.questions import Questions, unreadable
from llmspell_otel.events.store.writer import LogWriter
from llmspell_otel.events.subscription import Subscription

_logger = logging.getLogger("llmspell_otel.events")

Mode = Literal["process", "power"]
OWN_EVENTS = "journal:*"
_DAY = 86_400
_PATIENCE = 5.0  # seconds that a question waits for the disk to take what was published

_journals: "weakref.WeakSet[Journal]" = weakref.WeakSet()


@dataclass(frozen=True, slots=True)
class Retention:
    """How long events are kept.

    Attributes:
        max_age: Seconds; None for ever.
        max_events: The latest so many; None for all.
    """

    max_age: float | None = 7 * _DAY
    max_events: int | None = 1_000_000


@dataclass(frozen=True, slots=True)
class JournalStats:
    """The books of a journal. Always `accepted == committed + dropped + waiting`.

    Attributes:
        accepted: Events that were given to it.
        committed: Events in the log.
        dropped: Events given up, because the disk took nothing, or too little, for too long.
        waiting: Events in memory, not yet in the log.
        lag: Events in the log that the database has not yet; queries find them in the log.
        damaged: Bytes of the log that could not be read, since this journal was opened.
        losing: Whether the disk takes nothing at the moment, or less than comes.
    """

    accepted: int
    committed: int
    dropped: int
    waiting: int
    lag: int
    damaged: int
    losing: bool


class Journal:
    """Keeps events in a folder.

    Args:
        path: The folder; it is made if it is not there. Several processes may share it.
        mode: What a committed event survives: `process`, the death of the process; `power`, a
            power cut too.
        interval: Seconds between two commits. That much may be lost when the process is killed;
            `flush` commits at once.
        retention: How long events are kept.
        max_event_bytes: Data of larger events is cut, with a marker.
        max_waiting_bytes: What may wait in memory while the disk takes nothing, or too little.

    Raises:
        JournalError: the folder cannot be used.
    """

    def __init__(  # noqa: PLR0913 - settings, all keyword-only
        self,
        path: str | Path,
        *,
        mode: Mode = "process",
        interval: float = 0.05,
        retention: Retention | None = None,
        max_event_bytes: int = MAX_BYTES,
        max_waiting_bytes: int = 64 * MAX_BYTES,
    ) -> None:
        if mode not in get_args(Mode):
            raise JournalError(str(path), f"has mode {mode!r}", "say 'process' or 'power'")
        self.path = Path(path)
        self.retention = retention or Retention()
        self._index = Index(self.path, durable=mode == "power")
        self._open()
        self._bus: EventBus | None = None
        self._writer = LogWriter(
            self.path,
            durable=mode == "power",
            interval=interval,
            event_limit=max_event_bytes,
            limit=max_waiting_bytes,
            tell=self._tell,
        )
        self._indexer = Indexer(self.path, self._index, self._writer, self._expire, self._tell)
        self._questions = Questions(self.path, self._index, self._indexer.damaged)
        self._writer.after_commit = self._indexer.nudge
        if any(self.path.glob(f"*{SUFFIX}")):
            self._indexer.nudge()  # somebody left something
        _journals.add(self)

    def attach(self, bus: EventBus, patterns: str | tuple[str, ...] = "**") -> Subscription:
        """Keep every event on *bus* that matches *patterns*.

        Raises:
            PatternError: a pattern is not in the grammar.
        """
        self._bus, bus.journal = bus, self
        return bus.subscribe(
            patterns, self._writer.append, name=f"journal {self.path.name}", max_errors=None
        )

    def append(self, event: UniversalEvent) -> bool:
        """Keep *event*; tell whether it was accepted. It is committed within the interval."""
        return self._writer.append(event)

    def flush(self, timeout: float = 5.0) -> bool:
        """Commit everything accepted so far; tell whether that was done in *timeout* seconds."""
        return self._writer.flush(timeout)

    def query(  # noqa: PLR0913 - conditions, all keyword-only
        self,
        *patterns: str,
        correlation_id: str | None = None,
        since: int | datetime | None = None,
        until: int | datetime | None = None,
        where: Conditions | None = None,
        limit: int | None = None,
        newest_first: bool = False,
        after: int | None = None,
    ) -> Iterator[UniversalEvent]:
        """Every kept event that meets all conditions, in the order of arrival.

        Args:
            patterns: One of them matches the type; none asks for all types.
            correlation_id: The run they belong to.
            since: Not before this time; nanoseconds since the Unix epoch, or a datetime.
            until: Before this time.
            where: Conditions on fields: `{"data.amount": (">=", 500), "source": "desk"}`.
            limit: At most so many.
            newest_first: The latest arrivals first.
            after: Arrived after this position.

        Raises:
            PatternError: a pattern is not in the grammar.
            EventError: a condition has an unknown operator.
            JournalError: the database cannot be read.
        """
        for text in patterns:
            Pattern(text)
        asked = Query(
            patterns, correlation_id, _nanoseconds(since), _nanoseconds(until), after, newest_first
        )
        return self._events(asked, where, limit)

    def positions(self, query: Query) -> Iterator[tuple[int, UniversalEvent]]:
        """The events of *query*, each with its position, which the database gives.

        It waits until the database has taken in the log, at most half a minute.

        Raises:
            JournalError: the database cannot be read.
        """
        self.catch_up()
        return ((position, decode(body)) for position, body in self._questions.positions(query))

    def follow(self, *patterns: str, latest: int = 10) -> Iterator[list[UniversalEvent]]:
        """First the *latest* events, then, whenever asked, those that have come since.

        Raises:
            PatternError: a pattern is not in the grammar.
            JournalError: the database cannot be read.
        """
        for text in patterns:
            Pattern(text)
        return self._follow(patterns, latest)

    def summary(self) -> dict[str, Any]:
        """How many events are kept, of which types, from when to when.

        Raises:
            JournalError: the database cannot be read.
        """
        self._commit()
        return self._questions.summary()

    def runs(self, limit: int = 20, beginning: str = "") -> list[Run]:
        """The latest runs, by their correlation id's *beginning*: id, number of events, first time.

        Raises:
            JournalError: the database cannot be read.
        """
        self._commit()
        return self._questions.runs(limit, beginning)

    def prune(self) -> int:
        """Forget what the retention does not keep; tell how many events."""
        self.catch_up()
        with self._questions.connected() as it:
            return self._expire(it)

    def catch_up(self, timeout: float = 30.0) -> bool:
        """Commit, and take the log into the database; tell whether *timeout* seconds sufficed.

        Queries do not need it: they read what the database does not have yet from the log.
        """
        deadline = monotonic() + timeout
        self._writer.flush(timeout)
        return self._indexer.catch_up(max(0.0, deadline - monotonic()))

    @property
    def stats(self) -> JournalStats:
        """The books as of one moment."""
        accepted, committed, dropped, losing = self._writer.books()
        lag = max(0, committed + self._writer.notes - self._indexer.taken)
        waiting = accepted - committed - dropped
        damaged = self._indexer.damage
        return JournalStats(accepted, committed, dropped, waiting, lag, damaged, losing)

    def close(self, timeout: float = 2.0) -> None:
        """Commit what waits and stop the threads, within *timeout* seconds."""
        deadline = monotonic() + timeout
        self._writer.close(timeout)
        self._indexer.close(max(0.0, deadline - monotonic()))

    def forked(self) -> None:
        """Begin anew in a forked child: a log of its own, nothing waiting."""
        self._writer.forked()
        self._indexer.forked()

    def _open(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with self._index.connect():
                pass
        except OSError as error:
            mend = "choose a folder that this user may write to"
            raise JournalError(str(self.path), f"cannot be opened ({error})", mend) from error
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise unreadable(self.path, error) from error
            self._index.set_aside(error)

    def _events(
        self, query: Query, where: Conditions | None, limit: int | None
    ) -> Iterator[UniversalEvent]:
        self._commit()
        events = filter(meets(where or {}), map(decode, self._questions.bodies(query)))
        return islice(events, limit)

    def _follow(self, patterns: tuple[str, ...], latest: int) -> Iterator[list[UniversalEvent]]:
        self._commit()
        everything = Query(patterns)
        with self._questions.moment() as (it, rest):
            it.execute("COMMIT")
            newest = self._questions.found(it, rest, replace(everything, newest_first=True))
            shown = [decode(body) for body in islice(newest, latest)]
            yield shown[::-1]
            # These have no position yet; when the database has given them one, they are not new.
            old = {hash(mark) for keys in rest.blocks() for mark in marks(keys)}
        position = rest.position
        while True:
            rows = list(self.positions(replace(everything, after=position)))
            position = rows[-1][0] if rows else position
            told = marks(event for _, event in rows)
            fresh = [hash(mark) not in old for mark in told]
            yield [event for _, event in compress(rows, fresh)]

    def _commit(self) -> None:
        if not self._writer.flush(_PATIENCE):
            text = "journal %s: an answer lacks what the disk does not take"
            _logger.warning(text, self.path)

    def _expire(self, it: sqlite3.Connection) -> int:
        age = self.retention.max_age
        before = None if age is None else time_ns() - int(age * 1e9)
        return self._index.prune(it, before, self.retention.max_events)

    def _tell(self, event_type: str, data: dict[str, Any]) -> None:
        bus = self._bus
        if bus is not None and bus.wants(event_type):
            bus.publish(make(event_type, {"journal": self.path.name, **data}))


def _nanoseconds(time: int | datetime | None) -> int | None:
    if isinstance(time, datetime):
        if time.tzinfo is None:
            raise EventError("a time", "has no time zone", "use datetime.now(UTC) or the like")
        return int(time.timestamp() * 1_000_000) * 1_000
    return time


def _close_all() -> None:
    for journal in list(_journals):
        journal.close()


def _forked() -> None:
    for journal in list(_journals):
        journal.forked()


at_last(_close_all)
in_child(_forked)
