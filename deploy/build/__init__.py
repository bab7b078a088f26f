"""Real servers for the tests of `deploy/`, built once from pinned Go modules."""

from deploy.build._binaries import (
    BINARIES,
    Binary,
    BinaryBuildError,
    BinaryMissingError,
    build,
    cache_folder,
    path_of,
)

__all__ = [
    "BINARIES",
    "Binary",
    "BinaryBuildError",
    "BinaryMissingError",
    "build",
    "cache_folder",
    "path_of",
]
