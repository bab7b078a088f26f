"""Starts llmspell-otel in a program that knows nothing of it; runs before the program does.

The Operator puts this file's folder first on PYTHONPATH, and the root of the copied tree last.
Packages with compiled parts fit one version of Python: the tree holds a folder for each, and this
file puts the right one in the root's place.
"""

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[3]
_FITTING = _ROOT / f"cp{sys.version_info.major}{sys.version_info.minor}"


def _begin() -> None:
    if not _FITTING.is_dir():
        held = ", ".join(sorted(path.name for path in _ROOT.glob("cp*")))
        sys.stderr.write(f"llmspell-otel: not started: no {_FITTING.name} among {held}\n")
        return
    places = [place for place in sys.path if Path(place or ".").resolve() != _ROOT]
    # After what the program put there itself, before what is installed: as PYTHONPATH would.
    mine = str(Path(__file__).parent)
    after = places.index(mine) + 1 if mine in places else 0
    sys.path[:] = [*places[:after], str(_FITTING), *places[after:]]
    from opentelemetry.instrumentation.auto_instrumentation import initialize

    initialize()


try:
    _begin()
except Exception as error:
    # The program must run, seen or not.
    sys.stderr.write(f"llmspell-otel: not started: {error!r}\n")
