"""A canary for each join point: is it where it should be, and of the shape it should be?"""

import importlib
import inspect

import pytest

from llmspell_instrumentation.joinpoint import JoinPoint, shape_of
from llmspell_instrumentation.openai_agents import ADAPTER
from llmspell_otel.operations.call import Shape


@pytest.mark.parametrize("point", ADAPTER.expected, ids=lambda point: point.target)
def test_the_target_resolves_and_has_its_shape(point: JoinPoint) -> None:
    """Every target is found in the installed version; all but construction are asynchronous."""
    importlib.import_module(point.module)
    _, _, function = point.resolve()
    expected = {Shape.ASYNC, Shape.ASYNC_GENERATOR}
    if point.path[-1] == "__post_init__":
        expected = {Shape.SYNC}
    assert (point.shape or shape_of(function)) in expected


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("agents.run:start_streaming", {"starting_input", "streamed_result", "starting_agent"}),
        ("agents.run:run_single_turn", {"bindings", "original_input"}),
        (
            "agents.run_internal.turn_resolution:execute_handoffs",
            {"public_agent", "run_handoffs", "new_step_items", "new_response", "pre_step_items"},
        ),
        (
            "agents.run_internal.tool_execution:_invoke_function_tool_with_metadata",
            {"function_tool", "context", "arguments"},
        ),
    ],
)
def test_private_functions_take_what_the_codecs_read(target: str, names: set[str]) -> None:
    """The codecs read private functions' arguments by name: the names must be there."""
    module, _, name = target.partition(":")
    function = getattr(importlib.import_module(module), name)
    assert names <= set(inspect.signature(function).parameters)
