"""How the scripted server misbehaves: errors, delays, broken and endless streams."""

import asyncio
import time

import openai
import pytest

from llmspell_otel.testing import ModelServer, Reply
from tests.testing.conftest import BROKEN_OFF, async_client

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}
ASK = {"model": "gpt-4o-mini", "input": "Hi"}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
def test_errors_have_the_providers_shape(serve, status: int, error: type[Exception]) -> None:
    """Each status raises the SDK's own error, with message and code, on all endpoints."""
    _, client = serve([Reply.error(status, "no", code="c")] * 4)
    calls = [
        lambda: client.chat.completions.create(**CHAT),
        lambda: client.chat.completions.create(**CHAT, stream=True),
        lambda: client.responses.create(**ASK),
        lambda: client.embeddings.create(model="e", input="x"),
    ]
    for call in calls:
        with pytest.raises(error) as caught:
            call()
        assert (caught.value.code, caught.value.body["message"]) == ("c", "no")


def test_the_sdk_retries_after_the_time_it_is_told(serve) -> None:
    """After a 429 the SDK waits as Retry-After says, and the next reply is used."""
    server, client = serve(
        [Reply.error(429, retry_after=0.15), Reply.error(500), Reply.text("at last")], max_retries=2
    )
    begun = time.monotonic()
    assert client.responses.create(**ASK).output_text == "at last"
    assert time.monotonic() - begun >= 0.15
    counts = [request.headers["x-stainless-retry-count"] for request in server.requests]
    assert counts == ["0", "1", "2"]


def test_slow_replies_run_into_timeouts(serve) -> None:
    """A delay before the headers is longer than an impatient client waits; the server notices."""
    server, client = serve([Reply.text("late", delay=60)], timeout=1)
    with pytest.raises(openai.APITimeoutError):
        client.responses.create(**ASK)
    server.wait_until(lambda s: len(s.left_early) == 1)


def test_delays_of_a_stream(serve) -> None:
    """The first chunk and the later ones can be made to wait, each by its own time."""
    _, client = serve([Reply.text("a b c", first_chunk_delay=0.2, chunk_delay=0.03)])
    begun = time.monotonic()
    times = [time.monotonic() for _ in client.chat.completions.create(**CHAT, stream=True)]
    assert times[0] - begun >= 0.2
    assert times[-1] - begun >= 0.2 + 0.03 * (len(times) - 1)


def test_a_stream_opens_before_its_first_chunk(serve) -> None:
    """The headers are there at once, however long the first chunk takes."""
    server, client = serve([Reply.text("a", first_chunk_delay=60)], timeout=30)
    begun = time.monotonic()
    client.chat.completions.create(**CHAT, stream=True).close()
    assert time.monotonic() - begun < 30
    server.wait_until(lambda s: len(s.left_early) == 1)


@pytest.mark.parametrize("after", [0, 2])
def test_a_stream_breaks_off(serve, after: int) -> None:
    """The connection closes after so many chunks, and the SDK raises."""
    _, client = serve([Reply.text("a b c d", abort_after=after)] * 2)
    got = []
    with pytest.raises(BROKEN_OFF):
        got.extend(client.chat.completions.create(**CHAT, stream=True))
    events = client.responses.create(**ASK, stream=True)
    for _ in range(after):
        next(events)
    with pytest.raises(BROKEN_OFF):
        next(events)


def test_a_body_breaks_off(serve) -> None:
    """Without streaming, the body ends in the middle."""
    _, client = serve([Reply.text("a b c d", abort_after=0)])
    with pytest.raises(openai.APIConnectionError):
        client.chat.completions.create(**CHAT)


def test_a_stream_tells_of_an_error(serve) -> None:
    """An error in mid-stream comes as the wire format's own event."""
    _, client = serve([Reply.text("a b c", stream_error="overloaded", abort_after=2)] * 2)
    stream = client.chat.completions.create(**CHAT, stream=True)
    assert [next(stream), next(stream)]
    with pytest.raises(openai.APIError, match="overloaded"):
        next(stream)
    *events, last = client.responses.create(**ASK, stream=True)
    assert (len(events), last.type, last.message) == (2, "error", "overloaded")
    assert last.sequence_number == 2


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
def test_an_endless_stream_ends_when_the_client_leaves(serve, endpoint: str) -> None:
    """It goes on until closed; then the server stops sending."""
    server, client = serve([Reply.endless(chunk_delay=0.001)])
    create = client.chat.completions.create if endpoint == "chat" else client.responses.create
    stream = create(**(CHAT if endpoint == "chat" else ASK), stream=True)
    assert [next(stream) for _ in range(40)]
    assert server.left_early == ()
    stream.close()
    server.wait_until(lambda s: len(s.left_early) == 1)


def test_stopping_ends_an_endless_stream() -> None:
    """A server stops at once, whatever it is still sending."""
    with ModelServer([Reply.endless()]) as server:
        client = openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0)
        stream = client.chat.completions.create(**CHAT, stream=True)
        next(stream)
        begun = time.monotonic()
        server.stop()
        assert time.monotonic() - begun < 3
        with pytest.raises(BROKEN_OFF):
            list(stream)
        client.close()


def test_an_async_client_is_cancelled_in_mid_stream(serve) -> None:
    """A cancelled task closes its connection, and the server sees it leave."""
    server, _ = serve([Reply.endless()])

    async def run() -> None:
        begun = asyncio.Event()
        async with async_client(server) as client:

            async def consume() -> None:
                async with await client.responses.create(**ASK, stream=True) as stream:
                    async for _ in stream:
                        begun.set()

            task = asyncio.create_task(consume())
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())
    server.wait_until(lambda s: len(s.left_early) == 1)


def test_a_malformed_request_is_refused(serve) -> None:
    """A body that is no JSON object, no model, and an unknown path get OpenAI's error body."""
    server, client = serve([Reply.text("never")])
    for body in (b"{", b"[]"):
        with pytest.raises(openai.BadRequestError, match="JSON"):
            client.post("/responses", content=body, cast_to=object)
    with pytest.raises(openai.BadRequestError, match="model"):
        client.post("/responses", body={"input": "x"}, cast_to=object)
    with pytest.raises(openai.NotFoundError, match="Invalid URL"):
        client.models.list()
    assert len(server.unused) == 1
