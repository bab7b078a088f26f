"""The examples of the how-to pages run."""

import re
from pathlib import Path

import pytest

from llmspell_otel.builtin import enabled

PAGES = sorted((Path(__file__).parents[2] / "docs/how-to").glob("builtin-*.md"))
MINE = [page for page in PAGES if "enable_builtin" in page.read_text()]


@pytest.mark.parametrize("page", MINE, ids=lambda page: page.stem)
def test_examples_run(page: Path) -> None:
    """As they stand."""
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, str(page), "exec"), {})
    name = page.stem.removeprefix("builtin-").replace("-", "_")
    assert name in enabled() or name == "hooks"
