"""The wire format of `/v1/chat/completions`.

Source: https://platform.openai.com/docs/api-reference/chat
"""

from collections.abc import Iterator

from llmspell_otel.testing.request import Json, ModelRequest, answered_calls, tool_calls
from llmspell_otel.testing.script import Reply, Usage
from llmspell_otel.testing.wire import CREATED, Ids, argument_pieces, sse, text_pieces


def complaint(request: ModelRequest) -> str | None:
    """What the API would find wrong with *request*, if anything."""
    if not request.items:
        return "Missing required parameter: 'messages'."
    asked = [call_id for _, call_id in tool_calls(request.items)]
    answered = answered_calls(request.items)
    if missing := [each for each in asked if each not in answered]:
        return (
            "An assistant message with 'tool_calls' must be followed by tool messages responding "
            f"to each 'tool_call_id'. Without response: {', '.join(missing)}"
        )
    if any(each not in asked for each in answered):
        return (
            "messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
        )
    return None


def body(request: ModelRequest, reply: Reply, ids: Ids) -> Json:
    """The whole completion."""
    message: Json = {
        "role": "assistant",
        "content": reply.content or None,
        "refusal": reply.refusal,
        "annotations": [],
    }
    if reply.tool_calls:
        message["tool_calls"] = [
            {
                "id": ids.next("call_"),
                "type": "function",
                "function": _function(call.name, call.json),
            }
            for call in reply.tool_calls
        ]
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": reply.finish_reason,
    }
    return _envelope(request, reply, ids, "chat.completion") | {
        "choices": [choice],
        "usage": _usage(reply.cost(request)),
    }


def chunks(request: ModelRequest, reply: Reply, ids: Ids) -> Iterator[bytes]:
    """The completion as server-sent events, up to `[DONE]`."""
    wants_usage = bool((request.body.get("stream_options") or {}).get("include_usage"))
    envelope = _envelope(request, reply, ids, "chat.completion.chunk")
    if wants_usage:
        envelope["usage"] = None
    for delta in _deltas(reply, ids):
        yield sse(envelope | {"choices": [_choice(delta, None)]})
    yield sse(envelope | {"choices": [_choice({}, reply.finish_reason)]})
    if wants_usage:
        yield sse(envelope | {"choices": [], "usage": _usage(reply.cost(request))})
    yield sse("[DONE]")


def stream_error(message: str, _number: int) -> bytes:
    """The event that tells of an error in mid-stream; chat does not number its events."""
    return sse(Reply.error(500, message).error_body)


def _deltas(reply: Reply, ids: Ids) -> Iterator[Json]:
    said = "" if reply.content or not reply.tool_calls else None
    yield {"role": "assistant", "content": said, "refusal": None}
    for piece in text_pieces(reply, reply.content):
        yield {"content": piece}
    for piece in text_pieces(reply, reply.refusal or ""):
        yield {"refusal": piece}
    for index, call in enumerate(reply.tool_calls):
        opening = {
            "id": ids.next("call_"),
            "type": "function",
            "function": _function(call.name, ""),
        }
        yield {"tool_calls": [{"index": index} | opening]}
        for piece in argument_pieces(call):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _choice(delta: Json, finish_reason: str | None) -> Json:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _function(name: str, arguments: str) -> Json:
    return {"name": name, "arguments": arguments}


def _envelope(request: ModelRequest, reply: Reply, ids: Ids, kind: str) -> Json:
    return {
        "id": ids.next("chatcmpl-"),
        "object": kind,
        "created": CREATED,
        "model": reply.model or request.model,
        "service_tier": "default",
        "system_fingerprint": None,
    }


def _usage(usage: Usage) -> Json:
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
