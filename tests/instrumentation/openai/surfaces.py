"""The ways to call the OpenAI SDK, each as one small function."""

import asyncio
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from openai import APIError, AsyncOpenAI, OpenAI
from pydantic import BaseModel

from llmspell_otel.testing import ModelServer

try:
    from httpx import RemoteProtocolError as BrokenConnection
except ImportError:  # openai 3 wraps what its transport raises
    BrokenConnection = APIError

BROKEN_OFF = (APIError, BrokenConnection)
"""What the SDK raises when a stream breaks off; openai 2 lets its transport's error through."""

MESSAGES = [{"role": "user", "content": "Say hello."}]


class Greeting(BaseModel):
    """A structured output."""

    text: str


class Served:
    """A scripted server with a client of each kind."""

    def __init__(self, script: Any) -> None:
        self.server = ModelServer(script)

    def __enter__(self) -> Self:
        self.server.start()
        self.client = OpenAI(**self.options)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.server.stop()

    @property
    def options(self) -> dict[str, Any]:
        """What a client of this server is made with."""
        return {
            "base_url": self.server.base_url,
            "api_key": "k",
            "max_retries": 0,
            "timeout": 10,
        }

    @property
    def requests(self) -> Any:
        """What the server has been sent."""
        return self.server.requests

    async def reached(self) -> None:
        """Return when a request has arrived."""
        for _ in range(500):
            if self.requests:
                return
            await asyncio.sleep(0.01)

    def run(self, work: Callable[[AsyncOpenAI], Any]) -> Any:
        """Run asynchronous *work* with an asynchronous client."""

        async def main() -> Any:
            async with AsyncOpenAI(**self.options) as client:
                return await work(client)

        return asyncio.run(main())


@dataclass(frozen=True)
class Surface:
    """One endpoint: how it is called, plainly and as a stream.

    `say` reads the text of a plain result, `pieces` that of a chunk.
    """

    name: str
    resource: Callable[[Any], Any]
    arguments: dict[str, Any]
    say: Callable[[Any], str]
    piece: Callable[[Any], str]
    span: str
    api: str
    extra: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def _delta(chunk: Any) -> str:
    return (chunk.choices[0].delta.content or "") if chunk.choices else ""


CHAT = Surface(
    name="chat",
    resource=lambda client: client.chat.completions,
    arguments={"model": "gpt-5", "messages": MESSAGES},
    say=lambda result: result.choices[0].message.content,
    piece=_delta,
    span="chat gpt-5",
    api="chat_completions",
    extra={"response_format": Greeting},
)
RESPONSES = Surface(
    name="responses",
    resource=lambda client: client.responses,
    arguments={"model": "gpt-5", "input": "Say hello."},
    say=lambda result: result.output_text,
    piece=lambda event: event.delta if event.type == "response.output_text.delta" else "",
    span="chat gpt-5",
    api="responses",
    extra={"text_format": Greeting},
)
SURFACES = (CHAT, RESPONSES)


def quietly(parsed: Any) -> Any:
    """What *parsed* dumps to, without pydantic's remarks on generic models."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return parsed.model_dump()
