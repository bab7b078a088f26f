"""A bounded queue with exact books, for one subscription.

At all times `published == delivered + dropped + rejected + queued`. What is lost is told as a gap:
the first and the last lost sequence, and how many.
"""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import repeat, starmap
from operator import length_hint
from threading import Condition, RLock, current_thread
from time import monotonic
from typing import Any, NamedTuple

from llmspell_otel.events.event import UniversalEvent
from llmspell_otel.events.limits import Limits

Tell = Callable[[str, dict[str, Any]], None]

STARTED = "event:backpressure_started"
RELIEVED = "event:backpressure_relieved"
GAP = "event:gap"
REFUSED = True


class _Mortal(NamedTuple):
    """An event with an end: its deadline by the monotonic clock, which never jumps."""

    event: UniversalEvent
    deadline: float

    @property
    def sequence(self) -> int:
        """The event's."""
        return self.event.sequence


_Entry = UniversalEvent | _Mortal


class Flow:
    """The queue between publishers and one consumer.

    *wake* is called, outside the lock, when the first event comes after the consumer found
    nothing. *tell* announces gaps and crossings of the water marks, outside the lock too.

    Attributes:
        offer: Takes in an event, or does with it what the limits say; answers `REFUSED` if it
            was rejected.
        calm: Waiting events at which a publisher must look closer; 0 if every one must.
    """

    def __init__(self, limits: Limits, wake: Callable[[], None], tell: Tell) -> None:
        self.limits = limits
        self._wake = wake
        self._tell = tell
        self._admit = getattr(self, f"_{limits.overflow}")
        self._high, self._low = limits.high, limits.low
        self._lane: deque[_Entry] = deque()  # of the usual priority
        self.offer = _door(self, self._lane)
        self.reset()

    def reset(self) -> None:
        """Begin anew, with empty books and a fresh lock: at birth, and in a forked child."""
        self._lock = RLock()  # a finalizer or a signal's handler may publish in here, too
        self._room = Condition(self._lock)
        self._blocked = 0  # publishers that wait for room
        self._capacity = self.limits.capacity
        self._lane.clear()
        self._lanes: dict[int, deque[_Entry]] = {0: self._lane}
        self.calm = 0
        self._brim = -1  # waiting events at which the next one pushes out the oldest at once
        self._idle = True
        self._pressed = False
        self._mortal = False
        self._told = 0  # losses of which the consumer knows
        self._first_missed = self._last_missed = 0
        self.closed = self.abandoned = False
        self.consumer: object = None  # the thread that must not wait for itself
        self._hand: Iterator[UniversalEvent] = iter(())  # what the consumer has taken
        self._handed = 0  # how much that was
        self._taken = self.dropped = self.rejected = 0

    def books(self) -> tuple[int, int, int, int, int]:
        """Published, delivered, dropped, rejected and queued, as of one moment."""
        with self._lock:
            # How far the consumer is, its iterator knows: that costs it nothing.
            in_hand = min(self._handed, length_hint(self._hand) + 1)
            delivered, queued = self._taken - in_hand, self._size() + in_hand
            dropped, rejected = self.dropped, self.rejected
            return delivered + dropped + rejected + queued, delivered, dropped, rejected, queued

    def look_closer(self, event: UniversalEvent) -> bool | None:
        """Offer *event* when there may be no room, nobody is awake, or it is no usual one."""
        with self._lock:
            lane = self._lane
            if len(lane) == self._brim and not event.priority and event.ttl is None:
                # The publisher of a slow consumer pays for this with every event.
                self._lost(lane.popleft())
                lane.append(event)
                return None
            verdict = self._enter(event)
            wake, crossed = (self.abandoned, False) if verdict is not None else self._changed()
        if wake or crossed:
            self._announce(wake, crossed)
        return verdict

    def look_again(self, event: UniversalEvent) -> bool | None:
        """Mend what *event* may have missed: it was put in while something changed."""
        with self._lock:
            late = self._size() > self._capacity and self._withdraw(event)
            verdict = self._enter(event) if late else None
            wake, crossed = self._changed()
        self._announce(wake, crossed)
        return verdict

    def take(self, limit: int) -> list[UniversalEvent]:
        """Deliver up to *limit* waiting events, the most urgent first, the expired not at all."""
        with self._lock:
            batch = self._look(limit)
            news = self._news()
        self._spread(*news)
        return batch

    def hand(self, limit: int) -> Iterator[UniversalEvent] | None:
        """The same for the one consumer that handles them in turn; None if nothing waits.

        An event counts as delivered when the next one is asked for, the last with the next call
        of `hand` or `done`.
        """
        with self._lock:
            batch = self._look(limit)
            self._hand, self._handed = iter(batch), len(batch)
            news = self._news()
        self._spread(*news)
        return self._hand if batch else None

    def done(self) -> None:
        """Count the last event that was handed out as delivered."""
        with self._lock:
            self._handed = 0

    def close(self) -> None:
        """Take in nothing more; what waits may still be taken."""
        with self._lock:
            self.closed = True
            self._capacity = self._brim = -1
            self.calm = 0
            self._room.notify_all()

    def abandon(self) -> None:
        """Close without a lock, as a finalizer must: the next offer wakes whoever tidies up."""
        self.abandoned = self.closed = True
        self._capacity = self._brim = -1
        self.calm = 0

    def clear(self) -> None:
        """Drop everything that waits, and what the consumer has in hand but has not begun."""
        with self._lock:
            # One step of the interpreter: the consumer gets an event, or this list does.
            rest = list(self._hand)
            self._handed -= len(rest)
            self._taken -= len(rest)
            for event in rest + self._pop(self._size()):
                self._lost(event)
            self._judge()

    def _enter(self, event: UniversalEvent) -> bool | None:
        """Put *event* into its lane, or answer what became of it."""
        verdict = None if self._size() < self._capacity else self._overflow(event)
        if verdict is None:
            lane = self._lanes.get(event.priority)
            if lane is None:
                lane = self._lanes[event.priority] = deque()
            lane.append(event if event.ttl is None else self._with_end(event))
        return verdict

    def _changed(self) -> tuple[bool, bool]:
        """Draw the consequences of one more event: whether to wake the consumer, and to tell."""
        size = self._size()
        wake = self._idle and size > 0
        if wake:
            self._idle = False
        crossed = not self._pressed and size >= self._high
        if crossed:
            self._pressed = True
        self._judge()
        return wake or self.abandoned, crossed

    def _announce(self, wake: bool, crossed: bool) -> None:
        if wake:
            self._wake()
        if crossed:
            self._tell(STARTED, self._level())

    def _withdraw(self, event: UniversalEvent) -> bool:
        """Take *event* out of its lane again; tell whether it was still there."""
        # From a copy, as others may append meanwhile; nobody else takes out.
        for place, entry in enumerate(list(self._lane)):
            if entry is event:
                del self._lane[place]
                return True
        return False

    def _overflow(self, event: UniversalEvent) -> bool | None:
        """Make room for *event*: None if there is, else what `offer` answers."""
        if self.closed:
            self._lost(event)
            return False
        verdict: bool | None = self._admit(event)
        return verdict

    def _drop_oldest(self, event: UniversalEvent) -> bool | None:
        # More than one, if several got in at once and have not looked again yet.
        while self._size() >= self._capacity:
            least = max(priority for priority, lane in self._lanes.items() if lane)
            if event.priority > least:
                self._lost(event)
                return False
            self._lost(self._lanes[least].popleft())
        return None

    def _drop_newest(self, event: UniversalEvent) -> bool | None:
        self._lost(event)
        return False

    def _reject(self, event: UniversalEvent) -> bool | None:
        self.rejected += 1
        self._missed(event.sequence)
        return REFUSED

    def _block(self, event: UniversalEvent) -> bool | None:
        # A handler that publishes into its own full queue would wait for itself.
        may_wait = self.consumer is not current_thread()
        timeout = self.limits.block_timeout if may_wait else 0
        self._blocked += 1
        room = self._room.wait_for(self._has_room, timeout)
        self._blocked -= 1
        if room:
            if not self.closed:
                return None
            self._lost(event)
            return False
        return self._reject(event)

    def _has_room(self) -> bool:
        return self.closed or self._size() < self._capacity

    def _size(self) -> int:
        return sum(map(len, self._lanes.values())) if len(self._lanes) > 1 else len(self._lane)

    def _judge(self) -> None:
        """How many may wait before the next event needs a closer look."""
        capacity, pressed = self.limits.capacity, self._pressed
        full = len(self._lane) >= capacity or self._blocked  # those who wait come first
        watched = full or self._idle or self.closed or len(self._lanes) > 1
        self.calm = 0 if watched else capacity - 1 if pressed else self._high - 1
        oldest = self.limits.overflow == "drop_oldest"
        plain = pressed and oldest and not self._mortal and len(self._lanes) == 1
        self._brim = capacity if plain else -1
        if self.closed:  # asked last, too: `abandon` holds no lock
            self.calm, self._brim = 0, -1

    def _lost(self, event: _Entry) -> None:
        self.dropped += 1
        self._missed(event.sequence)

    def _missed(self, sequence: int) -> None:
        if sequence > self._last_missed:
            self._last_missed = sequence
            self._first_missed = self._first_missed or sequence
        elif sequence < self._first_missed:
            self._first_missed = sequence

    def _gap(self) -> dict[str, int]:
        """What was lost since the consumer was last told."""
        lost = self.dropped + self.rejected - self._told
        gap = {
            "first_sequence": self._first_missed,
            "last_sequence": self._last_missed,
            "lost": lost,
        }
        self._told += lost
        self._first_missed = self._last_missed = 0
        return gap

    def _look(self, limit: int) -> list[UniversalEvent]:
        """Take out up to *limit* events, or lie down until one comes."""
        batch = self._pop(limit)
        if not batch:
            self._idle, self.calm = True, 0  # who puts one in from now on looks again
            batch = self._pop(limit)  # who put one in before did not
            self._idle = not batch
        self._taken += len(batch)
        return batch

    def _news(self) -> tuple[dict[str, int] | None, bool]:
        """Draw the consequences of taking: the gap to tell, and whether the pressure is off."""
        relieved = self._pressed and self._size() <= self._low
        if relieved:
            self._pressed = False
        if relieved or not (self.calm or self._idle):
            self._judge()
        if self._blocked:
            self._room.notify_all()
        missed = self.dropped + self.rejected > self._told
        return self._gap() if missed else None, relieved

    def _spread(self, gap: dict[str, int] | None, relieved: bool) -> None:
        if gap:
            self._tell(GAP, gap)
        if relieved:
            self._tell(RELIEVED, self._level())

    def _pop(self, limit: int) -> list[UniversalEvent]:
        if len(self._lanes) > 1 or self._mortal:
            return self._pop_alive(limit)
        # Publishers append meanwhile: what is taken out must be what was read.
        plain: deque[Any] = self._lane
        events: list[UniversalEvent] = []
        if plain:
            try:
                events.extend(starmap(plain.popleft, repeat((), min(limit, len(plain)))))
            except IndexError:  # a finalizer in this very thread has cleared the queue
                return events
        return events

    def _pop_alive(self, limit: int) -> list[UniversalEvent]:
        batch: list[UniversalEvent] = []
        while len(batch) < limit and self._size():
            lane = self._urgent()
            entry = lane.popleft()
            if isinstance(entry, _Mortal):
                entry, deadline = entry
                if monotonic() >= deadline:
                    self._lost(entry)
                    continue
            batch.append(entry)
        self._mortal = self._mortal and self._size() > 0
        return batch

    def _urgent(self) -> deque[_Entry]:
        """The most urgent lane that holds something; empty ones but the usual are removed."""
        if len(self._lanes) == 1:
            return self._lane
        for priority in [each for each, lane in self._lanes.items() if each and not lane]:
            del self._lanes[priority]
        self._judge()
        return self._lanes[min(each for each, lane in self._lanes.items() if lane)]

    def _with_end(self, event: UniversalEvent) -> _Mortal:
        self._mortal = True
        return _Mortal(event, monotonic() + (event.ttl or 0.0))

    def _level(self) -> dict[str, Any]:
        with self._lock:  # lanes come and go
            return {"queued": self._size(), "capacity": self.limits.capacity}


def _door(flow: Flow, lane: deque[_Entry]) -> Callable[[UniversalEvent], bool | None]:
    """How events get in without a lock, while all is calm. A closure: its names are found fastest.

    It relies on `append`, `popleft` and `len` of a deque being atomic each, and on this: who
    changes `calm` does so before looking at the lane, and who appends looks at `calm` after it.
    One of the two sees the other, so no event is overlooked, whatever came in between.
    """
    append = lane.append

    def offer(event: UniversalEvent) -> bool | None:
        if flow.calm and not event.priority and event.ttl is None:
            append(event)
            return flow.look_again(event) if len(lane) > flow.calm else None
        return flow.look_closer(event)

    return offer
