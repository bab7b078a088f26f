"""Asynchronous hooks that are late, and those that nobody waits for any more."""

from collections.abc import Awaitable, Coroutine, Generator
from contextvars import ContextVar
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


awaited: Final[ContextVar[bool]] = ContextVar("llmspell_awaited", default=False)
"""Whether the running code is part of a task that can wait for what it begins.

Set for good in the context of a task that drives a flow; not so while a flow is driven there
that blocks.
"""


class Begun:
    """An asynchronous hook that was begun where it is called, and has suspended."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, Any]:
        """Wait for its answer."""
        raise NotImplementedError

    def close(self) -> None:
        """End it where it is."""
        raise NotImplementedError


def dismiss(awaitable: Awaitable[Any]) -> None:
    """Let go of what will not be awaited, without a warning."""
    if isinstance(awaitable, (Begun, Coroutine)):
        awaitable.close()
