"""A bell that rings for one thread."""

import contextlib
import threading


class Bell:
    """Rung by anybody, waited for by one; a `threading.Event` costs whoever rings ten times more.

    Ringing takes no lock that could be held: it is safe in the handler of a signal.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Let the one who waits, or comes next, go on."""
        if self._lock.locked():  # else it rings already
            with contextlib.suppress(RuntimeError):  # another one was faster
                self._lock.release()

    def wait(self, timeout: float = -1) -> bool:
        """Wait until it rings, at most *timeout* seconds; tell whether it did. Then it is still."""
        return self._lock.acquire(timeout=timeout)
