"""`@agent`, `@tool`, `@workflow`, `@stage`: what a program writes above its functions.

Each makes an operation of the function. The engine is imported with the first function, not
with this module: a program that only imports the names pays for the names.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from llmspell_otel.operations.call import Kind

if TYPE_CHECKING:
    from llmspell_otel.operations.decorators import OnCancel
    from llmspell_otel.operations.traits import ResourceLimits, ToolTraits

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Decorator:
    """One of the four decorators: ``@tool``, ``@tool("name")``, ``@tool(on_cancel="reply")``."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self.__name__ = kind.value
        self.__doc__ = f"Make a function an operation of kind {kind.value!r}."

    @overload
    def __call__(self, function: _Function, /) -> _Function: ...

    @overload
    def __call__(
        self, name: str | None = None, /, *, on_cancel: "OnCancel" = "raise"
    ) -> Callable[[_Function], _Function]: ...

    def __call__(self, given: Any = None, /, *, on_cancel: "OnCancel" = "raise") -> Any:
        """Decorate a function of any shape: plain, coroutine, generator, asynchronous generator.

        Below or above `classmethod` and `staticmethod`, it makes no difference.

        Args:
            given: The function, or the operation's name (the function's own if None).
            on_cancel: What a hook's `Cancel` does: ``raise`` raises `OperationCancelled`,
                ``reply`` returns a refusal that a model can read.

        Raises:
            TypeError: it is a class, or nothing that can be called.
        """
        if given is None or isinstance(given, str):
            return functools.partial(self._decorate, name=given, on_cancel=on_cancel)
        return self._decorate(given, name=None, on_cancel=on_cancel)

    def _decorate(self, function: Any, *, name: str | None, on_cancel: "OnCancel") -> Any:
        from llmspell_otel.operations.decorators import observed

        if isinstance(function, (classmethod, staticmethod)):
            return type(function)(observed(self._kind, function.__func__, name, on_cancel))
        return observed(self._kind, function, name, on_cancel)


class ToolDecorator(Decorator):
    """``@tool``, which also says what a tool is and what it may use."""

    @overload
    def __call__(self, function: _Function, /) -> _Function: ...

    @overload
    def __call__(
        self,
        name: str | None = None,
        /,
        *,
        on_cancel: "OnCancel" = "raise",
        timeout: float | None = None,
        limits: "ResourceLimits | None" = None,
        category: str = "custom",
        security_level: str = "safe",
    ) -> Callable[[_Function], _Function]: ...

    def __call__(  # noqa: PLR0913 - each option stands for itself
        self,
        given: Any = None,
        /,
        *,
        on_cancel: "OnCancel" = "raise",
        timeout: float | None = None,
        limits: "ResourceLimits | None" = None,
        category: str = "custom",
        security_level: str = "safe",
    ) -> Any:
        """As the others.

        Args:
            given: The function, or the tool's name.
            on_cancel: What a hook's `Cancel` does.
            timeout: Seconds after which a call ends with `TimeLimitError`.
            limits: What a call may use; none if not given.
            category: One of `traits.CATEGORIES`, for hooks to go by.
            security_level: ``safe``, ``restricted`` or ``privileged``, likewise.

        Raises:
            SettingsError: a limit, category or level is not usable.
        """
        from llmspell_otel.operations.traits import UNLIMITED, ToolTraits

        allowed = limits or UNLIMITED
        if timeout is not None:
            allowed = dataclasses.replace(allowed, seconds=timeout)
        traits = ToolTraits(category=category, security_level=security_level, limits=allowed)
        options: dict[str, Any] = {"on_cancel": on_cancel, "traits": traits}
        if given is None or isinstance(given, str):
            return functools.partial(self._tool, name=given, **options)
        return self._tool(given, name=None, **options)

    def _tool(
        self, function: Any, *, name: str | None, on_cancel: "OnCancel", traits: "ToolTraits"
    ) -> Any:
        from llmspell_otel.operations.decorators import name_of
        from llmspell_otel.operations.traits import ToolTraits, set_traits

        made = self._decorate(function, name=name, on_cancel=on_cancel)
        if traits != ToolTraits():
            set_traits(name or name_of(getattr(function, "__func__", function)), traits)
        return made


agent = Decorator(Kind.AGENT)
tool = ToolDecorator(Kind.TOOL)
workflow = Decorator(Kind.WORKFLOW)
stage = Decorator(Kind.STAGE)
