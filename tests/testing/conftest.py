"""Real OpenAI clients against a scripted server."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager

import pytest
from openai import APIError, AsyncOpenAI, OpenAI

from llmspell_otel.testing import ModelServer, Script

try:
    from httpx import RemoteProtocolError as BrokenConnection
except ImportError:  # openai 3 wraps what its transport raises
    BrokenConnection = APIError

BROKEN_OFF = (APIError, BrokenConnection)
"""What the SDK raises when a stream breaks off; openai 2 lets its transport's error through."""

Serve = Callable[..., tuple[ModelServer, OpenAI]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve a script, and give the server with a client of it."""
    with ExitStack() as stack:

        def start(script: Script, **options: object) -> tuple[ModelServer, OpenAI]:
            server = stack.enter_context(ModelServer(script))
            options = {"max_retries": 0, "timeout": 5} | options
            client = OpenAI(base_url=server.base_url, api_key="k", **options)
            return server, stack.enter_context(client)

        yield start


@asynccontextmanager
async def async_client(server: ModelServer, **options: object) -> AsyncIterator[AsyncOpenAI]:
    """Give an async client of *server*."""
    options = {"max_retries": 0, "timeout": 5} | options
    async with AsyncOpenAI(base_url=server.base_url, api_key="k", **options) as client:
        yield client
