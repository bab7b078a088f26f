"""Certificates for tests over TLS."""

import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An authority, a server for 127.0.0.1 and a client, made by openssl."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    signs = ["-addext", "keyUsage=critical,keyCertSign"]  # newer Pythons insist on it
    openssl("req", "-x509", *new, *signs, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=CA")
    for name, extension in (("server", "subjectAltName=IP:127.0.0.1"), ("client", "")):
        subject = ["-subj", f"/CN={name}", *(["-addext", extension] if extension else [])]
        openssl(
            "req", "-x509", "-CA", "ca.pem", "-CAkey", "ca.key", *new, *subject,
            "-addext", "basicConstraints=critical,CA:FALSE",
            "-keyout", f"{name}.key", "-out", f"{name}.pem",
        )  # fmt: skip
    return {path.name: str(path) for path in Path(folder).iterdir()}
