"""The older and smaller endpoints: text completions, images, moderations."""

from collections.abc import Iterable
from typing import Any, ClassVar

from opentelemetry.util.types import AttributeValue

from llmspell_instrumentation.openai import native
from llmspell_instrumentation.openai.chat import SYSTEM_FINGERPRINT, chat_usage
from llmspell_instrumentation.openai.codec import MODEL_ARGUMENTS, OpenAICodec, Reader, words
from llmspell_instrumentation.reading import get, number, present, text
from llmspell_otel.operations.call import Call
from llmspell_otel.telemetry import semconv
from llmspell_otel.telemetry.semconv import OutputType


class CompletionCodec(OpenAICodec):
    """`completions.create`: text that goes on."""

    operation = semconv.Operation.TEXT_COMPLETION
    arguments: ClassVar[tuple[tuple[str, str, Reader], ...]] = (
        *MODEL_ARGUMENTS,
        ("max_tokens", semconv.REQUEST_MAX_TOKENS, number),
        ("frequency_penalty", semconv.REQUEST_FREQUENCY_PENALTY, number),
        ("presence_penalty", semconv.REQUEST_PRESENCE_PENALTY, number),
        ("stop", semconv.REQUEST_STOP_SEQUENCES, words),
        ("seed", semconv.REQUEST_SEED, number),
        ("n", semconv.REQUEST_CHOICE_COUNT, lambda n: None if n == 1 else number(n)),
    )

    def response(self, call: Call, result: Any) -> dict[str, AttributeValue]:
        """What a completion says of itself."""
        del call
        reasons = [get(choice, "finish_reason") for choice in get(result, "choices") or ()]
        return present(
            {
                semconv.RESPONSE_ID: text(get(result, "id")),
                semconv.RESPONSE_MODEL: text(get(result, "model")),
                semconv.RESPONSE_FINISH_REASONS: [one for one in reasons if one] or None,
                SYSTEM_FINGERPRINT: text(get(result, "system_fingerprint")),
                **chat_usage(get(result, "usage")),
            }
        )

    def request_content(self, call: Call) -> dict[str, AttributeValue]:
        """The text to go on from; tokens and iterators are left alone."""
        prompts = words(call.kwargs.get("prompt")) or ()
        sent = [{"role": "user", "parts": [_said(prompt)]} for prompt in prompts]
        return present({semconv.INPUT_MESSAGES: sent or None})

    def response_content(self, call: Call, result: Any) -> dict[str, AttributeValue]:
        """The text of each choice."""
        del call
        choices = get(result, "choices") or ()
        answered = [
            {"role": "assistant", "parts": [_said(get(choice, "text"))]} for choice in choices
        ]
        return present({semconv.OUTPUT_MESSAGES: answered or None})

    def stream_fold(self, call: Call) -> "CompletionFold":
        """Adds up the pieces of each choice."""
        del call
        return CompletionFold()

    def answer(self, call: Call, value: Any) -> Any:
        """*value* (a text, a dict, a completion) as a completion, or as a stream of one."""
        completion = native.text_completion(call, value)
        return native.stream(call, [completion]) if call.kwargs.get("stream") else completion

    def replay(self, call: Call, chunks: Iterable[Any]) -> Any:
        """A stream of the same *chunks*."""
        return native.stream(call, chunks)


class CompletionFold:
    """Adds up the chunks of a text completion into its JSON."""

    __slots__ = ("chunks",)

    def __init__(self) -> None:
        self.chunks: list[Any] = []

    def add(self, chunk: Any) -> None:
        """Keep *chunk*."""
        self.chunks.append(chunk)

    def result(self) -> dict[str, Any]:
        """The completion that the chunks so far amount to."""
        completion: dict[str, Any] = {"object": "text_completion"}
        choices: dict[int, dict[str, Any]] = {}
        for chunk in self.chunks:
            for field in ("id", "model", "created", "system_fingerprint", "usage"):
                value = get(chunk, field)
                if value is not None:
                    completion[field] = value
            for choice in get(chunk, "choices") or ():
                index = get(choice, "index") or 0
                state = choices.setdefault(index, {"index": index, "text": ""})
                state["text"] += get(choice, "text") or ""
                state["finish_reason"] = get(choice, "finish_reason")
        completion["choices"] = [choices[index] for index in sorted(choices)]
        return completion


class ImageCodec(OpenAICodec):
    """`images.generate`, `.edit` and `.create_variation`."""

    operation = semconv.Operation.GENERATE_CONTENT
    arguments: ClassVar[tuple[tuple[str, str, Reader], ...]] = (
        *MODEL_ARGUMENTS,
        ("n", semconv.REQUEST_CHOICE_COUNT, lambda n: None if n == 1 else number(n)),
    )

    def request(self, call: Call) -> dict[str, AttributeValue]:
        """As every OpenAI call, for an image."""
        return {**super().request(call), semconv.OUTPUT_TYPE: OutputType.IMAGE}

    def response(self, call: Call, result: Any) -> dict[str, AttributeValue]:
        """The tokens, by modality, where the model reports them."""
        del call
        usage = get(result, "usage")
        sent, received = get(usage, "input_tokens_details"), get(usage, "output_tokens_details")
        return present(
            {
                semconv.USAGE_INPUT_TOKENS: number(get(usage, "input_tokens")),
                semconv.USAGE_OUTPUT_TOKENS: number(get(usage, "output_tokens")),
                semconv.USAGE_TEXT_INPUT_TOKENS: number(get(sent, "text_tokens")),
                semconv.USAGE_IMAGE_INPUT_TOKENS: number(get(sent, "image_tokens")),
                semconv.USAGE_TEXT_OUTPUT_TOKENS: number(get(received, "text_tokens")),
                semconv.USAGE_IMAGE_OUTPUT_TOKENS: number(get(received, "image_tokens")),
            }
        )

    def request_content(self, call: Call) -> dict[str, AttributeValue]:
        """What the image shall show; images sent along are left out."""
        prompt = text(call.kwargs.get("prompt"))
        return (
            {semconv.INPUT_MESSAGES: [{"role": "user", "parts": [_said(prompt)]}]} if prompt else {}
        )

    def answer(self, call: Call, value: Any) -> Any:
        """*value* (a URL, a dict, a response) as an `ImagesResponse`."""
        return native.images(call, value)


class ModerationCodec(OpenAICodec):
    """`moderations.create`: a judgement, which costs no tokens."""

    operation = "moderation"
    arguments: ClassVar[tuple[tuple[str, str, Reader], ...]] = (
        ("model", semconv.REQUEST_MODEL, text),
    )

    def response(self, call: Call, result: Any) -> dict[str, AttributeValue]:
        """The served model and the judgement's id."""
        del call
        return present(
            {
                semconv.RESPONSE_ID: text(get(result, "id")),
                semconv.RESPONSE_MODEL: text(get(result, "model")),
            }
        )

    def answer(self, call: Call, value: Any) -> Any:
        """*value* (a dict, a response) as a `ModerationCreateResponse`."""
        return native.moderation(call, value)


def _said(content: Any) -> dict[str, Any]:
    return {"type": "text", "content": content or ""}
