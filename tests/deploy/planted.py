"""An agent into whose every mouth a secret is put, run by the test of them: `planted.py LOG`.

What is secret by its form, and what is just content, is made here, so that the test knows it too.
LOG gets what the loggers of llmspell_otel say, at every level.
"""

import asyncio
import contextlib
import hashlib
import logging
import sys

PLACES = (
    "prompt",
    "instructions",
    "tool argument",
    "tool result",
    "tool error",
    "model error",
    "answer",
)
MARKER = "planted-agent"
"""What the agent is called: no secret, and so to be found everywhere."""


def _random(place: str, length: int = 36) -> str:
    return hashlib.sha256(place.encode()).hexdigest()[:length]


def secret(place: str) -> str:
    """A secret that looks like one: each place has its own, of one of five forms."""
    forms = ("sk-proj-{}", "ghp_{}", "xoxb-{}", "Bearer {}", "AKIA{}")
    form = forms[PLACES.index(place) % len(forms)] if place in PLACES else "sk-proj-{}"
    text = _random(place)
    return form.format(text[:16].upper() if form.startswith("AKIA") else text)


def content(place: str) -> str:
    """A word that looks like nothing: only who leaves all content out leaves it out."""
    return f"quokka{_random(place[::-1], 12)}"


def said(place: str) -> str:
    """What is said at a place: ordinary words, with both in them."""
    return f"the {place} says {content(place)} and {secret(place)} there"


async def main() -> None:
    """Ask, call tools, fail, and answer."""
    from agents import Agent, Runner, function_tool
    from openai import OpenAIError

    @function_tool
    def look_up(key: str) -> str:
        """Look something up."""
        return said("tool result") if key else ""

    @function_tool
    def break_down(key: str) -> str:
        """Fail."""
        raise ValueError(f"{said('tool error')}, not {key}")

    agent = Agent(name=MARKER, instructions=said("instructions"), tools=[look_up, break_down])
    for question in (said("prompt"), "please fail"):
        with contextlib.suppress(OpenAIError):  # as scripted
            await Runner.run(agent, question)


if __name__ == "__main__":
    handler = logging.FileHandler(sys.argv[1])
    for name in ("llmspell_otel", "llmspell_exporters"):
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).setLevel(1)
    asyncio.run(main())
