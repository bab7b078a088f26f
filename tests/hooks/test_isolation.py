"""Copies of data for hooks: deep enough to be safe, and never more than can be copied."""

from types import MappingProxyType
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llmspell_otel.hooks.isolation import changes, isolated, same
from llmspell_otel.hooks.results import Modified

keys = st.sampled_from(["a", "b", "c", "d"])
plain = st.recursive(
    st.none() | st.integers() | keys | st.floats(allow_nan=False) | st.sets(st.integers(0, 3)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)
mappings = st.dictionaries(keys, plain, max_size=4)


class Hostile:
    """Cannot be copied, compared or printed."""

    def __deepcopy__(self, memo: object) -> Any:
        raise RuntimeError("no copies")

    def __copy__(self) -> Any:
        raise RuntimeError("no copies")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    __hash__ = object.__hash__


def containers(value: Any) -> list[int]:
    """The identities of every container within *value*."""
    if isinstance(value, dict):
        return [id(value), *(each for item in value.values() for each in containers(item))]
    if isinstance(value, list):
        return [id(value), *(each for item in value for each in containers(item))]
    return [id(value)] if isinstance(value, set) else []


@given(mappings)
def test_a_copy_is_equal_and_shares_no_container(data: dict[str, Any]) -> None:
    """Nothing that can be changed in place is shared with the original."""
    copy = isolated(data)
    assert copy == data
    assert same(copy, data)
    assert changes(data, copy) is None
    assert not set(containers(copy)) & set(containers(data))


def test_what_cannot_be_copied_is_shared() -> None:
    """Objects, and containers of other kinds, are passed on as they are."""
    hostile, proxy = Hostile(), MappingProxyType({"a": 1})
    copy = isolated({"input": {"client": hostile, "proxy": proxy, "pair": ([1],)}})
    assert copy["input"]["client"] is hostile
    assert copy["input"]["proxy"] is proxy
    assert changes({"input": {"client": hostile}}, {"input": {"client": hostile}}) is None
    other = Hostile()
    assert changes({"x": hostile}, {"x": other}) == Modified({"x": other})


def test_cycles_stay_cycles() -> None:
    """A list that holds itself is copied once."""
    loop: list[Any] = []
    loop.append(loop)
    copy = isolated({"loop": loop})["loop"]
    assert copy is not loop
    assert copy[0] is copy
    assert not same(loop, copy), "a cycle is compared no deeper than the limit"


def test_very_deep_data_do_not_exhaust_the_stack() -> None:
    """What is nested beyond all sense is shared below the limit."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    data = {"deep": deep}
    assert isolated(data)["deep"][0] is not deep[0]
    changes(data, isolated(data))
    while deep:  # taken apart by hand: freeing it in one go would exhaust C's stack
        deep = deep[0]


@given(mappings, mappings)
def test_changes_applied_to_the_old_give_the_new(old: dict[str, Any], new: dict[str, Any]) -> None:
    """What was changed or added is told completely; only what was removed is not."""
    told = changes({"input": old}, {"input": new})
    assert {**old, **(told.data["input"] if told else {})} == {**old, **new}
