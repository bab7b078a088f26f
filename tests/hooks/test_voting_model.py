"""A vote beside a plain model of it: the same voters, asked again and again as they change."""

import asyncio
from collections import Counter
from fractions import Fraction
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from llmspell_otel.hooks import HookContext
from llmspell_otel.hooks.answers import RANK
from llmspell_otel.hooks.composite import AsyncComposite, SyncComposite, voting
from tests.hooks.composite_bench import KINDS, SAMPLES, a_context

FAILS, HANGS = "fails", "hangs"
VOTERS = 4


class VotingMachine(RuleBasedStateMachine):
    """Voters change their minds, fail and recover; each vote is counted by the book."""

    moods = (*KINDS, FAILS)

    def __init__(self) -> None:
        super().__init__()
        self.mood = ["continue"] * VOTERS
        self.failures = 0

    @initialize(
        threshold=st.fractions(min_value=Fraction(1, 8), max_value=1, max_denominator=8),
        min_votes=st.integers(1, VOTERS),
        tie=st.sampled_from(["prefer_action", "prefer_continue", "first"]),
    )
    def founded(self, threshold: Fraction, min_votes: int, tie: Any) -> None:
        """Rules are set once."""
        self.threshold, self.min_votes, self.tie = threshold, min_votes, tie
        self.composite = self.made()

    def made(self) -> Any:
        """The composite under test."""
        return voting(
            *map(self.voter, range(VOTERS)),
            threshold=self.threshold,
            min_votes=self.min_votes,
            tie=self.tie,
        )

    def voter(self, number: int) -> Any:
        """A hook that says what it is in the mood for."""

        def says(_context: HookContext) -> Any:
            if self.mood[number] == FAILS:
                raise ValueError(f"voter {number}")
            return SAMPLES[self.mood[number]]

        return says

    @rule(data=st.data(), number=st.integers(0, VOTERS - 1))
    def changes_its_mind(self, data: st.DataObject, number: int) -> None:
        """One voter will say something else from now on."""
        self.mood[number] = data.draw(st.sampled_from(self.moods))

    @rule(data=st.data())
    def all_agree(self, data: st.DataObject) -> None:
        """They will all say the same."""
        self.mood = [data.draw(st.sampled_from(self.moods))] * VOTERS

    @rule()
    def vote(self) -> None:
        """The verdict is the model's, and every failure is counted and on record."""
        context = a_context()
        failed = [mood for mood in self.mood if mood in (FAILS, HANGS)]
        self.failures += len(failed)
        try:
            verdict = self.asked(context)
        except (ValueError, TimeoutError, ExceptionGroup):
            assert len(failed) == VOTERS
        else:
            assert len(failed) < VOTERS
            assert ("continue" if verdict is None else verdict.kind) == self.expected()
        told = [each for each in context.decisions if each.result not in KINDS]
        assert len(told) == len(failed)

    def asked(self, context: HookContext) -> Any:
        """What the composite says."""
        assert isinstance(self.composite, SyncComposite)
        return self.composite(context)

    def expected(self) -> str:
        """Naively: the kind that carries; failures abstain, and count as voters."""
        votes = [mood for mood in self.mood if mood not in ("skipped", FAILS, HANGS)]
        if not votes:
            return "skipped"
        counts = Counter(votes)
        most = max(counts.values())
        if len(votes) < self.min_votes or most < VOTERS * self.threshold:
            return "continue"
        tied = [kind for kind in dict.fromkeys(votes) if counts[kind] == most]
        if self.tie == "first":
            return tied[0]
        if self.tie == "prefer_continue" and "continue" in tied:
            return "continue"
        return min(tied, key=RANK.index)

    @invariant()
    def the_books_are_the_models(self) -> None:
        """Failures add up over all votes, and nobody is left behind."""
        if hasattr(self, "composite"):
            assert self.composite.errors == self.failures
            assert self.composite.left_behind == 0


class AsyncVotingMachine(VotingMachine):
    """The same with asynchronous voters, which may also hang; they all have 150 ms."""

    moods = (*KINDS, FAILS, HANGS)

    def made(self) -> Any:
        """The composite under test, with a time-out."""
        return voting(
            *map(self.voter, range(VOTERS)),
            threshold=self.threshold,
            min_votes=self.min_votes,
            tie=self.tie,
            timeout=0.15,
        )

    def voter(self, number: int) -> Any:
        """Every second one is asynchronous; a synchronous one does not hang, but fails."""
        says = super().voter(number)

        def says_now(context: HookContext) -> Any:
            if self.mood[number] == HANGS:
                raise ValueError(f"voter {number}")
            return says(context)

        async def says_later(context: HookContext) -> Any:
            await asyncio.sleep(3600 if self.mood[number] == HANGS else 0)
            return says(context)

        return says_now if number % 2 else says_later

    def asked(self, context: HookContext) -> Any:
        """What the composite says; no task is left."""

        async def main() -> Any:
            assert isinstance(self.composite, AsyncComposite)
            try:
                return await self.composite(context)
            finally:
                assert len(asyncio.all_tasks()) == 1

        return asyncio.run(main())


TestVoting = VotingMachine.TestCase
TestVoting.settings = settings(max_examples=50, stateful_step_count=20, deadline=None)
TestAsyncVoting = AsyncVotingMachine.TestCase
TestAsyncVoting.settings = settings(max_examples=10, stateful_step_count=12, deadline=None)
