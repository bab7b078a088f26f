"""Chat completions: `chat.completions.create`, `.parse` and `.stream`."""

from collections.abc import Iterable
from typing import Any, ClassVar

from opentelemetry.util.types import AttributeValue

from llmspell_instrumentation.openai import chat_content, native
from llmspell_instrumentation.openai.chat_fold import ChatFold
from llmspell_instrumentation.openai.codec import MODEL_ARGUMENTS, OpenAICodec, Reader, words
from llmspell_instrumentation.reading import get, number, present, text
from llmspell_otel.operations.call import Call
from llmspell_otel.telemetry import semconv
from llmspell_otel.telemetry.semconv import FinishReason, OutputType

API_TYPE = "openai.api.type"
SYSTEM_FINGERPRINT = "openai.response.system_fingerprint"

_FINISH = {
    "tool_calls": FinishReason.TOOL_CALL,
    "function_call": FinishReason.TOOL_CALL,
}


def output_type(response_format: Any) -> str | None:
    """The output type that a `response_format` (a type, or a JSON format) asks for."""
    if isinstance(response_format, type):
        return OutputType.JSON
    asked = get(response_format, "type")
    if asked in {"json_schema", "json_object"}:
        return OutputType.JSON
    return OutputType.TEXT if asked == "text" else None


class ChatCodec(OpenAICodec):
    """Reads and writes chat completions."""

    operation = semconv.Operation.CHAT
    arguments: ClassVar[tuple[tuple[str, str, Reader], ...]] = (
        *MODEL_ARGUMENTS,
        ("max_tokens", semconv.REQUEST_MAX_TOKENS, number),
        ("max_completion_tokens", semconv.REQUEST_MAX_TOKENS, number),
        ("frequency_penalty", semconv.REQUEST_FREQUENCY_PENALTY, number),
        ("presence_penalty", semconv.REQUEST_PRESENCE_PENALTY, number),
        ("stop", semconv.REQUEST_STOP_SEQUENCES, words),
        ("seed", semconv.REQUEST_SEED, number),
        ("n", semconv.REQUEST_CHOICE_COUNT, lambda n: None if n == 1 else number(n)),
        ("reasoning_effort", semconv.REQUEST_REASONING_LEVEL, text),
        ("response_format", semconv.OUTPUT_TYPE, output_type),
        (
            "modalities",
            semconv.OUTPUT_TYPE,
            lambda asked: OutputType.SPEECH if "audio" in (words(asked) or ()) else None,
        ),
    )

    def request(self, call: Call) -> dict[str, AttributeValue]:
        """As every OpenAI call, of the chat API."""
        return {**super().request(call), API_TYPE: "chat_completions"}

    def response(self, call: Call, result: Any) -> dict[str, AttributeValue]:
        """What a completion says of itself."""
        del call
        choices = get(result, "choices") or ()
        reasons = [get(choice, "finish_reason") for choice in choices]
        return present(
            {
                semconv.RESPONSE_ID: text(get(result, "id")),
                semconv.RESPONSE_MODEL: text(get(result, "model")),
                semconv.RESPONSE_FINISH_REASONS: [_FINISH.get(one, one) for one in reasons if one]
                or None,
                semconv.OPENAI_RESPONSE_SERVICE_TIER: text(get(result, "service_tier")),
                SYSTEM_FINGERPRINT: text(get(result, "system_fingerprint")),
                **chat_usage(get(result, "usage")),
            }
        )

    def request_content(self, call: Call) -> dict[str, AttributeValue]:
        """The messages and tools sent; an iterator of messages is left alone."""
        return present(
            {
                semconv.INPUT_MESSAGES: chat_content.messages(call.kwargs.get("messages")),
                semconv.TOOL_DEFINITIONS: chat_content.tools(call.kwargs.get("tools")),
            }
        )

    def response_content(self, call: Call, result: Any) -> dict[str, AttributeValue]:
        """The message of each choice."""
        del call
        choices = get(result, "choices") or ()
        return present(
            {
                semconv.OUTPUT_MESSAGES: [
                    chat_content.message(get(choice, "message")) for choice in choices
                ]
                or None
            }
        )

    def stream_fold(self, call: Call) -> ChatFold:
        """Adds up `ChatCompletionChunk`s into a completion."""
        return ChatFold(getattr(call.target, "usages", None))

    def answer(self, call: Call, value: Any) -> Any:
        """*value* (a text, a dict, a completion) as a completion, or as a stream of one."""
        completion = native.chat_completion(call, value)
        if call.kwargs.get("stream"):
            return native.stream(call, native.chat_chunks(call, completion))
        if call.target.__name__ == "parse":
            return native.parsed_chat(call, completion)
        return completion

    def replay(self, call: Call, chunks: Iterable[Any]) -> Any:
        """A stream of the same *chunks*."""
        return native.stream(call, chunks)


def chat_usage(usage: Any) -> dict[str, Any]:
    """The token counts of a chat completion; what was not reported is None."""
    if usage is None:
        return {}
    sent, received = get(usage, "prompt_tokens_details"), get(usage, "completion_tokens_details")
    return {
        semconv.USAGE_INPUT_TOKENS: number(get(usage, "prompt_tokens")),
        semconv.USAGE_OUTPUT_TOKENS: number(get(usage, "completion_tokens")),
        semconv.USAGE_CACHE_READ_INPUT_TOKENS: number(get(sent, "cached_tokens")),
        semconv.USAGE_CACHE_WRITE_INPUT_TOKENS: number(get(sent, "cache_write_tokens")),
        semconv.USAGE_TEXT_INPUT_TOKENS: number(get(sent, "text_tokens")),
        semconv.USAGE_AUDIO_INPUT_TOKENS: number(get(sent, "audio_tokens")),
        semconv.USAGE_IMAGE_INPUT_TOKENS: number(get(sent, "image_tokens")),
        semconv.USAGE_TEXT_OUTPUT_TOKENS: number(get(received, "text_tokens")),
        semconv.USAGE_AUDIO_OUTPUT_TOKENS: number(get(received, "audio_tokens")),
        semconv.USAGE_REASONING_OUTPUT_TOKENS: number(get(received, "reasoning_tokens")),
    }
