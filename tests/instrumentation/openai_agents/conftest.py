"""The OpenAI Agents SDK, instrumented, against a scripted server."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from agents import (
    OpenAIProvider,
    RunConfig,
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

    @property
    def config(self) -> RunConfig:
        """The configuration of a run against the server, with a client of its own loop."""
        client = AsyncOpenAI(base_url=self.server.base_url, api_key="k", max_retries=0, timeout=10)
        provider = OpenAIProvider(openai_client=client, use_responses=True)
        return RunConfig(model_provider=provider, tracing_disabled=True)


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
