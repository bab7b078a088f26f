"""`python -m deploy.build`: build what is missing, or with `--pin` resolve modules anew."""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from deploy.build._binaries import (
    BINARIES,
    DEPLOY,
    BinaryBuildError,
    build,
    generate_collector,
    is_built,
)


def pin_collectors() -> None:
    """Write go.mod and go.sum of both collectors as their manifests now resolve."""
    for manifest in sorted((DEPLOY / "collector" / "builder").glob("*.yaml")):
        with tempfile.TemporaryDirectory() as folder:
            sources = generate_collector(manifest, Path(folder), resolve=True)
            for name in ("go.mod", "go.sum"):
                shutil.copyfile(sources / name, manifest.with_suffix("") / name)


def main() -> int:
    """Build the named binaries, or all; tell for each how long it took and how big it is."""
    parser = argparse.ArgumentParser(prog="python -m deploy.build", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BINARIES)}")
    parser.add_argument("--pin", action="store_true", help="resolve the collectors' modules anew")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BINARIES):
        parser.error(f"no such binary: {', '.join(sorted(unknown))}")
    if options.pin:
        pin_collectors()
        return 0
    for name in options.names or BINARIES:
        begun = time.monotonic()
        if not is_built(name):
            print(f"{name}: building, which takes minutes the first time", flush=True)
        try:
            path = build(name)
        except (BinaryBuildError, FileNotFoundError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        seconds, size = time.monotonic() - begun, path.stat().st_size / 1e6
        print(f"{name}: {size:.0f} MB in {seconds:.0f} s at {path}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
