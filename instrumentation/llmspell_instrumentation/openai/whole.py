"""Responses whose body is read later: `with_streaming_response` without a stream of events."""

from typing import Any

_NOTHING = object()


class Whole:
    """An unread response as a stream of one chunk: what its `parse()` gives."""

    def __init__(self, response: Any) -> None:
        self.response = response
        self._parse = response.parse
        self._read = False

    def __iter__(self) -> "Whole":
        return self

    def __next__(self) -> Any:
        if self._read:
            raise StopIteration
        self._read = True
        return self._parse()

    def close(self) -> Any:
        """Nothing is held here: the response closes itself."""


class AsyncWhole(Whole):
    """The same, for asynchronous clients."""

    def __aiter__(self) -> "AsyncWhole":
        return self

    async def __anext__(self) -> Any:
        if self._read:
            raise StopAsyncIteration
        self._read = True
        return await self._parse()

    async def close(self) -> None:
        """Nothing is held here: the response closes itself."""


class WholeFold:
    """The fold of a `Whole`: its one chunk is the response."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: Any = None

    def add(self, chunk: Any) -> None:
        """Keep *chunk*."""
        self._last = chunk

    def result(self) -> Any:
        """The response, or None when it was never parsed."""
        return self._last


def watch(response: Any, stream: Any) -> Any:
    """The same *response*, whose `parse` and `close` go by the observed *stream* of it."""
    (_watch_async if isinstance(stream, AsyncWhole) else _watch)(response, stream)
    return response


def _watch(response: Any, stream: Any) -> None:
    parse, close = response.parse, response.close
    parsed: Any = _NOTHING

    def watched_parse(*, to: Any = None) -> Any:
        nonlocal parsed
        if to is not None:
            return parse(to=to)
        if parsed is _NOTHING:
            parsed = next(stream)
            next(stream, None)
        return parsed

    def watched_close() -> None:
        if parsed is _NOTHING and _has_body(response):
            watched_parse()
        stream.close()
        close()

    response.parse, response.close = watched_parse, watched_close


def _watch_async(response: Any, stream: Any) -> None:
    parse, close = response.parse, response.close
    parsed: Any = _NOTHING

    async def watched_parse(*, to: Any = None) -> Any:
        nonlocal parsed
        if to is not None:
            return await parse(to=to)
        if parsed is _NOTHING:
            parsed = await anext(stream)
            await anext(stream, None)
        return parsed

    async def watched_close() -> None:
        if parsed is _NOTHING and _has_body(response):
            await watched_parse()
        await stream.close()
        await close()

    response.parse, response.close = watched_parse, watched_close


def _has_body(response: Any) -> bool:
    """Whether the caller read the body, by whatever way keeps it."""
    return hasattr(response.http_response, "_content")
