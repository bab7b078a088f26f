"""One event loop in a daemon thread, for async handlers that have no loop of their own."""

import asyncio
import threading

from llmspell_otel.events.forks import in_child

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def background_loop() -> asyncio.AbstractEventLoop:
    """The process's background loop; started by the first who asks."""
    global _loop
    with _lock:
        if _loop is None or _loop.is_closed():
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="llmspell-events", daemon=True).start()
        return _loop


def _forget() -> None:
    """Leave the parent's loop, whose thread a forked child does not have."""
    global _lock, _loop
    _lock, _loop = threading.Lock(), None


in_child(_forget)
