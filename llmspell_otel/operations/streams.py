"""Operations that outlive their call: streams, generators, background runs."""

import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Mapping,
)
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from llmspell_otel.errors import OperationCancelled
from llmspell_otel.guard import guard
from llmspell_otel.hooks.context import HookContext
from llmspell_otel.hooks.driving import Flow, consult, consult_async, drive, drive_async
from llmspell_otel.hooks.results import Cancel, Replace
from llmspell_otel.hooks.store import MISSING
from llmspell_otel.operations.asking import hook_context
from llmspell_otel.operations.call import Fold, Held
from llmspell_otel.operations.facts import Chunked
from llmspell_otel.operations.operation import Operation, outcome_of
from llmspell_otel.operations.scope import Scope
from llmspell_otel.points import Moment


class HeldOperation:
    """An operation kept open past its call, until somebody says that it is over."""

    __slots__ = ("__weakref__", "_flow", "_fold", "operation", "over")

    def __init__(self, operation: Operation, flow: Flow[Any] | None) -> None:
        self.operation = operation
        self._flow = flow
        self._fold: Fold | None = None
        self.over = False
        operation.handed_over = True

    def pull(self) -> Scope:
        """Make the operation current while something of it runs (never across a yield)."""
        return Scope(self.operation)

    # -- chunks

    def add(self, chunk: Any) -> Any:
        """Record a *chunk*; gives the one to hand on, which a hook may have changed.

        Raises:
            OperationCancelled: a hook stopped the stream at this chunk.
        """
        self._record(chunk)
        slot = self.operation.moments.chunk
        if slot is None or not slot.hooks:
            return chunk
        context = self._chunk_context(chunk)
        with Scope(self.operation):
            result = drive(consult(slot, context))
        return self._judge(context, result)

    async def add_async(self, chunk: Any) -> Any:
        """The same, awaiting asynchronous hooks."""
        self._record(chunk)
        slot = self.operation.moments.chunk
        if slot is None or not slot.hooks:
            return chunk
        context = self._chunk_context(chunk)
        with Scope(self.operation):
            result = await consult_async(slot, context)
        return self._judge(context, result)

    def _record(self, chunk: Any) -> None:
        operation = self.operation
        if operation.chunks is None:
            operation.chunks = Chunked(operation.began)
            codec = operation.aspect.codec
            self._fold = guard.contained("beginning a stream", codec.fold, operation.call)
            if operation.to_store:
                operation.kept = []
        operation.chunks.tick()
        if operation.kept is not None:
            operation.kept.append(chunk)
        if self._fold is not None:
            try:
                self._fold.add(chunk)
            except Exception as error:
                guard.report("reading a chunk", error)

    def _chunk_context(self, chunk: Any) -> HookContext:
        context = hook_context(self.operation, Moment.CHUNK)
        context.data["output"] = chunk
        return context

    def _judge(self, context: HookContext, result: object) -> Any:
        if isinstance(result, Cancel):
            raise OperationCancelled(
                result.reason,
                kind=self.operation.aspect.kind.value,
                name=self.operation.name,
            )
        return result.value if isinstance(result, Replace) else context.data["output"]

    # -- the end

    def end(
        self, outcome: str = "ok", result: Any = MISSING, error: BaseException | None = None
    ) -> None:
        """End the operation, once; later calls do nothing."""
        moment = self._ending(outcome, result, error)
        if moment is None:
            return
        try:
            if self._flow is not None:
                drive(self._flow, moment)
        except BaseException as raised:
            self._raised(raised, error)
        finally:
            self.operation.end(outcome, error)

    async def end_async(
        self, outcome: str = "ok", result: Any = MISSING, error: BaseException | None = None
    ) -> None:
        """The same, awaiting asynchronous hooks."""
        moment = self._ending(outcome, result, error)
        if moment is None:
            return
        try:
            if self._flow is not None:
                await drive_async(self._flow, moment)
        except BaseException as raised:
            self._raised(raised, error)
        finally:
            self.operation.end(outcome, error)

    def _ending(self, outcome: str, result: Any, error: BaseException | None) -> Moment | None:
        if self.over:
            return None
        self.over = True
        operation = self.operation
        operation.partial = outcome != "ok"
        if result is MISSING and self._fold is not None:
            result = guard.contained("reading a stream", self._fold.result)
        if result is not MISSING:
            operation.responded(result)
        operation.error = error
        return Moment.AFTER if error is None else Moment.ERROR

    def _raised(self, raised: BaseException, error: BaseException | None) -> None:
        # The advice raises the stream's own error, which its consumer has already been given.
        if raised is not error and isinstance(raised, Exception):
            guard.report("asking hooks at the end of a stream", raised)
        elif raised is not error:
            raise raised

    def failed(self, error: BaseException) -> None:
        """End the operation with what pulling a chunk raised."""
        self.end(outcome_of(error), error=None if isinstance(error, GeneratorExit) else error)

    async def failed_async(self, error: BaseException) -> None:
        """The same, awaiting asynchronous hooks."""
        await self.end_async(
            outcome_of(error), error=None if isinstance(error, GeneratorExit) else error
        )


async def closed(stream: Any) -> None:
    """Close a library's stream that a hook has stopped, by whatever name it has for that."""
    close = getattr(stream, "aclose", None) or getattr(stream, "close", None)
    try:
        closing = close() if close is not None else None
        if inspect.isawaitable(closing):
            await closing
    except Exception as error:
        guard.report("closing a stopped stream", error)


def generate(opening: Callable[[], tuple[Held, Any]]) -> Generator[Any, Any, Any]:
    """Open, then drive the generator for a consumer; current only while it runs."""
    held, inner = opening()
    step, given = inner.send, None
    try:
        while True:
            with held.pull():
                item = step(given)
            item = held.add(item)
            try:
                given = yield item
                step = inner.send
            except GeneratorExit:
                with held.pull():
                    inner.close()
                raise
            except BaseException as error:
                step, given = inner.throw, error
    except StopIteration as done:
        held.end()
        return done.value
    except BaseException as error:
        guard.contained("closing a stopped generator", inner.close)
        held.failed(error)
        raise


async def generate_async(
    opening: Callable[[], Awaitable[tuple[Held, Any]]],
) -> AsyncGenerator[Any, Any]:
    """Open, then drive the asynchronous generator for its consumer likewise."""
    held, inner = await opening()
    step, given = inner.asend, None
    try:
        while True:
            with held.pull():
                item = await step(given)
            item = await held.add_async(item)
            try:
                given = yield item
                step = inner.asend
            except GeneratorExit:
                with held.pull():
                    await inner.aclose()
                raise
            except BaseException as error:
                step, given = inner.athrow, error
    except StopAsyncIteration:
        await held.end_async()
    except BaseException as error:
        await closed(inner)
        await held.failed_async(error)
        raise


class _Unheld:
    """Stands in where a generator is not an operation of its own."""

    def pull(self) -> AbstractContextManager[None]:
        return nullcontext()

    def add(self, chunk: Any) -> Any:
        return chunk

    async def add_async(self, chunk: Any) -> Any:
        return chunk

    def end(self, *_: Any, **__: Any) -> None:
        """Nothing ends."""

    async def end_async(self, *_: Any, **__: Any) -> None:
        """Nothing ends."""

    def failed(self, error: BaseException) -> None:
        """Nothing ends."""

    async def failed_async(self, error: BaseException) -> None:
        """Nothing ends."""


UNHELD: Final = _Unheld()


def items_of(value: Any) -> Generator[Any, Any, None]:
    """What a generator gives whose hook answered with *value*: its items, or itself."""
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping)):
        yield from value
    else:
        yield value


async def items_of_async(value: Any) -> AsyncGenerator[Any, None]:
    """The same, asynchronously."""
    if isinstance(value, AsyncIterable):
        async for item in value:
            yield item
        return
    for item in items_of(value):
        yield item
