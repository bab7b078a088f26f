"""What the tests of built-in hooks share."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llmspell_otel.events import Event

MESSAGES = [{"role": "user", "content": "Say hello."}]


def ask(client: Any, text: str = "Say hello.", **options: Any) -> Any:
    """One chat completion."""
    messages = [{"role": "user", "content": text}]
    return client.chat.completions.create(model="gpt-5", messages=messages, **options)


def said(completion: Any) -> str:
    """What the model said."""
    return completion.choices[0].message.content


def streamed(stream: Any) -> str:
    """What a stream of chunks says together."""
    return "".join((chunk.choices[0].delta.content or "") for chunk in stream if chunk.choices)


@contextmanager
def events(pattern: str) -> Iterator[list[dict[str, Any]]]:
    """The data of the events that match *pattern*."""
    heard: list[dict[str, Any]] = []

    def hear(event: Any) -> None:
        heard.append(event.data)

    subscription = Event.subscribe(pattern, hear)
    try:
        yield heard
    finally:
        subscription.unsubscribe()


class Clock:
    """Seconds that pass when told to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass; negative ones step back."""
        self.now += seconds
