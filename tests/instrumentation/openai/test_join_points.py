"""A canary for each join point: is it where it should be, and of the shape it should be?"""

import importlib

import pytest

from llmspell_instrumentation.joinpoint import JoinPoint, shape_of
from llmspell_instrumentation.openai import ADAPTER
from llmspell_otel.operations.call import Shape


@pytest.mark.parametrize("point", ADAPTER.expected, ids=lambda point: point.target)
def test_the_target_resolves_and_has_its_shape(point: JoinPoint) -> None:
    """Every target is found in the installed version, and asynchronous where its class is."""
    importlib.import_module(point.module)
    _, _, function = point.resolve()
    expected = Shape.ASYNC if ":Async" in point.target else Shape.SYNC
    assert (point.shape or shape_of(function)) is expected


def test_every_version_has_its_entry_points() -> None:
    """Model calls and answers are expected of openai 2 and 3; the tool runner of 3 only."""
    import openai

    has_runner = int(openai.__version__.partition(".")[0]) >= 3
    assert len(ADAPTER.expected) == (26 if has_runner else 22)
