"""`Hook`: register, list and take out hooks; the same words in every language.

The registry is imported with the first hook.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from llmspell_otel.hooks.profiles import DEFAULT, BreakerProfile
from llmspell_otel.hooks.results import CONTINUE, Result

if TYPE_CHECKING:
    from llmspell_otel.builtin.registry import Enabled
    from llmspell_otel.hooks.context import HookContext
    from llmspell_otel.hooks.registry import HookFunction, OnFailure, Registration, Slot
    from llmspell_otel.points import HookPoint

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Hook:
    """Hooks look at a moment of a call and say what should happen next."""

    @staticmethod
    def register(  # noqa: PLR0913 - each option stands for itself
        point: "str | HookPoint",
        fn: "HookFunction",
        *,
        priority: str | int = "normal",
        name: str | None = None,
        tags: Iterable[str] = (),
        on_failure: "OnFailure" = "skip",
        timeout: float | None = None,
        breaker: BreakerProfile = DEFAULT,
        before: Iterable[str] = (),
        after: Iterable[str] = (),
    ) -> "Registration":
        """Have *fn* asked at *point*; gives the handle that takes it out again.

        Args:
            point: A hook point in either spelling, or ``custom:NAME``.
            fn: Called with the `HookContext`; answers with a result, or None for `Continue`.
                May be asynchronous.
            priority: ``highest``, ``high``, ``normal``, ``low``, ``lowest`` or a number; lower
                numbers run first, equal ones in the order of registration.
            name: What logs and telemetry call it; the function's name if not given.
            tags: Words to find it by.
            on_failure: ``skip`` lets the call go on when the hook fails, ``cancel`` stops it.
            timeout: Seconds that an asynchronous hook may take.
            breaker: When its circuit breaker opens.
            before: Names of hooks of the same point that are asked later, whatever their priority.
            after: Names of hooks of the same point that are asked earlier.

        Raises:
            UnknownHookPointError: no point has that name; the error names the nearest.
            HookSignatureError: *fn* cannot be called with one argument.
            HookError: an option is not usable.
        """
        from llmspell_otel.hooks.registry import HookOptions, registry

        options = HookOptions(
            priority=priority,
            name=name,
            tags=tags,
            on_failure=on_failure,
            timeout=timeout,
            breaker=breaker,
            before=before,
            after=after,
        )
        return registry.register(point, fn, options)

    @staticmethod
    def on(point: "str | HookPoint", **options: Any) -> Callable[[_Function], _Function]:
        """Register the decorated function at *point*; options as for `register`."""

        def decorate(fn: _Function) -> _Function:
            Hook.register(point, fn, **options)
            return fn

        return decorate

    @staticmethod
    def unregister(handle: "Registration") -> bool:
        """Take a hook out; False if it already was."""
        return handle.unregister()

    @staticmethod
    def list(
        point: "str | HookPoint | None" = None,
        *,
        language: str | None = None,
        priority: str | int | None = None,
        tag: str | None = None,
    ) -> "list[Registration]":
        """The hooks that fit every given filter, in the order in which they are asked.

        Raises:
            UnknownHookPointError: no point has that name.
            HookError: no such priority.
        """
        from llmspell_otel.hooks.registry import priority_of, registry
        from llmspell_otel.points import point_of

        wanted = point_of(point) if point is not None else None
        rank = priority_of(priority) if priority is not None else None
        return [
            hook
            for hook in registry.hooks()
            if (wanted is None or hook.point is wanted)
            and (language is None or hook.language == language.lower())
            and (rank is None or hook.priority == rank)
            and (tag is None or tag in hook.tags)
        ]

    @staticmethod
    def fire(
        point: "str | HookPoint", data: dict[str, Any] | None = None, *, component: str = "custom"
    ) -> Result:
        """Fire a point of your own (``custom:NAME``) and get what its hooks decided.

        `Modified` is applied to *data* in place. Asynchronous hooks are waited for.

        Raises:
            UnknownHookPointError: no point has that name.
        """
        from llmspell_otel.hooks.driving import consult, drive

        slot, context = _moment(point, data, component)
        return drive(consult(slot, context)) or CONTINUE

    @staticmethod
    async def fire_async(
        point: "str | HookPoint", data: dict[str, Any] | None = None, *, component: str = "custom"
    ) -> Result:
        """The same in asynchronous code: asynchronous hooks run in the caller's task.

        Raises:
            UnknownHookPointError: no point has that name.
        """
        from llmspell_otel.hooks.driving import consult_async

        slot, context = _moment(point, data, component)
        return await consult_async(slot, context) or CONTINUE

    # -- the built-in hooks, imported when the first one is asked for

    @staticmethod
    def enable_builtin(
        name: str, settings: Mapping[str, Any] | None = None, /, **more: Any
    ) -> "Enabled":
        """Switch a built-in hook on, or exchange its settings: ``("retry", max_attempts=5)``.

        Raises:
            UnknownBuiltinError: there is no such built-in hook; the error says what to use.
            SettingsError: a setting is unknown or wrong; what was in force stays.
        """
        from llmspell_otel.builtin import registry as builtin

        return builtin.enable(name, **{**(settings or {}), **more})

    @staticmethod
    def disable_builtin(name: str) -> bool:
        """Switch a built-in hook off; False if it was not on.

        Raises:
            UnknownBuiltinError: there is no such built-in hook.
        """
        from llmspell_otel.builtin import registry as builtin

        return builtin.disable(name)

    @staticmethod
    def disable_all_builtin() -> int:
        """Switch every built-in hook off; gives how many were on."""
        from llmspell_otel.builtin import registry as builtin

        return builtin.disable_all()

    @staticmethod
    def is_builtin_enabled(name: str) -> bool:
        """Whether a built-in hook is on.

        Raises:
            UnknownBuiltinError: there is no such built-in hook.
        """
        from llmspell_otel.builtin import registry as builtin

        return builtin.is_enabled(name)


def _moment(
    point: "str | HookPoint", data: dict[str, Any] | None, component: str
) -> "tuple[Slot, HookContext]":
    from llmspell_otel.hooks.context import Component, HookContext
    from llmspell_otel.hooks.registry import registry

    slot = registry.slot(point)
    kind, _, name = component.partition(":")
    return slot, HookContext(
        slot.point, Component(kind, name or kind), {} if data is None else data
    )
