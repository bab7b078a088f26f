"""What comes along with an import: modules are counted, since the clock is the machine's."""

import json
import subprocess
import sys
import textwrap

import pytest

NAMES = """
from llmspell_otel import Hook, Event, instrument, configure, agent, tool, workflow, stage
from llmspell_otel import OperationCancelled, LlmspellError
from llmspell_otel import Continue, Modified, Cancel, Redirect, Replace, Retry, Fork, Cache, Skipped
"""
DECORATED = (
    NAMES
    + """
@tool
def add(a, b):
    return a + b

@agent
def run():
    return add(1, 2)

assert run() == 3
"""
)
HOOKED = (
    DECORATED
    + """
seen = []
Hook.register("tool:before_execution", seen.append)
Event.subscribe("tool:*", seen.append)
assert run() == 3 and len(seen) == 3
"""
)
INSTRUMENTED = HOOKED + "instrument(); run()"

FRAMEWORKS = {"openai", "agents", "mcp", "httpx", "redis", "nats", "starlette", "uvicorn"}
NEVER = {
    *FRAMEWORKS,
    "opentelemetry.sdk",
    "pydantic",
    "rich",
    "click",
    "jsonschema",
    "sqlite3",
    "packaging",
}

"""Nobody who has no settings, no SDK and no framework pays for these."""
ENGINE = {"asyncio", "wrapt", "importlib.metadata", "email", "ssl", "concurrent.futures.process"}
"""A synchronous program can do without these, until it instruments a library."""
USED = {"msgspec", "typing_extensions", "opentelemetry.context", "opentelemetry.trace", "logging"}
"""What an operation needs, and importing a name does not."""


def imported(code: str) -> set[str]:
    """The modules that running *code* brings into a fresh interpreter."""
    told = textwrap.dedent(code) + "\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    return set(json.loads(ran.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        (NAMES, NEVER | ENGINE | USED),
        (DECORATED, NEVER | ENGINE),
        (HOOKED, NEVER | ENGINE),
        (INSTRUMENTED, NEVER),
    ],
    ids=["names", "decorated", "hooked", "instrumented"],
)
def test_nothing_comes_along_that_is_not_used(code: str, unwanted: set[str]) -> None:
    """Each step of a program brings what it needs, and no more."""
    assert imported(code) & unwanted == set()


def test_the_names_alone_bring_few_of_our_own_modules() -> None:
    """The engine is imported with the first operation, hook or subscription."""
    own = {name for name in imported(NAMES) if name.startswith("llmspell")}
    assert len(own) <= 16, sorted(own)


@pytest.mark.parametrize(
    ("program", "adapters"),
    [("", set()), ("import openai", {"openai"}), ("import agents", {"openai", "openai_agents"})],
    ids=["no library", "openai", "openai-agents"],
)
def test_only_the_adapters_of_used_libraries_are_read(program: str, adapters: set[str]) -> None:
    """A library that is installed, and not imported, costs next to nothing."""
    tables = {f"llmspell_instrumentation.{name}.table" for name in ("openai", "openai_agents")}
    found = imported(f"import llmspell_otel; llmspell_otel.instrument()\n{program}") & tables
    assert found == {f"llmspell_instrumentation.{name}.table" for name in adapters}


def test_an_asynchronous_hook_brings_asyncio() -> None:
    """In a synchronous program too, where it runs on a loop of ours."""
    code = (
        DECORATED
        + """
async def slowly(context):
    return None

Hook.register("tool:before_execution", slowly)
assert run() == 3
"""
    )
    assert "asyncio" in imported(code)


def test_prices_are_loaded_once_a_library_that_calls_models_is_there() -> None:
    """Not before, and not only when the first call has ended."""
    watched = """
import threading, llmspell_otel
loading = lambda: [each for each in threading.enumerate() if each.name == "llmspell-prices"]
llmspell_otel.instrument()
assert not loading()
import openai
for thread in loading():
    thread.join(60)
"""
    assert "genai_prices.data_snapshot" in imported(watched)
