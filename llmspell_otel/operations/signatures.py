"""Wrappers that take a function's own arguments: they cost a third of ``*args, **kwargs`` ones."""

import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

from llmspell_otel.operations.points import Moments

_Parameter = inspect.Parameter


def with_signature_of(
    function: Callable[..., Any], watched: Callable[..., Any], moments: Moments
) -> Callable[..., Any] | None:
    """A function that calls *watched* while *moments* are awake, else *function* itself.

    It takes exactly the arguments of *function*. None, where those cannot be told for sure.
    """
    if type(function) is not FunctionType or hasattr(function, "__wrapped__"):
        return None
    parameters = list(inspect.signature(function).parameters.values())
    if any(each.name.startswith("_llmspell") for each in parameters):
        return None
    names: dict[str, Any] = {
        "_llmspell_moments": moments,
        "_llmspell_watched": watched,
        "_llmspell_function": function,
    }
    declared = ", ".join(_declared(parameters, names))
    passed = ", ".join(_passed(each) for each in parameters)
    begin, wait = ("async def", "await ") if inspect.iscoroutinefunction(function) else ("def", "")
    source = (
        f"{begin} observed({declared}):\n"
        f"    if _llmspell_moments.awake:\n"
        f"        return {wait}_llmspell_watched({passed})\n"
        f"    return {wait}_llmspell_function({passed})\n"
    )
    # Made of parameter names alone, which the compiler has accepted as such before.
    exec(compile(source, "<llmspell_otel>", "exec"), names)  # noqa: S102
    made: Callable[..., Any] = names["observed"]
    return made


def _declared(parameters: list[_Parameter], names: dict[str, Any]) -> list[str]:
    """The parameters as they are written in a ``def``; defaults are put into *names*."""
    written: list[str] = []
    kinds = [each.kind for each in parameters]
    starred = (_Parameter.VAR_POSITIONAL, _Parameter.KEYWORD_ONLY)
    for index, each in enumerate(parameters):
        if each.kind is _Parameter.KEYWORD_ONLY and not any(k in starred for k in kinds[:index]):
            written.append("*")
        default = ""
        if each.default is not _Parameter.empty:
            names[f"_llmspell_{index}"] = each.default
            default = f"=_llmspell_{index}"
        written.append(f"{_stars(each)}{each.name}{default}")
        following = kinds[index + 1] if index + 1 < len(kinds) else None
        if each.kind is _Parameter.POSITIONAL_ONLY and following is not each.kind:
            written.append("/")
    return written


def _passed(parameter: _Parameter) -> str:
    if parameter.kind is _Parameter.KEYWORD_ONLY:
        return f"{parameter.name}={parameter.name}"
    return f"{_stars(parameter)}{parameter.name}"


def _stars(parameter: _Parameter) -> str:
    if parameter.kind is _Parameter.VAR_POSITIONAL:
        return "*"
    return "**" if parameter.kind is _Parameter.VAR_KEYWORD else ""
