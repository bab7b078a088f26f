"""Adding up the chunks of a chat completion."""

from collections.abc import Mapping
from typing import Any

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
            fields = _fields(chunk)
            for choice in fields.get("choices") or ():
                _add_choice(choices, _fields(choice))
            if fields.get("usage") is not None:
                completion["usage"] = fields["usage"]
        # What holds for the whole completion stands on every chunk.
        for chunk in (*self.chunks[-1:], *self.chunks[:1]):
            fields = _fields(chunk)
            completion |= {name: fields[name] for name in _WHOLE if fields.get(name) is not None}
        withheld = (self._usages or {}).get(completion.get("id", ""))
        if withheld is not None:
            completion["usage"] = withheld
        completion["choices"] = [_choice(choices[index]) for index in sorted(choices)]
        return completion


_WHOLE = ("id", "model", "created", "system_fingerprint", "service_tier")
_NOTHING: Mapping[str, Any] = {}


def _fields(thing: Any) -> Mapping[str, Any]:
    """The fields of an SDK's model, or of its JSON; some thirty chunks a second pass here."""
    if thing is None:
        return _NOTHING
    return thing if isinstance(thing, dict) else vars(thing)


def _add_choice(choices: dict[int, dict[str, Any]], choice: Mapping[str, Any]) -> None:
    index = choice.get("index") or 0
    state = choices.get(index)
    if state is None:
        state = choices[index] = {"index": index, "content": [], "refusal": [], "calls": {}}
    reason = choice.get("finish_reason")
    if reason is not None:
        state["finish_reason"] = reason
    delta = _fields(choice.get("delta"))
    if delta.get("content"):
        state["content"].append(delta["content"])
    if delta.get("refusal"):
        state["refusal"].append(delta["refusal"])
    for call in delta.get("tool_calls") or ():
        _add_call(state["calls"], _fields(call))


def _add_call(calls: dict[int, dict[str, Any]], call: Mapping[str, Any]) -> None:
    index = call.get("index") or 0
    state = calls.setdefault(index, {"id": None, "name": [], "arguments": []})
    state["id"] = call.get("id") or state["id"]
    function = _fields(call.get("function"))
    for field in ("name", "arguments"):
        if function.get(field):
            state[field].append(function[field])


def _choice(state: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(state["content"]) if state["content"] else None,
    }
    if state["refusal"]:
        message["refusal"] = "".join(state["refusal"])
    if state["calls"]:
        message["tool_calls"] = [_call(state["calls"][index]) for index in sorted(state["calls"])]
    return {
        "index": state["index"],
        "finish_reason": state.get("finish_reason"),
        "message": message,
    }


def _call(state: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": state["id"],
        "type": "function",
        "function": {"name": "".join(state["name"]), "arguments": "".join(state["arguments"])},
    }
