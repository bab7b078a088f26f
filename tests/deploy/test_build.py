"""Building the servers: what decides a binary, and what a missing one says."""

import re
from pathlib import Path

import pytest

from deploy.build import BINARIES, BinaryBuildError, BinaryMissingError, build, path_of
from deploy.build import _binaries as binaries

DEPLOY = Path(binaries.DEPLOY)


def test_a_missing_binary_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test that needs a server that was never built fails, and names the command."""
    monkeypatch.setenv("LLMSPELL_CACHE", str(tmp_path))
    with pytest.raises(BinaryMissingError, match="make binaries"):
        path_of("jaeger")


def test_a_failed_build_is_loud_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Go said reaches the reader; no half binary is ever taken for a whole one."""
    monkeypatch.setenv("LLMSPELL_CACHE", str(tmp_path))
    pin = tmp_path / "go.mod"
    pin.write_text("module example.invalid/broken\n\ngo 1.25.0\n")
    (tmp_path / "main.go").write_text("package main\n\nfunc main() { undefined() }\n")

    def make(target: Path) -> None:
        binaries._run(["go", "build", "-o", str(target), "."], tmp_path)

    broken = binaries.Binary(name="broken", pins=(pin,), make=make)
    monkeypatch.setitem(binaries.BINARIES, "broken", broken)
    with pytest.raises(BinaryBuildError, match="undefined: undefined"):
        build("broken")
    assert not list((tmp_path / "bin").rglob("broken*"))


def test_a_binary_is_built_once_and_anew_when_its_pins_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache is keyed by the pins: same pins, same file; other pins, another build."""
    monkeypatch.setenv("LLMSPELL_CACHE", str(tmp_path))
    pin, made = tmp_path / "go.sum", []

    def make(target: Path) -> None:
        made.append(target)
        target.write_bytes(b"program")

    monkeypatch.setitem(
        binaries.BINARIES, "program", binaries.Binary(name="program", pins=(pin,), make=make)
    )
    pin.write_text("one")
    first = build("program")
    assert (build("program"), path_of("program"), len(made)) == (first, first, 1)
    pin.write_text("two")
    assert build("program") != first
    assert len(made) == 2


@pytest.mark.parametrize("name", BINARIES)
def test_every_pin_is_committed_and_names_no_host(name: str) -> None:
    """Pins are modules, versions and hashes: never where they were fetched from."""
    pins = BINARIES[name].pins
    assert {"go.mod", "go.sum"} <= {pin.name for pin in pins}
    for pin in pins:
        assert not re.search(r"https?://|=> [./]", pin.read_text()), pin


def test_the_gateway_has_all_of_the_sidecar_at_the_same_versions() -> None:
    """A configuration that the sidecar takes, the gateway takes as well."""
    sidecar, gateway = (
        set(re.findall(r"gomod: (\S+ \S+)", (DEPLOY / "collector/builder" / name).read_text()))
        for name in ("sidecar.yaml", "gateway.yaml")
    )
    assert sidecar < gateway
