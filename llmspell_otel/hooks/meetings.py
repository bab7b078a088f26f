"""How a composite's hooks are asked: a plan says what it wants done and is resumed once it is.

The plans are written once; the synchronous and the asynchronous composite carry them out.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, get_args

from llmspell_otel.errors import HookError
from llmspell_otel.hooks.answers import (
    Answer,
    Minutes,
    Rules,
    Tie,
    chained,
    overlaid,
    resolved,
    voted,
)
from llmspell_otel.hooks.context import HookContext
from llmspell_otel.hooks.errands import Child, Errand
from llmspell_otel.hooks.isolation import changes, isolated
from llmspell_otel.hooks.results import Modified

Merge = Literal["isolate", "merge"]


@dataclass(frozen=True, slots=True)
class Group:
    """Who is asked; *strict* lets the first failure be that of all."""

    name: str
    children: tuple[Child, ...]
    strict: bool


@dataclass(frozen=True, slots=True)
class Round:
    """Several errands at the same time."""

    errands: Sequence[Errand]
    width: int
    timeout: float | None
    threads: bool


Flow = Iterator[Errand | Round | Answer]
"""What is to be done, and at last what the group answers."""
Plan = Callable[[Group, HookContext], Flow]


class Meeting:
    """One asking of a group: who answered, who failed, and the record of it."""

    def __init__(self, group: Group, context: HookContext) -> None:
        self.minutes = Minutes(context.point.spelling)
        self.answers: list[Answer] = []
        self._group = group
        self._context = context
        self._errors: list[Exception] = []

    @property
    def failed(self) -> bool:
        """Whether a failure has settled it."""
        return bool(self._errors) and self._group.strict

    def hear(self, errand: Errand) -> Answer | None:
        """Take in what came of *errand*; None if it failed."""
        errand.child.fared(errand.error)
        if errand.answer is not None:
            answer = replace(errand.answer, who=errand.child.name)
            self.answers.append(answer)
            return answer
        if isinstance(errand.error, Exception):
            self.minutes.failed(errand.child.name, errand.error)
            self._errors.append(errand.error)
        return None

    def close(self) -> None:
        """End the asking.

        Raises:
            Exception: the first failure, if one is enough or nobody answered; of several
                that all failed, an `ExceptionGroup`.
        """
        if not self._errors or (self.answers and not self.failed):
            return
        self._context.decisions.extend(self.minutes.decisions)
        if self.failed or len(self._errors) == 1:
            raise self._errors[0]
        raise ExceptionGroup(f"every hook of {self._group.name} failed", self._errors)


# -- one after another


def in_turn(group: Group, context: HookContext) -> Flow:
    """Each sees what those before it modified, until one decides."""
    meeting = Meeting(group, context)
    working = context.copy()
    for child in group.children:
        errand = Errand(child, working)
        yield errand
        answer = meeting.hear(errand)
        if meeting.failed or (answer is not None and answer.decision is not None):
            break
        if answer is not None and answer.modified is not None:
            working.apply(Modified(answer.modified))
    meeting.close()
    yield chained(group.name, meeting.answers, meeting.minutes)


def until_one_acts(group: Group, context: HookContext) -> Flow:
    """Until one answers anything but Continue or Skipped."""
    meeting = Meeting(group, context)
    for child in group.children:
        errand = Errand(child, context)
        yield errand
        answer = meeting.hear(errand)
        if meeting.failed or (answer is not None and answer.acts):
            break
    meeting.close()
    yield chained(group.name, meeting.answers, meeting.minutes)


# -- at the same time, each on data of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """All at once; what they say is resolved by rank.

    Raises:
        HookError: a value is not usable.
    """

    timeout: float | None
    max_concurrency: int | None
    merge: Merge

    def __post_init__(self) -> None:
        among("merge", self.merge, get_args(Merge))
        _positive("timeout", self.timeout)
        _positive("max_concurrency", self.max_concurrency)

    def __call__(self, group: Group, context: HookContext) -> Flow:
        """The plan."""
        errands = _apart(group, context)
        width = self.max_concurrency or max(1, len(errands))
        alone = self.timeout is None and not errands[1:]
        yield Round(errands, width, self.timeout, threads=not alone)
        meeting = Meeting(group, context)
        for errand in errands:
            meeting.hear(errand)
            if self.merge == "merge" and errand.answer is not None:
                meeting.answers[-1] = _with_changes(meeting.answers[-1], errand, context)
        meeting.close()
        yield resolved(group.name, meeting.answers, meeting.minutes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """All at once; what enough of them say carries.

    Raises:
        HookError: a value is not usable.
    """

    threshold: Fraction
    min_votes: int
    tie: Tie
    timeout: float | None

    def __post_init__(self) -> None:
        among("tie", self.tie, get_args(Tie))
        _positive("timeout", self.timeout)

    def __call__(self, group: Group, context: HookContext) -> Flow:
        """The plan."""
        errands = _apart(group, context)
        yield Round(errands, max(1, len(errands)), self.timeout, threads=self.timeout is not None)
        meeting = Meeting(group, context)
        for errand in errands:
            meeting.hear(errand)
        meeting.close()
        rules = Rules(self.threshold, self.min_votes, self.tie)
        yield voted(group.name, meeting.answers, len(errands), rules, meeting.minutes)


def _apart(group: Group, context: HookContext) -> list[Errand]:
    """An errand for each child, on data of its own."""
    return [Errand(child, context.copy(isolated(context.data))) for child in group.children]


def _with_changes(answer: Answer, errand: Errand, context: HookContext) -> Answer:
    changed = changes(context.data, errand.context.data)
    if changed is None:
        return answer
    return replace(answer, modified=overlaid(changed.data, answer.modified or {}))


def _positive(option: str, value: float | None) -> None:
    if value is not None and not value > 0:
        raise HookError(f"{option}={value!r} is not above 0")


def among(option: str, value: Any, allowed: Sequence[str]) -> None:
    """Refuse a *value* that is none of those *allowed*.

    Raises:
        HookError: it is none of them.
    """
    if value not in allowed:
        raise HookError(f"{option}={value!r} is none of {', '.join(map(repr, allowed))}")
