"""Function tools, agents used as tools among them."""

import json
from collections.abc import Mapping
from typing import Any

from opentelemetry.util.types import AttributeValue

from llmspell_instrumentation.openai.chat_content import arguments as parsed
from llmspell_instrumentation.reading import get, plain, present, text
from llmspell_otel.operations.call import Call, Codec
from llmspell_otel.telemetry import semconv
from llmspell_otel.telemetry.semconv import Operation, ToolType

_RAW = "arguments"
"""The name under which hooks see arguments that are no JSON object."""


class ToolCodec(Codec):
    """`_invoke_function_tool_with_metadata(function_tool=, context=, arguments=)`."""

    def name(self, call: Call) -> str:
        """The tool's name."""
        return str(call.kwargs["function_tool"].name)

    def input(self, call: Call) -> dict[str, Any]:
        """The arguments the model chose."""
        given = parsed(call.kwargs["arguments"])
        return given if isinstance(given, dict) else {_RAW: call.kwargs["arguments"]}

    def with_input(self, call: Call, given: Mapping[str, Any]) -> Call:
        """The *call* with other arguments, as the JSON text the tool parses."""
        was_raw = not isinstance(parsed(call.kwargs["arguments"]), dict)
        if was_raw and list(given) == [_RAW] and isinstance(given[_RAW], str):
            return call.with_arguments(arguments=given[_RAW])
        return call.with_arguments(arguments=json.dumps(plain(dict(given))))

    def request(self, call: Call) -> dict[str, AttributeValue]:
        """Which tool, of which agent, and the model's id for the call."""
        tool, context = call.kwargs["function_tool"], call.kwargs.get("context")
        return present(
            {
                semconv.OPERATION_NAME: Operation.EXECUTE_TOOL,
                semconv.TOOL_NAME: tool.name,
                semconv.TOOL_TYPE: ToolType.FUNCTION,
                semconv.TOOL_DESCRIPTION: text(get(tool, "description")),
                semconv.TOOL_CALL_ID: text(get(context, "tool_call_id")),
                semconv.AGENT_NAME: text(get(context, "agent", "name")),
            }
        )

    def response(self, call: Call, result: Any) -> dict[str, AttributeValue]:
        """That the SDK told the model of an error, when it did."""
        del call
        failed = get(result, "is_sdk_generated_error") is True
        return {semconv.ERROR_TYPE: "tool_error"} if failed else {}

    def request_content(self, call: Call) -> dict[str, AttributeValue]:
        """The arguments."""
        return {semconv.TOOL_CALL_ARGUMENTS: parsed(call.kwargs["arguments"])}

    def response_content(self, call: Call, result: Any) -> dict[str, AttributeValue]:
        """What the tool gave."""
        del call
        return present({semconv.TOOL_CALL_RESULT: plain(get(result, "output"))})

    def answer(self, call: Call, value: Any) -> Any:
        """*value* as what the tool gave."""
        del call
        return _result(value)

    def refuse(self, call: Call, reason: str) -> Any:
        """The *reason*, for the model to read; a declared output schema does not apply to it."""
        del call
        return _result(reason, is_error=True)

    def redirect(self, call: Call, target: str) -> Call:
        """The same arguments for another function tool of the same agent."""
        tools = get(call.kwargs.get("context"), "agent", "tools") or ()
        for tool in tools:
            if getattr(tool, "name", None) == target and hasattr(tool, "on_invoke_tool"):
                return call.with_arguments(function_tool=tool)
        raise LookupError(target)


def _result(output: Any, *, is_error: bool = False) -> Any:
    from agents.tool import _FunctionToolInvocationResult

    if isinstance(output, _FunctionToolInvocationResult):
        return output
    return _FunctionToolInvocationResult(output, is_sdk_generated_error=is_error)
