"""Exact books of what was exported: every record made is somewhere, at every moment.

`made + adopted = acknowledged + rejected + lost + spooled + queued`, per signal, always: a record
enters once and then only moves. The SDK cannot say this: it drops the oldest of a full queue,
counts a partial success as a success, and a refused batch as exported.
"""

import atexit
import os
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Lock
from types import MappingProxyType
from typing import Final

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation


class Signal(StrEnum):
    """One of OTLP's three signals; its books count *spans*, *log records* or *metric points*."""

    TRACES = "traces"
    LOGS = "logs"
    METRICS = "metrics"

    @property
    def records(self) -> str:
        """What the records of this signal are called."""
        return _RECORDS[self]


_RECORDS: Final = {
    Signal.TRACES: "spans",
    Signal.LOGS: "log records",
    Signal.METRICS: "metric points",
}


class Held(StrEnum):
    """Where a record waits that is neither delivered nor given up."""

    QUEUED = "queued"
    SPOOLED = "spooled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The books of one signal at one moment, in records.

    Attributes:
        made: what this process handed over for export.
        adopted: what it took over from the spool of a process that is gone.
        queued: in memory, on the way or waiting to be sent.
        spooled: on disk, waiting to be sent.
        acknowledged: taken by the receiver, as it said itself.
        rejected: refused by the receiver, by reason (`http_400`, `partial_success`, …).
        lost: given up, by reason (`queue_full`, `shutdown`, …).
        messages: the receiver's latest words, by reason.
    """

    signal: Signal
    made: int = 0
    adopted: int = 0
    queued: int = 0
    spooled: int = 0
    acknowledged: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    lost: Mapping[str, int] = field(default_factory=dict)
    messages: Mapping[str, str] = field(default_factory=dict)

    @property
    def balanced(self) -> bool:
        """Whether the books balance; False would be a defect of this library."""
        settled = self.acknowledged + sum(self.rejected.values()) + sum(self.lost.values())
        return self.made + self.adopted == settled + self.queued + self.spooled

    def __str__(self) -> str:
        parts = [f"{self.acknowledged} of {self.made + self.adopted} {self.signal.records}"]
        parts += [f"{reason} rejected {n}" for reason, n in sorted(self.rejected.items())]
        parts += [f"{reason} lost {n}" for reason, n in sorted(self.lost.items())]
        parts += [f"{self.spooled} spooled"] if self.spooled else []
        parts += [f"{self.queued} queued"] if self.queued else []
        return ", ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The books of all three signals; `snapshot["traces"]` is one of them."""

    accounts: tuple[Account, ...]

    def __getitem__(self, signal: str) -> Account:
        return next(account for account in self.accounts if account.signal == signal)

    @property
    def balanced(self) -> bool:
        """Whether all books balance."""
        return all(account.balanced for account in self.accounts)

    def losses(self) -> str | None:
        """One line that says what did not arrive and why; None if nothing was lost or rejected."""
        short = [account for account in self.accounts if account.lost or account.rejected]
        return "exported " + "; ".join(map(str, short)) if short else None


class Book:
    """One signal's books; all methods are safe in threads and move whole counts at once."""

    def __init__(self, signal: Signal) -> None:
        self.signal = signal
        self.reset()

    def reset(self) -> None:
        """Start at zero, as the child of a fork does: the parent keeps the books of its own."""
        self._lock = Lock()
        self._made = self._adopted = self._acknowledged = 0
        self._queued = self._spooled = 0
        self._rejected: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._messages: dict[str, str] = {}

    def make(self, count: int) -> None:
        """Enter *count* new records, queued."""
        with self._lock:
            self._made += count
            self._queued += count

    def adopt(self, count: int) -> None:
        """Enter *count* records found on disk, spooled."""
        with self._lock:
            self._adopted += count
            self._spooled += count

    def spool(self, count: int) -> None:
        """Move *count* queued records to disk."""
        with self._lock:
            self._queued -= count
            self._spooled += count

    def acknowledge(self, count: int, held: Held = Held.QUEUED) -> None:
        """Move *count* records to those that the receiver has taken."""
        with self._lock:
            self._take(count, held)
            self._acknowledged += count

    def reject(self, count: int, reason: str, message: str = "", held: Held = Held.QUEUED) -> None:
        """Move *count* records to those that the receiver has refused."""
        self._settle(self._rejected, count, reason, message, held)

    def lose(self, count: int, reason: str, message: str = "", held: Held = Held.QUEUED) -> None:
        """Move *count* records to those given up."""
        self._settle(self._lost, count, reason, message, held)

    def _settle(
        self, fate: Counter[str], count: int, reason: str, message: str, held: Held
    ) -> None:
        with self._lock:
            self._take(count, held)
            fate[reason] += count
            if message:
                self._messages[reason] = message

    def _take(self, count: int, held: Held) -> None:
        if held is Held.QUEUED:
            self._queued -= count
        else:
            self._spooled -= count

    def account(self) -> Account:
        """Read all counts of one moment."""
        with self._lock:
            return Account(
                signal=self.signal,
                made=self._made,
                adopted=self._adopted,
                queued=self._queued,
                spooled=self._spooled,
                acknowledged=self._acknowledged,
                rejected=MappingProxyType(dict(self._rejected)),
                lost=MappingProxyType(dict(self._lost)),
                messages=MappingProxyType(dict(self._messages)),
            )


class Ledger:
    """The books of a process: `ledger.snapshot()` reads them."""

    def __init__(self) -> None:
        self._books = {signal: Book(signal) for signal in Signal}
        self._observed = False
        self._at_end: list[Callable[[], None]] = []
        if hasattr(os, "register_at_fork"):
            reset = weakref.WeakMethod(self._reset)
            os.register_at_fork(after_in_child=lambda: (method := reset()) and method())

    def book(self, signal: Signal) -> Book:
        """The books of one signal, to write in."""
        return self._books[signal]

    def snapshot(self) -> Snapshot:
        """Read the books; each signal's counts are of one moment."""
        return Snapshot(accounts=tuple(book.account() for book in self._books.values()))

    def observe(self, meter_provider: MeterProvider | None = None) -> None:
        """Publish the books as metrics, once; of the global meter provider unless told."""
        if not self._observed:
            self._observed = True
            _publish(self, metrics.get_meter("llmspell_exporters", meter_provider=meter_provider))

    def at_end(self, callback: Callable[[], None]) -> None:
        """Have *callback* called when the books are closed."""
        self._at_end.append(callback)

    def close(self) -> None:
        """Nothing more will be entered: print one line on stderr if something fell short."""
        for callback in self._at_end:
            callback()
        if line := self.snapshot().losses():
            with suppress(OSError, ValueError, AttributeError):  # stderr may be gone by then
                sys.stderr.write(f"llmspell: {line}\n")

    def _reset(self) -> None:
        for book in self._books.values():
            book.reset()


SIGNAL: Final = "llmspell.export.signal"
OUTCOME: Final = "llmspell.export.outcome"
STATE: Final = "llmspell.export.state"
REASON: Final = "error.type"

RECORDS: Final = "llmspell.export.records"
MADE: Final = "llmspell.export.made"
PENDING: Final = "llmspell.export.pending"


def _publish(ledger: Ledger, meter: metrics.Meter) -> None:
    def observing(
        read: Callable[[Account], Iterator[Observation]],
    ) -> list[Callable[[CallbackOptions], Iterable[Observation]]]:
        return [lambda _: [one for each in ledger.snapshot().accounts for one in read(each)]]

    meter.create_observable_counter(
        MADE,
        observing(_made),
        "{record}",
        "Records handed over for export, or adopted from a spool.",
    )
    meter.create_observable_counter(
        RECORDS,
        observing(_settled),
        "{record}",
        "Records by their end: acknowledged, rejected or lost.",
    )
    meter.create_observable_up_down_counter(
        PENDING, observing(_pending), "{record}", "Records that wait, in memory or on disk."
    )


def _made(account: Account) -> Iterator[Observation]:
    yield Observation(account.made + account.adopted, {SIGNAL: account.signal.value})


def _settled(account: Account) -> Iterator[Observation]:
    signal = {SIGNAL: account.signal.value}
    yield Observation(account.acknowledged, {**signal, OUTCOME: "acknowledged"})
    for outcome, counts in (("rejected", account.rejected), ("lost", account.lost)):
        for reason, count in counts.items():
            yield Observation(count, {**signal, OUTCOME: outcome, REASON: reason})


def _pending(account: Account) -> Iterator[Observation]:
    yield Observation(account.queued, {SIGNAL: account.signal.value, STATE: "queued"})
    yield Observation(account.spooled, {SIGNAL: account.signal.value, STATE: "spooled"})


ledger: Final = Ledger()
"""The books of this process."""

# Registered on import, before any provider exists: what is registered first is called last, when
# all providers have shut down.
atexit.register(ledger.close)
