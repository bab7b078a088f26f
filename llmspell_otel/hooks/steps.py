"""Asynchronous hooks, step by step: begun where they are called, bounded once they suspend.

Most hooks end with their first step, which costs little more than awaiting them. One that
suspends stands under its time limit from there on; all that wait in one loop for equally long
share one timer.
"""

import asyncio
import types
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from functools import partial
from inspect import CO_COROUTINE
from time import monotonic
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary, ref

from llmspell_otel.hooks.asking import Ask, Outcome, Pending, after, answered, failed
from llmspell_otel.hooks.conditions import conditions
from llmspell_otel.hooks.context import HookContext
from llmspell_otel.hooks.lateness import Begun, HookTimeoutError
from llmspell_otel.hooks.registration import Registration

abandoned: list[list[Any]] = []
"""Hooks that would not even be closed; kept so that they are not collected loudly."""
_ABANDONED_LIMIT: Final = 64


def _stepping(call: Callable[[Any], Any], go_on: object) -> Generator[Any, Any, Any]:
    """Ask *call* about each context that is sent, giving *go_on*, or what it waits for.

    An answer other than None ends it, as does an error. (To send to the hook's own coroutine
    would cost an exception for each that ends.)
    """
    while True:
        answer = yield from call((yield go_on))
        if answer is not None:
            return answer


if not TYPE_CHECKING:  # a plain generator to its callers, which may yet wait for coroutines
    _stepping = types.coroutine(_stepping)


class Stepping:
    """How the hooks of a point are asked up to where one suspends; itself the word to go on.

    None would not do for that word: it is what a bare yield waits for.
    """

    __slots__ = ("_call", "_hooks")

    def __init__(self, hooks: tuple[Registration, ...]) -> None:
        self._hooks = hooks
        self._call = _chain(hooks) if hooks[1:] else hooks[0].call

    def begun(self) -> Ask:
        """Asks until anything else than this object comes; not to be asked from within itself."""
        steps = _stepping(self._call, self)
        next(steps)
        return steps.send

    def pending(self, ask: Any, waited: Any) -> Pending:
        """A firing that *ask* found waiting for *waited*."""
        # From here on the hook is driven by itself; the others are kept until it has ended.
        held = ask.__self__
        own = held.gi_yieldfrom
        hook = self._hooks[0]
        if self._hooks[1:]:
            hook, own = own.cr_frame.f_locals["hook"], own.cr_await
        rest = Rest(own, waited, hook.timeout or conditions.timeout, held)
        return Pending(hook, after(hook, self._hooks), rest)


def stepping(hooks: tuple[Registration, ...]) -> Stepping | None:
    """How to ask *hooks* step by step; None where none of them is known to be asynchronous."""
    return Stepping(hooks) if any(steps_of(hook) for hook in hooks) else None


def steps_of(hook: Registration) -> bool:
    """Whether what a firing calls for *hook* gives a coroutine for certain."""
    call: Any = hook.call
    inner = call.func if isinstance(call, partial) else call
    own, by_class = getattr(inner, "__func__", inner), vars(type(inner)).get("__call__")
    return any(
        isinstance(each, FunctionType) and each.__code__.co_flags & CO_COROUTINE
        for each in (own, by_class)
    )


def _chain(hooks: tuple[Registration, ...]) -> Callable[[Any], Any]:
    """`asking.several` as a coroutine function."""
    rows: tuple[tuple[Ask, bool, Registration], ...] = tuple(
        (hook.call, steps_of(hook), hook) for hook in hooks
    )

    async def chain(context: HookContext) -> Outcome:
        for call, suspends, hook in rows:
            try:
                answer = (await call(context)) if suspends else call(context)
                if answer is None:
                    continue
            except Exception as error:
                outcome: Outcome = failed(hook, context, error, hooks)
            else:
                outcome = answered(hook, context, answer, hooks)
            if outcome is not None:
                return outcome
        return None

    return chain


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
    except StopIteration as end:
        return end.value
    return await Rest(awaitable, waited, seconds)


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

    __slots__ = ("_coroutine", "_gate", "_held", "_late", "_seconds", "_waited")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        waited: Any,
        seconds: float,
        held: object = None,
    ) -> None:
        self._coroutine = coroutine
        self._held = held
        """What would close the coroutine if it were let go before its end."""
        self._waited = waited
        self._seconds = seconds
        self._late = False
        self._gate: asyncio.Future[None] | None = None

    def __await__(self) -> Generator[Any, Any, Any]:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        requests = task.cancelling() if task is not None else 0
        waits = _waits(loop, self._seconds)
        waits[self] = monotonic() + self._seconds
        cancelled: asyncio.CancelledError | None = None
        try:
            while True:
                waited, error = self._waited, None
                try:
                    if waited is None or type(waited) is asyncio.Future:
                        yield waited  # for the task to wait for: `expire` can end that
                    else:
                        yield from self._gate_to(waited)
                except GeneratorExit:
                    self.close()
                    raise
                except asyncio.CancelledError as news:
                    cancelled = error = news
                    if self._passes_on(waited):
                        continue
                if self._step(error):
                    return self._waited
        finally:
            waits.pop(self, None)
            # A request to cancel the caller is the caller's, even if the hook swallowed it.
            if cancelled is not None and task is not None and task.cancelling() > requests:
                raise cancelled

    def _passes_on(self, waited: Any) -> bool:
        """Cancel what is waited for, as a task does it, and let that bring the news."""
        if self._late:
            self._give_up()
        return waited is not None and waited.cancel()

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
        if self._late and error is None and (self._waited is None or not self._waited.done()):
            self._give_up()
        self._gate = None
        try:
            own = self._coroutine
            self._waited = own.send(None) if error is None else own.throw(error)
        except StopIteration as end:
            self._waited = end.value
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
        with suppress(Exception, asyncio.CancelledError):  # it is late whatever it says
            self._coroutine.throw(asyncio.CancelledError())
            stubborn = True
        if stubborn:
            self.close()
        raise HookTimeoutError(self._seconds, stubborn=stubborn)

    def close(self) -> None:
        """End it where it is."""
        # It and those that it waits for: one that ignores even this is kept, asleep for good.
        chain: list[Any] = [self._held, self._coroutine]
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


class _Waits(OrderedDict[Rest, float]):
    """Those who wait in one loop for equally long, by deadline: one timer, set for the first."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        super().__init__()
        self.loop = ref(loop)
        self.seconds = seconds
        self.armed = False

    def arm(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        """Look after *seconds*; the timer stays when who it was set for waits no longer."""
        self.armed = True
        loop.call_later(seconds, self._look)

    def _look(self) -> None:
        now = monotonic()
        self.armed = False
        while self:
            rest, deadline = next(iter(self.items()))
            if deadline > now:
                self.arm(asyncio.get_running_loop(), deadline - now)
                return
            del self[rest]
            rest.expire()


_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[float, _Waits]] = WeakKeyDictionary()
_latest: list[_Waits] = []
"""Those asked for last: most programs have one loop, and one time limit."""


def _waits(loop: asyncio.AbstractEventLoop, seconds: float) -> _Waits:
    """Who waits in *loop* for *seconds*, with its timer set."""
    found = _latest[0] if _latest else None
    if found is None or found.loop() is not loop or found.seconds != seconds:
        of_loop = _loops.setdefault(loop, {})
        if seconds not in of_loop:
            of_loop[seconds] = _Waits(loop, seconds)
        found = of_loop[seconds]
        _latest[:] = (found,)
    if not found.armed:
        found.arm(loop, seconds)
    return found
