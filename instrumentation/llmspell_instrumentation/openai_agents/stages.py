"""Stages of a run: its turns, and the hand-offs from one agent to another."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from opentelemetry.util.types import AttributeValue

from llmspell_instrumentation.arguments import named, renamed
from llmspell_instrumentation.openai_agents.runs import reachable
from llmspell_instrumentation.reading import get, present, text
from llmspell_otel.operations.call import Call, Codec
from llmspell_otel.telemetry import semconv


class TurnCodec(Codec):
    """`run_single_turn` and its streamed twin: one model call and the tools it asks for."""

    def __init__(self, positional: tuple[str, ...] = ()) -> None:
        self.positional = positional

    def name(self, call: Call) -> str:
        """The turn of which agent."""
        return f"turn {_agent_name(named(call, self.positional))}"

    def input(self, call: Call) -> dict[str, Any]:
        """The input that the turn starts from; a streamed turn keeps it in its result."""
        given = named(call, self.positional)
        start = given.get("original_input")
        return {"input": get(given.get("streamed_result"), "input") if start is None else start}

    def with_input(self, call: Call, given: Mapping[str, Any]) -> Call:
        """The *call* with another input, where the input is an argument."""
        if "input" not in given or "original_input" not in call.kwargs:
            return call
        return renamed(call, self.positional, {"original_input": given["input"]})

    def request(self, call: Call) -> dict[str, AttributeValue]:
        """Whose turn it is."""
        name = _agent_name(named(call, self.positional))
        return present({semconv.AGENT_NAME: text(name)})


class HandoffCodec(Codec):
    """`execute_handoffs`: the run goes on with another agent."""

    def name(self, call: Call) -> str:
        """The hand-off to which agent."""
        return f"handoff {_handoff(call).handoff.agent_name}"

    def input(self, call: Call) -> dict[str, Any]:
        """From whom, to whom, and what the model said to it."""
        asked = _handoff(call)
        return {
            "from": str(call.kwargs["public_agent"].name),
            "to": str(asked.handoff.agent_name),
            "arguments": asked.tool_call.arguments,
        }

    def with_input(self, call: Call, given: Mapping[str, Any]) -> Call:
        """The *call* to another agent (`to`), or with other arguments."""
        if given.get("to", self.input(call)["to"]) != self.input(call)["to"]:
            call = self.redirect(call, given["to"])
        asked = _handoff(call)
        said = given.get("arguments", asked.tool_call.arguments)
        if said == asked.tool_call.arguments:
            return call
        tool_call = asked.tool_call.model_copy(update={"arguments": said})
        return _with_handoff(call, replace(asked, tool_call=tool_call))

    def transition(self, call: Call) -> tuple[str, str]:
        """From one agent to the other."""
        given = self.input(call)
        return given["from"], given["to"]

    def request(self, call: Call) -> dict[str, AttributeValue]:
        """Who hands off."""
        return present({semconv.AGENT_NAME: text(get(call.kwargs, "public_agent", "name"))})

    def answer(self, call: Call, value: Any) -> Any:
        """*value*, if it is a step's result; a text stands for a hand-off refused with it.

        Raises:
            TypeError: a hand-off cannot be answered with anything else.
        """
        from agents.run_internal.run_steps import SingleStepResult

        if isinstance(value, SingleStepResult):
            return value
        if isinstance(value, str):
            return self.refuse(call, value)
        raise TypeError(f"a hand-off is answered with a text, not {type(value).__name__}")

    def refuse(self, call: Call, reason: str) -> Any:
        """The run goes on with the same agent, which reads the *reason*."""
        from agents.items import ItemHelpers, ToolCallOutputItem
        from agents.run_internal.run_steps import NextStepRunAgain, SingleStepResult

        given = call.kwargs
        refusals = [
            ToolCallOutputItem(
                output=reason,
                raw_item=ItemHelpers.tool_call_output_item(asked.tool_call, reason),
                agent=given["public_agent"],
            )
            for asked in given["run_handoffs"]
        ]
        return SingleStepResult(
            original_input=given["original_input"],
            model_response=given["new_response"],
            pre_step_items=given["pre_step_items"],
            new_step_items=[*given["new_step_items"], *refusals],
            next_step=NextStepRunAgain(),
            tool_input_guardrail_results=given.get("tool_input_guardrail_results") or [],
            tool_output_guardrail_results=given.get("tool_output_guardrail_results") or [],
        )

    def redirect(self, call: Call, target: str) -> Call:
        """The same hand-off to another agent that the run can reach."""
        from agents import handoff

        for agent in reachable(call.kwargs["public_agent"]):
            if agent.name == target:
                return _with_handoff(call, replace(_handoff(call), handoff=handoff(agent)))
        raise LookupError(target)


def _handoff(call: Call) -> Any:
    return call.kwargs["run_handoffs"][0]


def _with_handoff(call: Call, asked: Any) -> Call:
    return call.with_arguments(run_handoffs=[asked, *call.kwargs["run_handoffs"][1:]])


def _agent_name(given: Mapping[str, Any]) -> str:
    return str(get(given.get("bindings"), "public_agent", "name") or "agent")
