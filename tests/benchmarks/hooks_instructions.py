"""What firing costs in machine instructions, beside the nearest rivals: run it with `python -m`.

They do not depend on what else the machine does. Counted as `tests.benchmarks.instructions` does
it, without collecting garbage meanwhile.
"""

import asyncio
import gc
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.benchmarks import hooks, instructions

BASE = "B: a call that does nothing"
CASES = (
    *(
        f"{what}, k={count}"
        for count in (1, 8)
        for what in ("fire", "eventkit", "await a firing", "aiosignal, awaited")
    ),
    "make a context",
    "fire, its one hook refused by its breaker",
    "await a hook that ends at once",
    "await it under asyncio.timeout (ends at once)",
    "await a hook that suspends",
    "fire it, hang guard and all (suspends)",
    "await it under asyncio.timeout (suspends)",
)


async def _play(name: str) -> None:
    run = hooks.cases()[name]
    for times in (300, instructions.CALLS):
        gc.collect()
        gc.disable()
        if times == instructions.CALLS:
            os.getppid()
        running = run(times)
        if running is not None:
            await running
    os.getpgrp()
    os._exit(0)


def play(name: str) -> None:
    """Run one case between two marks that nothing else in the process makes."""
    asyncio.run(_play(name))


def main() -> None:
    """Print the table."""
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is not installed; on Debian: apt-get install valgrind")
    known = hooks.cases()
    cases = [name for name in (BASE, *CASES) if name in known]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counted = list(pool.map(lambda name: instructions.count(name, __spec__.name), cases))
    print("| case | instructions | B |\n|---|--:|--:|")
    for name, each in zip(cases, counted, strict=True):
        print(f"| {name} | {each:,.0f} | {each / counted[0]:.1f} |")


if __name__ == "__main__":
    main()
