"""Names of the OpenTelemetry GenAI semantic conventions v0.1.0, and of core conventions they use.

Kept here because `opentelemetry.semconv` carries none of these names: its `gen_ai` constants are
deprecated and incomplete. Nothing else in the package spells such a name out.
"""

from enum import StrEnum
from typing import Final

SCHEMA_URL: Final[str | None] = None
"""No schema URL is claimed: the GenAI registry publishes none for v0.1.0 that could be verified."""


class Operation(StrEnum):
    """Well-known values of `gen_ai.operation.name`."""

    CHAT = "chat"
    GENERATE_CONTENT = "generate_content"
    TEXT_COMPLETION = "text_completion"
    EMBEDDINGS = "embeddings"
    RETRIEVAL = "retrieval"
    FETCH_RESPONSE = "fetch_response"
    CREATE_AGENT = "create_agent"
    INVOKE_AGENT = "invoke_agent"
    INVOKE_WORKFLOW = "invoke_workflow"
    EXECUTE_TOOL = "execute_tool"
    PLAN = "plan"
    CREATE_MEMORY_STORE = "create_memory_store"
    DELETE_MEMORY_STORE = "delete_memory_store"
    CREATE_MEMORY = "create_memory"
    UPDATE_MEMORY = "update_memory"
    UPSERT_MEMORY = "upsert_memory"
    DELETE_MEMORY = "delete_memory"
    SEARCH_MEMORY = "search_memory"


INFERENCE: Final = frozenset(
    {Operation.CHAT, Operation.GENERATE_CONTENT, Operation.TEXT_COMPLETION},
)
"""Operations that are a model inference."""

MEMORY: Final = frozenset(
    {
        Operation.CREATE_MEMORY_STORE,
        Operation.DELETE_MEMORY_STORE,
        Operation.CREATE_MEMORY,
        Operation.UPDATE_MEMORY,
        Operation.UPSERT_MEMORY,
        Operation.DELETE_MEMORY,
        Operation.SEARCH_MEMORY,
    },
)
"""Operations on an agent's memory store."""


class Provider(StrEnum):
    """Well-known values of `gen_ai.provider.name`."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    AWS_BEDROCK = "aws.bedrock"
    AZURE_AI_INFERENCE = "azure.ai.inference"
    AZURE_AI_OPENAI = "azure.ai.openai"
    COHERE = "cohere"
    DEEPSEEK = "deepseek"
    GCP_GEMINI = "gcp.gemini"
    GCP_GEN_AI = "gcp.gen_ai"
    GCP_VERTEX_AI = "gcp.vertex_ai"
    GROQ = "groq"
    IBM_WATSONX_AI = "ibm.watsonx.ai"
    MISTRAL_AI = "mistral_ai"
    MOONSHOT_AI = "moonshot_ai"
    PERPLEXITY = "perplexity"
    X_AI = "x_ai"


class OutputType(StrEnum):
    """Well-known values of `gen_ai.output.type`."""

    TEXT = "text"
    JSON = "json"
    IMAGE = "image"
    SPEECH = "speech"


class Modality(StrEnum):
    """Values of `gen_ai.token.modality`; `unknown` where the provider did not report one."""

    TEXT = "text"
    IMAGE = "image"
    AUDIO = "audio"
    UNKNOWN = "unknown"


class ToolType(StrEnum):
    """Usual values of `gen_ai.tool.type`."""

    FUNCTION = "function"
    EXTENSION = "extension"
    DATASTORE = "datastore"


class ResponseStatus(StrEnum):
    """Values of `gen_ai.response.status`."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    CANCELLED = "cancelled"


class FinishReason(StrEnum):
    """Well-known members of `gen_ai.response.finish_reasons`."""

    STOP = "stop"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"
    TOOL_CALL = "tool_call"
    COMPACTION = "compaction"
    ERROR = "error"


# Attributes of every GenAI operation.
OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
CONVERSATION_COMPACTED: Final = "gen_ai.conversation.compacted"
OUTPUT_TYPE: Final = "gen_ai.output.type"
DATA_SOURCE_ID: Final = "gen_ai.data_source.id"

# The request.
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_TOP_K: Final = "gen_ai.request.top_k"
REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_CHOICE_COUNT: Final = "gen_ai.request.choice.count"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_STREAM_CURSOR: Final = "gen_ai.request.stream_cursor"
REQUEST_REASONING_LEVEL: Final = "gen_ai.request.reasoning.level"
REQUEST_PREVIOUS_RESPONSE_ID: Final = "gen_ai.request.previous_response.id"
REQUEST_ENCODING_FORMATS: Final = "gen_ai.request.encoding_formats"

# The response.
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_STATUS: Final = "gen_ai.response.status"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
EMBEDDINGS_DIMENSION_COUNT: Final = "gen_ai.embeddings.dimension.count"

# Usage: totals, and the subsets of them.
USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_WRITE_INPUT_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"
USAGE_REASONING_OUTPUT_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
USAGE_TEXT_INPUT_TOKENS: Final = "gen_ai.usage.text.input_tokens"
USAGE_IMAGE_INPUT_TOKENS: Final = "gen_ai.usage.image.input_tokens"
USAGE_AUDIO_INPUT_TOKENS: Final = "gen_ai.usage.audio.input_tokens"
USAGE_TEXT_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.text.cache_read.input_tokens"
USAGE_IMAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.image.cache_read.input_tokens"
USAGE_AUDIO_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.audio.cache_read.input_tokens"
USAGE_TEXT_OUTPUT_TOKENS: Final = "gen_ai.usage.text.output_tokens"
USAGE_IMAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.image.output_tokens"
USAGE_AUDIO_OUTPUT_TOKENS: Final = "gen_ai.usage.audio.output_tokens"
MODALITY: Final = "gen_ai.token.modality"

# Agents, workflows, tools, skills, retrieval, memory, prompts.
AGENT_ID: Final = "gen_ai.agent.id"
AGENT_NAME: Final = "gen_ai.agent.name"
AGENT_DESCRIPTION: Final = "gen_ai.agent.description"
AGENT_VERSION: Final = "gen_ai.agent.version"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_TYPE: Final = "gen_ai.tool.type"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
TOOL_DESCRIPTION: Final = "gen_ai.tool.description"
SKILL_NAME: Final = "gen_ai.skill.name"
SKILL_DESCRIPTION: Final = "gen_ai.skill.description"
SKILL_SOURCE_URI: Final = "gen_ai.skill.source.uri"
SKILL_RESOURCE_NAME: Final = "gen_ai.skill.resource.name"
RETRIEVAL_TOP_K: Final = "gen_ai.retrieval.top_k"
MEMORY_STORE_ID: Final = "gen_ai.memory.store.id"
MEMORY_RECORD_ID: Final = "gen_ai.memory.record.id"
MEMORY_RECORD_COUNT: Final = "gen_ai.memory.record.count"
PROMPT_NAME: Final = "gen_ai.prompt.name"
PROMPT_VERSION: Final = "gen_ai.prompt.version"

# Content: recorded only when the user asks for it.
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
TOOL_CALL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_CALL_RESULT: Final = "gen_ai.tool.call.result"
RETRIEVAL_QUERY_TEXT: Final = "gen_ai.retrieval.query.text"
RETRIEVAL_DOCUMENTS: Final = "gen_ai.retrieval.documents"
MEMORY_QUERY_TEXT: Final = "gen_ai.memory.query.text"
MEMORY_RECORDS: Final = "gen_ai.memory.records"
PROMPT_VARIABLE_PREFIX: Final = "gen_ai.prompt.variable."

CONTENT: Final = frozenset(
    {
        SYSTEM_INSTRUCTIONS,
        INPUT_MESSAGES,
        OUTPUT_MESSAGES,
        TOOL_DEFINITIONS,
        TOOL_CALL_ARGUMENTS,
        TOOL_CALL_RESULT,
        RETRIEVAL_QUERY_TEXT,
        RETRIEVAL_DOCUMENTS,
        MEMORY_QUERY_TEXT,
        MEMORY_RECORDS,
    },
)
"""The content attributes; `gen_ai.prompt.variable.<key>` is content too."""

# Core conventions.
ERROR_TYPE: Final = "error.type"
ERROR_TYPE_OTHER: Final = "_OTHER"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
PROCESS_EXECUTABLE_NAME: Final = "process.executable.name"

# Model Context Protocol and provider refinements that this package reads.
MCP_METHOD_NAME: Final = "mcp.method.name"
MCP_PROTOCOL_VERSION: Final = "mcp.protocol.version"
MCP_RESOURCE_URI: Final = "mcp.resource.uri"
NETWORK_TRANSPORT: Final = "network.transport"
NETWORK_PROTOCOL_NAME: Final = "network.protocol.name"
NETWORK_PROTOCOL_VERSION: Final = "network.protocol.version"
RPC_RESPONSE_STATUS_CODE: Final = "rpc.response.status_code"
OPENAI_REQUEST_SERVICE_TIER: Final = "openai.request.service_tier"
OPENAI_RESPONSE_SERVICE_TIER: Final = "openai.response.service_tier"

# Events (log records).
EVENT_INFERENCE_DETAILS: Final = "gen_ai.client.inference.operation.details"
EVENT_EVALUATION_RESULT: Final = "gen_ai.evaluation.result"
EVENT_CLIENT_EXCEPTION: Final = "gen_ai.client.operation.exception"
EVENT_TOOL_EXCEPTION: Final = "gen_ai.execute_tool.exception"
# Named by the general rule `<operation>.exception`, as the one for tools is.
EVENT_AGENT_EXCEPTION: Final = "gen_ai.invoke_agent.exception"
EVENT_WORKFLOW_EXCEPTION: Final = "gen_ai.invoke_workflow.exception"
EVENT_PLAN_EXCEPTION: Final = "gen_ai.plan.exception"

# Metrics.
CLIENT_INFERENCE_DURATION: Final = "gen_ai.client.inference.duration"
CLIENT_EMBEDDINGS_DURATION: Final = "gen_ai.client.embeddings.duration"
CLIENT_OPERATION_DURATION: Final = "gen_ai.client.operation.duration"
CLIENT_TIME_TO_FIRST_CHUNK: Final = "gen_ai.client.inference.time_to_first_chunk"
CLIENT_TIME_PER_OUTPUT_CHUNK: Final = "gen_ai.client.inference.time_per_output_chunk"
CLIENT_USAGE_INPUT_TOKENS: Final = "gen_ai.client.inference.usage.input_tokens"
CLIENT_USAGE_OUTPUT_TOKENS: Final = "gen_ai.client.inference.usage.output_tokens"
CLIENT_USAGE_CACHE_READ: Final = "gen_ai.client.inference.usage.cache_read.input_tokens"
CLIENT_USAGE_CACHE_WRITE: Final = "gen_ai.client.inference.usage.cache_write.input_tokens"
CLIENT_USAGE_REASONING: Final = "gen_ai.client.inference.usage.reasoning.output_tokens"
CLIENT_OPERATION_INPUT_TOKENS: Final = "gen_ai.client.inference.operation.input_tokens"
CLIENT_OPERATION_OUTPUT_TOKENS: Final = "gen_ai.client.inference.operation.output_tokens"
CLIENT_EMBEDDINGS_INPUT_TOKENS: Final = "gen_ai.client.embeddings.operation.input_tokens"
INVOKE_AGENT_DURATION: Final = "gen_ai.invoke_agent.duration"
INVOKE_AGENT_INFERENCE_CALLS: Final = "gen_ai.invoke_agent.inference_calls"
INVOKE_AGENT_TOOL_CALLS: Final = "gen_ai.invoke_agent.tool_calls"
EXECUTE_TOOL_DURATION: Final = "gen_ai.execute_tool.duration"
MCP_CLIENT_OPERATION_DURATION: Final = "mcp.client.operation.duration"

# Bucket boundaries; an exporter needs them strictly increasing, and as floats.
Bounds = tuple[float, ...]

SECONDS: Final[Bounds] = tuple(0.01 * 2**k for k in range(14))
"""Table A: 0.01 ... 81.92 seconds, for calls of models and tools."""

TOKENS: Final[Bounds] = tuple(float(4**k) for k in range(14))
"""Table B: 1 ... 67108864 tokens."""

AGENT_SECONDS: Final[Bounds] = tuple(0.1 * 2**k for k in range(13))
"""Table C: 0.1 ... 409.6 seconds, for agents and workflows."""

CALLS: Final[Bounds] = tuple(float(2**k) for k in range(8))
"""Table D: 1 ... 128 calls within one agent run."""

WORKFLOW_SECONDS: Final[Bounds] = (
    *(1.0, 5.0, 10.0, 30.0, 60.0, 120.0),
    *(300.0, 600.0, 1800.0, 3600.0, 7200.0),
)
"""Table E: 1 second ... 2 hours, for workflows before v0.1.0."""

SESSION_SECONDS: Final[Bounds] = (
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0),
    *(2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0),
)
"""Table F: 0.01 ... 300 seconds, for Model Context Protocol calls."""
