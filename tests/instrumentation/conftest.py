"""What the adapters' tests share."""

import importlib
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tests.instrumentation import toy

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the engine is there: calls pass through."""
    from llmspell_otel import operations

    if not hasattr(operations, "invoke"):
        monkeypatch.setattr(operations, "Aspect", SimpleNamespace, raising=False)
        monkeypatch.setattr(operations, "invoke", lambda _, call: call.proceed(), raising=False)


@pytest.fixture
def toy_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a fresh toy library that nobody has imported yet."""
    name = f"toy_{next(_numbers)}"
    toy.write(tmp_path, name)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    for module in [one for one in sys.modules if one.partition(".")[0] == name]:
        del sys.modules[module]


@pytest.fixture
def toy_library(toy_name: str) -> ModuleType:
    """The toy library, imported."""
    return importlib.import_module(f"{toy_name}.inner")
