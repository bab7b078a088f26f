"""Lay out the tree of the injection image: one folder of packages for each version of Python.

    python lay_out.py TARGET WHEEL [--python 3.11 …] [--platform manylinux_2_28_x86_64 …]

WHEEL is the wheel of llmspell-otel. Only wheels are taken: nothing is compiled here.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
HERE = Path(__file__).parent


def lay_out(target: Path, wheel: Path, versions: list[str], platforms: list[str]) -> None:
    """Install *wheel* and what injection needs for each of *versions*, and the starter."""
    for version in versions:
        folder = target / f"cp{version.replace('.', '')}"
        command = [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--target", str(folder), "--python-version", version, "--only-binary=:all:"),
            *(flag for platform in platforms for flag in ("--platform", platform)),
            *(f"llmspell-otel[cost] @ {wheel.resolve().as_uri()}", "opentelemetry-distro"),
        ]
        subprocess.run(command, check=True)
    starter = target / "opentelemetry" / "instrumentation" / "auto_instrumentation"
    starter.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(HERE / "sitecustomize.py", starter / "sitecustomize.py")


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("target", type=Path)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--python", action="append", dest="versions", metavar="VERSION")
    parser.add_argument("--platform", action="append", default=[], dest="platforms")
    options = parser.parse_args()
    lay_out(options.target, options.wheel, options.versions or list(VERSIONS), options.platforms)


if __name__ == "__main__":
    main()
