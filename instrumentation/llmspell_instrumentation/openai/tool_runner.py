"""The tool runner of openai 3: `ResponsesToolRunner.run` and the functions it calls."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from opentelemetry.util.types import AttributeValue

from llmspell_instrumentation.openai import client, native, responses_content
from llmspell_instrumentation.openai.responses import finish_reasons
from llmspell_instrumentation.reading import get, plain, present, text
from llmspell_otel.operations.call import Call, Codec
from llmspell_otel.telemetry import semconv
from llmspell_otel.telemetry.semconv import Operation, ToolType


class RunCodec(Codec):
    """`run(client, params, …)`: a loop of model calls and tool calls, without a name."""

    def name(self, call: Call) -> str:
        """A runner has no name of its own."""
        del call
        return "responses_tool_runner"

    def input(self, call: Call) -> dict[str, Any]:
        """The parameters of the model calls."""
        return dict(_params(call))

    def with_input(self, call: Call, given: Mapping[str, Any]) -> Call:
        """The *call* with other parameters."""
        if "params" in call.kwargs:
            return call.with_arguments(params=dict(given))
        return replace(call, args=(call.args[0], dict(given), *call.args[2:]))

    def request(self, call: Call) -> dict[str, AttributeValue]:
        """A run is an agent's; its one model is known."""
        return present(
            {
                semconv.OPERATION_NAME: Operation.INVOKE_AGENT,
                semconv.REQUEST_MODEL: text(_params(call).get("model")),
                semconv.CONVERSATION_ID: text(_params(call).get("conversation")),
            }
        )

    def response(self, call: Call, result: Any) -> dict[str, AttributeValue]:
        """Why it stopped. The tokens are those of the last turn only, so none are given."""
        del call
        return present({semconv.RESPONSE_FINISH_REASONS: finish_reasons(result)})

    def request_content(self, call: Call) -> dict[str, AttributeValue]:
        """What the run began with."""
        sent = responses_content.messages(_params(call).get("input"))
        return present({semconv.INPUT_MESSAGES: sent})

    def response_content(self, call: Call, result: Any) -> dict[str, AttributeValue]:
        """What the last turn put out."""
        del call
        parts = responses_content.parts(get(result, "output") or ())
        return {semconv.OUTPUT_MESSAGES: [{"role": "assistant", "parts": parts}]} if parts else {}

    def answer(self, call: Call, value: Any) -> Any:
        """*value* as the `Response` that a run ends with."""
        return native.model_response(replace(call, kwargs=_params(call)), value)

    def error_type(self, error: BaseException) -> str | None:
        """The provider's error code or HTTP status."""
        return client.error_type(error)


class RunnerToolCodec(Codec):
    """`_execute_function(run, item)`: one function call of the model's."""

    def name(self, call: Call) -> str:
        """The function's name."""
        return str(_item(call).name)

    def input(self, call: Call) -> dict[str, Any]:
        """The arguments the model chose, parsed."""
        given = _arguments(call)
        return dict(given) if isinstance(given, Mapping) else plain(given)

    def with_input(self, call: Call, given: Mapping[str, Any]) -> Call:
        """The *call* with other arguments; the runner's own record of them stays as it is."""
        old, run = _arguments(call), copy.copy(call.args[0])
        new = dict(given) if isinstance(old, Mapping) else type(old).model_validate(given)
        run.arguments = {**run.arguments, _item(call).call_id: new}
        return replace(call, args=(run, *call.args[1:]))

    def request(self, call: Call) -> dict[str, AttributeValue]:
        """Which tool, and the model's id for the call."""
        item = _item(call)
        function = call.instance._functions.get(item.name)  # noqa: SLF001 - the runner's registry
        return present(
            {
                semconv.OPERATION_NAME: Operation.EXECUTE_TOOL,
                semconv.TOOL_NAME: item.name,
                semconv.TOOL_TYPE: ToolType.FUNCTION,
                semconv.TOOL_CALL_ID: text(item.call_id),
                semconv.TOOL_DESCRIPTION: text(get(function, "tool", "description")),
            }
        )

    def request_content(self, call: Call) -> dict[str, AttributeValue]:
        """The arguments."""
        return {semconv.TOOL_CALL_ARGUMENTS: plain(_arguments(call))}

    def response_content(self, call: Call, result: Any) -> dict[str, AttributeValue]:
        """What the function gave the model."""
        del call
        return {semconv.TOOL_CALL_RESULT: plain(get(result, "output"))}

    def answer(self, call: Call, value: Any) -> Any:
        """*value* as the output item the model is sent."""
        if isinstance(value, Mapping) and value.get("type") == "function_call_output":
            # A cached item names the call that it first answered.
            return {**value, "call_id": _item(call).call_id}
        return {
            "type": "function_call_output",
            "call_id": _item(call).call_id,
            "output": value if isinstance(value, list) else native.as_text(value),
        }

    def refuse(self, call: Call, reason: str) -> Any:
        """The *reason*, for the model to read."""
        return self.answer(call, reason)

    def redirect(self, call: Call, target: str) -> Call:
        """The same call to another function of this runner."""
        if target not in call.instance._functions:  # noqa: SLF001 - the runner's registry
            raise LookupError(target)
        item = _item(call).model_copy(update={"name": target})
        return replace(call, args=(call.args[0], item, *call.args[2:]))


def _params(call: Call) -> Mapping[str, Any]:
    params: Mapping[str, Any] = call.kwargs["params"] if "params" in call.kwargs else call.args[1]
    return params


def _item(call: Call) -> Any:
    return call.args[1]


def _arguments(call: Call) -> Any:
    return call.args[0].arguments[_item(call).call_id]
