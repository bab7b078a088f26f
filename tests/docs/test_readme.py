"""The README's own code runs, and does what it says."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmspell_otel import Hook, OperationCancelled, tool
from llmspell_otel.events import default_bus
from llmspell_otel.hooks.registry import registry

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """Take out what the README registers."""
    known = set(map(id, registry.hooks()))
    yield
    for hook in registry.hooks():
        if id(hook) not in known:
            hook.unregister()


def run(block: str) -> dict[str, object]:
    """Execute one block of the README."""
    names: dict[str, object] = {"__name__": "readme"}
    exec(compile(block, "README.md", "exec"), names)
    return names


@pytest.mark.parametrize("block", BLOCKS, ids=[f"block {n}" for n in range(len(BLOCKS))])
def test_every_block_runs(block: str) -> None:
    """Copied into a file, it works."""
    assert run(block)


def test_the_readmes_policy_does_what_it_says() -> None:
    """Deleting is refused, and a failing tool is tried three times."""
    run(next(block for block in BLOCKS if "nobody_is_deleted" in block))
    calls: list[int] = []

    @tool
    def delete_account(number: int) -> None:
        calls.append(number)

    @tool
    def flaky() -> int:
        calls.append(len(calls))
        if len(calls) < 3:
            raise ConnectionError
        return len(calls)

    with pytest.raises(OperationCancelled, match="Deleting needs a person's approval"):
        delete_account(1)
    assert calls == []
    assert flaky() == 3
    assert Hook.list(point="BeforeModelCall")


def test_the_readmes_links_lead_somewhere() -> None:
    """No page is promised that is not there."""
    text = (ROOT / "README.md").read_text()
    links = re.findall(r"\]\((?!http)([^)#]+)\)", text)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_readmes_listener_is_heard() -> None:
    """The example of events subscribes to the bus that operations publish on."""
    run(next(block for block in BLOCKS if "Event.on" in block))
    assert default_bus().wants("tool:execution_error")
