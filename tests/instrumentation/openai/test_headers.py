"""The headers of answers, which the SDK drops: each way to call it, real SDK, scripted server."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from openai import AsyncOpenAI

from llmspell_instrumentation.openai import ADAPTER
from llmspell_instrumentation.weaver import attach
from llmspell_otel import Hook
from llmspell_otel.operations.answered import headers_of, note_headers
from llmspell_otel.testing import Reply
from tests.instrumentation.openai.surfaces import MESSAGES, Greeting, Served

SPENT = {
    "X-RateLimit-Limit-Requests": "60",
    "X-RateLimit-Remaining-Requests": "0",
    "X-RateLimit-Reset-Requests": "1m0s",
    "X-RateLimit-Limit-Tokens": "1000",
    "X-RateLimit-Remaining-Tokens": "900",
    "X-RateLimit-Reset-Tokens": "6s",
    "Set-Cookie": "secret=1",
}


def chat(served: Served) -> None:
    """A plain completion."""
    create: Any = served.client.chat.completions.create
    create(model="gpt-5", messages=MESSAGES)


def chat_stream(served: Served) -> None:
    """A streamed one, read to its end."""
    create: Any = served.client.chat.completions.create
    for _ in create(model="gpt-5", messages=MESSAGES, stream=True):
        pass


def chat_parse(served: Served) -> None:
    """A parsed one."""
    parse = served.client.chat.completions.parse
    parse(model="gpt-5", messages=MESSAGES, response_format=Greeting)  # type: ignore[arg-type]


def chat_raw(served: Served) -> None:
    """A raw one; its caller still has the response."""
    raw = served.client.chat.completions.with_raw_response
    assert raw.create(model="gpt-5", messages=MESSAGES).headers["set-cookie"]  # type: ignore[arg-type]


def responses(served: Served) -> None:
    """The other endpoint."""
    served.client.responses.create(model="gpt-5", input="Say hello.")


def responses_stream(served: Served) -> None:
    """Streamed."""
    for _ in served.client.responses.create(model="gpt-5", input="Say hello.", stream=True):
        pass


def in_a_loop(served: Served) -> None:
    """Asynchronous, plain and streamed."""

    async def both() -> None:
        async with AsyncOpenAI(**served.options) as client:
            stream = await client.chat.completions.create(
                model="gpt-5",
                messages=MESSAGES,  # type: ignore[arg-type]
                stream=True,
            )
            async for _ in stream:
                pass

    asyncio.run(both())


WAYS = (chat, chat_stream, chat_parse, chat_raw, responses, responses_stream, in_a_loop)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_limits_and_ids_reach_the_operation(way: Callable[[Served], None]) -> None:
    """Whatever the SDK makes of the answer; of other headers nothing is kept."""
    seen: list[dict[str, str]] = []

    def after(context: Any) -> None:
        seen.append(dict(headers_of(context.operation)))

    handle = Hook.register("model:after_call", after)
    try:
        with attach(ADAPTER), Served([Reply.json({"text": "hello"}, headers=SPENT)]) as served:
            way(served)
    finally:
        handle.unregister()
    (headers,) = seen
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-tokens"] == "6s"
    assert headers["x-request-id"]
    assert "set-cookie" not in headers


def test_an_answer_to_nobody_is_noted_nowhere() -> None:
    """Outside every operation."""
    note_headers({"x-request-id": "1"})
    assert headers_of(None) == {}
