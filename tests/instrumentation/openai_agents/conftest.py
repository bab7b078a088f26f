"""The OpenAI Agents SDK, instrumented, against a scripted server."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest
from agents import (
    OpenAIProvider,
    RunConfig,
    Runner,
    set_tracing_disabled,
)
from openai import AsyncOpenAI

from llmspell_instrumentation.openai import ADAPTER as OPENAI
from llmspell_instrumentation.openai_agents import ADAPTER
from llmspell_instrumentation.weaver import attach
from llmspell_otel.testing import ModelServer
from tests.instrumentation.watching import Watching


class Stage:
    """A scripted server, and what runs agents against it."""

    def __init__(self, script: Any) -> None:
        self.server = ModelServer(script)

    @property
    def requests(self) -> Any:
        """What the server has been sent."""
        return self.server.requests

    @asynccontextmanager
    async def config(self) -> AsyncIterator[RunConfig]:
        """The configuration of a run against the server, with a client of its own."""
        async with AsyncOpenAI(
            base_url=self.server.base_url, api_key="k", max_retries=0, timeout=10
        ) as client:
            provider = OpenAIProvider(openai_client=client, use_responses=True)
            yield RunConfig(model_provider=provider, tracing_disabled=True)

    async def run(self, agent: Any, said: Any, **options: Any) -> Any:
        """Run *agent*, and give its result."""
        async with self.config() as config:
            return await Runner.run(agent, said, run_config=config, **options)

    async def stream(self, agent: Any, said: Any, **options: Any) -> Any:
        """Run *agent* as a stream, read all its events, and give its result."""
        async with self.config() as config:
            result = Runner.run_streamed(agent, said, run_config=config, **options)
            async for _ in result.stream_events():
                pass
            return result

    async def reached(self) -> None:
        """Return when a request has arrived."""
        for _ in range(500):
            if self.requests:
                return
            await asyncio.sleep(0.01)

    def run_sync(self, agent: Any, said: Any) -> Any:
        """Run *agent* without a loop running."""
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        configured = self.config()
        try:
            config = loop.run_until_complete(configured.__aenter__())
            return Runner.run_sync(agent, said, run_config=config)
        finally:
            loop.run_until_complete(configured.__aexit__(None, None, None))
            asyncio.set_event_loop(None)
            loop.close()


@pytest.fixture
def instrumented(watching: Watching) -> Iterator[Watching]:
    """The spans made while both SDKs are instrumented."""
    set_tracing_disabled(True)
    with attach(OPENAI), attach(ADAPTER):
        yield watching


@pytest.fixture
def serve() -> Iterator[Callable[..., Stage]]:
    """Serve a script: replies, or a function from request to reply."""
    with ExitStack() as stack:

        def start(*script: Any) -> Stage:
            made = Stage(script[0] if callable(script[0]) else list(script))
            stack.enter_context(made.server)
            return made

        yield start
