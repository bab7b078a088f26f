"""What `Cache` results are kept in: a small protocol, and the memory that serves by default."""

import threading
import time
from collections import OrderedDict
from typing import Any, Final, Protocol


class _Missing:
    """What a store gives when it has nothing."""

    def __repr__(self) -> str:
        return "<missing>"


MISSING: Final = _Missing()


class Store(Protocol):
    """Keeps outputs under keys for a while. A failing store counts as an empty one."""

    def get(self, key: str) -> Any:
        """The value under *key*, or `MISSING`."""
        ...

    def set(self, key: str, value: Any, ttl: float) -> None:
        """Keep *value* under *key* for *ttl* seconds."""
        ...

    async def get_async(self, key: str) -> Any:
        """The same as `get`, without blocking the event loop."""
        ...

    async def set_async(self, key: str, value: Any, ttl: float) -> None:
        """The same as `set`, without blocking the event loop."""
        ...


class MemoryStore:
    """A bounded store in this process: the least recently used entry goes first.

    Args:
        capacity: how many entries it keeps.
        clock: monotonic seconds.
    """

    def __init__(self, capacity: int = 1000, clock: Any = time.monotonic) -> None:
        self.capacity = capacity
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, tuple[float, Any]] = OrderedDict()

    def get(self, key: str) -> Any:
        """The value under *key*, or `MISSING`."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return MISSING
            if entry[0] <= self._clock():
                del self._entries[key]
                return MISSING
            self._entries.move_to_end(key)
            return entry[1]

    def set(self, key: str, value: Any, ttl: float) -> None:
        """Keep *value* under *key* for *ttl* seconds."""
        with self._lock:
            self._entries[key] = (self._clock() + ttl, value)
            self._entries.move_to_end(key)
            while len(self._entries) > self.capacity:
                self._entries.popitem(last=False)

    async def get_async(self, key: str) -> Any:
        """The value under *key*, or `MISSING`."""
        return self.get(key)

    async def set_async(self, key: str, value: Any, ttl: float) -> None:
        """Keep *value* under *key* for *ttl* seconds."""
        self.set(key, value, ttl)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)
