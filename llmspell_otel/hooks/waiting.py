"""Waiting for asynchronous hooks, no longer than they are given.

In an asynchronous operation a hook runs inside the caller's own task: its first step is
driven by hand, and only a hook that really suspends costs a timer. In a synchronous one it
runs on the engine's own loop while the caller waits.
"""

import asyncio
import contextvars
import os
import threading
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, Final

GRACE: Final = 0.02
"""Seconds that a synchronous caller waits beyond a hook's own time-out."""


class HookTimeoutError(TimeoutError):
    """An asynchronous hook took longer than it was given."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no answer within {seconds:g} s")
        self.seconds = seconds


abandoned: list[Coroutine[Any, Any, Any]] = []
"""Hooks that went on after they were cancelled; kept so that they are not collected loudly."""
_ABANDONED_LIMIT: Final = 64


async def bounded(awaitable: Awaitable[Any], seconds: float | None) -> Any:
    """Await a hook's answer for at most *seconds*.

    Raises:
        HookTimeoutError: it took longer; the hook was cancelled, or left behind if it
            would not be.
    """
    if seconds is None:
        return await awaitable
    if not isinstance(awaitable, Coroutine):
        return await asyncio.wait_for(awaitable, seconds)
    try:
        waited = awaitable.send(None)
    except StopIteration as done:
        return done.value
    return await _Rest(awaitable, waited, seconds)


class _Rest:
    """What remains of a coroutine after its first step, under a time limit.

    It stands between the task and the coroutine: whatever the coroutine waits for is waited
    for through a gate of our own, which the timer can open too.
    """

    __slots__ = ("_coroutine", "_deadline", "_seconds", "_waited")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], waited: Any, seconds: float) -> None:
        self._coroutine = coroutine
        self._waited = waited
        self._seconds = seconds
        self._deadline = asyncio.get_running_loop().time() + seconds

    def __await__(self) -> Generator[Any, Any, Any]:
        loop = asyncio.get_running_loop()
        while True:
            waited = self._waited
            gate = loop.create_future()
            timer = loop.call_at(self._deadline, _open, gate)
            if waited is None:  # a bare yield, as of sleep(0): once round the loop
                loop.call_soon(_open, gate)
            else:
                waited._asyncio_future_blocking = False  # noqa: SLF001 - the task protocol's own mark
                waited.add_done_callback(lambda _, gate=gate: _open(gate))
            try:
                yield from gate
            except BaseException as error:
                if waited is not None:
                    waited.cancel()
                if self._step(error):
                    return self._waited
                continue
            finally:
                timer.cancel()
            if loop.time() >= self._deadline and (waited is None or not waited.done()):
                self._give_up(waited)
            if self._step(None):
                return self._waited

    def _step(self, error: BaseException | None) -> bool:
        """Run the coroutine to where it next waits; True when it has ended."""
        try:
            send = self._coroutine.send
            self._waited = send(None) if error is None else self._coroutine.throw(error)
        except StopIteration as done:
            self._waited = done.value
            return True
        return False

    def _give_up(self, waited: Any) -> None:
        if waited is not None:
            waited.cancel()
        try:
            self._coroutine.throw(asyncio.CancelledError())
        except (Exception, asyncio.CancelledError):  # noqa: S110 - it is late whatever it says
            pass
        else:
            _abandon(self._coroutine)
        raise HookTimeoutError(self._seconds)


def _open(gate: asyncio.Future[None]) -> None:
    if not gate.done():
        gate.set_result(None)


def _abandon(coroutine: Coroutine[Any, Any, Any]) -> None:
    try:
        coroutine.close()
    except RuntimeError:  # it ignores even this: keep it, asleep for good
        if len(abandoned) < _ABANDONED_LIMIT:
            abandoned.append(coroutine)


class EngineLoop:
    """The engine's own event loop, in a daemon thread that starts when first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def wait(self, awaitable: Awaitable[Any], seconds: float | None) -> Any:
        """Run *awaitable* there, in the caller's context, and block for its answer.

        None waits as long as it takes.

        Raises:
            HookTimeoutError: it took longer than *seconds*.
        """
        context = contextvars.copy_context()
        loop = self._running()

        async def run() -> Any:
            task = loop.create_task(bounded(awaitable, seconds), context=context)
            return await task

        future = asyncio.run_coroutine_threadsafe(run(), loop)
        try:
            return future.result(None if seconds is None else seconds + GRACE)
        except TimeoutError:
            if future.done() or seconds is None:
                raise
            future.cancel()
            raise HookTimeoutError(seconds) from None

    def start(self, awaitable: Awaitable[Any], seconds: float) -> None:
        """Run *awaitable* there without waiting for it; its failure is dropped."""
        future = asyncio.run_coroutine_threadsafe(bounded(awaitable, seconds), self._running())
        future.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._loop.is_closed():
                self._loop = asyncio.new_event_loop()
                threading.Thread(
                    target=self._loop.run_forever, name="llmspell-hooks", daemon=True
                ).start()
            return self._loop

    def forget(self) -> None:
        """After a fork: the loop's thread stayed with the parent."""
        self._lock = threading.Lock()
        self._loop = None


engine_loop = EngineLoop()
os.register_at_fork(after_in_child=engine_loop.forget)
