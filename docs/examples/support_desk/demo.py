"""Run the support desk offline, watched and steered: `python -m docs.examples.support_desk.demo`.

A model server plays the provider by `scenario.py`; `app.py` then runs unchanged under
`llmspell-otel run` with the hooks of `policy.py` and the built-in ones of `llmspell-otel.toml`.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from docs.examples.support_desk.scenario import reply
from llmspell_otel.testing import ModelServer

HERE = Path(__file__).parent
COMMAND = [
    *(sys.executable, "-m", "llmspell_otel.cli", "run"),
    *("--service-name", "support-desk"),
    *("--settings", str(HERE / "llmspell-otel.toml")),
    *("--hooks", str(HERE / "policy.py")),
    *("--hooks", str(HERE / "report.py")),
    str(HERE / "app.py"),
]
AUDIT = "LLMSPELL_OTEL_BUILTIN__SECURITY__AUDIT"
DUMPS = "LLMSPELL_OTEL_BUILTIN__DEBUGGING__DUMP"
PROVIDER = {
    "OPENAI_DEFAULT_MODEL": "gpt-5-mini",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",  # the Agents SDK's own upload to its vendor
    "NO_PROXY": "127.0.0.1",
}


def main() -> int:
    """Serve the scenario, run the program against it, and pass its exit code on."""
    with ModelServer(reply) as server, TemporaryDirectory() as folder:
        kept = {AUDIT: f"{folder}/audit.jsonl", DUMPS: f"{folder}/dumps"}
        environment = os.environ | server.environment | PROVIDER | kept
        command = [*COMMAND, *sys.argv[1:]]
        return subprocess.run(command, env=environment, check=False).returncode  # noqa: S603 - ours


if __name__ == "__main__":
    raise SystemExit(main())
