"""Waiting for asynchronous hooks, no longer than they are given.

In an asynchronous operation a hook runs inside the caller's own task: its first step is
driven by hand, and only a hook that really suspends costs a timer. In a synchronous one it
runs on the engine's own loop while the caller waits.
"""

import asyncio
import contextvars
import os
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import CoroutineType
from typing import Any, Final
from weakref import WeakKeyDictionary

from llmspell_otel.hooks.conditions import conditions
from llmspell_otel.hooks.context import HookContext
from llmspell_otel.hooks.lateness import GRACE, Begun, HookTimeoutError, awaited, dismiss
from llmspell_otel.hooks.registration import Registration

__all__ = ["GRACE", "EngineLoop", "HookTimeoutError", "beginning", "bounded", "engine_loop"]

abandoned: list[list[Any]] = []
"""Hooks that would not even be closed; kept so that they are not collected loudly."""
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
        return await _bounded_future(awaitable, seconds)
    try:
        waited = awaitable.send(None)
    except StopIteration as done:
        return done.value
    return await Rest(awaitable, waited, seconds)


def beginning(hook: Registration) -> Callable[[HookContext], Any]:
    """A function that calls an asynchronous *hook* and, where it can, takes its first step.

    Most hooks end with that. One that suspends is under its time limit from there on.
    """
    call = hook.call

    def ask(context: HookContext) -> Any:
        answer = call(context)
        if type(answer) is not CoroutineType or not awaited.get():
            return answer
        try:
            waited = answer.send(None)
        except StopIteration as done:
            return done.value
        return Rest(answer, waited, hook.timeout or conditions.timeout)

    return ask


async def _bounded_future(awaitable: Awaitable[Any], seconds: float) -> Any:
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await awaitable
    except TimeoutError:
        if limit.expired():
            raise HookTimeoutError(seconds) from None
        raise


class Rest(Begun):
    """What remains of a coroutine after its first step, under a time limit.

    It stands between the task and the coroutine. A plain future is handed on, and cancelled when
    the time is over. What may not heed that, such as a task, is waited for through a gate of our
    own, which the timer can open too.
    """

    __slots__ = ("_coroutine", "_gate", "_late", "_seconds", "_waited")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], waited: Any, seconds: float) -> None:
        self._coroutine = coroutine
        self._waited = waited
        self._seconds = seconds
        self._late = False
        self._gate: asyncio.Future[None] | None = None

    def __await__(self) -> Generator[Any, Any, Any]:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        requests = task.cancelling() if task is not None else 0
        deadlines = _deadlines(loop, self._seconds)
        deadlines.add(self, loop)
        cancelled: asyncio.CancelledError | None = None
        error: BaseException | None = None
        try:
            while True:
                try:
                    yield from self._watch()
                    error = None
                except asyncio.CancelledError as news:
                    cancelled = error = news
                    if self._late:
                        self._give_up()
                    # As a task does it: cancel what is waited for, and let that bring the news.
                    if self._waited is not None and self._waited.cancel():
                        continue
                if self._step(error):
                    return self._waited
        finally:
            deadlines.discard(self)
            # A request to cancel the caller is the caller's, even if the hook swallowed it.
            if cancelled is not None and task is not None and task.cancelling() > requests:
                raise cancelled

    def _watch(self) -> Generator[Any, Any, None]:
        """Wait for what the coroutine waits for, or for the end of its time."""
        waited = self._waited
        try:
            if waited is None or type(waited) is asyncio.Future:
                yield waited  # for the task to wait for: `expire` can end that
            else:
                yield from self._gate_to(waited)
        except GeneratorExit:
            self.close()
            raise
        if self._late and (waited is None or not waited.done()):
            self._give_up()

    def _gate_to(self, waited: Any) -> asyncio.Future[None]:
        """A future that opens with *waited*, which may not heed being cancelled."""
        if getattr(waited, "_asyncio_future_blocking", None) is None:
            self.close()
            raise RuntimeError(f"a hook waited for {waited!r}, which is no future")
        self._gate = gate = asyncio.get_running_loop().create_future()
        waited._asyncio_future_blocking = False  # noqa: SLF001 - the task protocol's own mark
        waited.add_done_callback(_opening(gate))
        return gate

    def _step(self, error: BaseException | None) -> bool:
        """Run the coroutine to where it next waits; True when it has ended."""
        try:
            send = self._coroutine.send
            self._gate = None
            self._waited = send(None) if error is None else self._coroutine.throw(error)
        except StopIteration as done:
            self._waited = done.value
            return True
        if self._late:
            self._give_up()
        return False

    def expire(self) -> None:
        """Its time is over."""
        self._late = True
        if self._gate is not None:
            _open(self._gate)
        elif self._waited is not None:
            self._waited.cancel()

    def _give_up(self) -> None:
        if self._waited is not None:
            self._waited.cancel()
        stubborn = False
        try:
            self._coroutine.throw(asyncio.CancelledError())
        except (Exception, asyncio.CancelledError):  # noqa: S110 - it is late whatever it says
            pass
        else:
            stubborn = True
            self.close()
        raise HookTimeoutError(self._seconds, stubborn=stubborn)

    def close(self) -> None:
        # It and those that it waits for: one that ignores even this is kept, asleep for good.
        chain = [self._coroutine]
        while (inner := getattr(chain[-1], "cr_await", None)) is not None:
            chain.append(inner)
        try:
            self._coroutine.close()
        except RuntimeError:
            if len(abandoned) < _ABANDONED_LIMIT:
                abandoned.append(chain)


def _open(gate: asyncio.Future[None]) -> None:
    if not gate.done():
        gate.set_result(None)


def _opening(gate: asyncio.Future[None]) -> Callable[[Any], None]:
    def opened(_: object) -> None:
        _open(gate)

    return opened


class _Deadlines:
    """Those who wait in one loop for equally long: one timer, set for the first of them."""

    __slots__ = ("_armed", "_seconds", "_waits")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waits: OrderedDict[Rest, float] = OrderedDict()  # by deadline
        self._armed = False

    def add(self, rest: Rest, loop: asyncio.AbstractEventLoop) -> None:
        """Have *rest* told when its time is over."""
        self._waits[rest] = deadline = loop.time() + self._seconds
        if not self._armed:
            self._armed = True
            loop.call_at(deadline, self._look)

    def discard(self, rest: Rest) -> None:
        """It waits no longer; the timer stays, for who comes next."""
        self._waits.pop(rest, None)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._waits:
            rest, deadline = next(iter(self._waits.items()))
            if deadline > now:
                loop.call_at(deadline, self._look)
                return
            del self._waits[rest]
            rest.expire()
        self._armed = False


_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[float, _Deadlines]] = WeakKeyDictionary()


def _deadlines(loop: asyncio.AbstractEventLoop, seconds: float) -> _Deadlines:
    try:
        return _loops[loop][seconds]
    except KeyError:
        return _loops.setdefault(loop, {}).setdefault(seconds, _Deadlines(seconds))


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
