"""The journal: keeps events on disk, across crashes, and answers questions about them.

Publishing encodes an event and hands it to a writer thread, which appends blocks to a log: that is
the commit. A second thread takes the log into a SQLite database, which queries read.
"""

import functools
import logging
import sqlite3
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import monotonic, time_ns
from typing import Any, Literal, TypeVar, get_args

from llmspell_otel.errors import EventError, JournalError
from llmspell_otel.events.bus import EventBus, at_last
from llmspell_otel.events.codec import decode, encode, encode_short
from llmspell_otel.events.event import UniversalEvent, make
from llmspell_otel.events.forks import in_child
from llmspell_otel.events.payload import MAX_BYTES, plain, weighs_more
from llmspell_otel.events.router import Pattern
from llmspell_otel.events.store.conditions import Conditions, meets
from llmspell_otel.events.store.index import Index, Query
from llmspell_otel.events.store.indexer import Indexer
from llmspell_otel.events.store.log import SUFFIX
from llmspell_otel.events.store.writer import LogWriter
from llmspell_otel.events.subscription import Subscription

_logger = logging.getLogger("llmspell_otel.events")

T = TypeVar("T")
Mode = Literal["process", "power"]
OWN_EVENTS = "journal:*"
_DAY = 86_400
_ESCAPED = 6  # bytes of JSON that one character takes at most

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
        dropped: Events given up, because the disk took nothing for too long.
        waiting: Events in memory, not yet in the log.
        lag: Events in the log that queries do not see yet; they are taken in before a query.
        damaged: Bytes of the log that could not be read, since this journal was opened.
        losing: Whether the disk takes nothing at the moment.
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
        max_waiting_bytes: What may wait in memory while the disk takes nothing.

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
            limit=max_waiting_bytes,
            tell=self._tell,
        )
        self._append = _appender(self._writer.append, max_event_bytes)
        self._indexer = Indexer(self.path, self._index, self._writer, self._expire, self._tell)
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
            patterns, self._append, name=f"journal {self.path.name}", max_errors=None
        )

    def append(self, event: UniversalEvent) -> bool:
        """Keep *event*; tell whether it was accepted. It is committed within the interval."""
        return self._append(event)

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
        """The events of *query*, each with its position.

        Raises:
            JournalError: the database cannot be read.
        """
        self._see_everything()
        try:
            with self._index.connect() as it:
                for position, body in self._index.select(it, query):
                    yield position, decode(body)
        except sqlite3.Error as error:
            self._indexer.damaged(error)
            raise self._unreadable(error) from error

    def summary(self) -> dict[str, Any]:
        """How many events are kept, of which types, from when to when.

        Raises:
            JournalError: the database cannot be read.
        """
        return self._ask(self._index.summary)

    def runs(self, limit: int = 20) -> list[tuple[str, int, int]]:
        """The latest correlation ids, each with its number of events and first time.

        Raises:
            JournalError: the database cannot be read.
        """
        return self._ask(functools.partial(self._index.runs, limit=limit))

    def prune(self) -> int:
        """Forget what the retention does not keep; tell how many events."""
        return self._ask(self._expire)

    def catch_up(self, timeout: float = 30.0) -> bool:
        """Commit, and take the log into the database, so that queries see everything.

        Tells whether that was done in *timeout* seconds. A query does it first.
        """
        deadline = monotonic() + timeout
        self._writer.flush(timeout)
        return self._indexer.catch_up(max(0.0, deadline - monotonic()))

    @property
    def stats(self) -> JournalStats:
        """The books as of one moment."""
        accepted, committed, dropped, losing = self._writer.books()
        lag = max(0, committed - self._indexer.taken)
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
                raise self._unreadable(error) from error
            self._index.set_aside(error)

    def _events(
        self, query: Query, where: Conditions | None, limit: int | None
    ) -> Iterator[UniversalEvent]:
        wanted = meets(where or {})
        left = limit if limit is not None else -1
        for _, event in self.positions(query):
            if left == 0:
                return
            if wanted(event):
                left -= 1
                yield event

    def _see_everything(self) -> None:
        if not self.catch_up():
            _logger.warning("journal %s: an answer lacks what the log still holds", self.path)

    def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        self._see_everything()
        try:
            with self._index.connect() as it:
                return question(it)
        except sqlite3.Error as error:
            self._indexer.damaged(error)
            raise self._unreadable(error) from error

    def _expire(self, it: sqlite3.Connection) -> int:
        age = self.retention.max_age
        before = None if age is None else time_ns() - int(age * 1e9)
        return self._index.prune(it, before, self.retention.max_events)

    def _unreadable(self, error: Exception) -> JournalError:
        mend = "see that the folder is on a working local disk with room"
        return JournalError(str(self.path), f"cannot be read ({error})", mend)

    def _tell(self, event_type: str, data: dict[str, Any]) -> None:
        bus = self._bus
        if bus is not None and bus.wants(event_type):
            bus.publish(make(event_type, {"journal": self.path.name, **data}))


def _appender(
    write: Callable[[bytes | bytearray], bool], limit: int
) -> Callable[[UniversalEvent], bool]:
    """Encode an event and *write* it. A closure: its names are found fastest."""

    def append(event: UniversalEvent) -> bool:
        line = encode_short(event)
        if not line or len(line) > limit:
            line = _encode_long(event, limit)
        return write(line)

    return append


def _encode_long(event: UniversalEvent, limit: int) -> bytes:
    line = b"" if weighs_more(event.data, limit) else encode(event)
    return line if line and len(line) <= _ESCAPED * limit else encode(_cut(event, limit))


def _cut(event: UniversalEvent, limit: int) -> UniversalEvent:
    """The *event* with its data cut to *limit* bytes."""
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    return UniversalEvent(**{**fields, "data": plain(event.data, limit)})


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
