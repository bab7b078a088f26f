"""Keeping back the usage chunk of a chat stream from a caller who did not ask for it."""

from typing import Any


class _Sifted:
    """An SDK stream's inner iterator, without the usage chunk."""

    __slots__ = ("_chunks", "_usages")

    def __init__(self, chunks: Any, usages: dict[str, Any]) -> None:
        self._chunks = chunks
        self._usages = usages

    def __iter__(self) -> "_Sifted":
        return self

    def __next__(self) -> Any:
        while True:
            chunk = self._chunks.__next__()
            if not self._keeps(chunk):
                return chunk

    def __aiter__(self) -> "_Sifted":
        return self

    async def __anext__(self) -> Any:
        while True:
            chunk = await self._chunks.__anext__()
            if not self._keeps(chunk):
                return chunk

    def _keeps(self, chunk: Any) -> bool:
        # Only the additional chunk has usage and no choices; some servers repeat usage elsewhere.
        if getattr(chunk, "choices", True) or getattr(chunk, "usage", None) is None:
            return False
        self._usages[chunk.id] = chunk.usage
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chunks, name)


def sift(stream: Any, usages: dict[str, Any]) -> Any:
    """The same *stream*; its usage chunk goes to *usages*, under the completion's id."""
    if hasattr(stream, "_iterator"):
        stream._iterator = _Sifted(stream._iterator, usages)  # noqa: SLF001 - all reading passes it
    return stream
