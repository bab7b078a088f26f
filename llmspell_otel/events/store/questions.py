"""Answers from the database and the log together: nobody waits for the one to take in the other."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any

from llmspell_otel.errors import JournalError
from llmspell_otel.events.store.backlog import Backlog
from llmspell_otel.events.store.index import Index, Run
from llmspell_otel.events.store.keys import facts
from llmspell_otel.events.store.query import Query


class Questions:
    """What may be asked of the journal in *folder*.

    Every method raises JournalError where the folder cannot be read; *damaged* is told before.
    """

    def __init__(
        self, folder: Path, index: Index, damaged: Callable[[sqlite3.Error], object]
    ) -> None:
        self._folder = folder
        self._index = index
        self._damaged = damaged

    @contextmanager
    def connected(self) -> Generator[sqlite3.Connection]:
        """A connection to the database."""
        try:
            with self._index.connect() as it:
                yield it
        except sqlite3.Error as error:
            self._damaged(error)
            raise unreadable(self._folder, error) from error
        except OSError as error:
            raise unreadable(self._folder, error) from error

    def bodies(self, query: Query) -> Iterator[str]:
        """The body of every event that *query* asks for, in the order asked for."""
        with self.moment() as (it, rest):
            it.execute("COMMIT")  # no read lock is held while the caller thinks
            yield from self.found(it, rest, query)

    def found(self, it: sqlite3.Connection, rest: Backlog, query: Query) -> Iterator[str]:
        """The same, as of the moment of *rest*."""
        indexed = (body for _, body in self._index.select(it, query, rest.position))
        beyond = rest.select(query)
        return chain(beyond, indexed) if query.newest_first else chain(indexed, beyond)

    def positions(self, query: Query) -> Iterator[tuple[int, str]]:
        """Position and body of every event in the database that *query* asks for."""
        with self.connected() as it:
            yield from self._index.select(it, query)

    def summary(self) -> dict[str, Any]:
        """How many events there are, of which types, from when to when."""
        with self.moment() as (it, rest):
            known = self._index.summary(it)
            types: Counter[str] = Counter(known["types"])
            times = [time for time in (known["oldest"], known["newest"]) if time is not None]
            for block in rest.blocks():
                keys = list(block)
                types.update(map(attrgetter("event_type"), keys))
                times += _ends(map(attrgetter("timestamp"), keys))
        oldest, newest = _ends(times) or (None, None)
        ranked = dict(Counter(dict(sorted(types.items()))).most_common())
        return {"events": types.total(), "oldest": oldest, "newest": newest, "types": ranked}

    def runs(self, limit: int, beginning: str) -> list[Run]:
        """The latest *limit* runs whose correlation id has that *beginning*."""
        with self.moment() as (it, rest):
            late: dict[str, tuple[int, int]] = {}  # the latest arrival last
            for block in rest.blocks(beginning):
                keys = list(block)
                runs = list(facts(keys).by_run()) if keys else []
                for name, events, _, oldest in sorted(runs, key=itemgetter(2)):
                    if name.startswith(beginning):
                        count, first = late.pop(name, (0, oldest))
                        late[name] = count + events, min(first, oldest)
            newest = [(name, *late[name]) for name in islice(reversed(late), limit)]
            merged = [self._merged(it, run) for run in newest]
            others = (run for run in self._index.runs(it, beginning) if run[0] not in late)
            return merged + list(islice(others, limit - len(merged)))

    @contextmanager
    def moment(self) -> Generator[tuple[sqlite3.Connection, Backlog]]:
        """The database and the log beyond it, as of one moment."""
        with self.connected() as it:
            it.execute("BEGIN")
            with Backlog(self._folder, self._index, it) as rest:
                yield it, rest

    def _merged(self, it: sqlite3.Connection, run: Run) -> Run:
        name, count, first = run
        indexed, before = self._index.run(it, name)
        return name, count + indexed, first if before is None else min(first, before)


def _ends(times: Iterable[int]) -> tuple[int, ...]:
    """The least and the greatest of *times*, if there are any."""
    known = list(times)
    return (min(known), max(known)) if known else ()


def unreadable(folder: Path, error: Exception) -> JournalError:
    """The error of a journal that *error* keeps from being read."""
    mend = "see that the folder is on a working local disk with room"
    return JournalError(str(folder), f"cannot be read ({error})", mend)
