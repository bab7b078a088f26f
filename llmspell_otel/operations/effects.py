"""What an advice wants done in the world beside the call itself."""

import contextvars
import copy
import inspect
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from llmspell_otel.guard import guard
from llmspell_otel.hooks.conditions import conditions
from llmspell_otel.hooks.results import Cache

Branches = list[Any]
"""Branches under way: futures or tasks."""


@dataclass(frozen=True, slots=True)
class Sleep:
    """Let *seconds* pass."""

    seconds: float

    def perform(self) -> None:
        """Do it, blocking."""
        time.sleep(self.seconds)

    async def perform_async(self) -> None:
        """Do it, awaiting."""
        import asyncio  # dear, and loaded already where somebody awaits

        await asyncio.sleep(self.seconds)


@dataclass(frozen=True, slots=True)
class Remember:
    """Store a copy of an output for every hook that asked for it.

    A failing store, or an output that cannot be copied, costs the entry.
    """

    wanted: Sequence[Cache]
    value: Any

    def perform(self) -> None:
        """Do it, blocking."""
        for cache in self.wanted:
            try:
                conditions.store.set(cache.key, copy.deepcopy(self.value), cache.ttl)
            except Exception as error:
                guard.report("writing the cache", error)

    async def perform_async(self) -> None:
        """Do it, awaiting."""
        for cache in self.wanted:
            try:
                await conditions.store.set_async(cache.key, copy.deepcopy(self.value), cache.ttl)
            except Exception as error:
                guard.report("writing the cache", error)


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start branches beside the call; gives what `Join` needs."""

    branches: Sequence[Callable[[], Any]]

    def perform(self) -> Branches:
        """Do it in threads, each in a copy of the caller's context."""
        pool = ThreadPoolExecutor(len(self.branches), thread_name_prefix="llmspell-fork")
        try:
            return [
                pool.submit(contextvars.copy_context().run, _run_blocking, branch)
                for branch in self.branches
            ]
        finally:
            pool.shutdown(wait=False)

    async def perform_async(self) -> Branches:
        """Do it in tasks; a blocking branch runs in a thread."""
        import asyncio

        return [asyncio.ensure_future(_run_awaiting(branch)) for branch in self.branches]


@dataclass(frozen=True, slots=True)
class Join:
    """Wait for branches; gives their outputs, or the exception of those that failed."""

    under_way: Branches

    def perform(self) -> list[Any]:
        """Do it, blocking."""
        wait(self.under_way)
        return [_outcome_of(future) for future in self.under_way]

    async def perform_async(self) -> list[Any]:
        """Do it, awaiting; if this is cancelled, the branches are."""
        import asyncio

        return list(await asyncio.gather(*self.under_way, return_exceptions=True))


def _outcome_of(future: Any) -> Any:
    error = future.exception()
    return future.result() if error is None else error


def _run_blocking(branch: Callable[[], Any]) -> Any:
    output = branch()
    if not isinstance(output, Awaitable):
        return output
    from llmspell_otel.hooks.waiting import engine_loop

    return engine_loop.wait(output, None)


async def _run_awaiting(branch: Callable[[], Any]) -> Any:
    import asyncio

    if inspect.iscoroutinefunction(branch):
        return await branch()
    output = await asyncio.to_thread(branch)
    return await output if isinstance(output, Awaitable) else output
