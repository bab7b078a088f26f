"""The program notices nothing: arguments, results, signatures and requests are as they were."""

import copy
import inspect
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI
from openai.resources.chat.completions import AsyncCompletions, Completions
from opentelemetry.sdk.trace import SpanProcessor

from llmspell_instrumentation.openai import ADAPTER
from llmspell_instrumentation.weaver import attach
from llmspell_otel.testing import Reply
from tests.instrumentation.openai.conftest import Serve
from tests.instrumentation.openai.surfaces import CHAT, MESSAGES, SURFACES, Surface
from tests.instrumentation.watching import Watching

surfaces = pytest.mark.parametrize("surface", SURFACES, ids=str)


def test_messages_from_a_generator_arrive(instrumented: Watching, serve: Serve) -> None:
    """An iterator of messages is the SDK's to consume: all of it is sent."""
    served = serve(Reply.text("hello"))
    served.client.chat.completions.create(model="m", messages=(one for one in MESSAGES))
    assert served.requests[0].body["messages"] == MESSAGES
    assert "gen_ai.input.messages" not in instrumented.only


@surfaces
@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
def test_arguments_are_not_changed(
    instrumented: Watching, serve: Serve, surface: Surface, *, streamed: bool
) -> None:
    """What the caller passed is what it was."""
    served = serve(Reply.text("hello"))
    arguments = {**copy.deepcopy(surface.arguments), "stream": streamed}
    arguments["extra_headers"] = {"x-mine": "1"}
    before = copy.deepcopy(arguments)
    result = surface.resource(served.client).create(**arguments)
    if streamed:
        list(result)
    assert arguments == before
    assert served.requests[0].headers["x-mine"] == "1"


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({}, {"include_usage": True}),
        ({"stream_options": {"include_usage": False}}, {"include_usage": False}),
        ({"stream_options": {"include_usage": True}}, {"include_usage": True}),
        (
            {"stream_options": {"include_obfuscation": False}},
            {"include_obfuscation": False, "include_usage": True},
        ),
    ],
    ids=["silent", "declined", "asked", "other"],
)
def test_usage_is_asked_for_unless_the_caller_said_otherwise(
    instrumented: Watching, serve: Serve, options: dict[str, Any], sent: dict[str, Any]
) -> None:
    """Usage is asked for, and its chunk is kept from a caller who did not ask."""
    served = serve(Reply.text("hello"))
    chunks = list(served.client.chat.completions.create(**CHAT.arguments, stream=True, **options))
    assert served.requests[0].body["stream_options"] == sent
    asked = options.get("stream_options", {}).get("include_usage") is True
    assert any(not chunk.choices for chunk in chunks) is asked
    declined = options.get("stream_options", {}).get("include_usage") is False
    assert ("gen_ai.usage.input_tokens" in instrumented.only) is not declined


@pytest.mark.parametrize("host", ["api.mistral.ai", "mine.openai.azure.com"])
def test_others_are_not_asked_for_usage(host: str) -> None:
    """A server of another maker is sent no field that the caller did not send."""
    from llmspell_instrumentation.openai.door import _silent_on_usage
    from llmspell_otel.operations.call import Call

    client = OpenAI(base_url=f"https://{host}/v1", api_key="k")
    call = Call(
        client.chat.completions.create, client.chat.completions, (), {"stream": True, "model": "m"}
    )
    assert _silent_on_usage(call) is (host != "api.mistral.ai")
    client.close()


class Comparable(OpenAI):
    """A client of the application's own that is compared by its address, and so has no hash."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OpenAI) and other.base_url == self.base_url

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
def test_a_client_that_cannot_be_looked_up_calls_as_before(
    instrumented: Watching, serve: Serve, *, streamed: bool
) -> None:
    """What cannot be found out about a client costs telemetry at most, never the call."""
    served = serve(Reply.text("hello"))
    client = Comparable(base_url=served.client.base_url, api_key="any")
    with client:
        result = client.chat.completions.create(model="m", messages=MESSAGES, stream=streamed)
        assert len(list(result)) > 1 if streamed else result.choices[0].message.content == "hello"
    assert instrumented.only["gen_ai.request.model"] == "m"


@pytest.mark.parametrize("derive", ["copy", "with_options"])
def test_clients_made_of_others_are_seen(instrumented: Watching, serve: Serve, derive: str) -> None:
    """A copied client, with options of its own, is observed once, at its own address."""
    served = serve(Reply.text("hello"))
    derived = getattr(served.client, derive)(timeout=5)
    derived.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
    assert instrumented.only["server.port"] == served.client.base_url.port


def test_a_missing_argument_is_the_sdks_own_error(instrumented: Watching, serve: Serve) -> None:
    """A call that the SDK refuses is refused in its words."""
    served = serve()
    with pytest.raises(TypeError, match="messages"):
        served.client.chat.completions.create(model="m")


@pytest.mark.parametrize("resource", [Completions, AsyncCompletions])
def test_signatures_are_the_sdks(resource: Any) -> None:
    """Signature, name, documentation and coroutine-ness are those of the SDK's own function."""

    def seen() -> tuple[Any, ...]:
        create = resource.create
        return (
            inspect.signature(create),
            create.__name__,
            create.__qualname__,
            create.__doc__,
            inspect.iscoroutinefunction(create),
            inspect.iscoroutinefunction(inspect.unwrap(create)),
        )

    before = seen()
    with attach(ADAPTER):
        assert seen() == before


@pytest.mark.parametrize("client", [OpenAI, AsyncOpenAI])
def test_clients_copy_as_before(instrumented: Watching, client: Any) -> None:
    """`with_options` and `copy.copy` give working clients."""
    made = client(api_key="k", base_url="http://localhost:9/v1")
    assert isinstance(made.with_options(timeout=1), client)
    assert copy.copy(made.chat.completions).create.__name__ == "create"


class _Hostile(SpanProcessor):
    """A span processor that breaks at every turn."""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        raise RuntimeError("on_start")

    def on_end(self, span: Any) -> None:
        raise RuntimeError("on_end")


def test_telemetry_that_raises_is_not_noticed(
    monkeypatch: pytest.MonkeyPatch, serve: Serve
) -> None:
    """A span processor that raises costs its own spans, and nothing else."""
    from llmspell_otel.operations.ports import ports

    watching = Watching()
    watching.provider.add_span_processor(_Hostile())
    monkeypatch.setattr(ports, "telemetry", watching)
    served = serve(Reply.text("hello"), Reply.text("hello"))
    with attach(ADAPTER):
        result = served.client.chat.completions.create(**CHAT.arguments)
        streamed = served.client.chat.completions.create(**CHAT.arguments, stream=True)
        assert "".join(map(CHAT.piece, streamed)) == CHAT.say(result) == "hello"
