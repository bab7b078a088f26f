"""Every end that a call to the OpenAI SDK can come to, on every endpoint, in both worlds."""

import asyncio
import gc
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
from openai import APIError, AsyncStream, InternalServerError, RateLimitError, Stream
from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import StatusCode

from llmspell_instrumentation.openai import ADAPTER
from llmspell_instrumentation.weaver import attach
from llmspell_otel.testing import Reply, Usage
from tests.instrumentation.openai.conftest import Serve
from tests.instrumentation.openai.surfaces import BROKEN_OFF, CHAT, SURFACES, Surface
from tests.instrumentation.watching import Watching

HELLO = Reply.text("Hello there, dear reader.", usage=Usage(input=11, output=7, cached=3))
OUTCOME = "llmspell.operation.outcome"

surfaces = pytest.mark.parametrize("surface", SURFACES, ids=str)
worlds = pytest.mark.parametrize("world", ["sync", "async"])


def create(served: Any, surface: Surface, world: str, **options: Any) -> Any:
    """One plain call in either world."""
    arguments = {**surface.arguments, **options}
    if world == "sync":
        return surface.resource(served.client).create(**arguments)
    return served.run(lambda client: surface.resource(client).create(**arguments))


def consume(
    served: Any, surface: Surface, world: str, use: Callable[[Any], Any], use_async: Any
) -> Any:
    """One streamed call in either world, used by *use* or *use_async*."""
    arguments = {**surface.arguments, "stream": True}
    if world == "sync":
        return use(surface.resource(served.client).create(**arguments))

    async def work(client: Any) -> Any:
        return await use_async(await surface.resource(client).create(**arguments))

    return served.run(work)


def no_span_is_current() -> bool:
    """Whether the caller is outside every span, as it was."""
    return trace.get_current_span() is trace.INVALID_SPAN and not context_api.get_current()


@surfaces
@worlds
def test_ok(instrumented: Watching, serve: Serve, surface: Surface, world: str) -> None:
    """A call that works gives its result and one span with all that was said of it."""
    served = serve(HELLO)
    result = create(served, surface, world, temperature=0.5)
    assert surface.say(result) == HELLO.content
    (span,) = instrumented.spans
    assert (span.name, span.kind, span.status.status_code) == (
        surface.span,
        trace.SpanKind.CLIENT,
        StatusCode.UNSET,
    )
    assert (
        instrumented.only.items()
        >= {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-5",
            "gen_ai.request.temperature": 0.5,
            "gen_ai.response.model": "gpt-5",
            "gen_ai.response.id": result.id,
            "gen_ai.response.finish_reasons": ("stop",),
            "gen_ai.usage.input_tokens": 11,
            "gen_ai.usage.output_tokens": 7,
            "gen_ai.usage.cache_read.input_tokens": 3,
            "openai.api.type": surface.api,
            "server.address": "127.0.0.1",
            "server.port": served.client.base_url.port,
        }.items()
    )
    assert "error.type" not in instrumented.only
    assert "gen_ai.request.stream" not in instrumented.only
    assert no_span_is_current()


@surfaces
@worlds
def test_error(instrumented: Watching, serve: Serve, surface: Surface, world: str) -> None:
    """The program gets its own exception; the span names the provider's code."""
    served = serve(Reply.error(429, code="rate_limit_exceeded"))
    with pytest.raises(RateLimitError) as raised:
        create(served, surface, world)
    assert raised.value.code == "rate_limit_exceeded"
    assert raised.value.__cause__ is None
    assert instrumented.only["error.type"] == "rate_limit_exceeded"
    assert instrumented.spans[0].status.status_code is StatusCode.ERROR


@surfaces
@worlds
def test_error_without_a_code(
    instrumented: Watching, serve: Serve, surface: Surface, world: str
) -> None:
    """Without a code, the HTTP status is the error's type."""
    with pytest.raises(InternalServerError):
        create(serve(Reply.error(500)), surface, world)
    assert instrumented.only["error.type"] == "500"


@surfaces
def test_cancelled(instrumented: Watching, serve: Serve, surface: Surface) -> None:
    """A cancelled task is cancelled, and its span says so."""
    served = serve(Reply.text("late", delay=20))

    async def work(client: Any) -> None:
        task = asyncio.ensure_future(surface.resource(client).create(**surface.arguments))
        await served.reached()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    served.run(work)
    assert instrumented.only[OUTCOME] == "cancelled"
    assert instrumented.only["error.type"] == "asyncio.exceptions.CancelledError"


@surfaces
def test_never_awaited(instrumented: Watching, serve: Serve, surface: Surface) -> None:
    """A coroutine that is made and closed starts nothing."""
    served = serve(HELLO)

    async def work(client: Any) -> None:
        coroutine = surface.resource(client).create(**surface.arguments)
        coroutine.close()

    served.run(work)
    assert not served.requests
    assert not instrumented.spans


@surfaces
@worlds
def test_drained(instrumented: Watching, serve: Serve, surface: Surface, world: str) -> None:
    """A stream gives what it would have given, and its span has the usage of all of it."""
    served = serve(HELLO)

    def use(stream: Any) -> str:
        assert isinstance(stream, Stream)
        said = []
        for chunk in stream:
            assert no_span_is_current()
            assert getattr(chunk, "usage", None) is None
            said.append(surface.piece(chunk))
        return "".join(said)

    async def use_async(stream: Any) -> str:
        assert isinstance(stream, AsyncStream)
        return "".join([surface.piece(chunk) async for chunk in stream])

    assert consume(served, surface, world, use, use_async) == HELLO.content
    assert (
        instrumented.only.items()
        >= {
            "gen_ai.request.stream": True,
            "gen_ai.response.model": "gpt-5",
            "gen_ai.response.finish_reasons": ("stop",),
            "gen_ai.usage.input_tokens": 11,
            "gen_ai.usage.output_tokens": 7,
            "gen_ai.usage.cache_read.input_tokens": 3,
        }.items()
    )
    assert instrumented.only["gen_ai.response.time_to_first_chunk"] > 0
    assert OUTCOME not in instrumented.only


async def _first_then_close(stream: Any) -> None:
    await anext(stream)
    await stream.close()


async def _first_in_with(stream: Any) -> None:
    async with stream:
        await anext(stream)


async def _first_then_forget(stream: Any) -> None:
    async for _ in stream:
        break
    del stream
    gc.collect()


def _close(stream: Any) -> None:
    next(stream)
    stream.close()


def _with(stream: Any) -> None:
    with stream:
        next(stream)


def _forget(stream: Any) -> None:
    for _ in stream:
        break
    del stream
    gc.collect()


@surfaces
@worlds
@pytest.mark.parametrize(
    ("use", "use_async", "outcome"),
    [
        (_close, _first_then_close, "closed"),
        (_with, _first_in_with, "closed"),
        (_forget, _first_then_forget, "abandoned"),
    ],
    ids=["closed", "with", "abandoned"],
)
def test_left_early(  # noqa: PLR0917 - three things vary, on two fixtures
    instrumented: Watching,
    serve: Serve,
    surface: Surface,
    world: str,
    use: Any,
    use_async: Any,
    outcome: str,
) -> None:
    """A stream that is left early ends its span once, and is no error."""
    consume(serve(HELLO), surface, world, use, use_async)
    assert instrumented.only[OUTCOME] == outcome
    assert "error.type" not in instrumented.only


@surfaces
@worlds
def test_broken_stream(instrumented: Watching, serve: Serve, surface: Surface, world: str) -> None:
    """An error in the stream reaches the program as ever, and the span is an error.

    The chat API's error event is raised by the SDK; the responses API's is one more event.
    """
    served = serve(Reply.text("Hello there", stream_error="overloaded"))
    raises = pytest.raises(APIError) if surface is CHAT else nullcontext()

    async def use_async(stream: Any) -> list[Any]:
        return [chunk async for chunk in stream]

    with raises:
        events = consume(served, surface, world, list, use_async)
        assert events[-1].type == "error"
    assert instrumented.spans[0].status.status_code is StatusCode.ERROR
    assert instrumented.only["error.type"]


@surfaces
@worlds
def test_broken_connection(
    instrumented: Watching, serve: Serve, surface: Surface, world: str
) -> None:
    """A connection that breaks off in a stream is the program's own error, and the span's."""
    served = serve(Reply.text("Hello there", abort_after=1))

    async def use_async(stream: Any) -> None:
        async for _ in stream:
            pass

    with pytest.raises(BROKEN_OFF):
        consume(served, surface, world, list, use_async)
    assert instrumented.spans[0].status.status_code is StatusCode.ERROR


@surfaces
def test_cancelled_between_chunks(instrumented: Watching, serve: Serve, surface: Surface) -> None:
    """A consumer cancelled while it waits for a chunk leaves no span open."""
    served = serve(Reply.endless(chunk_delay=0.05))

    async def work(client: Any) -> None:
        stream = await surface.resource(client).create(**surface.arguments, stream=True)

        async def read() -> None:
            async for _ in stream:
                begun.set()

        begun = asyncio.Event()
        task = asyncio.ensure_future(read())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await stream.close()

    served.run(work)
    assert instrumented.only[OUTCOME] in {"cancelled", "closed"}


@surfaces
@worlds
def test_a_stream_consumed_elsewhere(
    instrumented: Watching, serve: Serve, surface: Surface, world: str
) -> None:
    """A stream made under one span and read under another belongs to the one alone."""
    served = serve(HELLO)
    tracer = instrumented.provider.get_tracer("test")
    with tracer.start_as_current_span("making") as making:

        async def use_async(stream: Any) -> None:
            with tracer.start_as_current_span("reading") as reading:
                async for _ in stream:
                    assert trace.get_current_span() is reading

        def use(stream: Any) -> None:
            with tracer.start_as_current_span("reading") as reading:
                for _ in stream:
                    assert trace.get_current_span() is reading

        consume(served, surface, world, use, use_async)
        assert trace.get_current_span() is making
    parent = instrumented.named(surface.span).parent
    assert parent is not None
    assert parent.span_id == making.get_span_context().span_id


@surfaces
@worlds
@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
def test_suppressed(
    instrumented: Watching, serve: Serve, surface: Surface, world: str, *, streamed: bool
) -> None:
    """Under suppression there is no span, and the call works."""
    served = serve(HELLO)
    with suppress_instrumentation():
        if not streamed:
            assert surface.say(create(served, surface, world)) == HELLO.content
        else:

            async def use_async(stream: Any) -> str:
                return "".join([surface.piece(chunk) async for chunk in stream])

            said = consume(
                served,
                surface,
                world,
                lambda stream: "".join(map(surface.piece, stream)),
                use_async,
            )
            assert said == HELLO.content
    assert not instrumented.spans


@surfaces
@worlds
def test_uninstrumented(watching: Watching, serve: Serve, surface: Surface, world: str) -> None:
    """After detaching there is no span, not even through methods taken before."""
    served = serve(HELLO, HELLO)
    with attach(ADAPTER):
        taken = surface.resource(served.client).create
    taken(**surface.arguments)
    create(served, surface, world)
    assert not watching.spans
