"""What the package offers."""

import subprocess
import sys

import llmspell_otel


def test_every_promised_name_is_there() -> None:
    """`__all__` is what can be imported, no more and no less."""
    found = {name: getattr(llmspell_otel, name) for name in llmspell_otel.__all__}
    assert set(found) == set(dir(llmspell_otel))
    assert all(value is not None for value in found.values())


def test_the_words_of_the_documentation_are_all_there() -> None:
    """The public names that every language shares."""
    wanted = {
        *("Hook", "Event", "instrument", "uninstrument", "configure"),
        *("agent", "tool", "workflow", "stage", "OperationCancelled"),
        *("Continue", "Modified", "Cancel", "Redirect", "Replace"),
        *("Retry", "Fork", "Cache", "Skipped"),
    }
    assert wanted <= set(llmspell_otel.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A misspelt name is not silently None."""
    assert not hasattr(llmspell_otel, "Hok")


def test_importing_the_package_imports_nothing_heavy() -> None:
    """Neither an SDK, nor pydantic, nor a framework comes along."""
    code = (
        "import sys, llmspell_otel; from llmspell_otel import Hook, Cancel, tool, Event;"
        "heavy = {'opentelemetry.sdk', 'pydantic', 'openai', 'agents', 'genai_prices', 'rich'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
