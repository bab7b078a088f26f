"""What the adapters' tests share."""

import gc
import importlib
import itertools
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from llmspell_otel.guard import guard
from llmspell_otel.hooks import Hook
from llmspell_otel.operations.ports import ports
from tests.instrumentation import toy
from tests.instrumentation.watching import Watching

pytest.register_assert_rewrite("tests.instrumentation.results")

_numbers = itertools.count()


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


@pytest.fixture
def watching(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Watching]:
    """The spans that a test makes: all ended, none twice, nothing contained or logged."""
    telemetry = Watching()
    monkeypatch.setattr(ports, "telemetry", telemetry)
    contained = guard.failures
    with caplog.at_level(logging.WARNING):
        yield telemetry
        gc.collect()
    assert telemetry.open == 0
    ids = [span.context.span_id for span in telemetry.spans]
    assert len(ids) == len(set(ids))
    assert telemetry.unmatched == 0
    assert not [record.getMessage() for record in caplog.records if record.name != "openai.agents"]
    assert guard.failures == contained


@pytest.fixture
def hook() -> Iterator[Callable[..., Any]]:
    """Register a hook for the length of a test: `hook("tool:before_execution", function)`."""
    with ExitStack() as registered:

        def register(point: str, function: Callable[[Any], Any], **options: Any) -> None:
            handle = Hook.register(point, function, **options)
            registered.callback(handle.unregister)

        yield register
