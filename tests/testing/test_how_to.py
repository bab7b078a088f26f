"""The page on testing without a provider: its examples run."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/how-to/test-without-a-provider.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.parametrize("source", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_examples_run(source: str) -> None:
    """Each example runs by itself, and what it asserts holds."""
    exec(compile(source, str(PAGE), "exec"), {})
