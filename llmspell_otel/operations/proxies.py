"""Streams of libraries, watched. Imported with the first of them."""

from typing import Any, Self

import wrapt

from llmspell_otel.guard import guard
from llmspell_otel.operations.streams import HeldOperation, closed


class StreamProxy(wrapt.ObjectProxy[Any]):
    """A library's own stream object, watched while its consumer pulls.

    It keeps the object's type and methods. An end comes by exhaustion, error, `close`, the end
    of a ``with``, or the collector; whichever is first counts.
    """

    def __init__(self, wrapped: Any, held: HeldOperation) -> None:
        super().__init__(wrapped)
        self._self_held = held

    def __iter__(self) -> "StreamProxy":
        return self

    def __next__(self) -> Any:
        held = self._self_held
        try:
            with held.pull():
                chunk = next(self.__wrapped__)
        except StopIteration:
            held.end()
            raise
        except BaseException as error:
            held.failed(error)
            raise
        try:
            return held.add(chunk)
        except BaseException as error:
            guard.contained("closing a stopped stream", self.__wrapped__.close)
            held.failed(error)
            raise

    def __aiter__(self) -> "StreamProxy":
        return self

    async def __anext__(self) -> Any:
        held = self._self_held
        try:
            with held.pull():
                chunk = await anext(self.__wrapped__)
        except StopAsyncIteration:
            await held.end_async()
            raise
        except BaseException as error:
            await held.failed_async(error)
            raise
        try:
            return await held.add_async(chunk)
        except BaseException as error:
            await closed(self.__wrapped__)
            await held.failed_async(error)
            raise

    def __enter__(self) -> Self:
        self.__wrapped__.__enter__()
        return self

    def __exit__(self, *exception: object) -> Any:
        try:
            return self.__wrapped__.__exit__(*exception)
        finally:
            # An error in the consumer's own block is not the stream's: it was closed early.
            self._self_held.end("closed")

    async def __aenter__(self) -> Self:
        await self.__wrapped__.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> Any:
        try:
            return await self.__wrapped__.__aexit__(*exception)
        finally:
            await self._self_held.end_async("closed")

    def close(self) -> Any:
        """Close the stream, as its library does, and end the operation."""
        try:
            result = self.__wrapped__.close()
        except BaseException:
            self._self_held.end("closed")
            raise
        if not hasattr(result, "__await__"):
            self._self_held.end("closed")
            return result
        return self._close_async(result)

    async def _close_async(self, closing: Any) -> Any:
        try:
            return await closing
        finally:
            await self._self_held.end_async("closed")

    async def aclose(self) -> Any:
        """Close the stream, as its library does, and end the operation."""
        try:
            return await self.__wrapped__.aclose()
        finally:
            await self._self_held.end_async("closed")

    def __del__(self) -> None:
        held: HeldOperation | None = getattr(self, "_self_held", None)
        if held is not None and not held.over:
            guard.contained("ending an abandoned stream", held.end, "abandoned")
