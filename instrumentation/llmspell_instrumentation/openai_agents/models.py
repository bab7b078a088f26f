"""Models that do not call the OpenAI SDK: `Model` subclasses of other makers."""

from collections.abc import Mapping
from typing import Any

from opentelemetry.util.types import AttributeValue

from llmspell_instrumentation.arguments import named, renamed
from llmspell_instrumentation.openai import client, responses_content
from llmspell_instrumentation.openai.codec import MODEL_CALL
from llmspell_instrumentation.openai.responses import (
    ResponsesFold,
    finish_reasons,
    response_usage,
)
from llmspell_instrumentation.openai_agents.runs import output_message
from llmspell_instrumentation.reading import get, number, present, text
from llmspell_otel.operations.call import Call, Codec
from llmspell_otel.telemetry import semconv
from llmspell_otel.telemetry.semconv import Operation, Provider

_POSITIONAL = (
    "system_instructions",
    "input",
    "model_settings",
    "tools",
    "output_schema",
    "handoffs",
    "tracing",
)
_SHOWN = ("system_instructions", "input", "previous_response_id", "conversation_id")


class ModelCodec(Codec):
    """`Model.get_response` and `Model.stream_response`."""

    def name(self, call: Call) -> str:
        """The model's name, or its class's where it has none."""
        return text(get(call.instance, "model")) or type(call.instance).__name__

    def identity(self, call: Call) -> object:
        """A model that calls a provider's SDK underneath is still one model call."""
        del call
        return MODEL_CALL

    def input(self, call: Call) -> dict[str, Any]:
        """The instructions and the items sent."""
        given = named(call, _POSITIONAL)
        return {name: given[name] for name in _SHOWN if given.get(name) is not None}

    def with_input(self, call: Call, given: Mapping[str, Any]) -> Call:
        """The *call* with other instructions or items."""
        return renamed(call, _POSITIONAL, {name: given[name] for name in _SHOWN if name in given})

    def request(self, call: Call) -> dict[str, AttributeValue]:
        """The model, its maker, and the settings."""
        given = named(call, _POSITIONAL)
        settings = given.get("model_settings")
        streams = getattr(call.target, "__name__", "") == "stream_response"
        return present(
            {
                semconv.OPERATION_NAME: Operation.CHAT,
                semconv.PROVIDER_NAME: _provider(call.instance),
                semconv.REQUEST_MODEL: self.name(call),
                semconv.REQUEST_STREAM: True if streams else None,
                semconv.REQUEST_TEMPERATURE: number(get(settings, "temperature")),
                semconv.REQUEST_TOP_P: number(get(settings, "top_p")),
                semconv.REQUEST_MAX_TOKENS: number(get(settings, "max_tokens")),
                semconv.REQUEST_FREQUENCY_PENALTY: number(get(settings, "frequency_penalty")),
                semconv.REQUEST_PRESENCE_PENALTY: number(get(settings, "presence_penalty")),
                semconv.REQUEST_REASONING_LEVEL: text(get(settings, "reasoning", "effort")),
                semconv.REQUEST_PREVIOUS_RESPONSE_ID: text(given.get("previous_response_id")),
                semconv.CONVERSATION_ID: text(given.get("conversation_id")),
            }
        )

    def response(self, call: Call, result: Any) -> dict[str, AttributeValue]:
        """What a `ModelResponse`, or a folded stream of events, says of itself."""
        del call
        ended = {"status": "completed", "output": get(result, "output")}
        return present(
            {
                semconv.RESPONSE_ID: text(get(result, "response_id")) or text(get(result, "id")),
                semconv.RESPONSE_MODEL: text(get(result, "model")),
                semconv.RESPONSE_FINISH_REASONS: finish_reasons(ended),
                **response_usage(get(result, "usage")),
            }
        )

    def request_content(self, call: Call) -> dict[str, AttributeValue]:
        """The instructions and the items sent."""
        given = named(call, _POSITIONAL)
        instructions = text(given.get("system_instructions"))
        return present(
            {
                semconv.SYSTEM_INSTRUCTIONS: [{"type": "text", "content": instructions}]
                if instructions
                else None,
                semconv.INPUT_MESSAGES: responses_content.messages(given.get("input")),
            }
        )

    def response_content(self, call: Call, result: Any) -> dict[str, AttributeValue]:
        """Everything the model put out, as one message."""
        del call
        parts = responses_content.parts(get(result, "output") or ())
        return {semconv.OUTPUT_MESSAGES: [{"role": "assistant", "parts": parts}]} if parts else {}

    def fold(self, call: Call) -> ResponsesFold:
        """Adds up the events, which are those of the responses API."""
        del call
        return ResponsesFold()

    def answer(self, call: Call, value: Any) -> Any:
        """*value* as a `ModelResponse`."""
        from agents import ModelResponse, Usage

        del call
        if isinstance(value, ModelResponse):
            return value
        return ModelResponse(output=[output_message(value)], usage=Usage(), response_id=None)

    def error_type(self, error: BaseException) -> str | None:
        """The provider's error code or HTTP status."""
        return client.error_type(error)


def _provider(model: Any) -> str:
    """Who makes the model: what its name begins with, or what its class is called after."""
    if type(model).__module__ == "agents.models.openai_responses":
        return Provider.OPENAI
    prefix, slash, _ = (text(get(model, "model")) or "").partition("/")
    if slash:
        return prefix.lower()
    return type(model).__name__.removesuffix("Model").lower() or Provider.OPENAI
