"""Bringing an advice to calls of every shape: the only place that knows sync from async."""

from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, Final

from llmspell_otel.guard import guard
from llmspell_otel.hooks.driving import Flow, Parked, drive, drive_async
from llmspell_otel.operations.call import GENERATING, Call, Held, Shape
from llmspell_otel.operations.operation import Aspect, Operation, current, outcome_of
from llmspell_otel.operations.phases import advice_for
from llmspell_otel.operations.ports import ports
from llmspell_otel.operations.scope import Scope
from llmspell_otel.operations.streams import (
    UNHELD,
    HeldOperation,
    generate,
    generate_async,
    items_of,
    items_of_async,
)
from llmspell_otel.points import Moment

_current = current.get


def invoke(aspect: Aspect, call: Call) -> Any:
    """Run *call* as an operation: the one door that adapters and decorators go through.

    Returns what the call's shape returns: a value, a coroutine, a generator or an asynchronous
    generator. Raises what the call raises, and `OperationCancelled` where a hook asked for it.
    """
    moments = aspect.moments
    if not moments.awake:
        return call.proceed()
    telemetry = ports.telemetry
    seen = telemetry is not None and (telemetry.active or telemetry.look())
    if seen or moments.switch.on or moments.listened:
        return _DRIVERS[aspect.shape](aspect, call)
    return call.proceed()


def _begin(aspect: Aspect, call: Call) -> "_Proceed | None":
    """Open the operation of *call*; None if it is part of one already, or cannot be opened."""
    try:
        above = _current()
        if above is not None and _nested(aspect, call, above):
            return None
        operation = Operation(aspect, call)
        operation.open()
        return _Proceed(operation)
    except Exception as error:
        guard.report("opening an operation", error)
        return None


def _nested(aspect: Aspect, call: Call, above: Operation) -> bool:
    """Whether this join point lies inside another one, *above*, of the very same call."""
    if above.aspect.kind is not aspect.kind:
        return False
    identity = aspect.codec.identity(call)
    return identity is not None and identity == above.aspect.codec.identity(above.call)


class _Proceed:
    """Calls the original function, and says which moment follows.

    A result that is still to be consumed is handed to the caller while the advice waits.
    """

    __slots__ = ("flow", "operation")

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.flow: Flow[Any] | None = None

    def perform(self) -> Moment:
        """Call it, blocking."""
        operation = self.operation
        operation.attempts += 1
        try:
            with Scope(operation):
                result = operation.call.proceed()
        except BaseException as error:
            operation.error = error
            return Moment.ERROR
        return self._took(result)

    async def perform_async(self) -> Moment:
        """Call it, awaiting."""
        operation = self.operation
        operation.attempts += 1
        try:
            with Scope(operation):
                result = operation.call.proceed()
                if operation.aspect.shape is Shape.ASYNC:
                    result = await result
        except BaseException as error:
            operation.error = error
            return Moment.ERROR
        return self._took(result)

    def _took(self, result: Any) -> Moment:
        operation = self.operation
        if operation.aspect.hands_over:
            try:
                handed = self._handed(result)
            except Exception as error:
                guard.report("reading a stream", error)
                handed = None
            if handed is not None:
                raise Parked(handed)
            operation.handed_over = False
        operation.responded(result)
        return Moment.AFTER

    def _handed(self, result: Any) -> Any:
        """What the caller gets in place of a *result* that is still to be consumed."""
        operation, flow = self.operation, self.flow
        aspect, call = operation.aspect, operation.call
        if aspect.shape in GENERATING:
            return HeldOperation(operation, flow), _driven(aspect.shape, result)
        codec = aspect.codec
        if codec.streams(call, result):
            from llmspell_otel.operations.proxies import StreamProxy  # brings wrapt: dear

            return StreamProxy(result, HeldOperation(operation, flow))
        return codec.hold(call, result, HeldOperation(operation, flow)) if aspect.holds else None

    def run(self) -> Any:
        """Go the way of the call, blocking; gives its output, or raises what it raises."""
        advice = advice_for(self.operation)
        if advice is not None:
            self.flow = advice(self.operation, self).steps()
            return drive(self.flow)
        try:
            return self._gave(self.perform())
        except Parked as parked:
            return parked.value

    async def run_async(self) -> Any:
        """The same, awaiting."""
        advice = advice_for(self.operation)
        if advice is not None:
            self.flow = advice(self.operation, self).steps()
            return await drive_async(self.flow)
        try:
            return self._gave(await self.perform_async())
        except Parked as parked:
            return parked.value

    def _gave(self, moment: Moment) -> Any:
        operation = self.operation
        if moment is Moment.ERROR and operation.error is not None:
            raise operation.error
        return operation.output


def _call(aspect: Aspect, call: Call) -> Any:
    proceed = _begin(aspect, call)
    if proceed is None:
        return call.proceed()
    try:
        output = proceed.run()
    except BaseException as error:
        proceed.operation.end(outcome_of(error), error)
        raise
    return _ended(proceed.operation, output)


async def _call_async(aspect: Aspect, call: Call) -> Any:
    proceed = _begin(aspect, call)
    if proceed is None:
        return await call.proceed()
    try:
        output = await proceed.run_async()
    except BaseException as error:
        proceed.operation.end(outcome_of(error), error)
        raise
    return _ended(proceed.operation, output)


def _ended(operation: Operation, output: Any) -> Any:
    if not operation.handed_over:
        operation.end("ok" if operation.refusal is None else "refused")
    return output


def _generator(aspect: Aspect, call: Call) -> Generator[Any, Any, Any]:
    def opening() -> tuple[Held, Any]:
        proceed = _begin(aspect, call)
        if proceed is None:
            return UNHELD, call.proceed()
        try:
            output = proceed.run()
        except BaseException as error:
            proceed.operation.end(outcome_of(error), error)
            raise
        return _opened(proceed.operation, output, items_of)

    return generate(opening)


def _async_generator(aspect: Aspect, call: Call) -> AsyncGenerator[Any, Any]:
    async def opening() -> tuple[Held, Any]:
        proceed = _begin(aspect, call)
        if proceed is None:
            return UNHELD, call.proceed()
        try:
            output = await proceed.run_async()
        except BaseException as error:
            proceed.operation.end(outcome_of(error), error)
            raise
        return _opened(proceed.operation, output, items_of_async)

    return generate_async(opening)


def _opened(operation: Operation, output: Any, items: Callable[[Any], Any]) -> tuple[Held, Any]:
    if operation.handed_over:
        held, inner = output
        return held, inner
    return UNHELD, items(_ended(operation, output))


def _driven(shape: Shape, result: Any) -> Any:
    """*result* as the generator that its consumer expects (another's may be none)."""
    if shape is Shape.GENERATOR:
        return result if isinstance(result, Generator) else items_of(result)
    return result if isinstance(result, AsyncGenerator) else items_of_async(result)


_DRIVERS: Final = {
    Shape.SYNC: _call,
    Shape.ASYNC: _call_async,
    Shape.GENERATOR: _generator,
    Shape.ASYNC_GENERATOR: _async_generator,
}
