"""Composites: several hooks that act as one.

* `sequential`: one after another, each seeing what those before it modified.
* `first_match`: one after another, until one has something to say.
* `parallel`: all at the same time, each on data of its own.
* `voting`: all on data of their own; what enough of them say is done.

A composite is a hook: register it, or put it into another one. It is asynchronous if one of
its children is; otherwise it is synchronous, and `parallel` uses threads.

Children are asked directly, under the composite's one breaker and time-out. A child that
raises, or overruns the composite's *timeout*, is isolated: counted in `Composite.errors`,
recorded, and passed over. Only when every child that was asked has failed does the composite
fail too. With ``on_child_failure="raise"`` the first failure is the composite's own: that is
how composites registered ``on_failure="cancel"`` fail closed.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from typing import Literal, get_args

from llmspell_otel.errors import HookError
from llmspell_otel.hooks.answers import Answer, Tie, handed_over
from llmspell_otel.hooks.context import HookContext
from llmspell_otel.hooks.errands import Child, Errand, run_in_tasks, run_in_threads, run_in_turn
from llmspell_otel.hooks.meetings import (
    Group,
    Merge,
    Plan,
    Together,
    Vote,
    among,
    in_turn,
    until_one_acts,
)
from llmspell_otel.hooks.ratios import ratio_of
from llmspell_otel.hooks.registry import HookFunction, check_signature, is_async, name_of
from llmspell_otel.hooks.results import Result

OnChildFailure = Literal["skip", "raise"]


class Composite:
    """Several hooks that act as one."""

    def __init__(
        self,
        hooks: Sequence[HookFunction],
        plan: Plan,
        name: str,
        on_child_failure: OnChildFailure,
    ) -> None:
        self.__name__ = name
        self.children = tuple(_child(hook) for hook in hooks)
        self.on_child_failure = on_child_failure
        group = Group(name, self.children, strict=on_child_failure == "raise")
        self._meet = partial(plan, group)

    @property
    def errors(self) -> int:
        """How often a child failed."""
        return sum(child.errors for child in self.children)

    @property
    def left_behind(self) -> int:
        """Calls of children that were given up and have not ended yet."""
        return sum(child.left_behind for child in self.children)

    def __repr__(self) -> str:
        return f"<{self.__name__}>"


class SyncComposite(Composite):
    """A composite of synchronous hooks."""

    def __call__(self, context: HookContext) -> Result | None:
        """Ask the children; what they say together."""
        return handed_over(self.answer(context), context)

    def answer(self, context: HookContext) -> Answer:
        """Ask the children; bring nothing into effect."""
        for wish in self._meet(context):
            if isinstance(wish, Answer):
                return wish
            if isinstance(wish, Errand):
                run_in_turn((wish,))
            elif wish.threads:
                run_in_threads(wish.errands, wish.width, wish.timeout)
            else:
                run_in_turn(wish.errands)
        return Answer(self.__name__)


class AsyncComposite(Composite):
    """A composite with at least one asynchronous hook."""

    async def __call__(self, context: HookContext) -> Result | None:
        """Ask the children; what they say together."""
        return handed_over(await self.answer(context), context)

    async def answer(self, context: HookContext) -> Answer:
        """Ask the children; bring nothing into effect."""
        for wish in self._meet(context):
            if isinstance(wish, Answer):
                return wish
            if isinstance(wish, Errand):
                await wish.run_async()
            else:
                await run_in_tasks(wish.errands, wish.width, wish.timeout, threads=wish.threads)
        return Answer(self.__name__)


AnyComposite = SyncComposite | AsyncComposite


def _child(hook: HookFunction) -> Child:
    check_signature(hook)
    if isinstance(hook, (SyncComposite, AsyncComposite)):
        asynchronous = isinstance(hook, AsyncComposite)
        return Child(hook.__name__, hook.answer, is_async=asynchronous, read=_as_it_is)
    return Child(name_of(hook), hook, is_async=is_async(hook))


def _as_it_is(answer: Answer) -> Answer:
    return answer


# -- the four


def sequential(
    *hooks: HookFunction, on_child_failure: OnChildFailure = "skip", name: str | None = None
) -> AnyComposite:
    """Ask *hooks* one after another, as if they were registered in this order.

    Each sees what those before it modified; the first that cancels, replaces, redirects or
    retries ends it. Modifications, branches and a cache are carried on and take effect
    together. A cache is looked up after the last hook has answered; of several, the first.

    Raises:
        HookSignatureError: a hook cannot be called with a context.
        HookError: an option is not one of its values.
    """
    return _composite("sequential", hooks, in_turn, on_child_failure, name)


def first_match(
    *hooks: HookFunction, on_child_failure: OnChildFailure = "skip", name: str | None = None
) -> AnyComposite:
    """Ask *hooks* one after another until one answers anything but Continue or Skipped.

    Raises:
        HookSignatureError: a hook cannot be called with a context.
        HookError: an option is not one of its values.
    """
    return _composite("first_match", hooks, until_one_acts, on_child_failure, name)


def parallel(
    *hooks: HookFunction,
    timeout: float | None = None,
    max_concurrency: int | None = None,
    merge: Merge = "isolate",
    on_child_failure: OnChildFailure = "skip",
    name: str | None = None,
) -> AnyComposite:
    """Ask all *hooks* at the same time, each on a copy of the data.

    Of the results that decide, the highest takes effect: Cancel, then Replace, Redirect,
    Retry; among equals that of the hook named first. If none decides, all take effect: all
    branches run, the first cache is looked up, and modifications are merged. Two hooks that
    modify one argument differently conflict; the hook named first keeps it. Whatever takes
    no effect is recorded in the context's decisions, with the reason.

    Synchronous hooks run in threads of their own, in a copy of the caller's context
    variables. One that overruns *timeout* is left to its thread, and is not asked again
    before that has ended; an asynchronous one is cancelled.

    Args:
        hooks: The hooks, the most important first.
        timeout: Seconds for all of them together; None waits as long as the engine lets it.
        max_concurrency: How many run at the same time; None is all.
        merge: ``"isolate"``: only results count. ``"merge"``: what a hook changed in place
            in its copy counts too, as if it had answered with `Modified`.
        on_child_failure: See the module.
        name: What it is called in telemetry.

    Raises:
        HookSignatureError: a hook cannot be called with a context.
        HookError: an option is not one of its values.
    """
    plan = Together(timeout=timeout, max_concurrency=max_concurrency, merge=merge)
    return _composite("parallel", hooks, plan, on_child_failure, name)


def voting(  # noqa: PLR0913 - a vote has that many rules, all of them optional
    *hooks: HookFunction,
    threshold: Fraction | float | str = Fraction(1, 2),
    min_votes: int = 1,
    tie: Tie = "prefer_action",
    timeout: float | None = None,
    on_child_failure: OnChildFailure = "skip",
    name: str | None = None,
) -> AnyComposite:
    """Ask all *hooks*, each on a copy of the data, and do what enough of them say.

    A vote is a kind of result: two cancels agree whatever their reasons (which are joined),
    two replacements whatever their values (the one named first is taken). Continue is a
    vote to go on. Skipped, a failure and an overrun of *timeout* are abstentions. The kind
    with the most votes carries if it has *threshold* of all voters, those who abstain
    included; the needed number is the exact product, rounded up. Otherwise the call goes on.

    All votes are awaited, so that the verdict never depends on who was faster.

    Args:
        hooks: The voters.
        threshold: Above 0, up to 1: a fraction, a float, or text such as ``"2/3"``, ``"60%"``.
        min_votes: Votes that must be cast for the vote to be valid.
        tie: Between kinds with equally many votes: ``"prefer_action"`` takes the highest in
            the order Cancel, Replace, Redirect, Retry, Fork, Cache, Modified, Continue;
            ``"prefer_continue"`` goes on if that is among them; ``"first"`` takes the kind
            of the voter named first.
        timeout: Seconds for all voters together; with it, synchronous voters run in
            threads, as in `parallel`.
        on_child_failure: See the module.
        name: What it is called in telemetry.

    Raises:
        HookSignatureError: a hook cannot be called with a context.
        HookError: an option is not one of its values.
    """
    plan = Vote(threshold=_threshold(threshold), min_votes=min_votes, tie=tie, timeout=timeout)
    if not 1 <= min_votes <= max(1, len(hooks)):
        raise HookError(f"min_votes={min_votes!r} is not between 1 and the number of voters")
    return _composite("voting", hooks, plan, on_child_failure, name)


def _composite(
    kind: str,
    hooks: Sequence[HookFunction],
    plan: Plan,
    on_child_failure: OnChildFailure,
    name: str | None,
) -> AnyComposite:
    among("on_child_failure", on_child_failure, get_args(OnChildFailure))
    asynchronous = any(isinstance(hook, AsyncComposite) or is_async(hook) for hook in hooks)
    shape = AsyncComposite if asynchronous else SyncComposite
    return shape(hooks, plan, name or f"{kind}({', '.join(map(name_of, hooks))})", on_child_failure)


def _threshold(threshold: Fraction | float | str) -> Fraction:
    try:
        share = ratio_of(threshold)
    except ValueError as error:
        raise HookError(f"voting threshold: {error}") from None
    if not 0 < share <= 1:
        raise HookError(f"voting threshold {threshold!r} is not above 0 and up to 1")
    return share
