"""Items of the responses API in the shapes of the GenAI conventions."""

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from llmspell_instrumentation.openai.chat_content import Part, arguments, media
from llmspell_instrumentation.reading import get, plain

_CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
_OUTPUTS = frozenset(
    {"function_call_output", "custom_tool_call_output", "computer_call_output", "shell_call_output"}
)


def messages(sent: Any) -> list[dict[str, Any]] | None:
    """The input *sent*; None when it is an iterator, which is not ours to consume."""
    if isinstance(sent, str):
        return [{"role": "user", "parts": [{"type": "text", "content": sent}]}]
    if not isinstance(sent, (list, tuple)):
        return None
    grouped = groupby(sent, key=_role)
    return [{"role": role, "parts": parts(one for one in items)} for role, items in grouped]


def parts(items: Iterable[Any]) -> list[Part]:
    """The parts that these output or input *items* amount to."""
    return [part for item in items for part in _item(item)]


def _role(item: Any) -> str:
    kind = get(item, "type") or "message"
    if kind == "message":
        role = str(get(item, "role") or "user")
        return "system" if role == "developer" else role
    return "tool" if kind in _OUTPUTS else "assistant"


def _item(item: Any) -> list[Part]:
    kind = get(item, "type") or "message"
    if kind == "message":
        return _content(get(item, "content"))
    if kind in _CALLS:
        sent = arguments(get(item, _CALLS[kind]))
        identity = get(item, "call_id")
        return [{"type": "tool_call", "id": identity, "name": get(item, "name"), "arguments": sent}]
    if kind in _OUTPUTS:
        output = plain(get(item, "output"))
        return [{"type": "tool_call_response", "id": get(item, "call_id"), "response": output}]
    if kind == "reasoning":
        summary = get(item, "content") or get(item, "summary") or ()
        return [{"type": "reasoning", "content": str(get(part, "text"))} for part in summary]
    if kind == "compaction":
        return [{"type": "compaction", "id": get(item, "id")}]
    return [_server_tool_call(item, kind)]


def _server_tool_call(item: Any, kind: str) -> Part:
    named = get(item, "name") or kind.removesuffix("_call")
    call = {"type": kind, "status": get(item, "status")}
    return {
        "type": "server_tool_call",
        "id": get(item, "id"),
        "name": named,
        "server_tool_call": call,
    }


def _content(content: Any) -> list[Part]:
    if isinstance(content, str):
        return [{"type": "text", "content": content}] if content else []
    if not isinstance(content, (list, tuple)):
        return []
    return [_part(part) for part in content]


def _part(part: Any) -> Part:
    kind = get(part, "type")
    if kind in {"input_text", "output_text", "text"}:
        return {"type": "text", "content": get(part, "text")}
    if kind == "refusal":
        return {"type": "refusal", "content": get(part, "refusal")}
    if kind in {"input_image", "input_file"}:
        return _media(part, "image" if kind == "input_image" else "document")
    return plain(part) if kind else {"type": "generic", "content": plain(part)}


def _media(part: Any, modality: str) -> Part:
    identity = get(part, "file_id")
    if identity:
        return {"type": "file", "modality": modality, "file_id": identity}
    url = get(part, "image_url") or get(part, "file_url") or get(part, "file_data") or ""
    return media(str(url), modality)
