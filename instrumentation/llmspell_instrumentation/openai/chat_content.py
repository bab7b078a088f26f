"""Chat messages in the shapes of the GenAI conventions."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from llmspell_instrumentation.reading import get, plain

Part = dict[str, Any]


def messages(sent: Any) -> list[dict[str, Any]] | None:
    """The messages *sent*; None when they are an iterator, which is not ours to consume."""
    if not isinstance(sent, (list, tuple)):
        return None
    return [message(one) for one in sent]


def message(one: Any) -> dict[str, Any]:
    """One message, sent or received."""
    role = str(get(one, "role") or "assistant")
    role = "system" if role == "developer" else role
    shaped: dict[str, Any] = {"role": role, "parts": list(_parts(one, role))}
    name = get(one, "name")
    return {**shaped, "name": name} if name else shaped


def tools(offered: Any) -> list[dict[str, Any]] | None:
    """The tools *offered*, by type and name; their schemas are left out for their size."""
    if not isinstance(offered, (list, tuple)) or not offered:
        return None
    return [tool(one) for one in offered]


def tool(one: Any) -> dict[str, Any]:
    """One tool; function tools nest their name in the chat API and not in the responses API."""
    kind = str(get(one, "type") or "function")
    name = get(one, "name") or get(one, kind, "name") or kind
    return {"type": kind, "name": str(name)}


def arguments(sent: Any) -> Any:
    """The arguments of a tool call as an object, or as the text they are when no JSON."""
    if not isinstance(sent, str):
        return plain(sent)
    try:
        return json.loads(sent)
    except ValueError:
        return sent


def media(url: str, modality: str) -> Part:
    """A part for what stands at *url*; a data URL is the thing itself."""
    if url.startswith("data:"):
        head, _, content = url[5:].partition(",")
        mime = head.partition(";")[0]
        return {"type": "blob", "modality": modality, "content": content, "mime_type": mime}
    return {"type": "uri", "modality": modality, "uri": url}


def _parts(one: Any, role: str) -> Iterator[Part]:
    content = get(one, "content")
    if role == "tool":
        yield {
            "type": "tool_call_response",
            "id": get(one, "tool_call_id"),
            "response": plain(content),
        }
        return
    yield from _content(content)
    if get(one, "refusal"):
        yield {"type": "refusal", "content": get(one, "refusal")}
    if get(one, "audio", "transcript"):
        yield {"type": "text", "content": get(one, "audio", "transcript")}
    yield from _tool_calls(get(one, "tool_calls") or ())


def _content(content: Any) -> Iterator[Part]:
    if isinstance(content, str):
        if content:
            yield {"type": "text", "content": content}
    elif isinstance(content, (list, tuple)):
        for part in content:
            yield _part(part)


def _part(part: Any) -> Part:
    kind = get(part, "type")
    if kind == "text":
        return {"type": "text", "content": get(part, "text")}
    if kind == "refusal":
        return {"type": "refusal", "content": get(part, "refusal")}
    if kind == "image_url":
        return media(str(get(part, "image_url", "url")), "image")
    if kind == "input_audio":
        mime = f"audio/{get(part, 'input_audio', 'format')}"
        content = get(part, "input_audio", "data")
        return {"type": "blob", "modality": "audio", "content": content, "mime_type": mime}
    if kind == "file":
        return _file(get(part, "file"))
    return plain(part) if get(part, "type") else {"type": "generic", "content": plain(part)}


def _file(file: Any) -> Part:
    identity = get(file, "file_id")
    if identity:
        return {"type": "file", "modality": "document", "file_id": identity}
    return media(str(get(file, "file_data") or ""), "document")


def _tool_calls(calls: Iterable[Any]) -> Iterator[Part]:
    for call in calls:
        kind = get(call, "type") or "function"
        sent = get(call, kind, "arguments")
        yield {
            "type": "tool_call",
            "id": get(call, "id"),
            "name": get(call, kind, "name"),
            "arguments": arguments(get(call, kind, "input") if sent is None else sent),
        }
