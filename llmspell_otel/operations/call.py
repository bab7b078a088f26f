"""What an adapter tells the engine about one library: a call, and the codec that reads it."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, Protocol

from opentelemetry.util.types import AttributeValue

Attributes = Mapping[str, AttributeValue]
"""Span attributes under their semantic-convention names, as a codec hands them over."""


class Kind(StrEnum):
    """What an operation is."""

    __hash__ = str.__hash__  # a table is looked up in every call; an enumeration's own is slow

    AGENT = "agent"
    TOOL = "tool"
    WORKFLOW = "workflow"
    STAGE = "stage"
    MODEL = "model"


class Shape(StrEnum):
    """How a function hands back its result."""

    __hash__ = str.__hash__

    SYNC = "sync"
    ASYNC = "async"
    GENERATOR = "generator"
    ASYNC_GENERATOR = "async_generator"


GENERATING: Final = (Shape.GENERATOR, Shape.ASYNC_GENERATOR)
"""The shapes whose result is consumed piece by piece."""


@dataclass(slots=True)
class Call:
    """One call through a join point: what was called, on what, with what.

    Never changed, but `dataclasses.replace`d; not frozen, because that makes it dear to make.
    """

    target: Callable[..., Any]
    instance: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def proceed(self) -> Any:
        """Call the original function."""
        return self.target(*self.args, **self.kwargs)

    def with_arguments(self, **changed: Any) -> "Call":
        """The same call with some keyword arguments replaced."""
        return replace(self, kwargs={**self.kwargs, **changed})


class Fold(Protocol):
    """Adds up the chunks of one stream into the response they amount to."""

    def add(self, chunk: Any) -> None:
        """Take in the next *chunk*."""
        ...

    def result(self) -> Any:
        """What the chunks so far amount to, in the shape that `Codec.response` reads."""
        ...


class Held(Protocol):
    """An operation that outlives its call: a stream, a background run."""

    def pull(self) -> AbstractContextManager[None]:
        """Make the operation current while something of it runs (never across a yield)."""
        ...

    def add(self, chunk: Any) -> Any:
        """Record a *chunk*; gives the chunk to hand on, which a hook may have changed."""
        ...

    async def add_async(self, chunk: Any) -> Any:
        """The same, awaiting asynchronous hooks."""
        ...

    def end(
        self, outcome: str = "ok", result: Any = ..., error: BaseException | None = None
    ) -> None:
        """End the operation, once; later calls do nothing."""
        ...

    async def end_async(
        self, outcome: str = "ok", result: Any = ..., error: BaseException | None = None
    ) -> None:
        """The same, awaiting asynchronous hooks."""
        ...

    def failed(self, error: BaseException) -> None:
        """End it with what running a part of it raised."""
        ...

    async def failed_async(self, error: BaseException) -> None:
        """The same, awaiting asynchronous hooks."""
        ...


class Codec:
    """Reads and writes one library's calls; knows nothing of spans, hooks or threads.

    Every method is pure. The engine calls them contained: a codec that raises costs
    telemetry, never the host's call. The defaults suit a plain keyword-only function.
    """

    def name(self, call: Call) -> str:
        """The operation's low-cardinality name: the agent, tool or model."""
        return getattr(call.target, "__name__", "call")

    def input(self, call: Call) -> dict[str, Any]:
        """The call's arguments by name, as hooks see and change them."""
        return dict(call.kwargs)

    def with_input(self, call: Call, given: Mapping[str, Any]) -> Call:
        """The *call* with its arguments replaced by *given* (all of them, by name)."""
        return replace(call, kwargs=dict(given))

    def request(self, call: Call) -> dict[str, AttributeValue]:
        """Attributes known before the call; content excluded."""
        del call
        return {}

    def response(self, call: Call, result: Any) -> dict[str, AttributeValue]:
        """Attributes known after the call; content excluded."""
        del call, result
        return {}

    def request_content(self, call: Call) -> dict[str, AttributeValue]:
        """What was sent, structured; asked for only when content capture is on."""
        del call
        return {}

    def response_content(self, call: Call, result: Any) -> dict[str, AttributeValue]:
        """What came back, structured; asked for only when content capture is on."""
        del call, result
        return {}

    def streams(self, call: Call, result: Any) -> bool:
        """Whether *result* is a stream object that the caller is going to iterate."""
        del call, result
        return False

    def hold(self, call: Call, result: Any, held: "Held") -> Any:
        """Keep the operation open past this *result*, for handles that no plain stream is.

        Return what the caller shall get in its place, and tell *held* when chunks come and
        when it ends; or return None (the default) when the call is over with its result.
        """
        del call, result, held

    def identity(self, call: Call) -> object:
        """What makes two nested joins one call (`run_sync` passing through `run`), or None."""
        del call
        return None

    def agent(self, call: Call) -> object:
        """The agent whose execution this *call* is, as the object that it is; None if unknown."""
        del call
        return None

    def transition(self, call: Call) -> tuple[str, str] | None:
        """From whom to whom a stage goes, where that is not from the stage before to this one."""
        del call
        return None

    def fold(self, call: Call) -> Fold:
        """A fresh fold for the stream of this *call*."""
        del call
        return Chunks()

    def answer(self, call: Call, value: Any) -> Any:
        """Hand back *value* in the shape the library's caller expects of this *call*."""
        del call
        return value

    def refuse(self, call: Call, reason: str) -> Any:
        """Refuse the *call* in the library's own shape.

        Raises:
            NotImplementedError: the library has no such shape; the engine then raises
                `OperationCancelled`, which is this join point's documented refusal.
        """
        raise NotImplementedError

    def replay(self, call: Call, chunks: Iterable[Any]) -> Any:
        """A stream, in the library's own shape, that yields *chunks* again."""
        del call
        return iter(chunks)

    def redirect(self, call: Call, target: str) -> Call:
        """The call that does the same on the *target* of the same kind (tool, agent, model).

        Raises:
            LookupError: nothing of that name can be reached from this *call*.
        """
        del call
        raise LookupError(target)

    def error_type(self, error: BaseException) -> str | None:
        """A provider's own error code for *error*, or None for its class name."""
        del error
        return None


class Chunks:
    """The plain fold: the list of all chunks."""

    __slots__ = ("_items",)

    def __init__(self) -> None:
        self._items: list[Any] = []

    def add(self, chunk: Any) -> None:
        """Keep *chunk*."""
        self._items.append(chunk)

    def result(self) -> list[Any]:
        """Every chunk so far."""
        return self._items
