"""Listing tools: asked before, told after, and narrowed down by what hooks leave."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from llmspell_otel.hooks.context import Component
from llmspell_otel.hooks.driving import Flow, drive
from llmspell_otel.hooks.notices import noticed, told
from llmspell_otel.hooks.registry import registry
from llmspell_otel.hooks.results import Cancel, Replace
from llmspell_otel.operations.call import Kind
from llmspell_otel.operations.operation import current
from llmspell_otel.operations.targets import targets_of
from llmspell_otel.operations.traits import ToolTraits, traits_of

BEFORE: Final = registry.slot("BeforeToolDiscovery")
AFTER: Final = registry.slot("AfterToolDiscovery")


@dataclass(frozen=True, slots=True)
class ToolInfo:
    """A tool that was decorated with `@tool`."""

    name: str
    description: str
    parameters: tuple[str, ...]
    traits: ToolTraits
    function: Any


def heard() -> bool:
    """Whether anybody hears of discoveries."""
    return told(BEFORE) or told(AFTER)


def asked(agent: str) -> Flow[bool]:
    """Before tools of *agent* are listed; False if a hook cancelled it: then there are none."""
    result = yield from _tell(BEFORE, {"agent": agent})
    return not isinstance(result, Cancel)


def found(agent: str, tools: Sequence[str]) -> Flow[set[str]]:
    """After they were listed; gives the names of those that hooks leave.

    `Modified({"tools": [...]})` and `Replace([...])` keep those named, `Cancel` keeps none.
    """
    data = {"agent": agent, "tools": list(tools)}
    result = yield from _tell(AFTER, data)
    if isinstance(result, Cancel):
        return set()
    return set(result.value if isinstance(result, Replace) else data["tools"])


def tools(agent: str = "") -> list[ToolInfo]:
    """The decorated tools, by name; fires the two points of discovery, as *agent*'s."""
    listed = {name: _info(name, each) for name, each in sorted(targets_of(Kind.TOOL).items())}
    if heard():
        if not drive(asked(agent)):
            return []
        kept = drive(found(agent, list(listed)))
        listed = {name: each for name, each in listed.items() if name in kept}
    return list(listed.values())


def _info(name: str, function: Any) -> ToolInfo:
    parameters = tuple(inspect.signature(function).parameters)
    return ToolInfo(name, inspect.getdoc(function) or "", parameters, traits_of(name), function)


def _tell(slot: Any, data: dict[str, Any]) -> Flow[Any]:
    if told(slot):
        return (
            yield from noticed(
                slot, Component("agent", data["agent"]), data, operation=current.get()
            )
        )
    return None
