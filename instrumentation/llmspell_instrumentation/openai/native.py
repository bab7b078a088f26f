"""Answers in the SDK's own shapes: models, parsed models, and streams over memory."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from uuid import uuid4

from llmspell_instrumentation.openai.codec import given
from llmspell_instrumentation.reading import get, plain
from llmspell_otel.operations.call import Call


def http() -> Any:
    """The HTTP library this version of the SDK is built on: httpx2 or httpx."""
    from openai import _streaming

    module: Any = _streaming
    return getattr(module, "httpx2", None) or module.httpx


def construct(model: type[Any], value: Mapping[str, Any]) -> Any:
    """*value* as a *model* of the SDK: checked if it can be, else as it is, as the SDK does."""
    try:
        return model.model_validate(value)
    except ValueError:
        return model.construct(**value)


def as_text(value: Any) -> str:
    """*value* as the text of a message."""
    return value if isinstance(value, str) else json.dumps(plain(value))


def identity(prefix: str) -> str:
    """A fresh id in the style of the provider's."""
    return f"{prefix}{uuid4().hex}"


def chat_completion(call: Call, value: Any) -> Any:
    """*value* as a `ChatCompletion`: a completion, its JSON, or what the assistant said."""
    from openai.types.chat import ChatCompletion

    if isinstance(value, ChatCompletion):
        return value.model_copy(deep=True)
    if isinstance(value, Mapping) and "choices" in value:
        body = dict(value)
    else:
        message = {"role": "assistant", "content": as_text(value)}
        body = {"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}
    defaults = {
        "id": identity("chatcmpl-"),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": str(call.kwargs.get("model")),
    }
    return construct(ChatCompletion, {**defaults, **plain(body)})


def parsed_chat(call: Call, completion: Any) -> Any:
    """The *completion* as `chat.completions.parse` hands it back."""
    from openai.lib._parsing import parse_chat_completion

    sent = call.kwargs
    return parse_chat_completion(
        response_format=sent.get("response_format", _omit()),
        input_tools=sent.get("tools", _omit()),
        chat_completion=completion,
    )


def chat_chunks(call: Call, completion: Any) -> Iterator[dict[str, Any]]:
    """The chunks that a stream of this *completion* has."""
    head: dict[str, Any] = {**plain(completion), "object": "chat.completion.chunk"}
    usage, choices = head.pop("usage", None), head.pop("choices", [])
    for choice in choices:
        message = choice.get("message") or {}
        calls = message.pop("tool_calls", None) or ()
        delta = {**message, "role": "assistant"}
        if calls:
            delta["tool_calls"] = [{**one, "index": index} for index, one in enumerate(calls)]
        index, reason = choice.get("index", 0), choice.get("finish_reason")
        yield {**head, "choices": [{"index": index, "delta": delta, "finish_reason": None}]}
        yield {**head, "choices": [{"index": index, "delta": {}, "finish_reason": reason}]}
    if usage and get(call.kwargs.get("stream_options"), "include_usage"):
        yield {**head, "choices": [], "usage": usage}


def stream(call: Call, chunks: Iterable[Any]) -> Any:
    """A genuine `Stream` (or `AsyncStream`) of the *chunks*, read from memory."""
    from openai import AsyncStream, Stream

    is_async = call.instance.__class__.__name__.startswith("Async")
    kind = AsyncStream if is_async else Stream
    return kind(
        cast_to=_chunk_type(call),
        response=response(call, b"".join(map(_event, chunks)) + b"data: [DONE]\n\n"),
        client=call.instance._client,  # noqa: SLF001 - the SDK hands its streams just this
    )


def response(call: Call, content: bytes, media_type: str = "text/event-stream") -> Any:
    """An HTTP response that never left this process."""
    library = http()
    request = library.Request("POST", call.instance._client.base_url)  # noqa: SLF001 - as above
    return library.Response(
        200, content=content, headers={"content-type": media_type}, request=request
    )


def _event(chunk: Any) -> bytes:
    data: Any = plain(chunk)
    kind = data.get("type") if isinstance(data, dict) else None
    name = f"event: {kind}\n" if kind else ""
    return f"{name}data: {json.dumps(data)}\n\n".encode()


def _chunk_type(call: Call) -> Any:
    from openai.types import Completion
    from openai.types.chat import ChatCompletionChunk
    from openai.types.responses import ResponseStreamEvent

    resource = type(call.instance)
    if "Completions" not in resource.__name__:
        return ResponseStreamEvent
    return ChatCompletionChunk if ".chat." in resource.__module__ else Completion


def _omit() -> Any:
    from openai import _types

    return getattr(_types, "omit", _types.NOT_GIVEN)


def model_response(call: Call, value: Any) -> Any:
    """*value* as a `Response`: a response, its JSON, or what the assistant said."""
    from openai.types.responses import Response

    if isinstance(value, Response):
        return value.model_copy(deep=True)
    if isinstance(value, Mapping) and "output" in value:
        body = dict(value)
    else:
        body = {"output": [_message(as_text(value))]}
    sent = {
        name: plain(call.kwargs[name])
        for name in ("instructions", "metadata", "previous_response_id", "tools", "tool_choice")
        if given(call.kwargs.get(name)) and _is_json(call.kwargs[name])
    }
    defaults = {
        "id": identity("resp_"),
        "object": "response",
        "created_at": time.time(),
        "model": str(call.kwargs.get("model")),
        "status": "completed",
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }
    return construct(Response, {**defaults, **sent, **plain(body)})


def parsed_response(call: Call, answer: Any) -> Any:
    """The *answer* as `responses.parse` hands it back."""
    from openai.lib._parsing._responses import parse_response

    return parse_response(
        text_format=call.kwargs.get("text_format", _omit()),
        input_tools=call.kwargs.get("tools", _omit()),
        response=answer,
    )


def response_events(answer: Any) -> Iterator[dict[str, Any]]:
    """The events that a stream of this `Response` has."""
    body = plain(answer)
    begun = {**body, "status": "in_progress", "output": [], "usage": None}
    for sequence, event in enumerate(_events(body, begun)):
        yield {**event, "sequence_number": sequence}


def _events(body: dict[str, Any], begun: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for index, item in enumerate(body.get("output") or ()):
        place = {"output_index": index}
        parts = item.get("content") if item.get("type") == "message" else None
        opened = {**item, "status": "in_progress"} if "status" in item else dict(item)
        if parts is not None:
            opened["content"] = []
        yield {"type": "response.output_item.added", "item": opened, **place}
        for number, part in enumerate(parts or ()):
            where = {**place, "item_id": item.get("id"), "content_index": number}
            yield from _part_events(part, where)
        yield {"type": "response.output_item.done", "item": item, **place}
    status = body.get("status")
    last = status if status in {"completed", "incomplete", "failed"} else "completed"
    yield {"type": f"response.{last}", "response": body}


def _part_events(part: dict[str, Any], where: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if part.get("type") != "output_text":
        yield {"type": "response.content_part.added", "part": part, **where}
    else:
        said = part.get("text") or ""
        empty = {**part, "text": ""}
        yield {"type": "response.content_part.added", "part": empty, **where}
        yield {"type": "response.output_text.delta", "delta": said, "logprobs": [], **where}
        yield {"type": "response.output_text.done", "text": said, "logprobs": [], **where}
    yield {"type": "response.content_part.done", "part": part, **where}


def _message(said: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": said, "annotations": []}
    return {
        "type": "message",
        "id": identity("msg_"),
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }


def _is_json(value: Any) -> bool:
    return isinstance(value, (str, Mapping, list, tuple))


def embeddings(call: Call, value: Any) -> Any:
    """*value* as a `CreateEmbeddingResponse`: a response, its JSON, one vector or several."""
    from openai.types import CreateEmbeddingResponse

    if isinstance(value, CreateEmbeddingResponse):
        return value.model_copy(deep=True)
    if isinstance(value, Mapping) and "data" in value:
        body = plain(value)
    else:
        vectors = value if value and isinstance(value[0], (list, tuple)) else [value]
        body = {
            "data": [
                {"object": "embedding", "index": index, "embedding": list(vector)}
                for index, vector in enumerate(vectors)
            ]
        }
    defaults = {
        "object": "list",
        "model": str(call.kwargs.get("model")),
        "usage": {"prompt_tokens": 0, "total_tokens": 0},
    }
    return construct(CreateEmbeddingResponse, {**defaults, **body})


def text_completion(call: Call, value: Any) -> Any:
    """*value* as a `Completion`: a completion, its JSON, or the text."""
    from openai.types import Completion

    if isinstance(value, Completion):
        return value.model_copy(deep=True)
    body = _body(value, "choices") or {
        "choices": [{"index": 0, "finish_reason": "stop", "text": as_text(value)}]
    }
    defaults = {
        "id": identity("cmpl-"),
        "object": "text_completion",
        "created": int(time.time()),
        "model": str(call.kwargs.get("model")),
    }
    return construct(Completion, {**defaults, **body})


def images(call: Call, value: Any) -> Any:
    """*value* as an `ImagesResponse`: a response, its JSON, or the URL of one image."""
    from openai.types import ImagesResponse

    del call
    if isinstance(value, ImagesResponse):
        return value.model_copy(deep=True)
    body = _body(value, "data") or {"data": [{"url": as_text(value)}]}
    return construct(ImagesResponse, {"created": int(time.time()), **body})


def moderation(call: Call, value: Any) -> Any:
    """*value* as a `ModerationCreateResponse`: a response or its JSON.

    Raises:
        TypeError: nothing else can be read as a judgement.
    """
    from openai.types import ModerationCreateResponse

    if isinstance(value, ModerationCreateResponse):
        return value.model_copy(deep=True)
    body = _body(value, "results")
    if body is None:
        raise TypeError(f"a moderation is a mapping with results, not {type(value).__name__}")
    defaults = {"id": identity("modr-"), "model": str(call.kwargs.get("model"))}
    return construct(ModerationCreateResponse, {**defaults, **body})


def _body(value: Any, field: str) -> dict[str, Any] | None:
    return plain(value) if isinstance(value, Mapping) and field in value else None
