"""Where the caching hook keeps outputs: in memory, and in Redis if told to."""

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from typing import Any, Final

from cachetools import Cache, TLRUCache

from llmspell_otel.hooks.forks import watch_forks

_DEEPEST: Final = 64
_UNWEIGHED: Final = 64


@dataclass(frozen=True, slots=True)
class Entry:
    """One output, and what making it took."""

    value: Any
    ttl: float
    seconds: float = 0.0
    dollars: float = 0.0
    error: bool = False
    """Whether the value is an exception."""
    size: int = 1
    """Bytes, roughly."""


class Memory:
    """Entries of this process: bounded in number and size; the least recently used goes first.

    Args:
        max_entries: how many are kept.
        max_bytes: what they may take together, roughly.
        clock: monotonic seconds.
    """

    def __init__(
        self, max_entries: int, max_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_entries = max_entries
        self._entries: TLRUCache[str, Entry] = TLRUCache(
            max_bytes, ttu=_dies_at, timer=clock, getsizeof=_size_of
        )
        self.after_fork()
        watch_forks(self)

    def after_fork(self) -> None:
        """Take a new lock."""
        self._lock = threading.Lock()

    def get(self, key: str) -> Entry | None:
        """The entry under *key*, if its time is not over."""
        with self._lock:
            return self._entries.get(key)

    def set(self, key: str, entry: Entry) -> None:
        """Keep *entry*; one larger than everything may be is not kept."""
        with self._lock:
            try:
                self._entries[key] = entry
            except ValueError:
                return
            # Counted as they lie there: the cache's own `len` first looks at each one's time.
            while Cache.__len__(self._entries) > self._max_entries:
                self._entries.popitem()

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)


def _dies_at(_key: str, entry: Entry, now: float) -> float:
    return now + entry.ttl


def _size_of(entry: Entry) -> int:
    return entry.size


def weigh(value: Any, limit: int) -> int:
    """The size of *value* in bytes, roughly; no more than just above *limit*."""
    total = 0
    todo: list[tuple[Any, int]] = [(value, 0)]
    while todo and total <= limit:
        item, depth = todo.pop()
        total += _UNWEIGHED
        if isinstance(item, (str, bytes, bytearray)):
            total += len(item)
        elif depth < _DEEPEST:
            # More than these are more than the limit already.
            most = (limit - total) // _UNWEIGHED + 1
            todo.extend((each, depth + 1) for each in islice(_members(item), max(0, most)))
    return total


def _members(item: Any) -> Iterable[Any]:
    if isinstance(item, Mapping):
        return chain(item.keys(), item.values())
    if isinstance(item, (list, tuple, set, frozenset)):
        return item
    held = getattr(item, "__dict__", None)
    return held.values() if isinstance(held, dict) and not isinstance(item, type) else ()


# -- over the wire: JSON, never pickles, which would run whatever another writer put there


def packed(entry: Entry, *, models: bool) -> bytes | None:
    """*entry* as JSON; None, if it would not come back as it was.

    Args:
        entry: what to pack.
        models: whether records of pydantic's may come back as mappings: adapters of models
            make their library's own of those.
    """
    about = asdict(replace(entry, value=None))
    try:
        if models:
            return json.dumps({**about, "value": entry.value}, default=_dumped).encode()
        text = json.dumps({**about, "value": entry.value})
        return text.encode() if json.loads(text)["value"] == entry.value else None
    except (TypeError, ValueError, RecursionError):
        return None


def _dumped(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if not callable(dump):
        raise TypeError(f"{type(value).__name__} has no form in JSON")
    return dump(mode="json", warnings=False)


def unpacked(data: bytes | None) -> Entry | None:
    """The entry in *data*; None if it is none."""
    try:
        return Entry(**json.loads(data)) if data else None
    except (TypeError, ValueError, RecursionError):
        return None
