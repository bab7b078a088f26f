"""A bounded queue with exact books, for one subscription.

At all times `published == delivered + dropped + rejected + queued`. What is lost is told as a gap:
the first and the last lost sequence, and how many.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition, Lock, current_thread
from time import monotonic
from typing import Any, Literal, NamedTuple, get_args

from llmspell_otel.errors import EventError
from llmspell_otel.events.event import UniversalEvent

Overflow = Literal["drop_oldest", "drop_newest", "block", "reject"]
Tell = Callable[[str, dict[str, Any]], None]

STARTED = "event:backpressure_started"
RELIEVED = "event:backpressure_relieved"
GAP = "event:gap"
REFUSED = True


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a queue holds, and what happens when it is full.

    Attributes:
        capacity: Events that may wait.
        overflow: What gives way when one more comes.
        block_timeout: Seconds that `block` makes a publisher wait at most.
        high_water: Share of the capacity at which backpressure starts.
        low_water: Share of the capacity at which it is relieved.
    """

    capacity: int = 10_000
    overflow: Overflow = "drop_oldest"
    block_timeout: float = 1.0
    high_water: float = 0.8
    low_water: float = 0.2

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise EventError("capacity", f"is {self.capacity}", "let at least 1 event wait")
        if self.overflow not in get_args(Overflow):
            mend = f"use one of {', '.join(get_args(Overflow))}"
            raise EventError("overflow", f"is {self.overflow!r}", mend)
        if not 0 <= self.low_water < self.high_water <= 1:
            mend = "let 0 <= low_water < high_water <= 1"
            raise EventError("water marks", f"are {self.low_water}, {self.high_water}", mend)

    @property
    def high(self) -> int:
        """Waiting events at which backpressure starts."""
        return max(1, math.ceil(self.capacity * self.high_water))

    @property
    def low(self) -> int:
        """Waiting events at which backpressure is relieved."""
        return min(math.floor(self.capacity * self.low_water), self.high - 1)


class _Mortal(NamedTuple):
    """An event with an end: its deadline by the monotonic clock, which never jumps."""

    event: UniversalEvent
    deadline: float

    @property
    def sequence(self) -> int:
        """The event's."""
        return self.event.sequence


_Entry = UniversalEvent | _Mortal


class _Gap:
    """Events lost since the consumer was last told."""

    __slots__ = ("first", "last", "lost")

    def __init__(self) -> None:
        self.first = self.last = self.lost = 0

    def add(self, sequence: int) -> None:
        """Count one more loss."""
        if not self.lost:
            self.first = self.last = sequence
        elif sequence > self.last:
            self.last = sequence
        elif sequence < self.first:
            self.first = sequence
        self.lost += 1


class Flow:
    """The queue between publishers and one consumer.

    *wake* is called, outside the lock, when the first event comes after the consumer found
    nothing. *tell* announces gaps and crossings of the water marks, outside the lock too.
    """

    def __init__(self, limits: Limits, wake: Callable[[], None], tell: Tell) -> None:
        self.limits = limits
        self._wake = wake
        self._tell = tell
        self._admit = getattr(self, f"_{limits.overflow}")
        self._high, self._low = limits.high, limits.low
        self.reset()

    def reset(self) -> None:
        """Begin anew, with empty books and a fresh lock: at birth, and in a forked child."""
        self._lock = Lock()
        self._room = Condition(self._lock)
        self._capacity = self.limits.capacity
        self._lane: deque[_Entry] = deque()  # of the usual priority
        self._lanes: dict[int, deque[_Entry]] = {0: self._lane}
        self._calm = self._high - 1
        self._brim = -1  # waiting events at which the next one pushes out the oldest at once
        self._idle = True
        self._pressed = False
        self._mortal = False
        self._gap = _Gap()
        self.closed = self.abandoned = False
        self.consumer: object = None  # the thread that must not wait for itself
        self._taken = self.delivered = self.dropped = self.rejected = 0

    def books(self) -> tuple[int, int, int, int, int]:
        """Published, delivered, dropped, rejected and queued, as of one moment."""
        with self._lock:
            # In this order: a consumer counts its deliveries without the lock.
            delivered, dropped, rejected = self.delivered, self.dropped, self.rejected
            queued = self._size() + self._taken - delivered
            return delivered + dropped + rejected + queued, delivered, dropped, rejected, queued

    def offer(self, event: UniversalEvent) -> bool | None:
        """Take in *event*, or do with it what the limits say; `REFUSED` if it was rejected."""
        with self._lock:
            lane = self._lane
            if len(lane) >= self._calm or event.priority or event.ttl is not None:
                if len(lane) == self._brim and not event.priority and event.ttl is None:
                    # The publisher of a slow consumer pays for this with every event.
                    self._lost(lane.popleft())
                    lane.append(event)
                    return None
                calm = False
            elif self._idle:
                lane.append(event)
                calm, self._idle = True, False
            else:
                lane.append(event)
                return None
        if not calm:
            return self._offer(event)
        self._wake()
        return None

    def _offer(self, event: UniversalEvent) -> bool | None:
        """The same, when there may be no room, or the event is no usual one."""
        with self._lock:
            verdict = None if self._size() < self._capacity else self._overflow(event)
            if verdict is None:
                lane = self._lanes.get(event.priority)
                if lane is None:
                    lane = self._lanes[event.priority] = deque()
                lane.append(event if event.ttl is None else self._with_end(event))
                wake, self._idle = self._idle, False
                crossed = not self._pressed and self._size() >= self._high
                if crossed:
                    self._pressed = True
                self._judge()
            else:
                wake, crossed = self.abandoned, False
        if wake:
            self._wake()
        if crossed:
            self._tell(STARTED, self._level())
        return verdict

    def take(self, limit: int) -> list[UniversalEvent]:
        """Hand out up to *limit* waiting events, the most urgent first, the expired not at all.

        The caller counts each with `settle` or `delivered`, or gives it up with `lose`.
        """
        with self._lock:
            batch = self._pop(limit)
            self._taken += len(batch)
            if not batch:
                self._idle = True
            relieved = self._pressed and self._size() <= self._low
            if relieved:
                self._pressed = False
                self._judge()
            gap = None
            if self._gap.lost:
                gap, self._gap = self._gap, _Gap()
            if self.limits.overflow == "block":
                self._room.notify_all()
        if gap:
            lost = {"first_sequence": gap.first, "last_sequence": gap.last, "lost": gap.lost}
            self._tell(GAP, lost)
        if relieved:
            self._tell(RELIEVED, self._level())
        return batch

    def settle(self, count: int) -> None:
        """Count *count* taken events as delivered."""
        with self._lock:
            self.delivered += count

    def lose(self, events: list[UniversalEvent]) -> None:
        """Count *events*, which were taken but never handed over, as dropped."""
        with self._lock:
            self._taken -= len(events)
            for event in events:
                self._lost(event)

    def close(self) -> None:
        """Take in nothing more; what waits may still be taken."""
        with self._lock:
            self.closed = True
            self._capacity = self._calm = self._brim = -1
            self._room.notify_all()

    def abandon(self) -> None:
        """Close without a lock, as a finalizer must: the next offer wakes whoever tidies up."""
        self.abandoned = self.closed = True
        self._capacity = self._calm = self._brim = -1

    def clear(self) -> None:
        """Drop everything that waits."""
        self.lose(self.take(self._size()))

    def _overflow(self, event: UniversalEvent) -> bool | None:
        """Make room for *event*: None if there is, else what `offer` answers."""
        if self.closed:
            self._lost(event)
            return False
        verdict: bool | None = self._admit(event)
        return verdict

    def _drop_oldest(self, event: UniversalEvent) -> bool | None:
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
        self._gap.add(event.sequence)
        return REFUSED

    def _block(self, event: UniversalEvent) -> bool | None:
        # A handler that publishes into its own full queue would wait for itself.
        may_wait = self.consumer is not current_thread()
        timeout = self.limits.block_timeout if may_wait else 0
        if self._room.wait_for(self._has_room, timeout):
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
        self._calm = self._capacity if self._pressed else self._high - 1
        plain = self._pressed and not self._mortal and self.limits.overflow == "drop_oldest"
        self._brim = self._capacity if plain else -1
        if self.closed or len(self._lanes) > 1:  # asked last: `abandon` holds no lock
            self._calm = self._brim = -1

    def _lost(self, event: _Entry) -> None:
        self.dropped += 1
        self._gap.add(event.sequence)

    def _pop(self, limit: int) -> list[UniversalEvent]:
        if len(self._lanes) > 1 or self._mortal:
            return self._pop_alive(limit)
        lane: deque[Any] = self._lane
        if len(lane) <= limit:
            events = list(lane)
            lane.clear()
            return events
        return [lane.popleft() for _ in range(limit)]

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
        return {"queued": self._size(), "capacity": self.limits.capacity}
