"""Naming positional arguments, so that hooks see and change them by name."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llmspell_otel.operations.call import Call


def named(call: Call, positional: tuple[str, ...]) -> dict[str, Any]:
    """The arguments of *call* by name, given the names of the *positional* ones."""
    return {**dict(zip(positional, call.args, strict=False)), **call.kwargs}


def renamed(call: Call, positional: tuple[str, ...], changed: Mapping[str, Any]) -> Call:
    """The *call* with the arguments in *changed* replaced, passed the way they were."""
    names = positional[: len(call.args)]
    args = (
        tuple(changed.get(name, old) for name, old in zip(names, call.args, strict=False))
        + call.args[len(names) :]
    )
    kwargs = {**call.kwargs, **{name: new for name, new in changed.items() if name not in names}}
    return replace(call, args=args, kwargs=kwargs)
