"""What one call costs in machine instructions: `python -m tests.benchmarks.instructions`.

The budgets of operations are ratios of instructions on the calling thread, which do not depend on
what else the machine does. Each case runs in an interpreter of its own under Valgrind's
`callgrind` (Debian's package `valgrind`), which counts between two calls that are marked.
"""

import gc
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.benchmarks import operations

CALLS = 100
BARE = "a bare span"
CASES = (
    "sync | ours, nobody looks",
    "sync | ours, no SDK configured",
    "sync | by hand, an SDK span",
    "sync | ours, spans, no hook",
    "sync | ours, spans and metrics, no hook",
    "sync | ours, spans and metrics, 1 hook",
    "sync | ours, spans and metrics, 8 hooks",
    "a model's call | by hand, an SDK span",
    "a model's call | ours, spans and metrics, no hook",
)
_TOTAL = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)


def play(name: str) -> None:
    """Run one case between two marks that nothing else in the process makes."""
    setting, run = operations.cases()[name] if name != BARE else (None, operations.bare_span)
    if setting is not None:
        setting.__enter__()
    run(300)
    gc.collect()
    gc.freeze()  # what was there before is no cost of these calls
    os.getppid()
    run(CALLS)
    os.getpgrp()
    os._exit(0)


def count(name: str, module: str = "tests.benchmarks.instructions") -> float:
    """The instructions of one call of the *module*'s case on the calling thread.

    Raises:
        RuntimeError: Valgrind failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [
                "valgrind", "--tool=callgrind", "--separate-threads=yes",
                "--zero-before=getppid", "--dump-before=getpgrp",
                f"--callgrind-out-file={folder}/out",
                sys.executable, "-c",
                f"import {module} as cases; cases.play({name!r})",
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        for path in sorted(Path(folder).glob("out*-01")):
            text = path.read_text()
            if "--dump-before=getpgrp" in text and (found := _TOTAL.search(text)):
                return int(found[1]) / CALLS
    raise RuntimeError(f"valgrind counted nothing:\n{done.stderr}")


def main() -> None:
    """Print the table."""
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is not installed; on Debian: apt-get install valgrind")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        bare, *counted = pool.map(count, (BARE, *CASES))
    print("| case | instructions | bare spans |\n|---|--:|--:|")
    for name, instructions in zip((BARE, *CASES), (bare, *counted), strict=True):
        print(f"| {name.replace(' | ', ', ')} | {instructions:,.0f} | {instructions / bare:.2f} |")


if __name__ == "__main__":
    main()
