"""The OpenAI SDK, instrumented, against a scripted server."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from llmspell_instrumentation.openai import ADAPTER
from llmspell_instrumentation.weaver import attach
from tests.instrumentation.openai.surfaces import Served
from tests.instrumentation.watching import Watching

Serve = Callable[..., Served]


@pytest.fixture
def instrumented(watching: Watching) -> Iterator[Watching]:
    """The spans made while the OpenAI SDK is instrumented."""
    with attach(ADAPTER):
        yield watching


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve a script, and give clients of the server."""
    with ExitStack() as stack:

        def start(*script: Any) -> Served:
            return stack.enter_context(Served(list(script)))

        yield start
