"""Chat completions: every form in which the real SDK asks for them."""

import asyncio
import json

import pytest
from pydantic import BaseModel

from llmspell_otel.testing import Reply, Usage
from tests.testing.conftest import async_client

ASK = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "How are you?"}]}
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}
USAGE = Usage(input=20, output=7, cached=5, reasoning=3)


class Answer(BaseModel):
    """A structured output."""

    name: str
    size: int


def test_a_plain_completion(serve) -> None:
    """Text, model, usage with its details and the finish reason arrive; ids follow a sequence."""
    server, client = serve([Reply.text("Well.", usage=USAGE, model="gpt-4o-mini-2024-07-18")])
    completion = client.chat.completions.create(**ASK)
    assert completion.choices[0].message.content == "Well."
    assert completion.choices[0].finish_reason == "stop"
    assert (completion.id, completion._request_id) == ("chatcmpl-000001", "req_000001")
    assert completion.model == "gpt-4o-mini-2024-07-18"
    usage = completion.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (20, 7, 27)
    assert usage.prompt_tokens_details.cached_tokens == 5
    assert usage.completion_tokens_details.reasoning_tokens == 3
    (request,) = server.requests
    assert request.body["messages"] == ASK["messages"]
    assert (request.user, request.model, request.stream) == ("How are you?", "gpt-4o-mini", False)
    assert request.headers["authorization"] == "Bearer k"


def test_a_streamed_completion(serve) -> None:
    """A stream opens with the role, brings the words, and ends with the finish reason."""
    _, client = serve([Reply.text("one two  three")])
    chunks = list(client.chat.completions.create(**ASK, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    words = [chunk.choices[0].delta.content for chunk in chunks[1:-1]]
    assert words == ["one ", "two  ", "three"]
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert {chunk.id for chunk in chunks} == {"chatcmpl-000001"}
    assert all(chunk.usage is None for chunk in chunks)


def test_streamed_usage_comes_only_when_asked(serve) -> None:
    """With include_usage the last chunk has no choice and the usage; no other chunk has it."""
    _, client = serve([Reply.text("one two", usage=USAGE)])
    options = {"include_usage": True}
    *chunks, last = client.chat.completions.create(**ASK, stream=True, stream_options=options)
    assert (last.choices, last.usage.total_tokens) == ([], 27)
    assert all(chunk.usage is None for chunk in chunks)


def test_tool_calls_at_once_and_their_results(serve) -> None:
    """Two calls come in one turn; the next request brings their results, by name."""
    server, client = serve([Reply.tools(("add", {"a": 1, "b": 2}), ("add", "{")), Reply.text("3")])
    choice = client.chat.completions.create(**ASK, tools=[TOOL]).choices[0]
    first, second = choice.message.tool_calls
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert json.loads(first.function.arguments) == {"a": 1, "b": 2}
    assert second.function.arguments == "{"
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": str(index)}
        for index, call in enumerate([first, second])
    ]
    messages = [*ASK["messages"], choice.message.model_dump(exclude_none=True), *results]
    client.chat.completions.create(model="m", messages=messages, tools=[TOOL])
    assert server.requests[0].tools == ("add",)
    assert [(r.name, r.output) for r in server.requests[1].tool_results] == [
        ("add", "0"),
        ("add", "1"),
    ]


def test_streamed_tool_calls_fold_into_the_whole(serve) -> None:
    """The SDK's own helper puts the pieces of two calls together."""
    _, client = serve([Reply.tools(("add", {"a": 1, "b": 2}), ("add", {"a": 10, "b": 20}))])
    with client.chat.completions.stream(**ASK, tools=[TOOL]) as stream:
        kinds = {event.type for event in stream}
        message = stream.get_final_completion().choices[0].message
    assert "tool_calls.function.arguments.done" in kinds
    assert [call.function.parsed_arguments for call in message.tool_calls] == [
        {"a": 1, "b": 2},
        {"a": 10, "b": 20},
    ]


def test_structured_output_is_parsed(serve) -> None:
    """`.parse` and `.stream` give the model that the reply is JSON of."""
    _, client = serve([Reply.json({"name": "x", "size": 3})] * 2)
    parsed = client.chat.completions.parse(**ASK, response_format=Answer)
    assert parsed.choices[0].message.parsed == Answer(name="x", size=3)
    with client.chat.completions.stream(**ASK, response_format=Answer) as stream:
        stream.until_done()
        final = stream.get_final_completion()
    assert final.choices[0].message.parsed == Answer(name="x", size=3)


@pytest.mark.parametrize("stream", [False, True])
def test_refusals_have_their_own_field(serve, *, stream: bool) -> None:
    """A refusal is not content."""
    _, client = serve([Reply.refuse("I will not.")])
    if stream:
        with client.chat.completions.stream(**ASK) as events:
            message = events.get_final_completion().choices[0].message
    else:
        message = client.chat.completions.create(**ASK).choices[0].message
    assert (message.refusal, message.content or "") == ("I will not.", "")


@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_finish_reasons_can_be_set(serve, finish: str) -> None:
    """A reply can say that it was cut off."""
    _, client = serve([Reply.text("and then", finish=finish)] * 2)
    assert client.chat.completions.create(**ASK).choices[0].finish_reason == finish
    *_, last = client.chat.completions.create(**ASK, stream=True)
    assert last.choices[0].finish_reason == finish


def test_raw_and_streaming_responses(serve) -> None:
    """The raw forms give headers, and the same objects when parsed."""
    _, client = serve([Reply.text("hello")] * 3)
    raw = client.chat.completions.with_raw_response.create(**ASK)
    assert raw.headers["x-request-id"] == "req_000001"
    assert raw.parse().choices[0].message.content == "hello"
    with client.chat.completions.with_streaming_response.create(**ASK) as response:
        assert response.parse().choices[0].message.content == "hello"
    with client.chat.completions.with_streaming_response.create(**ASK, stream=True) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"


def test_every_async_form(serve) -> None:
    """The async client gets the same in all its forms."""
    server, _ = serve([Reply.text("hello")] * 3 + [Reply.json({"name": "x", "size": 3})])

    async def ask() -> list[object]:
        async with async_client(server) as client:
            completions = client.chat.completions
            plain = (await completions.create(**ASK)).choices[0].message.content
            chunks = [each async for each in await completions.create(**ASK, stream=True)]
            async with completions.stream(**ASK) as stream:
                final = (await stream.get_final_completion()).choices[0].message.content
            parsed = await completions.parse(**ASK, response_format=Answer)
            return [
                plain,
                chunks[1].choices[0].delta.content,
                final,
                parsed.choices[0].message.parsed,
            ]

    assert asyncio.run(ask()) == ["hello", "hello", "hello", Answer(name="x", size=3)]


def test_the_conversation_is_checked(serve) -> None:
    """As with the provider, an unanswered tool call and an unasked result are refused."""
    from openai import BadRequestError

    _, client = serve([Reply.text("never")])
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    unanswered = [*ASK["messages"], {"role": "assistant", "tool_calls": [call]}]
    unasked = [*ASK["messages"], {"role": "tool", "tool_call_id": "c9", "content": "x"}]
    for messages in (unanswered, unasked, []):
        with pytest.raises(BadRequestError):
            client.chat.completions.create(model="m", messages=messages)
