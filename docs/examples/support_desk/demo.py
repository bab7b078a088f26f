"""Run the support desk offline, watched and steered: `python -m docs.examples.support_desk.demo`.

A model server plays the provider by `scenario.py`; `app.py` then runs unchanged under
`llmspell-otel run` with the hooks of `policy.py`.
"""

import os
import subprocess
import sys
from pathlib import Path

from docs.examples.support_desk.scenario import reply
from llmspell_otel.testing import ModelServer

HERE = Path(__file__).parent
COMMAND = [
    *(sys.executable, "-m", "llmspell_otel.cli", "run"),
    *("--service-name", "support-desk"),
    *("--hooks", str(HERE / "policy.py")),
    str(HERE / "app.py"),
]
PROVIDER = {
    "OPENAI_DEFAULT_MODEL": "gpt-5-mini",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",  # the Agents SDK's own upload to its vendor
    "NO_PROXY": "127.0.0.1",
}


def main() -> int:
    """Serve the scenario, run the program against it, and pass its exit code on."""
    with ModelServer(reply) as server:
        environment = os.environ | server.environment | PROVIDER
        command = [*COMMAND, *sys.argv[1:]]
        return subprocess.run(command, env=environment, check=False).returncode  # noqa: S603 - ours


if __name__ == "__main__":
    raise SystemExit(main())
