"""Waiting for asynchronous hooks in a synchronous operation: on the engine's own loop."""

import asyncio
import contextvars
import os
import threading
from collections.abc import Awaitable
from typing import Any

from llmspell_otel.hooks.lateness import GRACE, HookTimeoutError, dismiss
from llmspell_otel.hooks.steps import bounded

__all__ = ["GRACE", "EngineLoop", "HookTimeoutError", "bounded", "engine_loop"]


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
            RuntimeError: the interpreter is shutting down, and no loop can be started.
        """
        if getattr(_turned, "here", False):
            # Asked from such a loop itself: waiting for it here would be for ever.
            return EngineLoop().wait_once(awaitable, seconds)
        return self._wait(awaitable, seconds)

    def _wait(self, awaitable: Awaitable[Any], seconds: float | None) -> Any:
        context = contextvars.copy_context()
        try:
            loop = self._running()
        except BaseException:
            dismiss(awaitable)
            raise

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

    def wait_once(self, awaitable: Awaitable[Any], seconds: float | None) -> Any:
        """The same, on a loop that ends with it.

        Raises:
            HookTimeoutError: as `wait`.
        """
        try:
            return self._wait(awaitable, seconds)
        finally:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)

    def start(self, awaitable: Awaitable[Any], seconds: float) -> None:
        """Run *awaitable* there without waiting for it; its failure is dropped."""
        future = asyncio.run_coroutine_threadsafe(bounded(awaitable, seconds), self._running())
        future.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._loop.is_closed():
                loop = asyncio.new_event_loop()
                thread = threading.Thread(
                    target=_turning, args=(loop,), name="llmspell-hooks", daemon=True
                )
                try:
                    thread.start()
                except BaseException:
                    loop.close()
                    raise
                self._loop = loop
            return self._loop

    def forget(self) -> None:
        """After a fork: the loop's thread stayed with the parent."""
        self._lock = threading.Lock()
        self._loop = None


_turned = threading.local()


def _turning(loop: asyncio.AbstractEventLoop) -> None:
    _turned.here = True
    try:
        loop.run_forever()
    finally:
        loop.close()


engine_loop = EngineLoop()
os.register_at_fork(after_in_child=engine_loop.forget)
