"""Every entry point through which the OpenAI SDK calls a model: one span each, and one only."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openai import OpenAI

from llmspell_instrumentation.openai.native import http
from tests.instrumentation.openai.surfaces import MESSAGES, Greeting
from tests.instrumentation.watching import Watching

CHAT = {"model": "m", "messages": MESSAGES}
ASK = {"model": "m", "input": "Say hello."}
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
SAID = '{"text": "hello"}'
COMPLETION = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "m-1",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": SAID}}
    ],
    "usage": USAGE,
}
CHUNKS = [
    {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m-1",
        "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
    }
    for delta, reason in (({"role": "assistant", "content": SAID}, None), ({}, "stop"))
]
RESPONSE = {
    "id": "r1",
    "object": "response",
    "created_at": 1,
    "model": "m-1",
    "status": "completed",
    "output": [
        {
            "type": "message",
            "id": "m1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": SAID, "annotations": []}],
        }
    ],
    "parallel_tool_calls": False,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 5,
        "output_tokens": 2,
        "total_tokens": 7,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    },
}
TEXT = {
    "id": "t1",
    "object": "text_completion",
    "created": 1,
    "model": "m-1",
    "choices": [{"index": 0, "finish_reason": "stop", "text": "hello"}],
    "usage": USAGE,
}
BODIES: dict[str, Any] = {
    "/v1/chat/completions": COMPLETION,
    "/v1/responses": RESPONSE,
    "/v1/completions": TEXT,
    "/v1/embeddings": {
        "object": "list",
        "model": "m-1",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}],
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    },
    "/v1/images/generations": {
        "created": 1,
        "data": [{"url": "http://localhost/1.png"}],
        "usage": {
            "input_tokens": 5,
            "output_tokens": 2,
            "total_tokens": 7,
            "input_tokens_details": {"image_tokens": 1, "text_tokens": 4},
        },
    },
    "/v1/moderations": {
        "id": "mod1",
        "model": "m-1",
        "results": [{"flagged": False, "categories": {}, "category_scores": {}}],
    },
}


def _events(path: str) -> list[dict[str, Any]]:
    if path == "/v1/chat/completions":
        return CHUNKS
    if path == "/v1/completions":
        return [TEXT]
    begun = {**RESPONSE, "status": "in_progress", "output": []}
    return [
        {"type": "response.created", "sequence_number": 0, "response": begun},
        {"type": "response.completed", "sequence_number": 1, "response": RESPONSE},
    ]


def answer(request: Any) -> Any:
    """Answer any endpoint, as a stream when asked to."""
    library, path = http(), request.url.path
    if b'"stream":true' not in request.content.replace(b" ", b""):
        return library.Response(200, json=BODIES[path])
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in _events(path))
    content = f"{body}data: [DONE]\n\n".encode()
    return library.Response(200, content=content, headers={"content-type": "text/event-stream"})


@pytest.fixture
def client() -> Iterator[OpenAI]:
    """A client whose requests never leave the process."""
    library = http()
    transport = library.Client(transport=library.MockTransport(answer))
    with OpenAI(base_url="http://localhost:9/v1", api_key="k", http_client=transport) as made:
        yield made


def _streamed(resource: Any, **arguments: Any) -> None:
    with resource.stream(**arguments) as stream:
        list(stream)


def _streaming(resource: Any, read: Callable[[Any], Any], **arguments: Any) -> None:
    with resource.with_streaming_response.create(**arguments) as response:
        read(response)


ENTRIES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "chat create": ("chat m", lambda c: c.chat.completions.create(**CHAT)),
    "chat create stream": (
        "chat m",
        lambda c: list(c.chat.completions.create(**CHAT, stream=True)),
    ),
    "chat stream": ("chat m", lambda c: _streamed(c.chat.completions, **CHAT)),
    "chat parse": (
        "chat m",
        lambda c: c.chat.completions.parse(**CHAT, response_format=Greeting),
    ),
    "chat raw": ("chat m", lambda c: c.chat.completions.with_raw_response.create(**CHAT).parse()),
    "chat raw stream": (
        "chat m",
        lambda c: list(c.chat.completions.with_raw_response.create(**CHAT, stream=True).parse()),
    ),
    "chat streaming response": (
        "chat m",
        lambda c: _streaming(c.chat.completions, lambda r: r.parse(), **CHAT),
    ),
    "chat streaming response of a stream": (
        "chat m",
        lambda c: _streaming(c.chat.completions, lambda r: list(r.parse()), **CHAT, stream=True),
    ),
    "responses create": ("chat m", lambda c: c.responses.create(**ASK)),
    "responses create stream": ("chat m", lambda c: list(c.responses.create(**ASK, stream=True))),
    "responses stream": ("chat m", lambda c: _streamed(c.responses, **ASK)),
    "responses parse": ("chat m", lambda c: c.responses.parse(**ASK, text_format=Greeting)),
    "responses raw": ("chat m", lambda c: c.responses.with_raw_response.create(**ASK).parse()),
    "responses streaming response": (
        "chat m",
        lambda c: _streaming(c.responses, lambda r: r.parse(), **ASK),
    ),
    "embeddings": ("embeddings m", lambda c: c.embeddings.create(model="m", input="hello")),
    "completions": (
        "text_completion m",
        lambda c: c.completions.create(model="m", prompt="Say"),
    ),
    "completions stream": (
        "text_completion m",
        lambda c: list(c.completions.create(model="m", prompt="Say", stream=True)),
    ),
    "images": (
        "generate_content m",
        lambda c: c.images.generate(model="m", prompt="A greeting."),
    ),
    "moderations": ("moderation", lambda c: c.moderations.create(model="m", input="hello")),
}
TOKENLESS = {
    "chat create stream",
    "chat stream",
    "chat raw stream",
    "chat streaming response of a stream",
    "moderations",
}
"""This provider reports no usage on chat streams, and no endpoint does on moderations."""


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_point_makes_one_span(instrumented: Watching, client: OpenAI, entry: str) -> None:
    """One call is one span, which has ended, with the model and what it cost."""
    span, call = ENTRIES[entry]
    call(client)
    assert instrumented.names == [span]
    assert "llmspell.operation.outcome" not in instrumented.only
    if entry != "images":
        assert instrumented.only["gen_ai.response.model"] == "m-1"
    used = None if entry in TOKENLESS else 5
    assert instrumented.only.get("gen_ai.usage.input_tokens") == used


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_point_gives_what_it_gave(
    instrumented: Watching, client: OpenAI, entry: str
) -> None:
    """The result is equal to, and of the type of, what the SDK alone gives."""
    from llmspell_otel.operations.ports import ports

    call = ENTRIES[entry][1]
    observed = call(client)
    watching, ports.telemetry = ports.telemetry, None
    try:
        plain = call(client)
    finally:
        ports.telemetry = watching
    assert type(observed) is type(plain)
    assert repr(observed) == repr(plain)


def test_other_calls_of_the_sdk_are_left_alone(instrumented: Watching, client: OpenAI) -> None:
    """What calls no model (listing models, files) makes no span."""
    BODIES["/v1/models"] = {"object": "list", "data": []}
    assert list(client.models.list()) == []
    assert not instrumented.spans
