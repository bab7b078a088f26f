"""Policy files: Python files whose hooks are loaded, replaced and taken out as one."""

import itertools
import sys
import traceback
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Final

from llmspell_otel.errors import PolicyError
from llmspell_otel.hooks.registry import Registration, registry


@dataclass(slots=True)
class Policy:
    """The hooks of one policy file."""

    path: Path
    hooks: tuple[Registration, ...]

    def unload(self) -> None:
        """Take all of its hooks out."""
        for hook in self.hooks:
            hook.unregister()
        self.hooks = ()
        loaded.pop(self.path, None)

    def reload(self) -> None:
        """Read the file again; its new hooks are in place before the old ones go.

        Raises:
            PolicyError: the file cannot be loaded; the old hooks stay.
        """
        old, self.hooks = self.hooks, _read(self.path)
        for hook in old:
            hook.unregister()


_numbers: Final = itertools.count(1)
loaded: Final[dict[Path, Policy]] = {}
"""The policies of this process, by the path of their file."""


def load_policy(path: str | Path) -> Policy:
    """Run the Python file at *path*, and register the hooks it declares: all of them, or none.

    A policy that is loaded already is loaded anew.

    Raises:
        PolicyError: the file is not there, or does not run.
    """
    file = Path(path).absolute()
    policy = loaded.get(file)
    if policy is not None:
        policy.reload()
        return policy
    policy = loaded[file] = Policy(file, _read(file))
    return policy


def _read(file: Path) -> tuple[Registration, ...]:
    if not file.is_file():
        raise PolicyError(str(file), "there is no such file; check the path given to --hooks")
    try:
        with registry.unit() as hooks:
            _run(file)
    except (Exception, SystemExit) as error:
        raise PolicyError(str(file), _where(file, error)) from error
    return tuple(hooks)


def _run(file: Path) -> None:
    # A module of its own each time, and findable as one: dataclasses look for theirs.
    name = f"llmspell_policy_{file.stem}_{next(_numbers)}"
    spec = spec_from_loader(name, SourceFileLoader(name, str(file)))
    if spec is None or spec.loader is None:
        raise ImportError(str(file))
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _where(file: Path, error: BaseException) -> str:
    """What went wrong, and in which line of the file."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(file)
    ]
    line = error.lineno if isinstance(error, SyntaxError) else (lines[-1] if lines else None)
    place = f"line {line}: " if line else ""
    return f"{place}{type(error).__name__}: {error}"
