"""Responses and embeddings: every form in which the real SDK asks for them."""

import asyncio
import json

import pytest
from openai import BadRequestError
from pydantic import BaseModel

from llmspell_otel.testing import Reply, Usage
from tests.testing.conftest import async_client

ASK = {"model": "gpt-5-mini", "input": "How are you?"}
TOOL = {
    "type": "function",
    "name": "add",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    },
}
USAGE = Usage(input=20, output=7, cached=5, reasoning=3)


class Answer(BaseModel):
    """A structured output."""

    name: str


def test_a_plain_response(serve) -> None:
    """Text, ids, model and usage with its details arrive."""
    server, client = serve([Reply.text("Well.", usage=USAGE)])
    response = client.responses.create(**ASK, instructions="Be brief.", metadata={"k": "v"})
    assert (response.output_text, response.status) == ("Well.", "completed")
    assert (response.id, response.output[0].id) == ("resp_000001", "msg_000001")
    usage = response.usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (20, 7, 27)
    assert usage.input_tokens_details.cached_tokens == 5
    assert usage.output_tokens_details.reasoning_tokens == 3
    assert (response.instructions, response.metadata) == ("Be brief.", {"k": "v"})
    (request,) = server.requests
    assert (request.user, request.instructions) == ("How are you?", "Be brief.")


def test_the_events_of_a_text(serve) -> None:
    """A streamed text opens, brings its pieces, closes all it opened, and completes."""
    _, client = serve([Reply.text("one two", usage=USAGE)])
    events = list(client.responses.create(**ASK, stream=True))
    assert [event.type.removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event.sequence_number for event in events] == list(range(10))
    assert events[0].response.status == "in_progress"
    assert events[-1].response.output_text == "one two"
    assert events[-1].response.usage.total_tokens == 27


def test_every_event_is_what_the_sdk_declares(serve) -> None:
    """Strict validation finds each event complete, though the SDK itself would be lenient."""
    _, client = serve([Reply(content="Yes.", tool_calls=Reply.tools(("add", {"a": 1})).tool_calls)])
    for event in client.responses.create(**ASK, stream=True, tools=[TOOL]):
        type(event).model_validate_json(event.model_dump_json(warnings="error"))


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_and_their_results(serve, *, stream: bool) -> None:
    """Two calls come in one turn; the next request brings their results."""
    server, client = serve([Reply.tools(("add", {"a": 1}), ("add", {"a": 2})), Reply.text("3")])
    if stream:
        with client.responses.stream(**ASK, tools=[TOOL]) as events:
            response = events.get_final_response()
    else:
        response = client.responses.create(**ASK, tools=[TOOL])
    calls = response.output
    assert [json.loads(call.arguments) for call in calls] == [{"a": 1}, {"a": 2}]
    answers = [
        {"type": "function_call_output", "call_id": call.call_id, "output": call.arguments}
        for call in calls
    ]
    said = [
        {"type": "function_call", "call_id": c.call_id, "name": c.name, "arguments": c.arguments}
        for c in calls
    ]
    asked = [{"role": "user", "content": "Add."}, *said, *answers]
    assert client.responses.create(model="m", input=asked).output_text == "3"
    results = server.requests[1].tool_results
    assert [(r.name, r.call_id, r.output) for r in results] == [
        ("add", "call_000001", '{"a": 1}'),
        ("add", "call_000002", '{"a": 2}'),
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_a_conversation_goes_on_from_an_earlier_response(serve, *, stream: bool) -> None:
    """With previous_response_id the server knows what was said and called before."""
    server, client = serve([Reply.tools(("add", {"a": 1})), Reply.text("done")])
    if stream:
        *_, last = client.responses.create(**ASK, stream=True)
        first = last.response
    else:
        first = client.responses.create(**ASK)
    output = {"type": "function_call_output", "call_id": first.output[0].call_id, "output": "2"}
    client.responses.create(model="m", input=[output], previous_response_id=first.id)
    assert server.requests[1].tool_results[0].name == "add"
    assert server.requests[1].user == "How are you?"


def test_structured_output_is_parsed(serve) -> None:
    """`.parse` and `.stream` give the model that the reply is JSON of."""
    _, client = serve([Reply.json({"name": "x"})] * 2)
    assert client.responses.parse(**ASK, text_format=Answer).output_parsed == Answer(name="x")
    with client.responses.stream(**ASK, text_format=Answer) as stream:
        assert stream.get_final_response().output_parsed == Answer(name="x")


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_is_a_part_of_its_own(serve, *, stream: bool) -> None:
    """A refusal is not output text."""
    _, client = serve([Reply.refuse("I will not.")])
    if stream:
        *_, last = client.responses.create(**ASK, stream=True)
        response = last.response
    else:
        response = client.responses.create(**ASK)
    assert response.output[0].content[0].refusal == "I will not."
    assert response.output_text == ""


@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_a_response_can_be_incomplete(serve, finish: str, reason: str) -> None:
    """A reply that was cut off is incomplete, with the reason, streamed or not."""
    _, client = serve([Reply.text("and then", finish=finish)] * 2)
    assert client.responses.create(**ASK).incomplete_details.reason == reason
    *_, last = client.responses.create(**ASK, stream=True)
    assert (last.type, last.response.status) == ("response.incomplete", "incomplete")


def test_raw_and_streaming_responses(serve) -> None:
    """The raw forms give headers, and the same objects when parsed."""
    _, client = serve([Reply.text("hello")] * 2)
    raw = client.responses.with_raw_response.create(**ASK)
    assert raw.headers["x-request-id"] == "req_000001"
    assert raw.parse().output_text == "hello"
    with client.responses.with_streaming_response.create(**ASK, stream=True) as response:
        *_, last = response.parse()
    assert last.response.output_text == "hello"


def test_every_async_form(serve) -> None:
    """The async client gets the same in all its forms."""
    server, _ = serve([Reply.text("hello")] * 3 + [Reply.json({"name": "x"})])

    async def ask() -> list[object]:
        async with async_client(server) as client:
            plain = (await client.responses.create(**ASK)).output_text
            events = [each async for each in await client.responses.create(**ASK, stream=True)]
            async with client.responses.stream(**ASK) as stream:
                final = (await stream.get_final_response()).output_text
            parsed = (await client.responses.parse(**ASK, text_format=Answer)).output_parsed
            vector = (await client.embeddings.create(model="e", input="a")).data[0].embedding
            return [plain, events[-1].type, final, parsed, len(vector)]

    assert asyncio.run(ask()) == ["hello", "response.completed", "hello", Answer(name="x"), 8]


def test_the_conversation_is_checked(serve) -> None:
    """As with the provider, an unanswered call and an unasked result are refused."""
    _, client = serve([Reply.text("never")])
    call = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c9", "output": "x"}
    for items in ([call], [output], []):
        with pytest.raises(BadRequestError):
            client.responses.create(model="m", input=items)


def test_embeddings(serve) -> None:
    """Embeddings are the scripted ones, else unit vectors that are the same for the same text."""
    server, client = serve([Reply.embed([1.0, 0.5], usage=Usage(input=9, output=0))])
    scripted = client.embeddings.create(model="e", input="a")
    assert (scripted.data[0].embedding, scripted.usage.total_tokens) == ([1.0, 0.5], 9)
    made = client.embeddings.create(model="e", input=["a", "b", "a"], dimensions=4)
    first, second, third = (each.embedding for each in made.data)
    assert (len(first), first) == (4, third)
    assert first != second
    assert sum(x * x for x in first) == pytest.approx(1)
    plain = client.embeddings.create(model="e", input="a", dimensions=4, encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(first)
    assert [request.endpoint for request in server.requests] == ["embeddings"] * 3
