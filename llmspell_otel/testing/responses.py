"""The wire format of `/v1/responses`.

Source: https://platform.openai.com/docs/api-reference/responses and `responses-streaming`
"""

from collections.abc import Iterator

from llmspell_otel.testing.request import Json, ModelRequest, answered_calls, tool_calls
from llmspell_otel.testing.script import Reply, ScriptedToolCall, Usage
from llmspell_otel.testing.wire import CREATED, Ids, argument_pieces, sse, text_pieces

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def complaint(request: ModelRequest) -> str | None:
    """What the API would find wrong with *request*, if anything."""
    if not request.items:
        return "Missing required parameter: 'input'."
    asked = [call_id for _, call_id in tool_calls(request.items)]
    answered = answered_calls(request.items)
    for call_id in asked:
        if call_id not in answered:
            return f"No tool output found for function call {call_id}."
    for call_id in answered:
        if call_id not in asked:
            return f"No tool call found for function call output with call_id {call_id}."
    return None


def body(request: ModelRequest, reply: Reply, ids: Ids) -> Json:
    """The whole response."""
    envelope = _envelope(request, reply, ids)
    output = [_item(part, ids) | _content(part) for part in _parts(reply)]
    return _finished(envelope, request, reply, output)


def chunks(request: ModelRequest, reply: Reply, ids: Ids) -> Iterator[bytes]:
    """The response as server-sent events, numbered from 0."""
    for number, event in enumerate(_events(request, reply, ids)):
        yield sse(event | {"sequence_number": number}, event=event["type"])


def stream_error(message: str, number: int) -> bytes:
    """The event, number *number* of its stream, that tells of an error."""
    event = {"type": "error", "code": "server_error", "message": message, "param": None}
    return sse(event | {"sequence_number": number}, event="error")


def _events(request: ModelRequest, reply: Reply, ids: Ids) -> Iterator[Json]:
    envelope = _envelope(request, reply, ids)
    yield {"type": "response.created", "response": envelope}
    yield {"type": "response.in_progress", "response": envelope}
    output: list[Json] = []
    for index, part in enumerate(_parts(reply)):
        item = _item(part, ids)
        output.append(item | _content(part))
        place: Json = {"output_index": index}
        opened = item | {"status": "in_progress"}
        yield {"type": "response.output_item.added", "item": opened} | place
        details = _call_events(part) if isinstance(part, ScriptedToolCall) else _text_events(*part)
        yield from (event | place | {"item_id": item["id"]} for event in details)
        yield {"type": "response.output_item.done", "item": output[-1]} | place
    whole = _finished(envelope, request, reply, output)
    yield {"type": f"response.{whole['status']}", "response": whole}


_Said = tuple[str, Reply]
"""A message: what the content part is called (`text` or `refusal`), and whose it is."""


def _parts(reply: Reply) -> list[_Said | ScriptedToolCall]:
    said: list[_Said | ScriptedToolCall] = []
    if reply.refusal is not None:
        said.append(("refusal", reply))
    elif reply.content or not reply.tool_calls:
        said.append(("text", reply))
    return [*said, *reply.tool_calls]


def _item(part: _Said | ScriptedToolCall, ids: Ids) -> Json:
    """An output item as it is when it opens."""
    if isinstance(part, ScriptedToolCall):
        return {
            "id": ids.next("fc_"),
            "type": "function_call",
            "status": "completed",
            "arguments": "",
            "call_id": ids.next("call_"),
            "name": part.name,
        }
    return {
        "id": ids.next("msg_"),
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [],
    }


def _content(part: _Said | ScriptedToolCall) -> Json:
    """What an output item has gained when it is done."""
    if isinstance(part, ScriptedToolCall):
        return {"arguments": part.json}
    kind, reply = part
    return {"content": [_part(kind, _words(kind, reply))]}


def _part(kind: str, text: str) -> Json:
    if kind == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _words(kind: str, reply: Reply) -> str:
    return reply.content if kind == "text" else reply.refusal or ""


def _text_events(kind: str, reply: Reply) -> Iterator[Json]:
    text = _words(kind, reply)
    name = "response.output_text" if kind == "text" else "response.refusal"
    place: Json = {"content_index": 0} | ({"logprobs": []} if kind == "text" else {})
    yield {"type": "response.content_part.added", "content_index": 0, "part": _part(kind, "")}
    for piece in text_pieces(reply, text):
        yield {"type": f"{name}.delta", "delta": piece} | place
    yield {"type": f"{name}.done", kind: text} | place
    yield {"type": "response.content_part.done", "content_index": 0, "part": _part(kind, text)}


def _call_events(call: ScriptedToolCall) -> Iterator[Json]:
    name = "response.function_call_arguments"
    for piece in argument_pieces(call):
        yield {"type": f"{name}.delta", "delta": piece}
    yield {"type": f"{name}.done", "name": call.name, "arguments": call.json}


def _envelope(request: ModelRequest, reply: Reply, ids: Ids) -> Json:
    """The response as it is when it begins, with what it echoes of the request."""
    asked = request.body
    return {
        "id": ids.next("resp_"),
        "object": "response",
        "created_at": CREATED,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": asked.get("instructions"),
        "max_output_tokens": asked.get("max_output_tokens"),
        "metadata": asked.get("metadata") or {},
        "model": reply.model or request.model,
        "output": [],
        "parallel_tool_calls": asked.get("parallel_tool_calls", True),
        "previous_response_id": asked.get("previous_response_id"),
        "reasoning": asked.get("reasoning") or {"effort": None, "summary": None},
        "service_tier": "default",
        "store": asked.get("store", True),
        "temperature": asked.get("temperature", 1.0),
        "text": asked.get("text") or {"format": {"type": "text"}},
        "tool_choice": asked.get("tool_choice", "auto"),
        "tools": asked.get("tools") or [],
        "top_p": asked.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": None,
    }


def _finished(envelope: Json, request: ModelRequest, reply: Reply, output: list[Json]) -> Json:
    reason = _INCOMPLETE.get(reply.finish_reason)
    return envelope | {
        "status": "incomplete" if reason else "completed",
        "incomplete_details": {"reason": reason} if reason else None,
        "output": output,
        "usage": _usage(reply.cost(request)),
    }


def _usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }
