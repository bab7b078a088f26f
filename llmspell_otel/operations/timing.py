"""Time limits that really end a call, as far as Python can.

An asynchronous call is cancelled. A synchronous one cannot be stopped from outside: it runs in
a thread of its own, which is left behind at the limit and ends when the function does.
"""

import contextvars
import threading
from collections.abc import Callable
from typing import Any

from llmspell_otel.errors import TimeLimitError
from llmspell_otel.operations.call import Shape


def limited(
    target: Callable[..., Any], shape: Shape, seconds: float, kind: str, name: str
) -> Callable[..., Any]:
    """*target*, raising `TimeLimitError` after *seconds*; generators are left as they are."""
    if shape is Shape.ASYNC:
        return _limited_async(target, seconds, kind, name)
    return _limited(target, seconds, kind, name) if shape is Shape.SYNC else target


def _limited_async(
    target: Callable[..., Any], seconds: float, kind: str, name: str
) -> Callable[..., Any]:
    async def bounded(*args: Any, **kwargs: Any) -> Any:
        import asyncio

        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                return await target(*args, **kwargs)
        except TimeoutError:
            if scope.expired():
                raise TimeLimitError(kind, name, seconds) from None
            raise

    return bounded


def _limited(
    target: Callable[..., Any], seconds: float, kind: str, name: str
) -> Callable[..., Any]:
    def bounded(*args: Any, **kwargs: Any) -> Any:
        box: list[Any] = []

        def work() -> None:
            try:
                box.append((target(*args, **kwargs), None))
            except BaseException as error:
                box.append((None, error))

        context = contextvars.copy_context()
        # A daemon: what hangs for good must not keep the process from ending.
        thread = threading.Thread(
            target=context.run, args=(work,), name=f"llmspell-{kind}-{name}", daemon=True
        )
        thread.start()
        thread.join(seconds)
        if not box:
            raise TimeLimitError(kind, name, seconds)
        output, error = box[0]
        if error is not None:
            raise error
        return output

    return bounded
