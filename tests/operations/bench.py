"""Operations of every kind and shape, to try hooks on."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llmspell_otel.operations import Aspect, Call, Codec, Kind, Shape, invoke
from llmspell_otel.operations.marks import Decorator

BEFORE = {
    Kind.AGENT: "agent:before_execution",
    Kind.TOOL: "tool:before_execution",
    Kind.WORKFLOW: "workflow:before_start",
    Kind.STAGE: "workflow:before_stage",
    Kind.MODEL: "model:before_call",
}
AFTER = {
    Kind.AGENT: "agent:after_execution",
    Kind.TOOL: "tool:after_execution",
    Kind.WORKFLOW: "workflow:after_complete",
    Kind.STAGE: "workflow:after_stage",
    Kind.MODEL: "model:after_call",
}
ERROR = {
    Kind.AGENT: "agent:error",
    Kind.TOOL: "tool:error",
    Kind.WORKFLOW: "workflow:error",
    Kind.STAGE: "workflow:error",
    Kind.MODEL: "model:error",
}
KINDS = tuple(Kind)
SHAPES = tuple(Shape)
WHOLE = (Shape.SYNC, Shape.ASYNC)


class ModelCodec(Codec):
    """A model library in small: an answer is a mapping; calls can be made on another model."""

    def __init__(self, others: Mapping[str, Callable[..., Any]]) -> None:
        self._others = others

    def name(self, call: Call) -> str:
        """The model's."""
        return "gpt"

    def answer(self, call: Call, value: Any) -> Any:
        """Texts become answers."""
        return value

    def redirect(self, call: Call, target: str) -> Call:
        """The same call on another model.

        Raises:
            LookupError: there is no such model.
        """
        return replace(call, target=self._others[target])


class TroubleError(Exception):
    """What a call raises that fails."""


@dataclass
class Bench:
    """One operation, its calls, and how to run it whatever its shape."""

    kind: Kind = Kind.TOOL
    shape: Shape = Shape.SYNC
    fail: int = 0
    """How many of the first calls fail."""
    on_cancel: Any = "raise"
    calls: list[dict[str, Any]] = field(default_factory=list)
    made: int = 0
    operation: Callable[..., Any] = field(init=False)
    other: Callable[..., Any] = field(init=False)

    def __post_init__(self) -> None:
        self.operation = self._operation("work", self._work)
        self.other = self._operation("other", lambda text, times: f"other {text}")

    def _work(self, text: str, times: int) -> str:
        self.calls.append({"text": text, "times": times})
        self.made += 1
        if self.made <= self.fail:
            raise TroubleError(text)
        return text * times

    def _operation(self, name: str, work: Callable[..., str]) -> Callable[..., Any]:
        function = shaped(self.shape, work)
        function.__name__ = name
        if self.kind is Kind.MODEL:
            aspect = Aspect(self.kind, ModelCodec({"other": function}), self.shape)
            if name == "work":
                aspect = Aspect(self.kind, ModelCodec(self._models()), self.shape)
            return lambda text, times=2: invoke(
                aspect, Call(function, None, (), {"text": text, "times": times})
            )
        return Decorator(self.kind)(name, on_cancel=self.on_cancel)(function)

    def _models(self) -> Mapping[str, Callable[..., Any]]:
        return {"other": shaped(self.shape, lambda text, times: f"other {text}")}

    def run(self, text: str = "ab", **arguments: Any) -> Any:
        """What a caller gets: the value, or the joined chunks."""
        return run(self.operation(text, **arguments))


def shaped(shape: Shape, work: Callable[..., str]) -> Callable[..., Any]:
    """*work* as a function of that *shape*; generators give one character at a time."""

    def plain(text: str, times: int = 2) -> str:
        return work(text, times)

    async def coroutine(text: str, times: int = 2) -> str:
        await asyncio.sleep(0)
        return work(text, times)

    def generator(text: str, times: int = 2) -> Iterator[str]:
        yield from work(text, times)

    async def async_generator(text: str, times: int = 2) -> AsyncIterator[str]:
        for character in work(text, times):
            await asyncio.sleep(0)
            yield character

    return {
        Shape.SYNC: plain,
        Shape.ASYNC: coroutine,
        Shape.GENERATOR: generator,
        Shape.ASYNC_GENERATOR: async_generator,
    }[shape]


def run(result: Any) -> Any:
    """Bring a call of any shape to its end."""
    if inspect.isawaitable(result):
        return asyncio.run(_awaited(result))
    if isinstance(result, AsyncIterator):
        return asyncio.run(_joined(result))
    return "".join(result) if isinstance(result, Iterator) else result


async def _awaited(result: Any) -> Any:
    return await result


async def _joined(chunks: AsyncIterator[str]) -> str:
    return "".join([chunk async for chunk in chunks])
