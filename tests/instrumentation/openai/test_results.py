"""What the nine results do to model calls through the OpenAI SDK."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llmspell_otel.errors import OperationCancelled
from llmspell_otel.testing import ModelRequest, Reply
from tests.instrumentation.openai.surfaces import CHAT, RESPONSES, Served, Surface
from tests.instrumentation.results import AFTER, BEFORE, ERROR, Case, every_cell, hold
from tests.instrumentation.watching import Watching

POINTS = {BEFORE: "model:before_call", AFTER: "model:after_call", ERROR: "model:error"}


class ModelBench:
    """Two models behind one endpoint."""

    points = POINTS
    change = {"temperature": 0.125}  # noqa: RUF012 - never changed

    def __init__(self, surface: Surface, world: str) -> None:
        self.served, self.surface, self.world = Served(self.reply), surface, world
        self.failing = False

    @property
    def reached(self) -> list[str]:
        """The models that were asked."""
        return [request.model for request in self.served.requests]

    def reply(self, request: ModelRequest) -> Reply:
        """Say which model this is, and which call."""
        number = len(self.served.requests)
        failed = self.failing and number == 1
        return Reply.error(500) if failed else Reply.text(f"{request.model} {number}")

    def perform(self) -> str:
        """Ask the model `first`."""
        arguments = {**self.surface.arguments, "model": "first"}
        resource = self.surface.resource
        if self.world == "sync":
            return self.surface.say(resource(self.served.client).create(**arguments))
        result = self.served.run(lambda client: resource(client).create(**arguments))
        return self.surface.say(result)

    def changed(self) -> bool:
        """Whether the changed temperature went out."""
        return self.served.requests[0].body["temperature"] == self.change["temperature"]

    def refused(self, attempt: Callable[[], str], reason: str) -> None:
        """A provider's SDK has no shape for a refusal: it is an exception."""
        with pytest.raises(OperationCancelled, match=reason) as raised:
            attempt()
        if self.failing:
            assert type(raised.value.__cause__).__name__ == "InternalServerError"


@pytest.fixture(
    params=[(CHAT, "sync"), (CHAT, "async"), (RESPONSES, "sync")],
    ids=["chat-sync", "chat-async", "responses-sync"],
)
def bench(request: pytest.FixtureRequest, instrumented: Watching) -> Iterator[ModelBench]:
    """The bench on each endpoint."""
    surface, world = request.param
    made = ModelBench(surface, world)
    with made.served:
        yield made


@every_cell
def test_the_table(bench: ModelBench, case: Case, hook: Callable[..., Any]) -> None:
    """Each result does at each moment what the table says."""
    hold(bench, case, hook)
