"""The collector's configurations: taken by the real binary, and keeping their promises."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.build import path_of
from tests.deploy.servers import COLLECTOR

SIDECAR, GATEWAY = "otelcol-llmspell", "otelcol-llmspell-gateway"
CONFIGS = {
    "sidecar": (SIDECAR, "sidecar.yaml"),
    "sidecar with a token": (SIDECAR, "sidecar.yaml", "overlays/token.yaml"),
    "sidecar, debugged": (SIDECAR, "sidecar.yaml", "overlays/debug.yaml"),
    "single host": (SIDECAR, "single-host.yaml"),
    "gateway ingest": (GATEWAY, "gateway-ingest.yaml"),
    "gateway egress": (GATEWAY, "gateway-egress.yaml"),
    "gateway, sampled": (GATEWAY, "gateway-egress.yaml", "overlays/tail_sampling.yaml"),
}
WANTED = {"LLMSPELL_UPSTREAM": "gateway:4317", "LLMSPELL_KAFKA": "kafka:9092"}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def run(binary: str, *arguments: str, folder: Path = COLLECTOR) -> subprocess.CompletedProcess[str]:
    """Run a collector's command on configurations that look in *folder* for their parts."""
    return subprocess.run(
        [path_of(binary), *arguments],
        env=os.environ | WANTED | {"LLMSPELL_CONFIG_FOLDER": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def resolved(binary: str, *names: str) -> dict[str, Any]:
    """The configuration as the collector reads it: merged, every variable and file in place."""
    files = [f"--config={COLLECTOR / name}" for name in names]
    done = run(binary, "print-config", "--mode=unredacted", "--format=json", *files)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@every_config
def test_the_real_collector_takes_it(config: tuple[str, ...]) -> None:
    """`validate` of the very binary that the manifest builds finds no fault."""
    binary, *names = config
    done = run(binary, "validate", *(f"--config={COLLECTOR / name}" for name in names))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("wrong", ["fsync: true", "max_elapsed_time: 0", "check_interval: 1s"])
def test_a_misspelt_setting_is_refused(wrong: str, tmp_path: Path) -> None:
    """The check above can fail: one letter more in any setting is an error that names it."""
    for path in COLLECTOR.rglob("*.yaml"):
        target = tmp_path / path.relative_to(COLLECTOR)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text().replace(wrong, f"x{wrong}"))
    done = run(SIDECAR, "validate", f"--config={tmp_path / 'single-host.yaml'}", folder=tmp_path)
    assert done.returncode == 1
    assert f"x{wrong.split(':', maxsplit=1)[0]}" in done.stderr


def _sections(config: dict[str, Any], *kinds: str) -> Iterator[tuple[str, str, Any]]:
    for kind in kinds:
        for name, settings in (config.get(kind) or {}).items():
            yield kind, name, settings


@every_config
def test_components_go_by_their_names_of_today(config: tuple[str, ...]) -> None:
    """No deprecated alias: every component is in the binary's own list under that name."""
    binary, *names = config
    known = yaml.safe_load(run(binary, "components").stdout)
    kinds = ("receivers", "processors", "exporters", "connectors", "extensions")
    listed = {kind: {one["name"] for one in known[kind]} for kind in kinds}
    for kind, name, _ in _sections(resolved(binary, *names), *kinds):
        assert name.split("/")[0] in listed[kind], name


@every_config
def test_what_was_acknowledged_is_on_disk(config: tuple[str, ...]) -> None:
    """Every exporter that leaves the machine queues in synced storage and never gives up."""
    binary, *names = config
    tree = resolved(binary, *names)
    exporters = [s for _, name, s in _sections(tree, "exporters") if not name.startswith("debug")]
    assert exporters
    for settings in exporters:
        queue = settings["sending_queue"]
        storage = tree["extensions"][queue["storage"]]
        assert (storage["fsync"], queue["block_on_overflow"]) == (True, False)
        assert queue["storage"] in tree["service"]["extensions"]
        assert queue["batch"]["max_size"] < queue["queue_size"]
        assert settings["retry_on_failure"]["max_elapsed_time"] in {0, "0s"}


@every_config
def test_no_pipeline_acknowledges_from_memory(config: tuple[str, ...]) -> None:
    """No batch processor; memory is limited before anything else is done with data from outside."""
    binary, *names = config
    pipelines = resolved(binary, *names)["service"]["pipelines"]
    for name, pipeline in pipelines.items():
        assert not [p for p in pipeline.get("processors") or [] if p.startswith("batch")], name
        if {"otlp", "kafka"} & set(pipeline["receivers"]):
            assert pipeline["processors"][0] == "memory_limiter", name


@every_config
def test_spans_and_records_pass_the_second_line(config: tuple[str, ...]) -> None:
    """Whatever hands spans or records to a store has redacted them; the ingest tier only queues."""
    binary, *names = config
    for name, pipeline in resolved(binary, *names)["service"]["pipelines"].items():
        if name.startswith(("traces", "logs")) and "kafka" not in pipeline["exporters"]:
            assert "redaction" in pipeline["processors"] or "forward/sampled" in str(pipeline), name


@pytest.mark.parametrize("name", ["sidecar.yaml", "single-host.yaml"])
def test_beside_an_agent_nothing_listens_beyond_loopback(name: str) -> None:
    """By default receivers, health and metrics answer on 127.0.0.1 alone."""
    tree = resolved(SIDECAR, name)
    addresses = [
        *(one["endpoint"] for one in tree["receivers"]["otlp"]["protocols"].values()),
        tree["extensions"]["health_check"]["endpoint"],
        tree["service"]["telemetry"]["metrics"]["readers"][0]["pull"]["exporter"]["prometheus"][
            "host"
        ],
    ]
    assert {address.split(":")[0] for address in addresses} == {"127.0.0.1"}


def test_the_gateway_is_open_to_none_without_tls_and_a_token() -> None:
    """What listens on every address wants TLS 1.3 and a bearer token on both protocols."""
    protocols = resolved(GATEWAY, "gateway-ingest.yaml")["receivers"]["otlp"]["protocols"]
    for settings in protocols.values():
        assert settings["tls"]["min_version"] == "1.3"
        assert settings["auth"]["authenticator"] == "bearertokenauth"
