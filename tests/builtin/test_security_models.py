"""The security hook around a real SDK: requests, answers and streams, and the spans of them."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from openai import OpenAI

from llmspell_instrumentation.openai import ADAPTER
from llmspell_instrumentation.weaver import attach
from llmspell_otel import Hook
from llmspell_otel.errors import OperationCancelled
from llmspell_otel.operations.ports import ports
from llmspell_otel.testing import ModelServer, Reply
from tests.instrumentation.watching import Watching

KEY = "sk-" + "proj-a1B2c3D4e5F6g7H8i9J0k1L2"


@pytest.fixture
def watching(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watching]:
    """The spans made, with content, while the SDK is instrumented."""
    telemetry = Watching()
    monkeypatch.setattr(ports, "telemetry", telemetry)
    with attach(ADAPTER):
        yield telemetry


@pytest.fixture
def served() -> Iterator[Any]:
    """Serve a script, and give the server with a client."""
    with ExitStack() as stack:

        def serve(*script: Any) -> tuple[ModelServer, OpenAI]:
            server = stack.enter_context(ModelServer(list(script)))
            client = OpenAI(base_url=server.base_url, api_key="k", max_retries=0, timeout=5)
            return server, stack.enter_context(client)

        yield serve


def ask(client: OpenAI, text: str, **more: Any) -> Any:
    """Ask the model."""
    messages = [{"role": "user", "content": text}]
    return client.chat.completions.create(model="gpt-5-mini", messages=messages, **more)  # type: ignore[call-overload]


def test_the_model_never_gets_the_secret(watching: Watching, served: Any) -> None:
    """Neither the request on the wire, nor the answer, nor the span has it."""
    server, client = served(Reply.text(f"your key is {KEY}"))
    Hook.enable_builtin("security")
    answer = ask(client, f"my key is {KEY}")
    assert answer.choices[0].message.content == "your key is [redacted]"
    (request,) = server.requests
    assert KEY not in repr(request)
    assert "my key is [redacted]" in repr(request)
    assert KEY not in repr(watching.only)
    assert watching.only["llmspell.hook.results"]


@pytest.mark.parametrize("action", ["mask", "block"])
def test_a_secret_across_chunks(watching: Watching, served: Any, action: str) -> None:
    """The secret never arrives whole, and nothing of it is recorded."""
    _, client = served(Reply.text(" ".join(["so", *["your", "key", "is"], KEY, "ok?"])))
    Hook.enable_builtin("security", secrets=action)
    said: list[str] = []

    def read() -> None:
        for chunk in ask(client, "hello", stream=True):
            said.extend(c.delta.content or "" for c in chunk.choices)

    if action == "block":
        with pytest.raises(OperationCancelled):
            read()
    else:
        read()
        assert "[redacted]" in "".join(said)
    assert KEY not in "".join(said)
    assert KEY not in repr([dict(span.attributes or {}) for span in watching.spans])


def test_a_model_that_is_not_allowed_is_not_called(watching: Watching, served: Any) -> None:
    """No request goes out."""
    server, client = served(Reply.text("hi"))
    Hook.enable_builtin("security", allow_models=["gpt-4*"])
    with pytest.raises(OperationCancelled, match="model_not_allowed"):
        ask(client, "hello")
    assert not server.requests
