"""Asynchronous hooks that are late, and those that nobody waits for any more."""

from collections.abc import Awaitable, Coroutine
from typing import Any, Final

GRACE: Final = 0.02
"""Seconds that a synchronous caller waits beyond a hook's own time-out."""


class HookTimeoutError(TimeoutError):
    """An asynchronous hook took longer than it was given.

    *stubborn* tells that it went on after it was cancelled.
    """

    def __init__(self, seconds: float, *, stubborn: bool = False) -> None:
        super().__init__(f"no answer within {seconds:g} s")
        self.seconds = seconds
        self.stubborn = stubborn


def dismiss(awaitable: Awaitable[Any]) -> None:
    """Let go of what will not be awaited, without a warning."""
    if isinstance(awaitable, Coroutine):
        awaitable.close()
