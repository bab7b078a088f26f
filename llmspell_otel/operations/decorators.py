"""Operations of plain Python functions: what the decorators of `marks` make of them."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from opentelemetry.util.types import AttributeValue

from llmspell_otel.operations.agents import decorated
from llmspell_otel.operations.call import Call, Codec, Kind, Shape
from llmspell_otel.operations.drivers import invoke
from llmspell_otel.operations.operation import Aspect
from llmspell_otel.operations.points import MOMENTS
from llmspell_otel.operations.signatures import with_signature_of
from llmspell_otel.operations.targets import placed, register_target
from llmspell_otel.telemetry import semconv

_Function = TypeVar("_Function", bound=Callable[..., Any])
_FUNCTION = semconv.ToolType.FUNCTION.value
OnCancel = Literal["raise", "reply"]


_NO = inspect.Parameter.empty
_EITHER = inspect.Parameter.POSITIONAL_OR_KEYWORD
_PLAIN = (_EITHER, inspect.Parameter.KEYWORD_ONLY)


class FunctionCodec(Codec):
    """Reads calls of a plain Python function by its signature."""

    def __init__(
        self, function: Callable[..., Any], name: str, kind: Kind, on_cancel: OnCancel
    ) -> None:
        self._name = name
        self._kind = kind
        self._on_cancel = on_cancel
        self._signature = inspect.signature(function)
        self._request = _told_of(function) if kind is Kind.TOOL else {}
        parameters = list(self._signature.parameters.values())
        self._bound_first = (
            parameters[0].name if parameters and parameters[0].name in ("self", "cls") else None
        )
        plain = all(each.kind in _PLAIN for each in parameters)
        self._names = [each.name for each in parameters if plain and each.kind is _EITHER]
        self._defaults = {each.name: each.default for each in parameters if each.default is not _NO}
        self._all = {each.name for each in parameters} if plain else {None}
        simple = plain and self._bound_first is None and len(self._names) == len(parameters)
        self._full = len(parameters) if simple else -1
        """How many arguments by position are all there are, where they are nothing but that."""
        self._told = [each.name for each in parameters if each.name != self._bound_first]

    @property
    def needs_object(self) -> bool:
        """Whether the function is a method, and so cannot be called by its name alone."""
        return self._bound_first is not None

    def name(self, call: Call) -> str:
        """The name given to the decorator, or the function's own."""
        del call
        return self._name

    def input(self, call: Call) -> dict[str, Any]:
        """The arguments by name, defaults included; a method's own object left out."""
        given = self._plainly_bound(call)
        if given is not None:
            return given
        bound = self._signature.bind(*call.args, **call.kwargs)
        bound.apply_defaults()
        given = dict(bound.arguments)
        given.pop(self._bound_first or "", None)
        return given

    def _plainly_bound(self, call: Call) -> dict[str, Any] | None:
        """The same, for the ordinary case: none of the parameters is of a special sort."""
        names, args = self._names, call.args
        if len(args) == self._full and not call.kwargs:
            return dict(zip(names, args, strict=True))
        if len(args) > len(names):
            return None
        given = {**self._defaults, **dict(zip(names, args, strict=False)), **call.kwargs}
        if given.keys() != self._all:
            return None
        return {name: given[name] for name in self._told}

    def with_input(self, call: Call, given: Mapping[str, Any]) -> Call:
        """The same call with *given* arguments.

        Raises:
            TypeError: the function does not take them.
        """
        own = {self._bound_first: call.args[0]} if self._bound_first and call.args else {}
        args, keywords = placed(self._signature.parameters.values(), own | dict(given))
        self._signature.bind(*args, **keywords)
        return Call(call.target, call.instance, tuple(args), keywords)

    def request(self, call: Call) -> dict[str, AttributeValue]:
        """What a function tells of itself."""
        del call
        return self._request

    def request_content(self, call: Call) -> dict[str, AttributeValue]:
        """The arguments of a tool."""
        if self._kind is not Kind.TOOL:
            return {}
        return {semconv.TOOL_CALL_ARGUMENTS: self.input(call)}

    def response_content(self, call: Call, result: Any) -> dict[str, AttributeValue]:
        """The result of a tool."""
        del call
        return {semconv.TOOL_CALL_RESULT: result} if self._kind is Kind.TOOL else {}

    def agent(self, call: Call) -> object:
        """The function itself, if it is an agent."""
        return call.target if self._kind is Kind.AGENT else None

    def refuse(self, call: Call, reason: str) -> Any:
        """The refusal as text, where the decorator was told to reply.

        Raises:
            NotImplementedError: it was told to raise `OperationCancelled`, the default.
        """
        del call
        if self._on_cancel == "reply":
            return f"Refused: {reason}"
        raise NotImplementedError


def _told_of(tool: Callable[..., Any]) -> dict[str, AttributeValue]:
    told: dict[str, AttributeValue] = {semconv.TOOL_TYPE: _FUNCTION}
    if described := inspect.getdoc(_innermost(tool)):
        told[semconv.TOOL_DESCRIPTION] = described
    return told


def shape_of(function: Callable[..., Any]) -> Shape:
    """How *function* hands back its result."""
    # Plain decorators hide what a function is: look at the innermost one. Objects that wrap
    # a function may also have changed what it is (as `async_to_sync` does): look no further.
    inner = inspect.unwrap(function, stop=lambda each: not inspect.isroutine(each))
    for candidate in (inner, getattr(inner, "__call__", None)):  # noqa: B004 - an object's shape is its call's
        for matches, shape in _SHAPES:
            if matches(candidate):
                return shape
    return Shape.SYNC


def _innermost(function: Callable[..., Any]) -> Callable[..., Any]:
    return function.func if isinstance(function, functools.partial) else function


def name_of(function: Callable[..., Any]) -> str:
    """The name that *function* has by itself."""
    inner = _innermost(function)
    return str(getattr(inner, "__name__", type(inner).__name__))


_SHAPES: tuple[tuple[Callable[[Any], bool], Shape], ...] = (
    (inspect.iscoroutinefunction, Shape.ASYNC),
    (inspect.isasyncgenfunction, Shape.ASYNC_GENERATOR),
    (inspect.isgeneratorfunction, Shape.GENERATOR),
)


def observed(kind: Kind, function: _Function, name: str | None, on_cancel: OnCancel) -> _Function:
    """*function* as an operation of that *kind*.

    Raises:
        TypeError: it is a class, or nothing that can be called.
    """
    if not callable(function):
        raise TypeError(f"@{kind} cannot decorate {function!r}: it is not callable")
    if isinstance(function, type):
        raise TypeError(
            f"@{kind} cannot decorate the class {function.__name__}: decorate its methods"
        )
    name = name or name_of(function)
    codec = FunctionCodec(function, name, kind, on_cancel)
    aspect = Aspect(kind, codec, shape_of(function))
    made = _WRAPPERS[aspect.shape](aspect, function)
    if kind is Kind.AGENT:
        decorated(made, function, name)
    if not codec.needs_object:
        register_target(kind, name, made)
    return made  # type: ignore[return-value] # it has the signature of the function


def _plain(aspect: Aspect, function: Callable[..., Any]) -> Callable[..., Any]:
    moments = MOMENTS[aspect.kind]

    def watched(*args: Any, **kwargs: Any) -> Any:
        return invoke(aspect, Call(function, None, args, kwargs))

    def observed(*args: Any, **kwargs: Any) -> Any:
        return watched(*args, **kwargs) if moments.awake else function(*args, **kwargs)

    made = with_signature_of(function, watched, moments) or observed
    return functools.wraps(function)(made)


def _coroutine(aspect: Aspect, function: Callable[..., Any]) -> Callable[..., Any]:
    moments = MOMENTS[aspect.kind]

    async def watched(*args: Any, **kwargs: Any) -> Any:
        return await invoke(aspect, Call(function, None, args, kwargs))

    async def observed(*args: Any, **kwargs: Any) -> Any:
        return await (watched(*args, **kwargs) if moments.awake else function(*args, **kwargs))

    made = with_signature_of(function, watched, moments) or observed
    return functools.wraps(function)(made)


def _generator(aspect: Aspect, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def observed(*args: Any, **kwargs: Any) -> Any:
        return (yield from invoke(aspect, Call(function, None, args, kwargs)))

    return observed


def _async_generator(aspect: Aspect, function: Callable[..., Any]) -> Callable[..., Any]:
    # Driven by hand: an `async for` in between would lose `asend` and `athrow`.
    @functools.wraps(function)
    async def observed(*args: Any, **kwargs: Any) -> Any:
        inner = invoke(aspect, Call(function, None, args, kwargs))
        step, given = inner.asend, None
        try:
            while True:
                item = await step(given)
                try:
                    given = yield item
                    step = inner.asend
                except GeneratorExit:
                    await inner.aclose()
                    raise
                except BaseException as error:
                    step, given = inner.athrow, error
        except StopAsyncIteration:
            return

    return observed


_WRAPPERS = {
    Shape.SYNC: _plain,
    Shape.ASYNC: _coroutine,
    Shape.GENERATOR: _generator,
    Shape.ASYNC_GENERATOR: _async_generator,
}
