"""The codecs, on recorded JSON: what they make of requests, responses and messages."""

from typing import Any

import pytest
from openai import AzureOpenAI, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response

from llmspell_instrumentation.openai import chat_content, client, responses_content
from llmspell_instrumentation.openai.chat import ChatCodec
from llmspell_instrumentation.openai.embeddings import EmbeddingsCodec
from llmspell_instrumentation.openai.responses import ResponsesCodec
from llmspell_otel.operations.call import Call
from tests.instrumentation.openai.surfaces import Greeting

COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-5-2026",
    "service_tier": "flex",
    "system_fingerprint": "fp_1",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "find", "arguments": '{"what": "keys"}'},
                    }
                ],
            },
        }
    ],
    "usage": {
        "prompt_tokens": 20,
        "completion_tokens": 9,
        "total_tokens": 29,
        "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 5, "audio_tokens": 1},
    },
}
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "gpt-5-2026",
    "status": "completed",
    "service_tier": "default",
    "conversation": {"id": "conv_1"},
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "output": [
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {
            "type": "web_search_call",
            "id": "ws_1",
            "status": "completed",
            "action": {"type": "search", "query": "x"},
        },
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Found.", "annotations": []}],
        },
    ],
    "usage": {
        "input_tokens": 30,
        "output_tokens": 12,
        "total_tokens": 42,
        "input_tokens_details": {"cached_tokens": 10, "cache_write_tokens": 4},
        "output_tokens_details": {"reasoning_tokens": 6},
    },
}


def ask(**arguments: Any) -> Call:
    """A call with these arguments, on no client."""
    return Call(ask, None, (), arguments)


@pytest.mark.parametrize("parsed", [False, True], ids=["json", "object"])
def test_a_completion(*, parsed: bool) -> None:
    """A completion's attributes are read from the SDK's object and from JSON alike."""
    result = ChatCompletion.model_validate(COMPLETION) if parsed else COMPLETION
    assert ChatCodec().response(ask(), result) == {
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "gpt-5-2026",
        "gen_ai.response.finish_reasons": ["tool_call"],
        "openai.response.service_tier": "flex",
        "openai.response.system_fingerprint": "fp_1",
        "gen_ai.usage.input_tokens": 20,
        "gen_ai.usage.output_tokens": 9,
        "gen_ai.usage.cache_read.input_tokens": 8,
        "gen_ai.usage.audio.input_tokens": 2,
        "gen_ai.usage.audio.output_tokens": 1,
        "gen_ai.usage.reasoning.output_tokens": 5,
    }
    assert ChatCodec().response_content(ask(), result) == {
        "gen_ai.output.messages": [
            {
                "role": "assistant",
                "parts": [
                    {
                        "type": "tool_call",
                        "id": "call_1",
                        "name": "find",
                        "arguments": {"what": "keys"},
                    }
                ],
            }
        ]
    }


@pytest.mark.parametrize("parsed", [False, True], ids=["json", "object"])
def test_a_response(*, parsed: bool) -> None:
    """A response's attributes are read from the SDK's object and from JSON alike."""
    result = Response.model_validate(RESPONSE) if parsed else RESPONSE
    assert ResponsesCodec().response(ask(model="gpt-5"), result) == {
        "gen_ai.response.id": "resp_1",
        "gen_ai.response.model": "gpt-5-2026",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.conversation.id": "conv_1",
        "openai.response.service_tier": "default",
        "gen_ai.usage.input_tokens": 30,
        "gen_ai.usage.output_tokens": 12,
        "gen_ai.usage.cache_read.input_tokens": 10,
        "gen_ai.usage.cache_write.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 6,
    }
    (message,) = ResponsesCodec().response_content(ask(), result)["gen_ai.output.messages"]
    assert [part["type"] for part in message["parts"]] == ["reasoning", "server_tool_call", "text"]


@pytest.mark.parametrize(
    ("changes", "reasons", "error"),
    [
        (
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            ["length"],
            None,
        ),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            ["content_filter"],
            None,
        ),
        (
            {"status": "failed", "error": {"code": "server_error", "message": "x"}},
            ["error"],
            "server_error",
        ),
        (
            {"status": "failed", "error": {"code": "no code at all!", "message": "x"}},
            ["error"],
            "_OTHER",
        ),
        ({"status": "in_progress"}, None, None),
    ],
    ids=["length", "filter", "failed", "unnamed", "background"],
)
def test_a_response_that_did_not_complete(
    changes: dict[str, Any], reasons: list[str] | None, error: str | None
) -> None:
    """Why it stopped is told in the conventions' words; a failed one has an error type."""
    read = ResponsesCodec().response(ask(), {**RESPONSE, **changes})
    assert read.get("gen_ai.response.finish_reasons") == reasons
    assert read.get("error.type") == error


def test_what_was_asked_in_chat() -> None:
    """Every parameter that the conventions name is read; what was not given is not."""
    call = ask(
        model="gpt-5",
        max_completion_tokens=99,
        top_p=0.5,
        frequency_penalty=0.1,
        presence_penalty=0.2,
        stop="END",
        seed=7,
        n=2,
        reasoning_effort="low",
        response_format=Greeting,
        service_tier="auto",
        stream=False,
        temperature=None,
    )
    assert ChatCodec().request(call) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.request.max_tokens": 99,
        "gen_ai.request.top_p": 0.5,
        "gen_ai.request.frequency_penalty": 0.1,
        "gen_ai.request.presence_penalty": 0.2,
        "gen_ai.request.stop_sequences": ["END"],
        "gen_ai.request.seed": 7,
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.reasoning.level": "low",
        "gen_ai.output.type": "json",
        "openai.api.type": "chat_completions",
    }


def test_what_was_asked_of_responses() -> None:
    """The responses API's own parameters are read likewise."""
    call = ask(
        model="gpt-5",
        max_output_tokens=99,
        reasoning={"effort": "high"},
        previous_response_id="resp_0",
        conversation={"id": "conv_1"},
        text={"format": {"type": "json_schema"}},
        prompt={"id": "pmpt_1", "version": "2", "variables": {"city": "Oslo"}},
        service_tier="priority",
        stream=True,
    )
    read = ResponsesCodec().request(call)
    assert read == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.request.max_tokens": 99,
        "gen_ai.request.reasoning.level": "high",
        "gen_ai.request.previous_response.id": "resp_0",
        "gen_ai.conversation.id": "conv_1",
        "gen_ai.output.type": "json",
        "gen_ai.prompt.name": "pmpt_1",
        "gen_ai.prompt.version": "2",
        "gen_ai.request.stream": True,
        "openai.request.service_tier": "priority",
        "openai.api.type": "responses",
    }
    assert ResponsesCodec().request_content(call) == {"gen_ai.prompt.variable.city": "Oslo"}


def test_embeddings() -> None:
    """The length of the vectors is the answer's, or the one asked for."""
    call = ask(model="e", dimensions=8, encoding_format="float")
    assert EmbeddingsCodec().request(call)["gen_ai.request.encoding_formats"] == ["float"]
    assert EmbeddingsCodec().request(call)["gen_ai.embeddings.dimension.count"] == 8
    body = {"model": "e-1", "data": [{"embedding": [0.5, 0.5]}], "usage": {"prompt_tokens": 3}}
    assert EmbeddingsCodec().response(call, body) == {
        "gen_ai.response.model": "e-1",
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.embeddings.dimension.count": 2,
    }


def test_messages_of_every_kind() -> None:
    """Roles, parts and media take the shapes of the conventions."""
    sent = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "name": "ann",
            "content": [
                {"type": "text", "text": "See:"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
                {"type": "input_audio", "input_audio": {"data": "BBBB", "format": "wav"}},
                {"type": "file", "file": {"file_id": "file-1"}},
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "7"},
        {"role": "assistant", "content": None, "refusal": "No."},
    ]
    shaped = chat_content.messages(sent)
    assert shaped is not None
    assert shaped[0] == {
        "role": "system",
        "parts": [{"type": "text", "content": "Be brief."}],
    }
    assert shaped[1]["name"] == "ann"
    assert shaped[1]["parts"][1:] == [
        {"type": "blob", "modality": "image", "content": "AAAA", "mime_type": "image/png"},
        {"type": "uri", "modality": "image", "uri": "https://example.org/a.png"},
        {"type": "blob", "modality": "audio", "content": "BBBB", "mime_type": "audio/wav"},
        {"type": "file", "modality": "document", "file_id": "file-1"},
    ]
    assert shaped[2]["parts"] == [{"type": "tool_call_response", "id": "call_1", "response": "7"}]
    assert shaped[3]["parts"] == [{"type": "refusal", "content": "No."}]


def test_items_of_every_kind() -> None:
    """Items in a row that one side says are one message."""
    sent = [
        {"role": "user", "content": "Go."},
        {"type": "function_call", "call_id": "c1", "name": "find", "arguments": "{broken"},
        {"type": "function_call_output", "call_id": "c1", "output": "7"},
        {"type": "message", "role": "user", "content": [{"type": "input_image", "file_id": "f1"}]},
    ]
    assert responses_content.messages(sent) == [
        {"role": "user", "parts": [{"type": "text", "content": "Go."}]},
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "c1", "name": "find", "arguments": "{broken"}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "7"}]},
        {"role": "user", "parts": [{"type": "file", "modality": "image", "file_id": "f1"}]},
    ]
    assert responses_content.messages(iter(sent)) is None


@pytest.mark.parametrize(
    ("address", "provider"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://mine.openai.azure.com/openai", "azure.ai.openai"),
        ("https://mine.services.ai.azure.com/models", "azure.ai.inference"),
        ("https://api.deepseek.com", "deepseek"),
        ("https://api.groq.com/openai/v1", "groq"),
        ("https://api.mistral.ai/v1", "mistral_ai"),
        ("https://api.x.ai/v1", "x_ai"),
        ("https://generativelanguage.googleapis.com/v1beta/openai", "gcp.gemini"),
        ("https://eu-aiplatform.googleapis.com/v1", "gcp.vertex_ai"),
        ("https://myapi.x.ai/v1", "openai"),
        ("https://evil-api.x.ai.example.org/v1", "openai"),
        ("http://127.0.0.1:8000/v1", "openai"),
    ],
)
def test_the_provider_is_known_by_its_address(address: str, provider: str) -> None:
    """The host says whose protocol is spoken; an unknown one speaks OpenAI's."""
    with OpenAI(base_url=address, api_key="k") as made:
        peer = client.peer(Call(ask, made.chat.completions, (), {}))
    assert peer["gen_ai.provider.name"] == provider
    assert peer["server.port"] == (8000 if "8000" in address else 443)


def test_the_provider_is_known_by_the_client() -> None:
    """An Azure client speaks to Azure, behind whatever gateway; a moved client is read anew."""
    with AzureOpenAI(
        base_url="https://gateway.example.org", api_key="k", api_version="2026-01-01"
    ) as made:
        call = Call(ask, made.chat.completions, (), {})
        assert client.peer(call)["gen_ai.provider.name"] == "azure.ai.openai"
        made.base_url = "https://elsewhere.example.org"
        assert client.peer(call)["server.address"] == "elsewhere.example.org"


def test_a_stream_folds_to_the_completion_it_amounts_to() -> None:
    """Pieces of several choices and tool calls, in any order, add up; JSON and objects alike."""
    whole = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m-1"}

    def chunk(index: int, reason: str | None = None, **delta: Any) -> dict[str, Any]:
        return {**whole, "choices": [{"index": index, "delta": delta, "finish_reason": reason}]}

    def piece(index: int, **call: Any) -> dict[str, Any]:
        return chunk(0, tool_calls=[{"index": index, **call}])

    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    chunks: list[dict[str, Any]] = [
        chunk(0, role="assistant", content="Let "),
        chunk(1, refusal="No"),
        piece(0, id="c0", type="function", function={"name": "find", "arguments": '{"a"'}),
        piece(1, id="c1", type="function", function={"name": "look", "arguments": "{}"}),
        piece(0, function={"arguments": ": 1}"}),
        chunk(0, content="me see."),
        chunk(1, "stop", refusal="."),
        chunk(0, "tool_calls"),
        {**whole, "choices": [], "usage": usage},
    ]
    for parsed in (False, True):
        fold = ChatCodec().stream_fold(ask(stream=True))
        for one in chunks:
            fold.add(ChatCompletionChunk.model_validate(one) if parsed else one)
        result = fold.result()
        first, second = result["choices"]
        assert first["message"]["content"] == "Let me see."
        assert [call["function"] for call in first["message"]["tool_calls"]] == [
            {"name": "find", "arguments": '{"a": 1}'},
            {"name": "look", "arguments": "{}"},
        ]
        assert second["message"]["refusal"] == "No."
        assert ChatCodec().response(ask(), result) == {
            "gen_ai.response.id": "c1",
            "gen_ai.response.model": "m-1",
            "gen_ai.response.finish_reasons": ["tool_call", "stop"],
            "gen_ai.usage.input_tokens": 1,
            "gen_ai.usage.output_tokens": 2,
        }
    assert ChatCodec().stream_fold(ask(stream=True)).result()["choices"] == []
