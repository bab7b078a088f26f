"""Leading the calls of a decorated agent through its life, whatever their shape."""

import functools
from collections.abc import AsyncGenerator, Callable
from typing import Any

from llmspell_otel.operations.agents import Life, follow
from llmspell_otel.operations.call import Shape

_Observed = Callable[..., Any]


def living(observed: _Observed, life: Life, shape: Shape) -> _Observed:
    """*observed*, whose calls are executions of *life* while somebody watches it."""
    made = _WRAPPERS[shape](observed, life)
    follow(made, life)
    return made


def _plain(observed: _Observed, life: Life) -> _Observed:
    @functools.wraps(observed)
    def lived(*args: Any, **kwargs: Any) -> Any:
        if not life.watched():
            return observed(*args, **kwargs)
        with life.execution():
            return observed(*args, **kwargs)

    return lived


def _coroutine(observed: _Observed, life: Life) -> _Observed:
    @functools.wraps(observed)
    async def lived(*args: Any, **kwargs: Any) -> Any:
        if not life.watched():
            return await observed(*args, **kwargs)
        async with life.execution_async():
            return await observed(*args, **kwargs)

    return lived


def _generator(observed: _Observed, life: Life) -> _Observed:
    @functools.wraps(observed)
    def lived(*args: Any, **kwargs: Any) -> Any:
        if not life.watched():
            return (yield from observed(*args, **kwargs))
        with life.execution():
            return (yield from observed(*args, **kwargs))

    return lived


def _async_generator(observed: _Observed, life: Life) -> _Observed:
    @functools.wraps(observed)
    def lived(*args: Any, **kwargs: Any) -> Any:
        made = observed(*args, **kwargs)
        return _passed_on(made, life) if life.watched() else made

    return lived


async def _passed_on(inner: AsyncGenerator[Any, Any], life: Life) -> AsyncGenerator[Any, Any]:
    """*inner*, item by item; what is sent or thrown in reaches it."""
    async with life.execution_async():
        try:
            step = inner.__anext__()
            while True:
                item = await step
                try:
                    sent = yield item
                except GeneratorExit:
                    raise
                except BaseException as error:
                    step = inner.athrow(error)
                else:
                    step = inner.asend(sent)
        except StopAsyncIteration:
            return
        finally:
            await inner.aclose()


_WRAPPERS = {
    Shape.SYNC: _plain,
    Shape.ASYNC: _coroutine,
    Shape.GENERATOR: _generator,
    Shape.ASYNC_GENERATOR: _async_generator,
}
