"""Hooks act on streams: answered, cached and changed streams are the SDK's own streams."""

import itertools
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from openai import AsyncStream, Stream

from llmspell_otel.errors import OperationCancelled
from llmspell_otel.hooks import Cache, Cancel, Redirect, Replace
from llmspell_otel.testing import Reply
from tests.instrumentation.openai.conftest import Serve
from tests.instrumentation.openai.surfaces import CHAT, SURFACES, Surface
from tests.instrumentation.watching import Watching

Register = Callable[..., None]
BEFORE = "model:before_call"
surfaces = pytest.mark.parametrize("surface", SURFACES, ids=str)


def said(surface: Surface, stream: Any) -> str:
    """All that a stream says."""
    return "".join(map(surface.piece, stream))


@surfaces
def test_a_replaced_stream(
    instrumented: Watching, serve: Serve, surface: Surface, hook: Register
) -> None:
    """A text in place of a stream is a stream that says it; the SDK's helper reads it too."""
    hook(BEFORE, lambda _: Replace("mine"))
    served = serve()
    stream = surface.resource(served.client).create(**surface.arguments, stream=True)
    assert isinstance(stream, Stream)
    assert said(surface, stream) == "mine"
    with surface.resource(served.client).stream(**surface.arguments) as helper:
        list(helper)
        final = getattr(helper, "get_final_completion", None) or helper.get_final_response
        assert surface.say(final()) == "mine"
    assert not served.requests


@surfaces
def test_a_replaced_stream_asynchronously(
    instrumented: Watching, serve: Serve, surface: Surface, hook: Register
) -> None:
    """The same, with an asynchronous client."""
    hook(BEFORE, lambda _: Replace("mine"))

    async def work(client: Any) -> str:
        stream = await surface.resource(client).create(**surface.arguments, stream=True)
        assert isinstance(stream, AsyncStream)
        return "".join([surface.piece(chunk) async for chunk in stream])

    assert serve().run(work) == "mine"


@surfaces
@pytest.mark.parametrize(
    "case",
    [*itertools.product(["with_raw_response", "with_streaming_response"], [False, True])],
    ids=str,
)
def test_a_replaced_raw_response(
    instrumented: Watching, serve: Serve, surface: Surface, hook: Register, case: Any
) -> None:
    """A text in place of a raw response is the SDK's response object, which parses to it."""
    way, streamed = case
    hook(BEFORE, lambda _: Replace("mine"))
    create = getattr(surface.resource(serve().client), way).create
    made = create(**surface.arguments, **({"stream": True} if streamed else {}))
    if way == "with_streaming_response":
        with made as response:
            result = response.parse()
            text = said(surface, result) if streamed else surface.say(result)
    else:
        result = made.parse()
        text = said(surface, result) if streamed else surface.say(result)
        assert made.status_code == 200
    assert text == "mine"


@surfaces
def test_a_cancelled_stream(
    instrumented: Watching, serve: Serve, surface: Surface, hook: Register
) -> None:
    """A stream that is refused raises where it would have been made."""
    hook(BEFORE, lambda _: Cancel("not today"))
    served = serve()
    with pytest.raises(OperationCancelled, match="not today"):
        surface.resource(served.client).create(**surface.arguments, stream=True)
    assert not served.requests


@surfaces
def test_a_redirected_stream(
    instrumented: Watching, serve: Serve, surface: Surface, hook: Register
) -> None:
    """Another model streams in place of the first."""
    hook(BEFORE, lambda _: Redirect("other"))
    served = serve(Reply.text("hello"))
    stream = surface.resource(served.client).create(**surface.arguments, stream=True)
    assert said(surface, stream) == "hello"
    assert served.requests[0].model == "other"


@surfaces
def test_a_cached_stream(
    instrumented: Watching, serve: Serve, surface: Surface, hook: Register
) -> None:
    """A stream that was drained once is streamed again without a request."""
    key = uuid4().hex
    hook(BEFORE, lambda _: Cache(key=key, ttl=60))
    served = serve(Reply.text("hello there"))
    texts = [
        said(surface, surface.resource(served.client).create(**surface.arguments, stream=True))
        for _ in range(2)
    ]
    assert texts == ["hello there", "hello there"]
    assert len(served.requests) == 1


def test_a_chunk_hook(instrumented: Watching, serve: Serve, hook: Register) -> None:
    """A hook may change a chunk before the caller gets it."""

    def shout(context: Any) -> Any:
        chunk = context.data["output"]
        if not chunk.choices or not chunk.choices[0].delta.content:
            return None
        changed = chunk.model_copy(deep=True)
        changed.choices[0].delta.content = chunk.choices[0].delta.content.upper()
        return Replace(changed)

    hook("model:stream_chunk", shout)
    served = serve(Reply.text("hello"))
    stream = served.client.chat.completions.create(**CHAT.arguments, stream=True)
    assert said(CHAT, stream) == "HELLO"
