"""Small helpers for tests with threads."""

import threading
import time
from collections.abc import Callable
from typing import Any


class Gate:
    """A handler that waits until the gate is open."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.entered = threading.Event()

    def wait(self, event: Any) -> None:
        """Wait for the gate."""
        self.entered.set()
        self._open.wait(30)

    def open(self) -> None:
        """Let everybody through."""
        self._open.set()


def eventually(condition: Callable[[], Any], timeout: float = 10.0) -> bool:
    """Whether *condition* comes true within *timeout* seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.002)
    return bool(condition())
