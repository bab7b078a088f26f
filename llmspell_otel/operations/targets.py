"""Operations that can be reached by name: where redirects and forks lead."""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final
from weakref import WeakValueDictionary

from llmspell_otel.hooks.results import Branch
from llmspell_otel.operations.call import Call, Kind, Shape
from llmspell_otel.operations.operation import Operation, fork_of

_targets: Final[WeakValueDictionary[tuple[Kind, str], Callable[..., Any]]] = WeakValueDictionary()


def register_target(kind: Kind, name: str, function: Callable[..., Any]) -> None:
    """Let *function* be reached as the operation of that *kind* and *name*; the last one wins.

    It is not kept alive: one that nobody else holds any more cannot be reached.
    """
    _targets[kind, name] = function


def target_named(kind: Kind, name: str) -> Callable[..., Any] | None:
    """The function behind a name, if one was registered."""
    return _targets.get((kind, name))


def targets_of(kind: Kind) -> dict[str, Callable[..., Any]]:
    """Every function of that *kind* that was registered, by its name."""
    return {name: function for (of, name), function in list(_targets.items()) if of is kind}


def branch_of(kind: Kind, branch: Branch, given: Mapping[str, Any]) -> Callable[[], Any]:
    """What a fork's *branch* means, ready to be run.

    Raises:
        LookupError: no operation of that kind has the branch's name.
    """
    if callable(branch):
        return branch
    name, own = (branch, given) if isinstance(branch, str) else branch
    function = target_named(kind, name)
    if function is None:
        raise LookupError(f"no {kind} named {name!r} can be reached from here")
    args, keywords = arranged(function, own)
    return partial(function, *args, **keywords)


def linked(operation: Operation, branch: Callable[[], Any]) -> Callable[[], Any]:
    """*branch*, with the operations that it starts linked to *operation*."""

    async def awaited(output: Awaitable[Any]) -> Any:
        fork_of.set(operation)  # it may be awaited elsewhere than where it was made
        return await output

    def begun() -> Any:
        fork_of.set(operation)
        output = branch()
        return awaited(output) if inspect.isawaitable(output) else output

    if not inspect.iscoroutinefunction(branch):
        return begun

    async def begun_async() -> Any:
        fork_of.set(operation)
        return await branch()

    return begun_async


def arranged(
    function: Callable[..., Any], given: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Arguments given by name, in the places that *function* takes them at."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin that does not tell its signature
        return [], dict(given)
    return placed(parameters, given)


def placed(
    parameters: Iterable[inspect.Parameter], given: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Arguments *given* by name as positional and keyword ones; unknown names as keywords."""
    rest = dict(given)
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    gap = False
    for parameter in parameters:
        if parameter.name not in rest:
            gap = gap or parameter.kind is not inspect.Parameter.VAR_POSITIONAL
            continue
        value = rest.pop(parameter.name)
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            positional.extend(value)
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            keywords |= value
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY or gap:
            keywords[parameter.name] = value
        else:
            positional.append(value)
    return positional, keywords | rest


def redirected(operation: Operation, target: str | Callable[..., Any]) -> Call:
    """The call of *operation*, made on *target* instead.

    Raises:
        LookupError: no operation of its kind has that name.
    """
    call, codec = operation.call, operation.aspect.codec
    if isinstance(target, str):
        try:
            return codec.redirect(call, target)
        except LookupError:
            named = target_named(operation.aspect.kind, target)
            if named is None:
                raise
            target = named

    def other(**given: Any) -> Any:
        args, keywords = arranged(target, given)
        return _shaped(operation, target(*args, **keywords), partial(codec.answer, call))

    return Call(other, call.instance, (), dict(operation.input))


def _shaped(operation: Operation, output: Any, answer: Callable[[Any], Any]) -> Any:
    """*output* of another function, handed back as the operation's own shape does."""
    if operation.aspect.shape is Shape.ASYNC:
        return _shaped_later(output, answer)
    if inspect.isawaitable(output):
        from llmspell_otel.hooks.waiting import engine_loop

        output = engine_loop.wait(output, None)
    return answer(output)


async def _shaped_later(output: Any, answer: Callable[[Any], Any]) -> Any:
    return answer(await output if inspect.isawaitable(output) else output)
