"""Hooks and contexts that the composites' tests share."""

import asyncio
from collections.abc import Callable
from typing import Any

from llmspell_otel.hooks.composite import AnyComposite, SyncComposite
from llmspell_otel.hooks.context import Component, HookContext
from llmspell_otel.hooks.results import (
    CONTINUE,
    Cache,
    Cancel,
    Fork,
    Modified,
    Redirect,
    Replace,
    Result,
    Retry,
    Skipped,
)
from llmspell_otel.points import point_of

Hook = Callable[[HookContext], Any]

SAMPLES: dict[str, Result] = {
    "continue": CONTINUE,
    "modified": Modified({"input": {"sample": 1}}),
    "cancel": Cancel("sample"),
    "redirect": Redirect("elsewhere"),
    "replace": Replace("instead"),
    "retry": Retry(delay=0, max_attempts=2),
    "fork": Fork(("beside",)),
    "cache": Cache(key="k"),
    "skipped": Skipped("sample"),
}
KINDS = tuple(SAMPLES)
DECIDING = ("cancel", "replace", "redirect", "retry")


def a_context(**arguments: Any) -> HookContext:
    """The moment before a tool is called."""
    return HookContext(
        point=point_of("tool:before_execution"),
        component=Component("tool", "search"),
        data={"input": {"query": "cats", **arguments}},
    )


def says(answer: object, name: str = "") -> Hook:
    """A hook that always answers the same."""

    def hook(context: HookContext) -> object:
        return answer

    hook.__name__ = name or f"says_{getattr(answer, 'kind', answer)}"
    return hook


def says_async(answer: object, name: str = "") -> Hook:
    """As `says`, after one turn of the loop."""

    async def hook(context: HookContext) -> object:
        await asyncio.sleep(0)
        return answer

    hook.__name__ = name or f"says_{getattr(answer, 'kind', answer)}"
    return hook


def fails(context: HookContext) -> None:
    """A hook that raises."""
    raise ValueError("broken")


async def fails_async(context: HookContext) -> None:
    """A hook that raises, after one turn of the loop."""
    await asyncio.sleep(0)
    raise ValueError("broken")


async def hangs(context: HookContext) -> Result:
    """A hook that does not come back."""
    await asyncio.sleep(3600)
    return Cancel("too late")


def ask(composite: AnyComposite, context: HookContext | None = None) -> Any:
    """What *composite* answers, whatever its kind."""
    context = context or a_context()
    if isinstance(composite, SyncComposite):
        return composite(context)

    async def main() -> Any:
        before = asyncio.all_tasks()
        result = await composite(context)
        assert asyncio.all_tasks() == before, "a task was left behind"
        return result

    return asyncio.run(main())


def effect(composite: AnyComposite, context: HookContext) -> Any:
    """Ask, and bring the last result into effect as the engine does."""
    result = ask(composite, context)
    if isinstance(result, Modified):
        context.apply(result)
    elif isinstance(result, Fork):
        context.branches.extend(result.operations)
    return result


def record(context: HookContext) -> list[tuple[str, str, bool]]:
    """The decisions on record: who, what, and whether it took effect."""
    return [(each.hook, each.result, each.effective) for each in context.decisions]
