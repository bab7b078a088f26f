"""The nine results at the three moments, as one table that every kind of call is held to."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import uuid4

import pytest

from llmspell_otel.errors import OperationCancelled
from llmspell_otel.hooks import (
    Cache,
    Cancel,
    Continue,
    Fork,
    Modified,
    Redirect,
    Replace,
    Retry,
    Skipped,
)

BEFORE, AFTER, ERROR = "before", "after", "error"
Register = Callable[..., None]


class Bench(Protocol):
    """One kind of call in one library, so arranged that the table can be read off it.

    Two of the kind can be called, `first` and `other`; each answers with its name and the number
    of the call: `first 1`. When *failing*, call number 1 fails.
    """

    points: dict[str, str]
    change: dict[str, Any]
    failing: bool
    reached: list[str]

    def perform(self) -> str:
        """Call `first`; gives what is said to whoever asked."""
        ...

    def changed(self) -> bool:
        """Whether `first` was called with `change`."""
        ...

    def refused(self, attempt: Callable[[], str], reason: str) -> None:
        """Assert that the *attempt* ends in this kind's refusal."""
        ...


@dataclass(frozen=True)
class Case:
    """One cell of the table: the answer a hook gives once, and what comes of it."""

    moment: str
    answer: Any
    said: str | None = None
    reached: tuple[str, ...] = ()
    raises: type[BaseException] | None = None

    def __str__(self) -> str:
        return f"{self.moment}-{type(self.answer).__name__.lower()}"


class Planted(Exception):  # noqa: N818 - a stand-in for whatever a hook may raise in its place
    """The error that a hook puts in the place of another."""


_CHANGE = Modified({"input": {}})
_CHANGE_OUTPUT, _CHANGE_ERROR = Modified({"output": "changed"}), Modified({"error": Planted()})
_ONCE = Retry(delay=0, max_attempts=3)
_NO, _MINE, _OTHER = Cancel("not today"), Replace("mine"), Redirect("other")
_FORK, _CACHE, _SKIP = Fork([lambda: "branch"]), Cache(key="k", ttl=60), Skipped("not mine")
_FAILS: dict[str, Any] = {"reached": ("first",), "raises": Exception}

CASES = (
    Case(BEFORE, Continue(), "first 1", ("first",)),
    Case(BEFORE, _CHANGE, "first 1", ("first",)),
    Case(BEFORE, _NO, raises=OperationCancelled),
    Case(BEFORE, _OTHER, "other 1", ("other",)),
    Case(BEFORE, _MINE, "mine"),
    Case(BEFORE, _ONCE, "first 1", ("first",)),
    Case(BEFORE, _FORK, "first 1", ("first",)),
    Case(BEFORE, _CACHE, "first 1", ("first",)),
    Case(BEFORE, _SKIP, "first 1", ("first",)),
    Case(AFTER, Continue(), "first 1", ("first",)),
    Case(AFTER, _CHANGE_OUTPUT, "changed", ("first",)),
    Case(AFTER, _NO, reached=("first",), raises=OperationCancelled),
    Case(AFTER, _OTHER, "other 2", ("first", "other")),
    Case(AFTER, _MINE, "mine", ("first",)),
    Case(AFTER, _ONCE, "first 2", ("first", "first")),
    Case(AFTER, _FORK, "first 1", ("first",)),
    Case(AFTER, _CACHE, "first 1", ("first",)),
    Case(AFTER, _SKIP, "first 1", ("first",)),
    Case(ERROR, Continue(), **_FAILS),
    Case(ERROR, _CHANGE_ERROR, reached=("first",), raises=Planted),
    Case(ERROR, _NO, reached=("first",), raises=OperationCancelled),
    Case(ERROR, _OTHER, "other 2", ("first", "other")),
    Case(ERROR, _MINE, "mine", ("first",)),
    Case(ERROR, _ONCE, "first 2", ("first", "first")),
    Case(ERROR, _FORK, **_FAILS),
    Case(ERROR, _CACHE, **_FAILS),
    Case(ERROR, _SKIP, **_FAILS),
)

every_cell = pytest.mark.parametrize("case", CASES, ids=str)


def hold(bench: Bench, case: Case, hook: Register) -> None:
    """Hold *bench* to one cell of the table."""
    bench.failing = case.moment == ERROR
    answer = case.answer
    if answer is _CHANGE:
        answer = Modified({"input": bench.change})
    elif answer is _CACHE:
        answer = Cache(key=uuid4().hex, ttl=60)
    asked: list[Any] = []
    forks: list[Any] = []

    def answering(context: Any) -> Any:
        asked.append(context)
        forks.extend(context.data.get("forks", ()))
        return answer if len(asked) == 1 or isinstance(answer, Cache) else None

    hook(bench.points[case.moment], answering, name="answering")
    if case.moment == BEFORE:
        hook(bench.points[AFTER], lambda context: forks.extend(context.data.get("forks", ())))
    _expect(bench, case)
    _consequences(bench, case, asked, forks)


def _expect(bench: Bench, case: Case) -> None:
    if case.raises is OperationCancelled:
        bench.refused(bench.perform, "not today")
    elif case.raises is not None:
        with pytest.raises(Exception) as raised:
            bench.perform()
        assert any(isinstance(one, case.raises) for one in causes(raised.value))
        assert not any(isinstance(one, OperationCancelled) for one in causes(raised.value))
    else:
        assert bench.perform() == case.said
    assert tuple(bench.reached) == case.reached


def _consequences(bench: Bench, case: Case, asked: list[Any], forks: list[Any]) -> None:
    if case.answer is _CHANGE:
        assert bench.changed()
    if case.answer is _ONCE:
        assert len(asked) == 2 if case.moment != ERROR else len(asked) == 1
    if case.answer is _FORK and case.moment == BEFORE:
        assert forks == ["branch"]
    if case.answer is _CACHE and case.moment == BEFORE:
        assert bench.perform() == case.said
        assert tuple(bench.reached) == case.reached
    if case.answer is _CACHE and case.moment == ERROR:
        assert bench.perform() == "first 2"


def causes(error: BaseException | None) -> list[BaseException]:
    """*error*, and what it was raised from, as far back as it goes."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain
