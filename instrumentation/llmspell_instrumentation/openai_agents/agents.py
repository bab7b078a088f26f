"""Agents as such: their construction, and the listing of their tools."""

from typing import Any

from llmspell_otel.hooks.driving import drive_async
from llmspell_otel.operations import discovery
from llmspell_otel.operations.agents import life_at, watched
from llmspell_otel.operations.call import Call


def constructed(aspect: Any, call: Call) -> Any:
    """The door of an agent's construction: it is initialised by that."""
    del aspect
    if not watched():
        return call.proceed()
    name = str(getattr(call.instance, "name", "agent"))
    with life_at(call.instance, name).initialization():
        return call.proceed()


async def listed(aspect: Any, call: Call) -> Any:
    """The door of `get_all_tools`: hooks may hide tools from the model."""
    del aspect
    if not discovery.heard():
        return await call.proceed()
    name = str(getattr(call.instance, "name", "agent"))
    if not await drive_async(discovery.asked(name)):
        return []
    tools = await call.proceed()
    names = [str(getattr(tool, "name", "tool")) for tool in tools]
    kept = await drive_async(discovery.found(name, names))
    return [tool for tool, called in zip(tools, names, strict=True) if called in kept]
