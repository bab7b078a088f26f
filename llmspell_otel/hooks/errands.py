"""Asking several hooks at once, in threads or tasks, and leaving none of them behind."""

import asyncio
import contextvars
import inspect
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from llmspell_otel.errors import HookError
from llmspell_otel.hooks.answers import Answer, answer_of
from llmspell_otel.hooks.context import HookContext
from llmspell_otel.hooks.forks import watch_forks
from llmspell_otel.hooks.lateness import HookTimeoutError

_logger = logging.getLogger("llmspell_otel.hooks")

GRACE: Final = 0.03
"""Seconds that a cancelled child has to end; one that does not is left behind."""

_names = itertools.count(1)


class HookBusyError(HookError):
    """A hook was not asked, because it has not come back from an earlier call."""

    def __init__(self, hook: str) -> None:
        super().__init__(f"hook {hook!r} was not asked: it has not ended its earlier call yet")
        self.hook = hook


class Child:
    """One hook within a composite, and how it has fared there."""

    __slots__ = (
        "__weakref__",
        "_call",
        "_failing",
        "_read",
        "books",
        "errors",
        "is_async",
        "left_behind",
        "name",
    )

    def __init__(
        self,
        name: str,
        call: Callable[[HookContext], Any],
        *,
        is_async: bool,
        read: Callable[[Any], Answer] | None = None,
    ) -> None:
        self.name = name
        self.is_async = is_async
        self._call = call
        self._read = read or partial(answer_of, name)
        self._failing = False
        self.errors = 0
        """How often it failed."""
        self.after_fork()
        watch_forks(self)

    def after_fork(self) -> None:
        """Take a new lock; calls left behind stayed with the parent."""
        self.books = threading.Lock()
        self.left_behind = 0

    def ask(self, context: HookContext) -> Answer:
        """Ask a synchronous hook."""
        value = self._call(context)
        if inspect.isawaitable(value):
            if inspect.iscoroutine(value):
                value.close()
            raise HookError(
                f"hook {self.name!r} gave something to await in a synchronous composite;"
                " write it as `async def`, so that the composite can tell"
            )
        return self._read(value)

    async def ask_async(self, context: HookContext) -> Answer:
        """Ask a hook of either kind, here and now."""
        value = self._call(context)
        return self._read(await value if inspect.isawaitable(value) else value)

    def fared(self, error: BaseException | None) -> None:
        """Count a failure, and log the first of several in a row."""
        if error is not None:
            with self.books:
                self.errors += 1
        if error is not None and not self._failing:
            _logger.warning("hook %r failed within a composite", self.name, exc_info=error)
        self._failing = error is not None


class Errand:
    """One child asked once, and what came of it."""

    __slots__ = ("_given_up", "_left", "_running", "answer", "child", "context", "error")

    def __init__(self, child: Child, context: HookContext) -> None:
        self.child = child
        self.context = context
        self.answer: Answer | None = None
        self.error: BaseException | None = None
        self._running = self._given_up = self._left = False

    @property
    def came_back(self) -> bool:
        """Whether there is an answer or an error."""
        return self.answer is not None or self.error is not None

    def run(self) -> None:
        """Ask the child here."""
        if not self._begin():
            return
        try:
            answer = self.child.ask(self.context)
        except BaseException as error:
            self._end(None, error)
        else:
            self._end(answer, None)

    async def run_async(self) -> None:
        """Ask the child in this task."""
        if not self._begin():
            return
        try:
            answer = await self.child.ask_async(self.context)
        except BaseException as error:
            self._end(None, error)
            if not isinstance(error, Exception):
                raise
        else:
            self._end(answer, None)

    def give_up(self, error: BaseException) -> None:
        """Wait no longer: what comes back later is late."""
        with self.child.books:
            if self.came_back:
                return
            self.error = error
            self._given_up = True

    def leave_behind(self) -> None:
        """It goes on although it was given up: until it ends, its hook is not asked again."""
        with self.child.books:
            if self._running and not self._left:
                self._left = True
                self.child.left_behind += 1

    def _begin(self) -> bool:
        with self.child.books:
            if self._given_up:
                return False
            if self.child.left_behind:
                self.error = HookBusyError(self.child.name)
                return False
            self._running = True
            return True

    def _end(self, answer: Answer | None, error: BaseException | None) -> None:
        with self.child.books:
            self._running = False
            if not self._given_up:
                self.answer, self.error = answer, error
            elif self._left:
                self.child.left_behind -= 1


def run_in_turn(errands: Sequence[Errand]) -> None:
    """Ask one after another, here."""
    for errand in errands:
        errand.run()
        raise_fatal(errand)


def run_in_threads(errands: Sequence[Errand], width: int, timeout: float | None) -> None:
    """Ask at the same time, in daemon threads, *width* at most; wait for *timeout* seconds."""
    queue = deque((errand, contextvars.copy_context()) for errand in errands)

    def work() -> None:
        while queue:
            try:
                errand, variables = queue.popleft()
            except IndexError:
                return
            variables.run(errand.run)

    deadline = None if timeout is None else time.monotonic() + timeout
    workers = [_thread(work) for _ in range(min(width, len(errands)))]
    try:
        for worker in filter(None, workers):
            worker.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
    finally:
        queue.clear()
        _give_up(errands, timeout)
        for errand in errands:
            errand.leave_behind()
    for errand in errands:
        raise_fatal(errand)


def _thread(work: Callable[[], None]) -> threading.Thread | None:
    # A daemon: a hook that hangs for good must not keep the process from ending.
    thread = threading.Thread(target=work, name=f"llmspell-hook-{next(_names)}", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter is ending, or has no threads left: do it here
        work()
        return None
    return thread


def raise_fatal(errand: Errand) -> None:
    """What is no `Exception` (`SystemExit`, `KeyboardInterrupt`) passes through unchanged."""
    if errand.error is not None and not isinstance(errand.error, Exception):
        raise errand.error


def _give_up(errands: Sequence[Errand], seconds: float | None) -> None:
    for errand in errands:
        errand.give_up(HookTimeoutError(seconds or 0.0))


async def run_in_tasks(
    errands: Sequence[Errand], width: int, seconds: float | None, *, threads: bool
) -> None:
    """Ask at the same time, in tasks, *width* at most; wait for so many *seconds*.

    Synchronous children run in threads if *threads*, else here, in their turn. On every way
    out, the caller's cancellation included, tasks still at work are cancelled and awaited.
    """
    gate = asyncio.Semaphore(width)

    async def work(errand: Errand) -> None:
        async with gate:
            await _run_one(errand, threads=threads)

    tasks = [asyncio.create_task(work(errand)) for errand in errands]
    closed = False
    try:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    except GeneratorExit:
        closed = True  # nothing can be awaited any more
        raise
    finally:
        _give_up(errands, seconds)
        late = _cancelled(tasks)
        if late and not closed:
            await asyncio.wait(late, timeout=GRACE)
        for errand in errands:
            errand.leave_behind()
    _raise_from([task for task in tasks if task not in late])


def _cancelled(tasks: Sequence[asyncio.Task[None]]) -> list[asyncio.Task[None]]:
    late = [task for task in tasks if not task.done()]
    for task in late:
        task.cancel()
    return late


async def _run_one(errand: Errand, *, threads: bool) -> None:
    if errand.child.is_async or not threads:
        await errand.run_async()
        return
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    variables = contextvars.copy_context()
    _thread(lambda: _run_and_tell(variables, errand, loop, done))
    await done
    raise_fatal(errand)


def _run_and_tell(
    variables: contextvars.Context,
    errand: Errand,
    loop: asyncio.AbstractEventLoop,
    done: asyncio.Future[None],
) -> None:
    def tell() -> None:
        if not done.done():
            done.set_result(None)

    variables.run(errand.run)
    try:
        loop.call_soon_threadsafe(tell)
    except RuntimeError:
        return  # the loop was closed while the hook was at it: nobody waits


def _raise_from(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.cancelled():
            raise asyncio.CancelledError
        error = task.exception()
        if error is not None:
            raise error
