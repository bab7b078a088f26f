"""What workflows want done in the world: a stage run, branches run at once, a step undone."""

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any

from llmspell_otel.hooks.driving import Flow, drive, drive_async
from llmspell_otel.hooks.waiting import engine_loop
from llmspell_otel.operations.call import Call, Codec, Kind, Shape
from llmspell_otel.operations.drivers import invoke
from llmspell_otel.operations.operation import Aspect
from llmspell_otel.operations.timing import limited

Function = Callable[[Any], Any]


class ValueCodec(Codec):
    """Reads the calls of stages and workflows: one value goes in, one comes out."""

    def __init__(self, name: str) -> None:
        self._name = name

    def name(self, call: Call) -> str:
        """The stage's or workflow's name."""
        del call
        return self._name

    def input(self, call: Call) -> dict[str, Any]:
        """The one value, as ``input``."""
        return {"input": call.args[0]}

    def with_input(self, call: Call, given: Mapping[str, Any]) -> Call:
        """The same call with another value."""
        return replace(call, args=(given["input"],)) if "input" in given else call


def aspect_of(kind: Kind, name: str, shape: Shape) -> Aspect:
    """How the engine reads a call of that *name* with one value."""
    return Aspect(kind, ValueCodec(name), shape)


def operation_of(aspect: Aspect, target: Function, value: Any, seconds: float | None) -> Any:
    """*target* called with *value* as an operation, within *seconds*."""
    call = Call(target, None, (value,), {})
    if seconds is not None:
        name = aspect.codec.name(call)
        bounded = limited(target, aspect.shape, seconds, aspect.kind.value, name)
        call = replace(call, target=bounded)
    return invoke(aspect, call)


@dataclass(frozen=True, slots=True)
class RunStage:
    """Run a step as an operation of kind stage."""

    name: str
    function: Function
    value: Any
    seconds: float | None

    def perform(self) -> Any:
        """Do it, blocking."""
        aspect = aspect_of(Kind.STAGE, self.name, Shape.SYNC)
        return operation_of(aspect, self._blocking, self.value, self.seconds)

    async def perform_async(self) -> Any:
        """Do it, awaiting."""
        aspect = aspect_of(Kind.STAGE, self.name, Shape.ASYNC)
        return await operation_of(aspect, self._awaiting, self.value, self.seconds)

    def _blocking(self, value: Any) -> Any:
        return settled(self.function, value)

    async def _awaiting(self, value: Any) -> Any:
        return await settled_async(self.function, value)


@dataclass(frozen=True, slots=True)
class Settle:
    """Call a function of the application's that is no stage: a condition, a compensation."""

    function: Function
    value: Any

    def perform(self) -> Any:
        """Do it, blocking."""
        return settled(self.function, self.value)

    async def perform_async(self) -> Any:
        """Do it, awaiting."""
        return await settled_async(self.function, self.value)


def settled(function: Function, value: Any) -> Any:
    """What *function* gives, waited for."""
    run = getattr(function, "run", None)
    if run is not None:  # a workflow within a workflow
        return run(value)
    output = function(value)
    return engine_loop.wait(output, None) if isinstance(output, Awaitable) else output


async def settled_async(function: Function, value: Any) -> Any:
    """What *function* gives, awaited."""
    run = getattr(function, "run_async", None)
    if run is not None:
        return await run(value)
    output = function(value)
    return await output if inspect.isawaitable(output) else output


@dataclass(frozen=True, slots=True)
class Gather:
    """Run flows at once, *width* at most; gives outputs and exceptions in their order.

    With *fail_fast* the first failure stops the others: tasks are cancelled; of threads those
    that have not begun do not begin.
    """

    flows: Sequence[Flow[Any]]
    width: int
    fail_fast: bool

    def perform(self) -> list[Any]:
        """Do it in threads, each in a copy of the caller's context."""
        pool = ThreadPoolExecutor(self.width, thread_name_prefix="llmspell-branch")
        futures = [pool.submit(contextvars.copy_context().run, drive, flow) for flow in self.flows]
        try:
            wait(futures, return_when=FIRST_EXCEPTION if self.fail_fast else "ALL_COMPLETED")
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return [
            asyncio.CancelledError("stopped early")
            if future.cancelled()
            else future.exception() or future.result()
            for future in futures
        ]

    async def perform_async(self) -> list[Any]:
        """Do it in tasks; on every way out none is left."""
        gate = asyncio.Semaphore(self.width)

        async def one(flow: Flow[Any]) -> Any:
            async with gate:
                return await drive_async(flow)

        tasks = [asyncio.create_task(one(flow)) for flow in self.flows]
        until = asyncio.FIRST_EXCEPTION if self.fail_fast else asyncio.ALL_COMPLETED
        try:
            await asyncio.wait(tasks, return_when=until)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        return results
