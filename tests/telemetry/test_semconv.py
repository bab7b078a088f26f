"""Names: compared with the registry of the conventions, pinned beside this file."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from llmspell_otel.telemetry import names, semconv

REGISTRY: dict[str, Any] = json.loads(Path(__file__).with_name("registry.json").read_text())
TABLES = {
    "A": semconv.SECONDS,
    "B": semconv.TOKENS,
    "C": semconv.AGENT_SECONDS,
    "D": semconv.CALLS,
    "E": semconv.WORKFLOW_SECONDS,
    "F": semconv.SESSION_SECONDS,
}


def _strings(module: Any) -> dict[str, str]:
    found = vars(module).items()
    return {name: value for name, value in found if name.isupper() and isinstance(value, str)}


def test_every_name_is_registered() -> None:
    """No name in the module is one that the conventions do not have."""
    known = {*REGISTRY["attributes"], *REGISTRY["events"], *REGISTRY["metrics"]}
    spelt = set(_strings(semconv).values())
    spelt -= {semconv.ERROR_TYPE_OTHER}
    spelt = {f"{name}<key>" if name.endswith(".") else name for name in spelt}
    assert spelt <= known


def test_no_removed_name_is_spelt() -> None:
    """Names of earlier generations are gone, from our own names too."""
    spelt = {*_strings(semconv).values(), *_strings(names).values()}
    assert spelt.isdisjoint(REGISTRY["removed"])


def test_no_name_is_spelt_twice() -> None:
    """One constant per name."""
    spelt = [*_strings(semconv).values(), *_strings(names).values()]
    assert len(spelt) == len(set(spelt))


@pytest.mark.parametrize(
    ("enumeration", "values"),
    [
        (semconv.Operation, "operations"),
        (semconv.Provider, "providers"),
        (semconv.OutputType, "output_types"),
        (semconv.Modality, "modalities"),
        (semconv.ResponseStatus, "response_statuses"),
        (semconv.FinishReason, "finish_reasons"),
    ],
)
def test_enumerations_list_the_registered_values(enumeration: Any, values: str) -> None:
    """Every well-known value, in order, and no other."""
    assert [str(member) for member in enumeration] == REGISTRY[values]


@pytest.mark.parametrize("table", TABLES)
def test_boundaries_are_the_registered_ones(table: str) -> None:
    """The bucket tables are those of the conventions."""
    assert TABLES[table] == pytest.approx(REGISTRY["boundaries"][table])


@pytest.mark.parametrize(
    "bounds",
    [*TABLES.values(), names.HOOK_SECONDS, names.MONEY],
    ids=[*TABLES, "hooks", "money"],
)
def test_boundaries_are_floats_that_increase(bounds: tuple[float, ...]) -> None:
    """An SDK raises into every `record()` if they do not increase."""
    assert all(type(bound) is float for bound in bounds)
    assert all(low < high for low, high in pairwise(bounds))


def test_our_own_names_keep_to_our_namespace() -> None:
    """Nothing of ours sits under `gen_ai.`, but the one metric that other dashboards read."""
    dotted = {value for value in _strings(names).values() if "." in value}
    assert {name for name in dotted if not name.startswith("llmspell.")} == {names.USAGE_COST}


def test_no_attribute_is_the_namespace_of_another() -> None:
    """A name that is also a namespace of another cannot be stored as a tree."""
    ours = {value for value in _strings(names).values() if value.startswith("llmspell.")}
    assert not [(a, b) for a in ours for b in ours if b.startswith(f"{a}.")]
