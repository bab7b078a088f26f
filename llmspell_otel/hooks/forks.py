"""After a fork: locks that another thread of the parent held would stay locked for ever."""

import os
from typing import Protocol
from weakref import WeakSet


class Forked(Protocol):
    """Something that has to be put right in the child of a fork."""

    def after_fork(self) -> None:
        """Take new locks, and forget threads that stayed with the parent."""
        ...


_watched: WeakSet[Forked] = WeakSet()


def watch_forks(owner: Forked) -> None:
    """Have ``owner.after_fork()`` called in the child of every fork, for as long as it lives."""
    _watched.add(owner)


def _forked() -> None:
    for owner in tuple(_watched):
        owner.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
