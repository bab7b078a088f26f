"""Budgets that processes share through Redis: exact sums, money held before it is spent.

Sums are whole numbers of 1e-12 of the currency, rounded up, which is exact for every price per
million tokens with six decimals. Redis adds them as integers, and compares them in one script,
so that two calls at once never both get the rest.
"""

import itertools
import os
import secrets
import threading
from collections import deque
from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from llmspell_otel.builtin.budgets import Claim, OwnPurses, Refused, UnreachableError
from llmspell_otel.builtin.shared import Redis
from llmspell_otel.builtin.spending import Ledger
from llmspell_otel.hooks.forks import watch_forks

_UNIT: Final = Decimal("1e-12")
_LONGEST: Final = 256  # characters of a name in a key
_PENDING: Final = 10_000  # sums that wait for Redis to come back
_DAY: Final = 86_400_000  # milliseconds
_MARKED: Final = 3_600_000  # milliseconds that a settlement is known to have been made
_DOUBTFUL: Final = 1000  # settlements that may or may not have been made
_AT_ONCE: Final = 20  # of them that one call asks for again


class _Settlement(NamedTuple):
    """One settlement, as it is asked for, and as it is asked for again."""

    keys: Sequence[str]
    given: Sequence[Any]


# What every call under way may take is in a hash: id -> "units|until"; who died is forgotten.
_RESERVE: Final = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
for i = 1, #KEYS / 2 do
    local at = 3 + (i - 1) * 3
    local estimate, limit = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
    local spent = tonumber(redis.call('GET', KEYS[2 * i - 1]) or '0')
    local held, all = 0, redis.call('HGETALL', KEYS[2 * i])
    for j = 1, #all, 2 do
        local units, til = string.match(all[j + 1], '^(%d+)|(%d+)$')
        if tonumber(til) <= now then
            redis.call('HDEL', KEYS[2 * i], all[j])
        elseif all[j] ~= ARGV[1] then
            held = held + tonumber(units)
        end
    end
    local full = spent >= limit or spent + held + estimate > limit
    if full and ARGV[at + 2] == '1' then
        return {i, redis.call('GET', KEYS[2 * i - 1]) or '0'}
    end
end
local til = string.format('%.0f', now + tonumber(ARGV[2]))
for i = 1, #KEYS / 2 do
    redis.call('HSET', KEYS[2 * i], ARGV[1], ARGV[3 + (i - 1) * 3] .. '|' .. til)
    redis.call('PEXPIRE', KEYS[2 * i], tonumber(ARGV[2]) * 2)
end
return {0, '0'}
"""
# The last key marks the settlement as made: asked again, its answer being late, it adds nothing.
_SETTLE: Final = """
local sums = {}
local first = redis.call('SET', KEYS[#KEYS], '1', 'NX', 'PX', ARGV[2])
for i = 1, (#KEYS - 1) / 2 do
    redis.call('HDEL', KEYS[2 * i], ARGV[1])
    local units, ttl = ARGV[2 * i + 1], tonumber(ARGV[2 * i + 2])
    if first and units ~= '0' then
        redis.call('INCRBY', KEYS[2 * i - 1], units)
        if ttl > 0 then redis.call('PEXPIRE', KEYS[2 * i - 1], ttl) end
    end
    sums[i] = redis.call('GET', KEYS[2 * i - 1]) or '0'
end
return sums
"""


def units(amount: Decimal) -> int:
    """*amount* in units of 1e-12, rounded up."""
    return int((amount / _UNIT).to_integral_value(ROUND_CEILING))


def _money(counted: Any) -> Decimal:
    amount = (int(counted) * _UNIT).normalize()
    return amount.quantize(Decimal(1)) if amount == amount.to_integral_value() else amount


class SharedPurses:
    """Purses in Redis; while it is away, this process goes on with its own, or not at all.

    What is spent meanwhile is added when Redis is back. A settlement whose answer did not come in
    time may have been made: it is asked for again, under its own name, and so counts once.

    Args:
        redis: where they are.
        prefix: what their keys begin with.
        ledger: the sums of this process.
        window: seconds of a budget's window; 0 for ever.
        hold: seconds that money is held for a call whose end nobody tells.
        closed: whether nothing may be spent while Redis is away.
    """

    def __init__(  # noqa: PLR0913 - settings
        self,
        redis: Redis,
        prefix: str,
        ledger: Ledger,
        *,
        window: float,
        hold: float,
        closed: bool,
    ) -> None:
        self._redis = redis
        self._prefix = prefix
        self._ledger = ledger
        self._own = OwnPurses(ledger)
        self._ttl = int(window * 1000) + _DAY if window else 0
        self._hold = max(1, int(hold * 1000))
        self._closed = closed
        self._ids: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
        self._numbers = itertools.count()
        self._pending: dict[str, int] = {}
        self._doubtful: deque[_Settlement] = deque(maxlen=_DOUBTFUL)
        self.after_fork()
        watch_forks(self)

    def after_fork(self) -> None:
        """Be somebody else: a new lock, a new name, nothing that the parent still owes."""
        self._lock = threading.Lock()
        self._who = f"{os.getpid()}-{secrets.token_hex(6)}"
        self._pending = {}
        self._doubtful = deque(maxlen=_DOUBTFUL)

    def reserve(self, operation: Any, claims: Sequence[Claim], now: float) -> Refused | None:
        """As `Purses` says."""
        identity = self._ids.setdefault(operation, self._name())
        given: list[Any] = [identity, self._hold]
        for claim in claims:
            budget = claim.budget
            given += [units(claim.cost), units(budget.limit), int(budget.block)]
        keys = self._keys(claims, now)
        self._settle_doubtful()
        told = self._redis.ask(lambda client: client.eval(_RESERVE, len(keys), *keys, *given))
        if told is not None:
            at = int(told[0])
            return Refused(claims[at - 1], _money(told[1])) if at else None
        if self._closed:
            # No call, so no settlement: what may be held all the same is let go of.
            del self._ids[operation]
            self._doubtful.append(self._settlement(identity, claims, keys, [0] * len(claims)))
            raise UnreachableError
        return self._own.reserve(operation, claims, now)

    def settle(self, operation: Any, claims: Sequence[Claim], now: float) -> list[Decimal]:
        """As `Purses` says."""
        own = self._own.settle(operation, claims, now)
        self._settle_doubtful()
        keys, owed = self._keys(claims, now), self._owed(claims, now)
        identity = self._ids.pop(operation, None) or self._name()
        settlement, heard = self._settlement(identity, claims, keys, owed), self._redis.is_asked
        told = self._ask(settlement)
        if told is not None:
            return [_money(each) for each in told]
        if heard:
            self._doubtful.append(settlement)
        else:
            self._put_off(keys[::2], owed)
        return own

    def _name(self) -> str:
        return f"{self._who}-{next(self._numbers)}"

    def _settlement(
        self, identity: str, claims: Sequence[Claim], keys: Sequence[str], owed: Sequence[int]
    ) -> _Settlement:
        given: list[Any] = [identity, _MARKED]
        for claim, amount in zip(claims, owed, strict=True):
            given += [amount, self._ttl_of(claim)]
        return _Settlement((*keys, f"{self._prefix}settled:{identity}"), given)

    def _ask(self, settlement: _Settlement) -> Any:
        keys, given = settlement
        return self._redis.ask(lambda client: client.eval(_SETTLE, len(keys), *keys, *given))

    def _settle_doubtful(self) -> None:
        """Ask again for what may or may not have been settled."""
        for _ in range(_AT_ONCE):
            try:
                settlement = self._doubtful.popleft()
            except IndexError:
                return
            if self._ask(settlement) is None:
                self._doubtful.appendleft(settlement)
                return

    def _owed(self, claims: Sequence[Claim], now: float) -> list[int]:
        """What to add: the calls' own costs, and what waits since Redis was away."""
        with self._lock:
            spent = self._keys(claims, now)[::2]
            return [
                units(claim.cost) + self._pending.pop(key, 0)
                for claim, key in zip(claims, spent, strict=True)
            ]

    def _put_off(self, keys: Sequence[str], owed: Sequence[int]) -> None:
        with self._lock:
            for key, amount in zip(keys, owed, strict=True):
                if amount and (key in self._pending or len(self._pending) < _PENDING):
                    self._pending[key] = self._pending.get(key, 0) + amount

    def _keys(self, claims: Sequence[Claim], now: float) -> list[str]:
        keys: list[str] = []
        for claim in claims:
            name = f"{claim.budget.currency}:{claim.budget.by}:{claim.name}"[:_LONGEST]
            keys += [f"{self._prefix}spent:{self._ledger.number(now)}:{name}"]
            keys += [f"{self._prefix}held:{name}"]
        return keys

    def _ttl_of(self, claim: Claim) -> int:
        """Milliseconds; runs have names of their own, and end."""
        return self._ttl or (_DAY if claim.budget.by == "run" else 0)
