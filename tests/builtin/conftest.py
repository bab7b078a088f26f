"""Every test of built-in hooks starts without any hook, and leaves none."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from llmspell_instrumentation.openai import ADAPTER
from llmspell_instrumentation.weaver import attach
from llmspell_otel.builtin import disable_all
from llmspell_otel.hooks.registry import registry
from llmspell_otel.operations.effects import Sleep
from tests.builtin.redis_server import RedisServer
from tests.instrumentation.openai.surfaces import Served


@pytest.fixture(autouse=True)
def no_builtin_left() -> Iterator[None]:
    """Take out what a test registered."""
    disable_all()
    registry.clear()
    yield
    disable_all()
    registry.clear()


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Serve a script, and give clients of the server."""
    with ExitStack() as stack:

        def start(*script: Any) -> Served:
            return stack.enter_context(Served(list(script)))

        yield start


@pytest.fixture
def instrumented() -> Iterator[None]:
    """The OpenAI SDK, instrumented."""
    with attach(ADAPTER):
        yield


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits that calls are told to make, in seconds; none is really waited for."""
    waits: list[float] = []

    async def wait(effect: Sleep) -> None:
        waits.append(effect.seconds)

    monkeypatch.setattr(Sleep, "perform", lambda effect: waits.append(effect.seconds))
    monkeypatch.setattr(Sleep, "perform_async", wait)
    return waits


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis for all tests that do it no harm."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def client(server: RedisServer) -> Iterator[Any]:
    """A client of it; nothing is in it."""
    with redis.Redis.from_url(server.url) as connected:
        connected.flushall()
        yield connected
