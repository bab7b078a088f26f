"""Agents as such: their construction, and the listing of their tools."""

import weakref
from typing import Any, Final

from llmspell_otel.hooks.driving import drive_async
from llmspell_otel.operations import discovery
from llmspell_otel.operations.agents import Life, watched
from llmspell_otel.operations.call import Call

_lives: Final[dict[int, Life]] = {}
"""The lives of agents, by the identity of the agent; agents cannot be hashed."""


def constructed(aspect: Any, call: Call) -> Any:
    """The door of an agent's construction: it is initialised by that."""
    del aspect
    if not watched():
        return call.proceed()
    agent = call.instance
    life = Life(str(getattr(agent, "name", "agent")))
    with life.initialization():
        result = call.proceed()
    _lives[id(agent)] = life
    weakref.finalize(agent, _lives.pop, id(agent), None)
    return result


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
