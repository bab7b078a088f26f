"""`@agent`, `@tool`, `@workflow`, `@stage`: operations of plain Python functions."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, overload

from opentelemetry.util.types import AttributeValue

from llmspell_otel.operations.agents import Life
from llmspell_otel.operations.call import Call, Codec, Kind, Shape
from llmspell_otel.operations.drivers import invoke
from llmspell_otel.operations.living import living
from llmspell_otel.operations.operation import Aspect
from llmspell_otel.operations.targets import register_target
from llmspell_otel.telemetry import semconv

_Function = TypeVar("_Function", bound=Callable[..., Any])
OnCancel = Literal["raise", "reply"]


class FunctionCodec(Codec):
    """Reads calls of a plain Python function by its signature."""

    def __init__(
        self, function: Callable[..., Any], name: str, kind: Kind, on_cancel: OnCancel
    ) -> None:
        self._name = name
        self._kind = kind
        self._on_cancel = on_cancel
        self._signature = inspect.signature(function)
        self._described = inspect.getdoc(function)
        parameters = list(self._signature.parameters.values())
        self._bound_first = (
            parameters[0].name if parameters and parameters[0].name in ("self", "cls") else None
        )

    def name(self, call: Call) -> str:
        """The name given to the decorator, or the function's own."""
        del call
        return self._name

    def input(self, call: Call) -> dict[str, Any]:
        """The arguments by name, defaults included; a method's own object left out."""
        bound = self._signature.bind(*call.args, **call.kwargs)
        bound.apply_defaults()
        given = dict(bound.arguments)
        given.pop(self._bound_first or "", None)
        return given

    def with_input(self, call: Call, given: Mapping[str, Any]) -> Call:
        """The same call with *given* arguments; unknown names are passed on as keywords."""
        own = {self._bound_first: call.args[0]} if self._bound_first and call.args else {}
        arguments = own | dict(given)
        positional: list[Any] = []
        keywords: dict[str, Any] = {}
        for name, parameter in self._signature.parameters.items():
            if name not in arguments:
                continue
            value = arguments.pop(name)
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                positional.extend(value)
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                keywords |= value
            elif parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                keywords[name] = value
            else:
                positional.append(value)
        return Call(call.target, call.instance, tuple(positional), keywords | arguments)

    def request(self, call: Call) -> dict[str, AttributeValue]:
        """What a function tells of itself."""
        del call
        if self._kind is not Kind.TOOL:
            return {}
        told: dict[str, AttributeValue] = {semconv.TOOL_TYPE: semconv.ToolType.FUNCTION.value}
        if self._described:
            told[semconv.TOOL_DESCRIPTION] = self._described
        return told

    def request_content(self, call: Call) -> dict[str, AttributeValue]:
        """The arguments of a tool."""
        if self._kind is not Kind.TOOL:
            return {}
        return {semconv.TOOL_CALL_ARGUMENTS: self.input(call)}

    def response_content(self, call: Call, result: Any) -> dict[str, AttributeValue]:
        """The result of a tool."""
        del call
        return {semconv.TOOL_CALL_RESULT: result} if self._kind is Kind.TOOL else {}

    def refuse(self, call: Call, reason: str) -> Any:
        """The refusal as text, where the decorator was told to reply.

        Raises:
            NotImplementedError: it was told to raise `OperationCancelled`, the default.
        """
        del call
        if self._on_cancel == "reply":
            return f"Refused: {reason}"
        raise NotImplementedError


def shape_of(function: Callable[..., Any]) -> Shape:
    """How *function* hands back its result."""
    # Plain decorators hide what a function is: look at the innermost one.
    inner = inspect.unwrap(function)
    return next((shape for matches, shape in _SHAPES if matches(inner)), Shape.SYNC)


_SHAPES: tuple[tuple[Callable[[Any], bool], Shape], ...] = (
    (inspect.iscoroutinefunction, Shape.ASYNC),
    (inspect.isasyncgenfunction, Shape.ASYNC_GENERATOR),
    (inspect.isgeneratorfunction, Shape.GENERATOR),
)


def _observed(kind: Kind, function: _Function, name: str | None, on_cancel: OnCancel) -> _Function:
    name = name or str(getattr(function, "__name__", "call"))
    codec = FunctionCodec(function, name, kind, on_cancel)
    aspect = Aspect(kind, codec, shape_of(function))
    observed = _WRAPPERS[aspect.shape](aspect, function)
    if kind is Kind.AGENT:
        observed = living(observed, Life(name), aspect.shape)
    register_target(kind, name, observed)
    return observed  # type: ignore[return-value] # it has the signature of the function


def _plain(aspect: Aspect, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def observed(*args: Any, **kwargs: Any) -> Any:
        return invoke(aspect, Call(function, None, args, kwargs))

    return observed


def _coroutine(aspect: Aspect, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def observed(*args: Any, **kwargs: Any) -> Any:
        return await invoke(aspect, Call(function, None, args, kwargs))

    return observed


def _generator(aspect: Aspect, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def observed(*args: Any, **kwargs: Any) -> Any:
        return (yield from invoke(aspect, Call(function, None, args, kwargs)))

    return observed


def _async_generator(aspect: Aspect, function: Callable[..., Any]) -> Callable[..., Any]:
    # Marked rather than written as one: an `async for` in between would lose `asend`.
    @functools.wraps(function)
    def observed(*args: Any, **kwargs: Any) -> Any:
        return invoke(aspect, Call(function, None, args, kwargs))

    return observed


_WRAPPERS = {
    Shape.SYNC: _plain,
    Shape.ASYNC: _coroutine,
    Shape.GENERATOR: _generator,
    Shape.ASYNC_GENERATOR: _async_generator,
}


class Decorator:
    """One of the four decorators: ``@tool``, ``@tool("name")``, ``@tool(on_cancel="reply")``."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self.__name__ = kind.value
        self.__doc__ = f"Make a function an operation of kind {kind.value!r}."

    @overload
    def __call__(self, function: _Function, /) -> _Function: ...

    @overload
    def __call__(
        self, name: str | None = None, /, *, on_cancel: OnCancel = "raise"
    ) -> Callable[[_Function], _Function]: ...

    def __call__(self, given: Any = None, /, *, on_cancel: OnCancel = "raise") -> Any:
        """Decorate a function of any shape: plain, coroutine, generator, asynchronous generator.

        Args:
            given: The function, or the operation's name (the function's own if None).
            on_cancel: What a hook's `Cancel` does: ``raise`` raises `OperationCancelled`,
                ``reply`` returns a refusal that a model can read.
        """
        if callable(given):
            return _observed(self._kind, given, None, on_cancel)

        def decorate(function: _Function) -> _Function:
            return _observed(self._kind, function, given, on_cancel)

        return decorate


agent = Decorator(Kind.AGENT)
tool = Decorator(Kind.TOOL)
workflow = Decorator(Kind.WORKFLOW)
stage = Decorator(Kind.STAGE)
