"""Where the OpenAI Agents SDK is met."""

from llmspell_instrumentation.joinpoint import JoinPoint
from llmspell_instrumentation.openai_agents.agents import constructed, listed
from llmspell_instrumentation.openai_agents.failures import failing, noted
from llmspell_instrumentation.openai_agents.handed import parted, turn
from llmspell_instrumentation.openai_agents.models import ModelCodec
from llmspell_instrumentation.openai_agents.runs import RunCodec, StreamedRunCodec
from llmspell_instrumentation.openai_agents.stages import HandoffCodec, TurnCodec
from llmspell_instrumentation.openai_agents.streamed import streamed
from llmspell_instrumentation.openai_agents.tools import ToolCodec
from llmspell_otel.operations.call import Codec, Kind, Shape

__all__ = ["JOIN_POINTS"]

_LOOP = "agents.run_internal"
_MODEL = "agents.models.interface:Model"

# The SDK's own models call the OpenAI SDK, whose adapter sees them; only the web socket does not.
_SEEN_BELOW = (
    "agents.models.openai_chatcompletions:OpenAIChatCompletionsModel",
    "agents.models.openai_responses:OpenAIResponsesModel",
)
_STREAMED_TURN = ("streamed_result", "bindings")
_SEEN_HERE = ("agents.models.openai_responses:OpenAIResponsesWSModel",)

JOIN_POINTS = (
    JoinPoint(
        target="agents.run:AgentRunner.run",
        kind=Kind.AGENT,
        codec=RunCodec(),
        through=parted(RunCodec.positional),
    ),
    # A streamed run returns before it begins; this coroutine is the run.
    JoinPoint(
        target="agents.run:start_streaming",
        kind=Kind.AGENT,
        codec=StreamedRunCodec(),
        through=parted((), streamed),
    ),
    # These names are imported by value: they are wrapped where they are called.
    JoinPoint(
        target="agents.run:run_single_turn",
        kind=Kind.STAGE,
        codec=TurnCodec(),
        through=turn(),
    ),
    JoinPoint(
        target=f"{_LOOP}.run_loop:run_single_turn_streamed",
        kind=Kind.STAGE,
        codec=TurnCodec(_STREAMED_TURN),
        through=turn(_STREAMED_TURN),
    ),
    JoinPoint(
        target=f"{_LOOP}.turn_resolution:execute_handoffs",
        kind=Kind.STAGE,
        codec=HandoffCodec(),
    ),
    JoinPoint(
        target="agents.agent:Agent.__post_init__",
        kind=Kind.AGENT,
        codec=Codec(),
        through=constructed,
    ),
    JoinPoint(
        target="agents.agent:AgentBase.get_all_tools",
        kind=Kind.TOOL,
        codec=Codec(),
        through=listed,
    ),
    JoinPoint(
        target=f"{_LOOP}.tool_execution:_invoke_function_tool_with_metadata",
        kind=Kind.TOOL,
        codec=ToolCodec(),
        through=failing,
    ),
    JoinPoint(
        target="agents.tool:maybe_invoke_function_tool_failure_error_function",
        kind=Kind.TOOL,
        codec=ToolCodec(),
        through=noted,
    ),
    JoinPoint(
        target=f"{_MODEL}.get_response",
        kind=Kind.MODEL,
        codec=ModelCodec(),
        overrides=True,
        leaves=_SEEN_BELOW,
        takes=_SEEN_HERE,
    ),
    JoinPoint(
        target=f"{_MODEL}.stream_response",
        kind=Kind.MODEL,
        codec=ModelCodec(),
        shape=Shape.ASYNC_GENERATOR,
        overrides=True,
        leaves=_SEEN_BELOW,
        takes=_SEEN_HERE,
    ),
)
