"""Where the OpenAI SDK is met."""

from llmspell_instrumentation.joinpoint import JoinPoint
from llmspell_instrumentation.openai.chat import ChatCodec
from llmspell_instrumentation.openai.codec import OpenAICodec
from llmspell_instrumentation.openai.door import Door
from llmspell_instrumentation.openai.embeddings import EmbeddingsCodec
from llmspell_instrumentation.openai.heard import heard
from llmspell_instrumentation.openai.others import CompletionCodec, ImageCodec, ModerationCodec
from llmspell_instrumentation.openai.responses import ResponsesCodec
from llmspell_instrumentation.openai.tool_runner import RunCodec, RunnerToolCodec
from llmspell_otel.operations.call import Kind

__all__ = ["JOIN_POINTS"]

_RUNNER = "openai.lib.responses_tool_runner"
_SINCE_3 = "openai>=3"


def _model_points(
    module: str, classes: str, methods: str, codec: OpenAICodec, door: Door
) -> tuple[JoinPoint, ...]:
    return tuple(
        JoinPoint(
            target=f"openai.resources.{module}:{prefix}{classes}.{method}",
            kind=Kind.MODEL,
            codec=codec,
            through=door,
        )
        for prefix in ("", "Async")
        for method in methods.split()
    )


def _runner_points() -> tuple[JoinPoint, ...]:
    return tuple(
        JoinPoint(
            target=f"{_RUNNER}:{prefix}ResponsesToolRunner.{method}",
            kind=kind,
            codec=codec,
            requires=_SINCE_3,
        )
        for prefix in ("", "Async")
        for method, kind, codec in (
            ("run", Kind.AGENT, RunCodec()),
            ("_execute_function", Kind.TOOL, RunnerToolCodec()),
        )
    )


def _answers() -> tuple[JoinPoint, ...]:
    return tuple(
        JoinPoint(
            target=f"openai._base_client:{prefix}APIClient._process_response",
            kind=Kind.MODEL,
            codec=OpenAICodec(),
            through=heard,
        )
        for prefix in ("Sync", "Async")
    )


JOIN_POINTS = (
    *_model_points(
        "chat.completions.completions",
        "Completions",
        "create parse",
        ChatCodec(),
        Door(asks=True),
    ),
    *_model_points("responses.responses", "Responses", "create parse", ResponsesCodec(), Door()),
    *_model_points("embeddings", "Embeddings", "create", EmbeddingsCodec(), Door()),
    *_model_points("completions", "Completions", "create", CompletionCodec(), Door()),
    *_model_points("images", "Images", "generate edit create_variation", ImageCodec(), Door()),
    *_model_points("moderations", "Moderations", "create", ModerationCodec(), Door()),
    *_runner_points(),
    *_answers(),
)
"""`.stream()` helpers pass `create`; `.parse()` does not, and is a join point of its own."""
