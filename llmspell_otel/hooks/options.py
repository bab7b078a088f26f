"""How a hook wants to be run, and what makes a function usable as one."""

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from types import FunctionType
from typing import Any, Final, Literal

import msgspec

from llmspell_otel.errors import HookError, HookSignatureError
from llmspell_otel.hooks.profiles import DEFAULT, BreakerProfile

HookFunction = Callable[[Any], Any]
OnFailure = Literal["skip", "cancel"]

PRIORITIES: Final = {
    "highest": -2_147_483_648,
    "high": -100,
    "normal": 0,
    "low": 100,
    "lowest": 2_147_483_647,
}
"""The names of priorities; lower numbers run first."""


def priority_of(priority: str | int) -> int:
    """The number behind a priority.

    Raises:
        HookError: it is neither a number nor one of the five names.
    """
    if isinstance(priority, int):
        return priority
    try:
        return PRIORITIES[priority.lower()]
    except (KeyError, AttributeError):
        names = ", ".join(PRIORITIES)
        raise HookError(f"priority {priority!r} is neither a whole number nor {names}") from None


class HookOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a hook wants to be run.

    *timeout* is in seconds; None takes the engine's. *breaker* is the profile of its breaker.
    *before* and *after* name hooks of the same point; they outrank the priority.

    Raises:
        HookError: a value is not usable.
    """

    priority: str | int = "normal"
    name: str | None = None
    tags: Iterable[str] = ()
    on_failure: OnFailure = "skip"
    timeout: float | None = None
    language: str = "python"
    breaker: BreakerProfile = DEFAULT
    before: Iterable[str] = ()
    after: Iterable[str] = ()

    def __post_init__(self) -> None:
        if self.on_failure not in ("skip", "cancel"):
            raise HookError(f"on_failure={self.on_failure!r} is neither 'skip' nor 'cancel'")
        if self.timeout is not None and not _positive(self.timeout):
            raise HookError(f"timeout={self.timeout!r} is not a positive number of seconds")
        if type(self.breaker) is not BreakerProfile:
            raise HookError(f"breaker={self.breaker!r} is not a BreakerProfile")
        if str in (type(self.tags), type(self.before), type(self.after)):
            for option in ("tags", "before", "after"):
                if isinstance(getattr(self, option), str):
                    raise HookError(f"{option}={getattr(self, option)!r} is one text; give a list")
        priority_of(self.priority)


def _positive(value: object) -> bool:
    return isinstance(value, (int, float)) and value > 0


def name_of(function: HookFunction) -> str:
    """What a hook is called when nobody named it."""
    inner = function.func if isinstance(function, partial) else function
    return getattr(inner, "__name__", None) or type(inner).__name__


def is_async(function: HookFunction) -> bool:
    """Whether calling *function* gives something to await."""
    if type(function) is FunctionType and not function.__dict__:
        return bool(function.__code__.co_flags & inspect.CO_COROUTINE)
    inner = function.func if isinstance(function, partial) else function
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(
        getattr(inner, "__call__", None)  # noqa: B004 - an object may be async by its __call__
    )


def _plainly_fits(function: FunctionType) -> bool:
    """Whether an ordinary function takes one argument; False may also mean "look closer"."""
    code = function.__code__
    required = code.co_argcount - len(function.__defaults__ or ())
    return required == 1 and not code.co_kwonlyargcount and not function.__dict__


def check_signature(function: HookFunction) -> None:
    """Refuse what cannot be called with one positional argument.

    Raises:
        HookSignatureError: *function* is not callable, or not with a context alone.
    """
    if type(function) is FunctionType and _plainly_fits(function):
        return
    if not callable(function):
        raise HookSignatureError(repr(function), "it is not callable")
    try:
        inspect.signature(function).bind(object())
    except TypeError as error:
        raise HookSignatureError(name_of(function), str(error)) from None
    except ValueError:
        return  # a builtin that does not tell its signature
