"""What has to happen around a fork, on systems that have one."""

import os
from collections.abc import Callable


def in_child(callback: Callable[[], object]) -> None:
    """Call *callback* in every child that this process forks."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=callback)


def around(
    before: Callable[[], object], parent: Callable[[], object], child: Callable[[], object]
) -> None:
    """Call *before* ahead of a fork, and then one of the others on each side."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=before, after_in_parent=parent, after_in_child=child)
