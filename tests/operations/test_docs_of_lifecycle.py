"""The examples in the documents on lifecycles, workflows, state and propagation hold."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = (
    "reference/lifecycle.md",
    "how-to/workflows.md",
    "how-to/state.md",
    "how-to/distributed.md",
)
EXAMPLES = [
    pytest.param(match.group(1), id=f"{name}-{number}")
    for name in PAGES
    if (DOCS / name).exists()
    for number, match in enumerate(
        re.finditer(
            r"^```python\n(.*?)^```", (DOCS / name).read_text("utf-8"), re.MULTILINE | re.DOTALL
        )
    )
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_runs(example: str) -> None:
    """Each block runs by itself, and its assertions hold."""
    assert "assert" in example
    exec(compile(example, "example", "exec"), {"__name__": "example"})
