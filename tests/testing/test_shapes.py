"""The bytes on the wire are what the SDK's own types declare, to the last required field."""

import json

import pytest
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from llmspell_otel.testing import Reply, Usage

CHAT = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
ASK = {"model": "m", "input": "x"}
TOOLS = [{"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": True}]
REPLIES = {
    "text": Reply.text("one two", usage=Usage(input=5, output=2, cached=1, reasoning=1)),
    "tools": Reply.tools(("add", {"a": 1}), ("add", "{broken")),
    "refusal": Reply.refuse("no"),
    "cut off": Reply.text("one", finish="length"),
    "error": Reply.text("one two", stream_error="overloaded", abort_after=2),
}


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
def test_streams_are_declared(serve, reply: Reply) -> None:
    """Every event of a stream validates strictly; the SDK itself would let much pass."""
    _, client = serve([reply] * 2)
    usage = {"include_usage": True}
    chunks = lines(client.chat.completions, **CHAT, stream=True, stream_options=usage)
    last = chunks.pop()
    assert last == "[DONE]" if reply.stream_error is None else json.loads(last)["error"]
    for chunk in chunks:
        ChatCompletionChunk.model_validate_json(chunk, strict=True)
    event = TypeAdapter(ResponseStreamEvent)
    for line in lines(client.responses, **ASK, stream=True, tools=TOOLS):
        event.validate_json(line, strict=True)


@pytest.mark.parametrize("reply", list(REPLIES.values())[:-1], ids=list(REPLIES)[:-1])
def test_bodies_are_declared(serve, reply: Reply) -> None:
    """Every whole reply validates strictly."""
    _, client = serve([reply] * 2)
    raw = client.chat.completions.with_raw_response.create(**CHAT)
    ChatCompletion.model_validate_json(raw.content, strict=True)
    raw = client.responses.with_raw_response.create(**ASK, tools=TOOLS)
    Response.model_validate_json(raw.content, strict=True)
    raw = client.embeddings.with_raw_response.create(model="e", input="x", encoding_format="float")
    CreateEmbeddingResponse.model_validate_json(raw.content, strict=True)


def lines(resource, **asked: object) -> list[str]:
    """The data of every event that a stream brings."""
    with resource.with_streaming_response.create(**asked) as response:
        return [
            line.removeprefix("data: ")
            for line in response.iter_lines()
            if line.startswith("data: ")
        ]
