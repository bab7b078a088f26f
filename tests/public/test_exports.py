"""What the package offers."""

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
