"""Responses: `responses.create`, `.parse` and `.stream`."""

from collections.abc import Iterable
from typing import Any, ClassVar

from opentelemetry.util.types import AttributeValue

from llmspell_instrumentation.openai import client, native, responses_content
from llmspell_instrumentation.openai.chat import API_TYPE, output_type
from llmspell_instrumentation.openai.chat_content import tools
from llmspell_instrumentation.openai.codec import MODEL_ARGUMENTS, OpenAICodec, Reader
from llmspell_instrumentation.reading import get, number, plain, present, text
from llmspell_otel.operations.call import Call
from llmspell_otel.telemetry import semconv
from llmspell_otel.telemetry.semconv import FinishReason

_INCOMPLETE = {
    "max_output_tokens": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
}
_CALLS = frozenset({"function_call", "custom_tool_call", "computer_call", "local_shell_call"})
_LAST = frozenset({"response.completed", "response.incomplete", "response.failed"})


def _conversation(value: Any) -> str | None:
    return text(value) or text(get(value, "id"))


class ResponsesCodec(OpenAICodec):
    """Reads and writes responses."""

    operation = semconv.Operation.CHAT
    arguments: ClassVar[tuple[tuple[str, str, Reader], ...]] = (
        *MODEL_ARGUMENTS,
        ("max_output_tokens", semconv.REQUEST_MAX_TOKENS, number),
        (
            "reasoning",
            semconv.REQUEST_REASONING_LEVEL,
            lambda asked: text(get(asked, "effort")),
        ),
        ("previous_response_id", semconv.REQUEST_PREVIOUS_RESPONSE_ID, text),
        ("conversation", semconv.CONVERSATION_ID, _conversation),
        ("text", semconv.OUTPUT_TYPE, lambda asked: output_type(get(asked, "format"))),
        ("text_format", semconv.OUTPUT_TYPE, output_type),
        ("prompt", semconv.PROMPT_NAME, lambda prompt: text(get(prompt, "id"))),
    )

    def request(self, call: Call) -> dict[str, AttributeValue]:
        """As every OpenAI call, of the responses API."""
        version = text(get(call.kwargs.get("prompt"), "version"))
        stored = {semconv.PROMPT_VERSION: version} if version else {}
        return {**super().request(call), **stored, API_TYPE: "responses"}

    def response(self, call: Call, result: Any) -> dict[str, AttributeValue]:
        """What a response says of itself."""
        output = get(result, "output") or ()
        compacted = any(get(item, "type") == "compaction" for item in output)
        return present(
            {
                semconv.RESPONSE_ID: text(get(result, "id")),
                semconv.RESPONSE_MODEL: text(get(result, "model")),
                semconv.RESPONSE_FINISH_REASONS: finish_reasons(result),
                semconv.ERROR_TYPE: failure_of(result),
                semconv.CONVERSATION_ID: text(get(result, "conversation", "id")),
                semconv.CONVERSATION_COMPACTED: True if compacted else None,
                semconv.OPENAI_RESPONSE_SERVICE_TIER: text(get(result, "service_tier")),
                # A stored prompt names its model itself; the request then has none.
                semconv.REQUEST_MODEL: None
                if text(call.kwargs.get("model"))
                else text(get(result, "model")),
                **response_usage(get(result, "usage")),
            }
        )

    def request_content(self, call: Call) -> dict[str, AttributeValue]:
        """The instructions, items, tools and prompt variables sent."""
        sent = call.kwargs
        instructions = text(sent.get("instructions"))
        variables = get(sent.get("prompt"), "variables") or {}
        return present(
            {
                semconv.SYSTEM_INSTRUCTIONS: [{"type": "text", "content": instructions}]
                if instructions
                else None,
                semconv.INPUT_MESSAGES: responses_content.messages(sent.get("input")),
                semconv.TOOL_DEFINITIONS: tools(sent.get("tools")),
                **{
                    f"{semconv.PROMPT_VARIABLE_PREFIX}{name}": plain(value)
                    for name, value in variables.items()
                },
            }
        )

    def response_content(self, call: Call, result: Any) -> dict[str, AttributeValue]:
        """Everything the model put out, as one message."""
        del call
        parts = responses_content.parts(get(result, "output") or ())
        return {semconv.OUTPUT_MESSAGES: [{"role": "assistant", "parts": parts}]} if parts else {}

    def stream_fold(self, call: Call) -> "ResponsesFold":
        """Adds up stream events into a response."""
        del call
        return ResponsesFold()

    def answer(self, call: Call, value: Any) -> Any:
        """*value* (a text, a dict, a response) as a response, or as a stream of one."""
        answer = native.model_response(call, value)
        if call.kwargs.get("stream"):
            return native.stream(call, native.response_events(answer))
        if call.target.__name__ == "parse":
            return native.parsed_response(call, answer)
        return answer

    def replay(self, call: Call, chunks: Iterable[Any]) -> Any:
        """A stream of the same *chunks*."""
        return native.stream(call, chunks)


class ResponsesFold:
    """Adds up stream events: the last one carries the whole response.

    A stream that ends before it amounts to the items that were done.
    """

    __slots__ = ("chunks",)

    def __init__(self) -> None:
        self.chunks: list[Any] = []

    def add(self, chunk: Any) -> None:
        """Keep *chunk*."""
        self.chunks.append(chunk)

    def result(self) -> Any:
        """The response that the events so far amount to."""
        begun: Any = None
        failure: dict[str, Any] | None = None
        items: list[Any] = []
        for event in self.chunks:
            kind = get(event, "type")
            if kind in _LAST:
                return get(event, "response")
            if kind == "response.created":
                begun = get(event, "response")
            elif kind == "response.output_item.done":
                items.append(get(event, "item"))
            elif kind == "error":
                failure = {"code": get(event, "code"), "message": get(event, "message")}
        return {
            "id": get(begun, "id"),
            "model": get(begun, "model"),
            "status": "failed" if failure else "in_progress",
            "error": failure,
            "output": items,
        }


def failure_of(result: Any) -> str | None:
    """The `error.type` of a response that says that it failed; no exception tells of it."""
    if get(result, "status") != "failed":
        return None
    return client.code_of(get(result, "error", "code")) or semconv.ERROR_TYPE_OTHER


def finish_reasons(result: Any) -> list[str] | None:
    """Why the model stopped, in the conventions' words."""
    status = get(result, "status")
    if status == "failed":
        return [FinishReason.ERROR]
    if status == "incomplete":
        reason = get(result, "incomplete_details", "reason")
        return [str(_INCOMPLETE.get(reason, reason))] if reason else None
    if status != "completed":
        return None
    called = any(get(item, "type") in _CALLS for item in get(result, "output") or ())
    return [FinishReason.TOOL_CALL if called else FinishReason.STOP]


def response_usage(usage: Any) -> dict[str, Any]:
    """The token counts of a response; what was not reported is None."""
    if usage is None:
        return {}
    sent, received = get(usage, "input_tokens_details"), get(usage, "output_tokens_details")
    return {
        semconv.USAGE_INPUT_TOKENS: number(get(usage, "input_tokens")),
        semconv.USAGE_OUTPUT_TOKENS: number(get(usage, "output_tokens")),
        semconv.USAGE_CACHE_READ_INPUT_TOKENS: number(get(sent, "cached_tokens")),
        semconv.USAGE_CACHE_WRITE_INPUT_TOKENS: number(get(sent, "cache_write_tokens")),
        semconv.USAGE_REASONING_OUTPUT_TOKENS: number(get(received, "reasoning_tokens")),
    }
