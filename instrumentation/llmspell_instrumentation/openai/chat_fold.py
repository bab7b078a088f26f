"""Adding up the chunks of a chat completion."""

from collections.abc import Mapping
from typing import Any

from llmspell_instrumentation.reading import get

Usages = Mapping[str, Any]
"""Usage chunks kept from a host that did not ask for them, by completion id."""


class ChatFold:
    """Adds up `ChatCompletionChunk`s into the JSON of a `ChatCompletion`.

    The SDK's own accumulators are private and change; a chunk costs one append here, and
    everything else waits for `result`.
    """

    __slots__ = ("_usages", "chunks")

    def __init__(self, usages: Usages | None = None) -> None:
        self.chunks: list[Any] = []
        self._usages = usages

    def add(self, chunk: Any) -> None:
        """Keep *chunk*."""
        self.chunks.append(chunk)

    def result(self) -> dict[str, Any]:
        """The completion that the chunks so far amount to."""
        completion: dict[str, Any] = {"object": "chat.completion"}
        choices: dict[int, dict[str, Any]] = {}
        for chunk in self.chunks:
            for field in ("id", "model", "created", "system_fingerprint", "service_tier", "usage"):
                value = get(chunk, field)
                if value is not None:
                    completion[field] = value
            for choice in get(chunk, "choices") or ():
                _add_choice(choices, choice)
        withheld = (self._usages or {}).get(completion.get("id", ""))
        if withheld is not None:
            completion["usage"] = withheld
        completion["choices"] = [_choice(choices[index]) for index in sorted(choices)]
        return completion


def _add_choice(choices: dict[int, dict[str, Any]], choice: Any) -> None:
    index = get(choice, "index") or 0
    state = choices.setdefault(
        index, {"index": index, "finish_reason": None, "content": [], "refusal": [], "calls": {}}
    )
    state["finish_reason"] = get(choice, "finish_reason") or state["finish_reason"]
    delta = get(choice, "delta")
    for field in ("content", "refusal"):
        piece = get(delta, field)
        if piece:
            state[field].append(piece)
    for call in get(delta, "tool_calls") or ():
        _add_call(state["calls"], call)


def _add_call(calls: dict[int, dict[str, Any]], call: Any) -> None:
    index = get(call, "index") or 0
    state = calls.setdefault(index, {"id": None, "name": [], "arguments": []})
    state["id"] = get(call, "id") or state["id"]
    for field in ("name", "arguments"):
        piece = get(call, "function", field)
        if piece:
            state[field].append(piece)


def _choice(state: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(state["content"]) if state["content"] else None,
    }
    if state["refusal"]:
        message["refusal"] = "".join(state["refusal"])
    if state["calls"]:
        message["tool_calls"] = [_call(state["calls"][index]) for index in sorted(state["calls"])]
    return {"index": state["index"], "finish_reason": state["finish_reason"], "message": message}


def _call(state: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": state["id"],
        "type": "function",
        "function": {"name": "".join(state["name"]), "arguments": "".join(state["arguments"])},
    }
