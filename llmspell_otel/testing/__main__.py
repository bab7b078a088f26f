"""`python -m llmspell_otel.testing`: serve a script until interrupted."""

import argparse
import importlib
import importlib.util
import signal
import sys
from pathlib import Path
from threading import Event
from types import FrameType

from llmspell_otel.testing.request import ModelRequest
from llmspell_otel.testing.script import Reply, Script
from llmspell_otel.testing.server import ModelServer


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; print the variables that point a program at the server."""
    parser = argparse.ArgumentParser(prog="python -m llmspell_otel.testing", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8089, help="0 takes a free one")
    parser.add_argument(
        "--script",
        metavar="FILE.py:NAME",
        help="a list of replies and rules, or a function; without it the user is echoed",
    )
    options = parser.parse_args(arguments)
    try:
        script = _load(options.script) if options.script else echo
    except (OSError, ImportError, AttributeError, ValueError) as error:
        parser.error(f"--script {options.script}: {error}; give it as FILE.py:NAME")
    over = Event()

    def finish(_signal: int, _frame: FrameType | None) -> None:
        over.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, finish)
    try:
        with ModelServer(script, host=options.host, port=options.port) as server:
            for name, value in server.environment.items():
                sys.stdout.write(f"export {name}={value}\n")
            sys.stdout.flush()
            over.wait()
    except OSError as error:
        parser.error(f"cannot listen on {options.host}:{options.port}: {error.strerror}")
    return 0


def echo(request: ModelRequest) -> Reply:
    """Say what the user said."""
    return Reply.text(request.user) if request.endpoint != "embeddings" else Reply()


def _load(target: str) -> Script:
    path, _, name = target.rpartition(":")
    if not path.endswith(".py"):
        raise ValueError("it does not name a Python file and a name in it")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise ImportError("it cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    script: Script = getattr(module, name)
    return script


if __name__ == "__main__":
    raise SystemExit(main())
