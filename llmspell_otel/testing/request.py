"""What a model server was asked, read alike from both of OpenAI's wire formats."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Endpoint: TypeAlias = Literal["chat", "responses", "embeddings"]
Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool answered: the tool's name, the id of the call, and the text."""

    name: str
    call_id: str
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One request as the server received it.

    `body` and `headers` (names in lower case) are what came over the wire. `history` is the
    conversation that `previous_response_id` refers to, as response input items.
    """

    endpoint: Endpoint
    body: Json
    headers: Mapping[str, str] = field(default_factory=dict)
    history: Sequence[Json] = ()

    @property
    def model(self) -> str:
        """The model asked for."""
        return str(self.body.get("model", ""))

    @property
    def stream(self) -> bool:
        """Whether the reply shall be streamed."""
        return bool(self.body.get("stream"))

    @property
    def items(self) -> list[Json]:
        """The conversation: chat messages, or response input items with their history."""
        if self.endpoint == "chat":
            return list(self.body.get("messages", ()))
        given = self.body.get("input", ())
        items = [{"role": "user", "content": given}] if isinstance(given, str) else list(given)
        return [*self.history, *items]

    @property
    def user(self) -> str:
        """The last message of the user, or "" where there is none."""
        messages = [text_of(item) for item in self.items if item.get("role") == "user"]
        return messages[-1] if messages else ""

    @property
    def instructions(self) -> str:
        """The system or developer instructions."""
        said = [text_of(each) for each in self.items if each.get("role") in ("system", "developer")]
        return "\n".join([str(self.body.get("instructions") or ""), *said]).strip()

    @property
    def tools(self) -> tuple[str, ...]:
        """The names of the tools that the model may call."""
        offered = self.body.get("tools") or ()
        return tuple(str(tool.get("function", tool).get("name", tool["type"])) for tool in offered)

    @property
    def tool_results(self) -> tuple[ToolResult, ...]:
        """The results that answer the model's last turn; empty before any tool was called."""
        names = {call_id: name for name, call_id in tool_calls(self.items)}
        recent: list[ToolResult] = []
        for item in reversed(self.items):
            result = _tool_result(item, names)
            if result is None:
                break
            recent.append(result)
        return tuple(reversed(recent))


def text_of(item: Json) -> str:
    """The text of a message, whether it is plain or in parts."""
    content = item.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in content)


def tool_calls(items: Sequence[Json]) -> Iterator[tuple[str, str]]:
    """Every tool call of a conversation, as name and call id."""
    for item in items:
        for call in item.get("tool_calls") or ():
            yield call["function"]["name"], call["id"]
        if item.get("type") == "function_call":
            yield item["name"], item["call_id"]


def answered_calls(items: Sequence[Json]) -> list[str]:
    """The ids of the tool calls that a conversation answers."""
    return [result.call_id for item in items if (result := _tool_result(item, {}))]


def _tool_result(item: Json, names: Mapping[str, str]) -> ToolResult | None:
    if item.get("role") == "tool":
        call_id = str(item.get("tool_call_id"))
        return ToolResult(names.get(call_id, ""), call_id, text_of(item))
    if item.get("type") == "function_call_output":
        call_id, output = str(item.get("call_id")), item.get("output", "")
        text = output if isinstance(output, str) else text_of({"content": output})
        return ToolResult(names.get(call_id, ""), call_id, text)
    return None
