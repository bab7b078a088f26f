"""Agents as such: their construction, their life, and the listing of their tools."""

import weakref
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
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
    life = Life(str(getattr(call.instance, "name", "agent")))
    with life.initialization():
        result = call.proceed()
    _keep(call.instance, life)
    return result


def _keep(agent: Any, life: Life) -> Life:
    _lives[id(agent)] = life
    weakref.finalize(agent, _lives.pop, id(agent), None)
    return life


@asynccontextmanager
async def living(agent: Any) -> AsyncGenerator[None]:
    """Around what *agent* does in a run: it is Running meanwhile, and Ready again afterwards.

    Raises:
        OperationCancelled: a hook refused to let it be initialised, which its first run does if
            nobody watched its construction.
    """
    life = _lives.get(id(agent))
    if agent is None or not (watched() if life is None else life.watched()):
        yield
        return
    if life is None:
        life = _keep(agent, Life(str(getattr(agent, "name", "agent"))))
    async with life.execution_async():
        yield


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
