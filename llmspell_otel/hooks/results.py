"""The nine results a hook can answer with, and the forms they can be written in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from llmspell_otel.errors import HookError, UnknownResultError

_LONGEST = 86_400  # seconds: nobody means to let an agent wait for more than a day
Branch = Callable[[], Any] | str | tuple[str, Mapping[str, Any]]
"""One branch of a fork: a callable without arguments, the name of an operation of the same
kind (called with the same input), or that name with an input of its own."""


class Result:
    """One of the nine answers of a hook."""

    __slots__ = ()
    kind: ClassVar[str]
    decides: ClassVar[bool] = False
    """Whether this result settles the moment, so that later hooks are not asked."""


@dataclass(frozen=True, slots=True)
class Continue(Result):
    """Go on as if the hook were not there (the same as answering None)."""

    kind: ClassVar[str] = "continue"


@dataclass(frozen=True, slots=True)
class Modified(Result):
    """Change the data: ``{"input": {...}}`` merges arguments, ``{"output": value}`` replaces."""

    data: Mapping[str, Any]
    kind: ClassVar[str] = "modified"

    def __post_init__(self) -> None:
        if not _is(self.data, Mapping):
            raise _wrong("Modified", self.data, 'a mapping such as {"input": {…}}')


@dataclass(frozen=True, slots=True)
class Cancel(Result):
    """Stop the call, or withhold its output."""

    reason: str = "cancelled by a hook"
    kind: ClassVar[str] = "cancel"
    decides: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Redirect(Result):
    """Let another tool, agent or model of the same kind (or a callable) do it instead."""

    target: str | Callable[..., Any]
    kind: ClassVar[str] = "redirect"
    decides: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Replace(Result):
    """Answer with this value; a call not yet made is not made."""

    value: Any
    kind: ClassVar[str] = "replace"
    decides: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry(Result):
    """Wait *delay* seconds and try again, until *max_attempts* attempts were made."""

    delay: float = 1.0
    max_attempts: int = 3
    reason: str = ""
    kind: ClassVar[str] = "retry"
    decides: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not _is(self.delay, (int, float)) or not 0 <= self.delay <= _LONGEST:
            raise _wrong("Retry delay", self.delay, f"seconds from 0 to {_LONGEST}")
        if not _is(self.max_attempts, int) or self.max_attempts < 1:
            raise _wrong("Retry max_attempts", self.max_attempts, "a whole number, at least 1")


@dataclass(frozen=True, slots=True)
class Fork(Result):
    """Run these branches beside the call; their outputs arrive in ``data["forks"]``."""

    operations: Sequence[Branch]
    kind: ClassVar[str] = "fork"

    def __post_init__(self) -> None:
        if _is(self.operations, str) or not _is(self.operations, Sequence):
            raise _wrong("Fork", self.operations, "a list of callables or names")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache(Result):
    """Answer from the cache under *key*, or store the output there for *ttl* seconds."""

    key: str
    ttl: float = 300.0
    kind: ClassVar[str] = "cache"

    def __post_init__(self) -> None:
        if not _is(self.key, str):
            raise _wrong("Cache key", self.key, "a text")
        if not _is(self.ttl, (int, float)) or not self.ttl > 0:
            raise _wrong("Cache ttl", self.ttl, "seconds above 0")


@dataclass(frozen=True, slots=True)
class Skipped(Result):
    """The hook did not apply; counted, without effect."""

    reason: str = ""
    kind: ClassVar[str] = "skipped"


def _wrong(what: str, value: object, mend: str) -> HookError:
    return HookError(f"{what} is {type(value).__name__} {_shown(value)}; give {mend}")


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, (int, float, str)) else ""


def _is(value: object, kinds: type | tuple[type, ...]) -> bool:
    return isinstance(value, kinds)  # hooks are not type-checked


CONTINUE = Continue()

type_names: dict[str, type[Result]] = {
    cls.kind: cls
    for cls in (Continue, Modified, Cancel, Redirect, Replace, Retry, Fork, Cache, Skipped)
}


@dataclass(frozen=True, slots=True)
class _Form:
    """Which keys of a mapping become which fields of a result."""

    cls: type[Result]
    fields: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    milliseconds: Mapping[str, str] = field(default_factory=dict[str, str])
    defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def build(self, mapping: Mapping[str, Any]) -> Result:
        given = dict(self.defaults)
        for name, spellings in self.fields.items():
            for spelling in spellings:
                if spelling in mapping:
                    given[name] = mapping[spelling]
                    break
        for spelling, name in self.milliseconds.items():
            if spelling in mapping and name not in mapping:
                given[name] = float(mapping[spelling]) / 1000
        return self.cls(**given)


_FORMS: dict[str, _Form] = {
    "continue": _Form(Continue),
    "modified": _Form(Modified, {"data": ("data", "modified_data")}, defaults={"data": {}}),
    "cancel": _Form(Cancel, {"reason": ("reason", "cancel_reason", "message")}),
    "redirect": _Form(Redirect, {"target": ("target",)}),
    "replace": _Form(Replace, {"value": ("value", "data", "result")}, defaults={"value": None}),
    "retry": _Form(
        Retry,
        {"delay": ("delay",), "max_attempts": ("max_attempts",), "reason": ("reason",)},
        {"delay_ms": "delay", "backoff_ms": "delay"},
    ),
    "fork": _Form(Fork, {"operations": ("operations", "branches", "parallel_operations")}),
    "cache": _Form(Cache, {"key": ("key",), "ttl": ("ttl", "ttl_seconds")}),
    "skipped": _Form(Skipped, {"reason": ("reason",)}),
}
_ALIASES = {"skip": "skipped", "modify": "modified", "deny": "cancel"}


def result_of(value: object) -> Result:
    """Read what a hook answered: a result, None, a word, or one of the three mapping forms.

    The mapping forms are those of the scripts: ``{"type": …}``, ``{"action": …}`` and
    ``{"continue_execution": bool}``.

    Raises:
        UnknownResultError: it is none of them.
    """
    if value is None:
        return CONTINUE
    if isinstance(value, Result):
        return value
    if isinstance(value, str):
        return _from_word(value)
    if isinstance(value, Mapping):
        return _from_mapping(value)
    raise UnknownResultError(value)


def _from_word(word: str) -> Result:
    kind = _ALIASES.get(word.lower(), word.lower())
    if kind == "continue":
        return CONTINUE
    # As in the scripts this vocabulary comes from: any other sentence is a reason to stop.
    return Skipped("asked by the hook") if kind == "skipped" else Cancel(word)


def _from_mapping(mapping: Mapping[Any, Any]) -> Result:
    word = mapping.get("type", mapping.get("action"))
    if word is None:
        return _from_verdict(mapping)
    form = _FORMS.get(_ALIASES.get(str(word).lower(), str(word).lower()))
    if form is None:
        raise UnknownResultError(mapping)
    try:
        return form.build(mapping)
    except TypeError as error:
        raise UnknownResultError(mapping) from error


def _from_verdict(mapping: Mapping[Any, Any]) -> Result:
    verdict = mapping.get("continue_execution")
    if verdict is False:
        return Cancel(str(mapping.get("cancel_reason", "cancelled by a hook")))
    if verdict is True:
        updates = mapping.get("state_updates")
        return Modified(updates) if updates else CONTINUE
    raise UnknownResultError(mapping)
