"""Writers that are killed at random moments, and what of theirs a journal keeps."""

import random
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from llmspell_otel.events.journal import Journal

CHILD = textwrap.dedent("""
    import sys
    from llmspell_otel.events import make
    from llmspell_otel.events.journal import Journal
    journal = Journal(sys.argv[1], mode=sys.argv[2], interval=0.001)
    number = 0
    while True:
        for _ in range(50):
            journal.append(make("n", number, sys.argv[3]))
            number += 1
        assert journal.flush()
        print(number, flush=True)
""")


def killed(folder: Path, name: str, mode: str = "process") -> int:
    """Run a writer, kill it soon after its first commit, tell what it acknowledged."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), mode, name], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(random.random() / 5)
    process.kill()
    lines = (first + process.stdout.read()).split("\n")
    process.wait()
    process.stdout.close()
    return int(lines[-2])


def unkept(journal: Journal, acknowledged: dict[str, int]) -> list[str]:
    """The runs of which *journal* lacks an acknowledged event, or has one twice or out of order."""
    lacking = []
    for name, count in acknowledged.items():
        found = [event.data for event in journal.query(correlation_id=name)]
        if found != list(range(len(found))) or len(found) < count:
            lacking.append(name)
    return lacking
