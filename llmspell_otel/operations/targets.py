"""Operations that can be reached by name: where redirects and forks lead."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from llmspell_otel.hooks.results import Branch
from llmspell_otel.hooks.waiting import engine_loop
from llmspell_otel.operations.call import Call, Kind, Shape
from llmspell_otel.operations.operation import Operation

_targets: Final[dict[tuple[Kind, str], Callable[..., Any]]] = {}


def register_target(kind: Kind, name: str, function: Callable[..., Any]) -> None:
    """Let *function* be reached as the operation of that *kind* and *name*; the last one wins."""
    _targets[kind, name] = function


def target_named(kind: Kind, name: str) -> Callable[..., Any] | None:
    """The function behind a name, if one was registered."""
    return _targets.get((kind, name))


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
    return partial(function, **own)


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
        return _shaped(operation, target(**given), partial(codec.answer, call))

    return Call(other, call.instance, (), dict(operation.input))


def _shaped(operation: Operation, output: Any, answer: Callable[[Any], Any]) -> Any:
    """*output* of another function, handed back as the operation's own shape does."""
    if operation.aspect.shape is Shape.ASYNC:
        return _shaped_later(output, answer)
    if inspect.isawaitable(output):
        output = engine_loop.wait(output, None)
    return answer(output)


async def _shaped_later(output: Any, answer: Callable[[Any], Any]) -> Any:
    return answer(await output if inspect.isawaitable(output) else output)
