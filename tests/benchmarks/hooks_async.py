"""What firing a point costs asynchronous code, beside every rival that can await its listeners.

Ours stands with isolation, results, breaker and hang guard on; of the rivals none has more than
isolation. Each runs to where all k listeners have ended.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import aiosignal
import blinker
import psygnal
from psygnal import set_async_backend
from pyee.asyncio import AsyncIOEventEmitter

from llmspell_otel.hooks import Hook
from llmspell_otel.hooks.breaker import BreakerProfile
from llmspell_otel.hooks.context import Component, HookContext
from llmspell_otel.hooks.driving import consult_async
from llmspell_otel.hooks.registry import registry

try:  # its wheel brings a top-level package `tests`, so that it is no dependency of ours
    import eventkit
except ImportError:
    eventkit = None

AsyncRun = Callable[[int], Coroutine[Any, Any, None]]
PATIENT = BreakerProfile(slow_call_duration=60, open_duration=3600)
_kept: list[Any] = []


async def nothing(context: object) -> None:
    """A hook that ends at once."""


async def suspends(context: object) -> None:
    """A hook that waits for the next turn of the loop."""
    await asyncio.sleep(0)


def _repeat(call: Callable[[], Awaitable[object]]) -> AsyncRun:
    async def run(times: int) -> None:
        for _ in range(times):
            await call()

    return run


def ours(hook: Callable[[Any], Any], count: int, *, guarded: bool = False) -> AsyncRun:
    """Firing a point with *count* hooks, *guarded* as callers do it or not."""
    slot = registry.slot(f"custom:benchmark_{hook.__name__}_{count}")
    for _ in range(count - len(slot.registered())):
        Hook.register(slot.point, hook, breaker=PATIENT)
    context = HookContext(slot.point, Component("tool", "x"), {})

    async def fired(times: int) -> None:
        for _ in range(times):
            await consult_async(slot, context)

    async def looked(times: int) -> None:
        for _ in range(times):
            if slot.hooks:
                await consult_async(slot, context)

    return looked if guarded else fired


def _bare(hook: Callable[[Any], Any], count: int) -> AsyncRun:
    hooks = (hook,) * count

    async def run(times: int) -> None:
        for _ in range(times):
            for each in hooks:
                await each(None)

    return run


def _limited(hook: Callable[[Any], Any]) -> AsyncRun:
    async def run(times: int) -> None:
        for _ in range(times):
            async with asyncio.timeout(1):
                await hook(None)

    return run


def _listeners(count: int) -> list[Callable[[object], Any]]:
    def made() -> Callable[..., Any]:
        async def listener(_: object, **__: object) -> None: ...

        return listener

    return [made() for _ in range(count)]


def _pyee(listeners: list[Any]) -> AsyncRun:
    async def run(times: int) -> None:
        emitter = AsyncIOEventEmitter()
        for each in listeners:
            emitter.on("x", each)
        for _ in range(times):
            emitter.emit("x", None)
            await emitter.wait_for_complete()

    return run


def _calling(listener: Callable[[object], Any]) -> Callable[[object], Any]:
    def call(value: object) -> Any:  # another object each time: of equal ones it keeps one
        return listener(value)

    return call


async def _until(ended: list[None], count: int) -> None:
    """Let the loop turn until *count* have ended: these rivals have nothing to await for that."""
    turn = asyncio.sleep
    while len(ended) < count:
        await turn(0)


def _eventkit(count: int) -> AsyncRun:
    ended: list[None] = []

    async def listener(_: object) -> None:
        ended.append(None)

    event = eventkit.Event()
    for _ in range(count):
        event += _calling(listener)

    async def run(times: int) -> None:
        for _ in range(times):
            ended.clear()
            event.emit(None)
            await _until(ended, count)

    return run


class _Source:
    sent = psygnal.Signal(object)


def _psygnal(count: int) -> AsyncRun:
    source = _Source()
    ended: list[None] = []

    def made() -> Callable[[object], Any]:
        async def listener(_: object) -> None:
            ended.append(None)

        return listener

    async def run(times: int) -> None:
        backend = set_async_backend("asyncio")
        worker = asyncio.ensure_future(backend.run())
        await asyncio.sleep(0)
        listeners = [made() for _ in range(count)]
        for each in listeners:
            source.sent.connect(each)
        for _ in range(times):
            ended.clear()
            source.sent.emit(None)
            await _until(ended, count)
        source.sent.disconnect()
        worker.cancel()
        await asyncio.wait([worker])
        psygnal._async.clear_async_backend()  # there is no other way to its end

    return run


def _rivals(count: int) -> dict[str, AsyncRun]:
    listeners = _listeners(count)
    _kept.append(listeners)  # blinker holds its receivers weakly
    signal, sender = blinker.Signal(), aiosignal.Signal[object](None)
    for each in listeners:
        signal.connect(each)
        sender.append(each)
    sender.freeze()
    rivals = {
        "aiosignal": _repeat(lambda: sender.send(None)),
        "blinker": _repeat(lambda: signal.send_async(None)),
        "psygnal": _psygnal(count),
        "pyee": _pyee(listeners),
    }
    return rivals | ({"eventkit": _eventkit(count)} if eventkit is not None else {})


def cases(counts: tuple[int, ...]) -> dict[str, AsyncRun]:
    """Every case by its name."""
    made: dict[str, AsyncRun] = {}
    for count in counts:
        made |= {
            f"floor: k bare awaits, k={count}": _bare(nothing, count),
            f"guard + await a firing, k={count}": ours(nothing, count, guarded=True),
            f"await a firing, k={count}": ours(nothing, count),
            **{f"{name}, awaited, k={count}": run for name, run in _rivals(count).items()},
        }
    for hook, what in ((nothing, "ends at once"), (suspends, "suspends")):
        made |= {
            f"await a hook that {what}": _bare(hook, 1),
            f"fire it, hang guard and all ({what})": ours(hook, 1),
            f"await it under asyncio.timeout ({what})": _limited(hook),
        }
    return made
