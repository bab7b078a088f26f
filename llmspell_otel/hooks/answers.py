"""What a composite's children say together: chained, resolved or counted. Pure functions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Final, Literal, cast

from llmspell_otel.errors import UnknownResultError
from llmspell_otel.hooks.context import Decision, HookContext
from llmspell_otel.hooks.isolation import same
from llmspell_otel.hooks.results import (
    CONTINUE,
    Branch,
    Cache,
    Cancel,
    Fork,
    Modified,
    Result,
    Retry,
    Skipped,
    result_of,
)

Tie = Literal["prefer_action", "prefer_continue", "first"]

RANK: Final = (
    "cancel",
    "replace",
    "redirect",
    "retry",
    "fork",
    "cache",
    "modified",
    "continue",
    "skipped",
)
"""Which kind of result goes before which."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything that one child says, or that a composite says as a whole.

    A single hook gives one result. A composite may give several, in the order in which a
    chain of hooks would have given them: a modification, branches, a cache, a decision.
    """

    who: str = ""
    modified: Mapping[str, Any] | None = None
    branches: tuple[Branch, ...] = ()
    cache: Cache | None = None
    decision: Result | None = None
    skipped: Skipped | None = None
    notes: tuple[Decision, ...] = ()
    """What its own children said, for the record."""

    @property
    def kind(self) -> str:
        """The kind that ranks highest of those in it."""
        if self.decision is not None:
            return self.decision.kind
        if self.branches:
            return "fork"
        if self.cache is not None:
            return "cache"
        if self.modified is not None:
            return "modified"
        return "continue" if self.skipped is None else "skipped"

    @property
    def acts(self) -> bool:
        """Whether it is anything but Continue and Skipped."""
        return self.kind not in ("continue", "skipped")

    def results(self) -> list[Result]:
        """Its results in order; what decides, or may decide, comes last."""
        given: list[Result] = []
        if self.modified is not None:
            given.append(Modified(self.modified))
        if self.branches:
            given.append(Fork(self.branches))
        if self.decision is not None:
            return [*given, self.decision]
        return given if self.cache is None else [*given, self.cache]


def answer_of(who: str, value: object) -> Answer:
    """Read what the hook *who* answered.

    Raises:
        UnknownResultError: it is none of the nine results.
    """
    result = result_of(value)
    if isinstance(result, Modified):
        data = cast("Any", result.data)  # hooks are not type-checked
        if not isinstance(data, Mapping):
            raise UnknownResultError(data)
        return Answer(who, modified=result.data)
    if isinstance(result, Fork):
        return Answer(who, branches=tuple(result.operations))
    if isinstance(result, Cache):
        return Answer(who, cache=result)
    if isinstance(result, Skipped):
        return Answer(who, skipped=result)
    return Answer(who, decision=result if result.decides else None)


@dataclass(slots=True)
class Minutes:
    """The record of one meeting: what each child said, and whether it took effect."""

    point: str
    decisions: list[Decision] = field(default_factory=list[Decision])

    def note(self, answer: Answer, *, effective: bool, reason: str = "") -> None:
        """Put down what *answer* says; a plain Continue is not worth a line."""
        self.decisions.extend(
            each if effective else replace(each, effective=False) for each in answer.notes
        )
        if answer.kind == "continue":
            return
        for result in answer.results() or [answer.skipped or CONTINUE]:
            given = result.reason if isinstance(result, (Cancel, Skipped, Retry)) else ""
            self.decisions.append(
                Decision(answer.who, self.point, result.kind, reason or given, effective)
            )

    def failed(self, who: str, error: BaseException) -> None:
        """Put down that *who* gave no answer."""
        self.decisions.append(
            Decision(who, self.point, "error", type(error).__qualname__, effective=False)
        )


# -- sequential


def chained(who: str, answers: Sequence[Answer], minutes: Minutes) -> Answer:
    """What hooks asked one after another say: each modification on top of those before."""
    modified: dict[str, Any] | None = None
    branches: tuple[Branch, ...] = ()
    cache: Cache | None = None
    decision: Result | None = None
    skipped: list[Skipped | None] = []
    decided = any(answer.decision is not None for answer in answers)
    for answer in answers:
        vain = ""
        if answer.cache is not None and answer.decision is None and (decided or cache is not None):
            vain = "decided without the cache" if decided else "an earlier cache stands"
        minutes.note(answer, effective=not vain, reason=vain)
        if answer.modified is not None:
            modified = overlaid(modified or {}, answer.modified)
        branches += answer.branches
        cache = cache or answer.cache
        decision = answer.decision
        skipped.append(answer.skipped)
    return Answer(
        who, modified, branches, cache, decision, _all_skipped(skipped), tuple(minutes.decisions)
    )


def _all_skipped(skipped: Sequence[Skipped | None]) -> Skipped | None:
    """A composite was skipped when each of its children was."""
    return skipped[0] if skipped and all(each is not None for each in skipped) else None


def overlaid(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both modifications as one: arguments merged, everything else replaced."""
    together = {**below, **above}
    old, new = below.get("input"), above.get("input")
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        together["input"] = {**old, **new}
    return together


# -- parallel


def resolved(who: str, answers: Sequence[Answer], minutes: Minutes) -> Answer:
    """What hooks asked at the same time say: the first of the highest-ranked decisions.

    Where none decides, everything counts: modifications are merged, branches all run, and
    the first cache is looked up.
    """
    deciding = [answer for answer in answers if answer.decision is not None]
    if deciding:
        winner = min(deciding, key=lambda answer: RANK.index(answer.kind))
        for answer in answers:
            won = answer is winner
            word = "preceded" if answer.kind == winner.kind else "outranked"
            minutes.note(answer, effective=won, reason="" if won else f"{word} by {winner.who}")
        return replace(winner, who=who, notes=tuple(minutes.decisions))
    return _gathered(who, answers, minutes)


def _gathered(who: str, answers: Sequence[Answer], minutes: Minutes) -> Answer:
    merge = _Merge()
    cache: Cache | None = None
    branches: tuple[Branch, ...] = ()
    for answer in answers:
        kept, lost = merge.take(answer)
        if answer.cache is not None:
            kept, lost = cache is None, "" if cache is None else "an earlier cache stands"
        minutes.note(answer, effective=kept, reason=lost)
        cache = cache or answer.cache
        branches += answer.branches
    skipped = _all_skipped([answer.skipped for answer in answers])
    return Answer(who, merge.data, branches, cache, None, skipped, tuple(minutes.decisions))


class _Merge:
    """Modifications that know nothing of each other, made one: who came first is kept."""

    __slots__ = ("_owners", "data")

    def __init__(self) -> None:
        self.data: dict[str, Any] | None = None
        self._owners: dict[tuple[Any, ...], str] = {}

    def take(self, answer: Answer) -> tuple[bool, str]:
        """Take in what does not conflict; say whether it has an effect, and what it lost."""
        lost: list[str] = []
        kept = answer.modified is None or not answer.modified
        for path, value in _paths(answer.modified or {}):
            owner = self._owner(path, value)
            if owner is None:
                self._put(path, value)
                self._owners[path] = answer.who
            if owner:
                lost.append(f"{'.'.join(map(str, path))} is {owner}'s")
            else:
                kept = True
        return kept or bool(answer.branches), "; ".join(lost)

    def _owner(self, path: tuple[Any, ...], value: Any) -> str | None:
        """Whose *path* is already: None for nobody's, empty where both say the same."""
        for taken, owner in self._owners.items():
            if taken[: len(path)] == path or path[: len(taken)] == taken:
                agreed = taken == path and same(self._at(path), value)
                return "" if agreed else owner
        return None

    def _at(self, path: tuple[Any, ...]) -> Any:
        found: Any = self.data
        for step in path:
            found = found[step]
        return found

    def _put(self, path: tuple[Any, ...], value: Any) -> None:
        self.data = self.data or {}
        if len(path) == 1:
            self.data[path[0]] = value
        else:
            self.data.setdefault(path[0], {})[path[1]] = value


def _paths(modified: Mapping[str, Any]) -> Iterable[tuple[tuple[Any, ...], Any]]:
    """What may conflict: each named argument by itself, everything else as a whole."""
    for key, value in modified.items():
        if key == "input" and isinstance(value, Mapping):
            for name, argument in value.items():
                yield (key, name), argument
        else:
            yield (key,), value


# -- voting


@dataclass(frozen=True, slots=True)
class Rules:
    """When votes carry; see `llmspell_otel.hooks.composite.voting`."""

    threshold: Fraction
    min_votes: int
    tie: Tie

    def required(self, voters: int) -> int:
        """The votes that one kind of result needs: exact, no floating point."""
        return max(1, -(-self.threshold.numerator * voters // self.threshold.denominator))


def voted(
    who: str, answers: Sequence[Answer], voters: int, rules: Rules, minutes: Minutes
) -> Answer:
    """What the kind of result that carries the vote says; Continue when none does."""
    votes = [answer for answer in answers if answer.kind != "skipped"]
    kind = (
        _carried(votes, rules.required(voters), rules.tie)
        if len(votes) >= (rules.min_votes)
        else None
    )
    if kind is None or kind == "continue":
        for answer in answers:
            idle = answer.kind == "skipped"
            minutes.note(answer, effective=idle, reason="" if idle else "not carried")
        skipped = _all_skipped([answer.skipped for answer in answers])
        return Answer(who, skipped=skipped, notes=tuple(minutes.decisions))
    winners = [answer for answer in votes if answer.kind == kind]
    for answer in answers:
        if answer.kind != kind:
            minutes.note(answer, effective=False, reason="outvoted")
    if kind == "cancel":
        for answer in winners:
            minutes.note(answer, effective=True)
        return Answer(who, decision=_joined(winners), notes=tuple(minutes.decisions))
    return resolved(who, winners, minutes)


def _carried(votes: Sequence[Answer], required: int, tie: Tie) -> str | None:
    counts: dict[str, int] = {}
    for answer in votes:
        counts[answer.kind] = counts.get(answer.kind, 0) + 1
    most = max(counts.values(), default=0)
    if most < required:
        return None
    tied = [kind for kind, count in counts.items() if count == most]
    if tie == "first":
        return tied[0]
    if tie == "prefer_continue" and "continue" in tied:
        return "continue"
    return min(tied, key=RANK.index)


def _joined(cancels: Sequence[Answer]) -> Cancel:
    reasons = (each.decision.reason for each in cancels if isinstance(each.decision, Cancel))
    return Cancel("; ".join(dict.fromkeys(reasons)))


# -- handing over


def handed_over(answer: Answer, context: HookContext) -> Result | None:
    """Bring *answer* into effect: all but its last result here, the last by returning it."""
    context.decisions.extend(answer.notes)
    results = answer.results()
    if not results:
        return answer.skipped
    for result in results[:-1]:
        if isinstance(result, Modified):
            context.apply(result)
        elif isinstance(result, Fork):
            context.branches.extend(result.operations)
    return results[-1]
