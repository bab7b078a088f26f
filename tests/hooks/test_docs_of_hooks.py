"""The examples in the documents on composites and breakers do what they say."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = [
    pytest.param(match.group(1), id=f"{page.stem}-{number}")
    for page in (
        DOCS / "reference" / "hooks-composites.md",
        DOCS / "explanation" / "circuit-breaker.md",
    )
    for number, match in enumerate(
        re.finditer(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    )
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_runs(example: str) -> None:
    """Each block runs by itself, and its assertions hold."""
    assert "assert" in example
    exec(compile(example, "example", "exec"), {"__name__": "example"})
