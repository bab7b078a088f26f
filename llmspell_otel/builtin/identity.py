"""Who a call is made for: a user, roles, a tenant, a session."""

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Final

from opentelemetry import baggage

from llmspell_otel.hooks.context import HookContext
from llmspell_otel.telemetry import semconv

_LONGEST: Final = 256  # characters of a name that somebody else may have chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who is served; empty where nobody said."""

    user: str = ""
    roles: tuple[str, ...] = ()
    tenant: str = ""
    session: str = ""


NOBODY: Final = Identity()
_acting: ContextVar[Identity] = ContextVar("llmspell_identity", default=NOBODY)


@contextmanager
def acting_as(
    user: str = "", *, roles: Iterable[str] = (), tenant: str = "", session: str = ""
) -> Generator[Identity]:
    """Have the calls made inside belong to *user*; it stays in this process.

    It follows the running context: tasks and threads that copy it belong too.
    """
    identity = Identity(user=user, roles=tuple(roles), tenant=tenant, session=session)
    token = _acting.set(identity)
    try:
        yield identity
    finally:
        _acting.reset(token)


def identity_of(context: HookContext, *, trust_baggage: bool) -> Identity:
    """Who *context* belongs to: `acting_as`, then the context's metadata, then baggage.

    Baggage comes with incoming requests, where a caller can write what he likes: it is read
    only if it is to be trusted.
    """
    identity = _acting.get()
    identity = _filled(identity, context.metadata)
    if trust_baggage:
        identity = _filled(identity, baggage.get_all())
    if not identity.session:
        return replace(identity, session=_conversation(context))
    return identity


def user_of(context: HookContext, *, trust_baggage: bool) -> str:
    """The user whom *context* is counted for: as `identity_of` says, or the call's own arguments.

    ``anonymous`` where nobody says.
    """
    user = identity_of(context, trust_baggage=trust_baggage).user
    given = context.input if isinstance(context.input, dict) else {}
    named = (given.get(key) for key in ("user_id", "user", "safety_identifier"))
    return user or next((str(each) for each in named if isinstance(each, (str, int))), _NAMELESS)


_NAMELESS: Final = "anonymous"


def conversation_of(context: HookContext) -> str:
    """The conversation that *context* is part of; its run, where it is part of none."""
    return _conversation(context) or context.correlation_id


_SPELLINGS: Final = {
    "user": ("user_id", "user.id", "user", "enduser.id"),
    "tenant": ("tenant_id", "tenant.id", "tenant"),
    "session": ("session_id", "session.id", "session"),
}


_ALL: Final = frozenset(each for row in _SPELLINGS.values() for each in row) | {
    "roles",
    "user.roles",
}


def _filled(identity: Identity, given: Mapping[str, Any]) -> Identity:
    if not given or _ALL.isdisjoint(given):
        return identity
    found: dict[str, Any] = {
        field: str(given[spelling])[:_LONGEST]
        for field, spellings in _SPELLINGS.items()
        if not getattr(identity, field)
        for spelling in reversed(spellings)
        if given.get(spelling)
    }
    roles = given.get("roles", given.get("user.roles"))
    # A user's roles go with the user who has them, and with nobody else.
    if roles and not identity.roles and not identity.user:
        found["roles"] = _roles(roles)
    return replace(identity, **found) if found else identity


def _roles(given: Any) -> tuple[str, ...]:
    if isinstance(given, str):
        return tuple(word for part in given.split(",") if (word := part.strip()))
    return tuple(str(each) for each in given) if isinstance(given, (list, tuple, set)) else ()


def _conversation(context: HookContext) -> str:
    at: Any = context.operation
    while at is not None:
        attributes = getattr(at, "attributes", None) or {}
        if named := attributes.get(semconv.CONVERSATION_ID):
            return str(named)[:_LONGEST]
        at = getattr(at, "parent", None)
    return ""
