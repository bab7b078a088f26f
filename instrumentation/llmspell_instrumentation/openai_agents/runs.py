"""Agent runs: `Runner.run`, `Runner.run_sync` and `Runner.run_streamed`."""

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from typing import Any

from opentelemetry.util.types import AttributeValue

from llmspell_instrumentation.arguments import named, renamed
from llmspell_instrumentation.openai import client, responses_content
from llmspell_instrumentation.openai.native import as_text, identity
from llmspell_instrumentation.openai.responses import finish_reasons, response_usage
from llmspell_instrumentation.openai_agents.streamed import say, snapshot
from llmspell_instrumentation.reading import get, present, text
from llmspell_otel.operations.call import Call, Codec
from llmspell_otel.telemetry import semconv
from llmspell_otel.telemetry.semconv import Operation

_SHOWN = ("input", "max_turns", "conversation_id", "previous_response_id")
"""What hooks see of a run; contexts, sessions and configurations are the application's own."""


class RunCodec(Codec):
    """`AgentRunner.run(starting_agent, input, **options)`."""

    positional: tuple[str, ...] = ("starting_agent", "input")
    input_name = "input"

    def arguments(self, call: Call) -> dict[str, Any]:
        """The arguments by name."""
        return named(call, self.positional)

    def agent(self, call: Call) -> Any:
        """The agent that the run starts with."""
        return self.arguments(call)["starting_agent"]

    def name(self, call: Call) -> str:
        """The starting agent's name."""
        return str(self.agent(call).name)

    def input(self, call: Call) -> dict[str, Any]:
        """The prompt or items, and the limits of the run."""
        given = self.arguments(call)
        given["input"] = given.get(self.input_name)
        return {name: given[name] for name in _SHOWN if given.get(name) is not None}

    def with_input(self, call: Call, given: Mapping[str, Any]) -> Call:
        """The *call* with another prompt or other limits."""
        changed = {name: given[name] for name in _SHOWN if name in given}
        if "input" in changed:
            changed[self.input_name] = changed.pop("input")
        return renamed(call, self.positional, changed)

    def request(self, call: Call) -> dict[str, AttributeValue]:
        """The agent, its one model if it has but one, the conversation if one was given."""
        given, agent = self.arguments(call), self.agent(call)
        return present(
            {
                semconv.OPERATION_NAME: Operation.INVOKE_AGENT,
                semconv.AGENT_NAME: text(agent.name),
                semconv.AGENT_DESCRIPTION: text(get(agent, "handoff_description")),
                semconv.REQUEST_MODEL: _only_model(given, agent),
                semconv.CONVERSATION_ID: _conversation(given),
            }
        )

    def response(self, call: Call, result: Any) -> dict[str, AttributeValue]:
        """The tokens of all the run's own model calls, and why the last one stopped."""
        del call
        responses = get(result, "raw_responses") or ()
        last = responses[-1] if responses else None
        ended = {"status": "completed", "output": get(last, "output")}
        return present(
            {
                semconv.RESPONSE_FINISH_REASONS: finish_reasons(ended) if last else None,
                **_total(responses),
            }
        )

    def request_content(self, call: Call) -> dict[str, AttributeValue]:
        """The instructions and the input."""
        instructions = text(get(self.agent(call), "instructions"))
        sent = responses_content.messages(self.arguments(call).get(self.input_name))
        return present(
            {
                semconv.SYSTEM_INSTRUCTIONS: [{"type": "text", "content": instructions}]
                if instructions
                else None,
                semconv.INPUT_MESSAGES: sent,
            }
        )

    def response_content(self, call: Call, result: Any) -> dict[str, AttributeValue]:
        """The final output."""
        del call
        output = get(result, "final_output")
        if output is None:
            return {}
        part = {"type": "text", "content": as_text(output)}
        return {semconv.OUTPUT_MESSAGES: [{"role": "assistant", "parts": [part]}]}

    def answer(self, call: Call, value: Any) -> Any:
        """*value* as the `RunResult` of a run that said just that."""
        from agents import RunContextWrapper, RunResult

        if isinstance(value, RunResult):
            return value
        given, agent = self.arguments(call), self.agent(call)
        context = given.get("context")
        wrapper = context if isinstance(context, RunContextWrapper) else RunContextWrapper(context)
        return RunResult(
            input=given["input"],
            new_items=[message(agent, value)],
            raw_responses=[],
            final_output=value,
            input_guardrail_results=[],
            output_guardrail_results=[],
            tool_input_guardrail_results=[],
            tool_output_guardrail_results=[],
            context_wrapper=wrapper,
            _last_agent=agent,
        )

    def redirect(self, call: Call, target: str) -> Call:
        """The same run, starting with an agent that the first one can hand off to."""
        agent = next((one for one in reachable(self.agent(call)) if one.name == target), None)
        if agent is None:
            raise LookupError(target)
        return renamed(call, self.positional, {"starting_agent": agent})

    def error_type(self, error: BaseException) -> str | None:
        """The provider's error code or HTTP status, when it was the provider's error."""
        return client.error_type(error)


class StreamedRunCodec(RunCodec):
    """`start_streaming(...)`: the coroutine behind `Runner.run_streamed`."""

    input_name = "starting_input"

    def answer(self, call: Call, value: Any) -> Any:
        """Complete the caller's result with *value*, as a run that said just that."""
        from agents import RunResult

        result = call.kwargs["streamed_result"]
        if isinstance(value, RunResult):
            value = value.final_output
        if result.final_output != value:
            say(result, message(self.agent(call), value))
        result.final_output = value
        return snapshot(result)

    def redirect(self, call: Call, target: str) -> Call:
        """The same run with another agent; a resumed run goes on with its own."""
        if call.kwargs.get("is_resumed_state"):
            raise LookupError(target)
        return super().redirect(call, target).with_arguments(run_state=None)


def message(agent: Any, said: Any) -> Any:
    """What an *agent* said, as an item of a run."""
    from agents.items import MessageOutputItem

    return MessageOutputItem(agent=agent, raw_item=output_message(said))


def output_message(said: Any) -> Any:
    """A text as an output item of a model."""
    from openai.types.responses import ResponseOutputMessage

    part = {"type": "output_text", "text": as_text(said), "annotations": []}
    return ResponseOutputMessage.model_validate(
        {
            "type": "message",
            "id": identity("msg_"),
            "role": "assistant",
            "status": "completed",
            "content": [part],
        }
    )


def reachable(agent: Any) -> Iterator[Any]:
    """Every agent that *agent* can hand off to, directly or through others."""
    seen = {id(agent)}
    waiting = [agent]
    while waiting:
        for target in _targets(waiting.pop()):
            if id(target) not in seen:
                seen.add(id(target))
                waiting.append(target)
                yield target


def _targets(agent: Any) -> Iterator[Any]:
    for handoff in get(agent, "handoffs") or ():
        reference = getattr(handoff, "_agent_ref", None)
        target = handoff if reference is None else reference()
        if target is not None and hasattr(target, "handoffs"):
            yield target


def _only_model(given: Mapping[str, Any], agent: Any) -> str | None:
    overriding = get(given.get("run_config"), "model")
    if overriding is None and agent.handoffs:
        return None
    model = agent.model if overriding is None else overriding
    return text(model) or text(get(model, "model"))


def _conversation(given: Mapping[str, Any]) -> str | None:
    return (
        text(given.get("conversation_id"))
        or text(get(given.get("session"), "session_id"))
        or text(get(given.get("run_config"), "group_id"))
    )


def _total(responses: Iterable[Any]) -> dict[str, Any]:
    """The totals of all *responses*; agent spans carry no breakdown."""
    usages = [response_usage(get(response, "usage")) for response in responses]
    wanted = (semconv.USAGE_INPUT_TOKENS, semconv.USAGE_OUTPUT_TOKENS)
    if not usages:
        return {}
    return {
        name: reduce(lambda total, usage: total + (usage.get(name) or 0), usages, 0)
        for name in wanted
    }
