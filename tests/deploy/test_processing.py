"""What the collector does to spans and records: masks secrets, reads other people's names."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.deploy import servers
from tests.deploy.sending import Sender, arrived

SECRETS = {
    "openai": "sk-proj-" + "a1B2c3D4" * 5,
    "aws": "AKIA" + "ABCDEFGH12345678",
    "github": "ghp_" + "a1B2c3D4e5" * 4,
    "slack": "xoxb-" + "123456789012-abcdefghij",
    "web token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0abc.c2lnbmF0dXJlLW9m",
    "bearer": "Bearer " + "abcdef0123456789abcdef",
    "card": "4111 1111 1111 1111",
}


@dataclass
class Line:
    """A running collector and the Jaeger behind it."""

    otlp: int
    query: int

    def through(self, **attributes: Any) -> dict[str, Any]:
        """The attributes of a span as they come out, by their name with dots."""
        service = f"processing-{len(attributes)}-{abs(hash(str(attributes)))}"
        sender = Sender(self.otlp, service)
        assert sender.send(sender.batch(1, **attributes))
        sender.close()
        assert arrived(self.query, sender)
        answer = servers.get(f"http://127.0.0.1:{self.query}/api/traces", service=service)
        (span,) = answer["data"][0]["spans"]
        return {tag["key"]: tag["value"] for tag in span["tags"]}


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """The single host's collector before a Jaeger."""
    folder: Path = tmp_path_factory.mktemp("processing")
    jaeger, seen = servers.jaeger(folder / "jaeger")
    host, taken = servers.collector(
        folder / "host", "single-host.yaml", LLMSPELL_JAEGER=f"127.0.0.1:{seen['OTLP']}"
    )
    with servers.started(host, jaeger):
        yield Line(taken["OTLP_GRPC"], seen["QUERY"])


def test_secrets_never_reach_the_store(line: Line) -> None:
    """Every kind of secret is masked, in plain text and inside a structured message."""
    for kind, secret in SECRETS.items():
        found = line.through(plain=f"use {secret} now", nested=[f"and {secret}", kind])
        assert secret not in json.dumps(found), kind
        assert "use ****" in found["plain"], kind


def test_keys_that_name_secrets_are_masked(line: Line) -> None:
    """Whatever stands under a key that ends in the name of a secret is masked, whole."""
    found = line.through(
        http__request__header__authorization="x", db__password="y", my__api_key="z"
    )
    named = ("http.request.header.authorization", "db.password", "my.api_key")
    assert [found[name] for name in named] == ["****"] * 3


def test_numbers_of_tokens_are_not_secrets(line: Line) -> None:
    """Counts, costs and ids of ours pass as they are, type and all."""
    ours = {
        "gen_ai.usage.input_tokens": 4111111111111111,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.tool.call.id": "call_abc123",
        "gen_ai.conversation.id": "conversation-1",
        "llmspell.cost.total": 0.0125,
    }
    found = line.through(**{key.replace(".", "__"): value for key, value in ours.items()})
    assert {key: found[key] for key in ours} == ours


def test_the_service_map_shows_who_calls_whom(line: Line) -> None:
    """A trace that crosses from one service into another is an arrow between the two."""
    desk, shop = Sender(line.otlp, "map-desk"), Sender(line.otlp, "map-shop")
    root = desk.batch(1)
    (parent,) = root
    called = shop.batch(1, parent=parent)
    assert desk.send(root)
    assert shop.send(called)
    assert arrived(line.query, desk)
    assert arrived(line.query, shop)
    answer = servers.eventually(
        lambda: servers.get(
            f"http://127.0.0.1:{line.query}/api/dependencies",
            endTs=str(int((time.time() + 60) * 1000)),
            lookback="3600000",
        )["data"]
    )
    assert [(one["parent"], one["child"]) for one in answer] == [("map-desk", "map-shop")]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (
            {
                "openinference.span.kind": "LLM",
                "llm.model_name": "gpt-5",
                "llm.provider": "openai",
                "llm.token_count.prompt": 11,
                "llm.token_count.completion": 7,
                "session.id": "s-1",
            },
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.request.model": "gpt-5",
                "gen_ai.provider.name": "openai",
                "gen_ai.usage.input_tokens": 11,
                "gen_ai.usage.output_tokens": 7,
                "gen_ai.conversation.id": "s-1",
            },
        ),
        (
            {"traceloop.span.kind": "tool", "traceloop.entity.name": "search"},
            {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"},
        ),
        (
            {"llm.request.type": "chat", "llm.request.model": "m", "llm.usage.prompt_tokens": 3},
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.request.model": "m",
                "gen_ai.usage.input_tokens": 3,
            },
        ),
        (
            {"gen_ai.system": "anthropic", "gen_ai.usage.prompt_tokens": 5},
            {"gen_ai.provider.name": "anthropic", "gen_ai.usage.input_tokens": 5},
        ),
        (
            {"gen_ai.usage.cache_creation.input_tokens": 4},
            {"gen_ai.usage.cache_write.input_tokens": 4},
        ),
        (
            {"openinference.span.kind": "LLM", "gen_ai.operation.name": "text_completion"},
            {"gen_ai.operation.name": "text_completion"},
        ),
    ],
    ids=["openinference", "openllmetry tool", "openllmetry call", "old", "old cache", "kept"],
)
def test_other_instrumentations_are_read_as_the_conventions(
    line: Line, theirs: dict[str, Any], ours: dict[str, Any]
) -> None:
    """Their names become the GenAI conventions'; what is set already stays, and so do theirs."""
    found = line.through(**{key.replace(".", "__"): value for key, value in theirs.items()})
    assert {key: found[key] for key in ours} == ours
    assert {key: found[key] for key in theirs} == theirs
