"""Budgets: how much may be spent, and holding money for calls that are under way."""

import threading
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from pydantic import BaseModel, ConfigDict, Field

from llmspell_otel.builtin.spending import Ledger
from llmspell_otel.hooks.forks import watch_forks


class Budget(BaseModel):
    """How much may be spent."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Decimal = Field(gt=0, allow_inf_nan=False)
    """Money in `currency`, within one window."""
    by: Literal["total", "run", "agent", "tool", "model", "user", "tenant", "session"] = "total"
    """Whose: everybody's, or that of each run, agent, ….."""
    warn: tuple[Decimal, ...] = (Decimal("0.5"), Decimal("0.8"))
    """Shares of the limit that are told of, once in a window."""
    currency: str = "USD"
    block: bool = True
    """Whether calls that would pass the limit are stopped; otherwise it is only told of."""


class Claim(NamedTuple):
    """What one call takes, or may take, of one budget: *cost* is 0 in another currency."""

    number: int
    budget: Budget
    name: str
    cost: Decimal


class Refused(NamedTuple):
    """A budget that has no room for a call."""

    claim: Claim
    spent: Decimal


class UnreachableError(Exception):
    """The shared budgets do not answer."""


class Purses(Protocol):
    """Where money is held for calls under way, and spent by those that ended."""

    def reserve(self, operation: Any, claims: Sequence[Claim], now: float) -> Refused | None:
        """Hold what *claims* may take, of all budgets or, if one has no room, of none.

        Raises:
            UnreachableError: whether there is room cannot be known.
        """
        ...

    def settle(self, operation: Any, claims: Sequence[Claim], now: float) -> list[Decimal]:
        """Let go of what was held, spend what *claims* took; gives what each has spent now."""
        ...


class OwnPurses:
    """Those of this process: what is spent is in *ledger*, which is told by others."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._held: WeakKeyDictionary[Any, Sequence[Claim]] = WeakKeyDictionary()
        self.after_fork()
        watch_forks(self)

    def after_fork(self) -> None:
        """Take a new lock."""
        self._lock = threading.Lock()

    def reserve(self, operation: Any, claims: Sequence[Claim], now: float) -> Refused | None:
        """As `Purses` says."""
        with self._lock:
            self._held.pop(operation, None)
            for claim in claims:
                spent, limit = self._spent(claim, now), claim.budget.limit
                wanted = spent + self._waiting(claim) + claim.cost
                if claim.budget.block and (spent >= limit or wanted > limit):
                    return Refused(claim, spent)
            self._held[operation] = claims
            return None

    def settle(self, operation: Any, claims: Sequence[Claim], now: float) -> list[Decimal]:
        """As `Purses` says."""
        with self._lock:
            self._held.pop(operation, None)
            return [self._spent(claim, now) for claim in claims]

    @property
    def held(self) -> list[Sequence[Claim]]:
        """What is held for each call under way."""
        return list(self._held.values())

    def _spent(self, claim: Claim, now: float) -> Decimal:
        return self._ledger.spent(claim.budget.by, claim.name, claim.budget.currency, now)

    def _waiting(self, claim: Claim) -> Decimal:
        """What the calls under way are expected to take of a budget."""
        # Summed anew: a call that is gone without a word takes nothing any more.
        whose = (claim.number, claim.name)
        all_claims = (each for held in self.held for each in held)
        return sum(
            (each.cost for each in all_claims if (each.number, each.name) == whose), Decimal(0)
        )
