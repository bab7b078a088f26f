"""Compose: valid, pinned, on loopback, and wired to the configurations that it mounts."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.deploy.servers import DEPLOY, PROMETHEUS_FLAGS

FILE = DEPLOY / "compose" / "compose.yaml"
TREE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = TREE["services"]
every_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
UNITS = {"k": 2**10, "m": 2**20, "g": 2**30}


def bytes_of(size: str) -> float:
    """A size as Compose (`256m`) or Go (`200MiB`) writes it, in bytes."""
    number, unit = re.fullmatch(r"(\d+)([kmgKMG])(?:iB)?", size).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit.lower()]


def test_it_conforms_to_the_schema(node: Path) -> None:
    """The Compose specification's own schema takes it, and notices a misspelt key."""
    schema = json.loads((node / "node_modules/dclint/schemas/compose.schema.json").read_text())
    checker = jsonschema.Draft7Validator(schema)
    checker.validate(TREE)
    wrong = json.loads(json.dumps(TREE))
    wrong["services"]["jaeger"]["mem_limitt"] = "1g"
    with pytest.raises(jsonschema.ValidationError, match="mem_limitt"):
        checker.validate(wrong)


@every_service
def test_images_are_pinned(service: dict[str, Any]) -> None:
    """A version, and never `latest`."""
    assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])


@every_service
def test_no_container_may_more_than_it_needs(service: dict[str, Any]) -> None:
    """Read-only, without capabilities or new privileges, within memory and processes."""
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"]


@every_service
def test_nothing_is_published_beyond_loopback(service: dict[str, Any]) -> None:
    """Every published port is bound to 127.0.0.1."""
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@every_service
def test_what_is_mounted_exists(service: dict[str, Any]) -> None:
    """A missing host path would be created as an empty folder, owned by root."""
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("."):
            assert (FILE.parent / source).resolve().exists(), source
            assert volume.endswith(":ro"), volume
        else:
            assert source in TREE["volumes"]


@every_service
def test_memory_limits_agree(service: dict[str, Any]) -> None:
    """Go collects before the kernel kills: GOMEMLIMIT is 75 to 90 % of the container's memory."""
    limit = service.get("environment", {}).get("GOMEMLIMIT")
    if limit:
        assert 0.75 <= bytes_of(limit) / bytes_of(service["mem_limit"]) <= 0.9


def test_every_variable_is_one_that_a_configuration_reads() -> None:
    """No setting that nobody reads: each is in the file that the service mounts."""
    read = "\n".join(p.read_text() for p in DEPLOY.rglob("*.yaml") if "kubernetes" not in p.parts)
    for name, service in SERVICES.items():
        for variable in service.get("environment", {}):
            if not variable.startswith(("GO", "GF_", "OTEL_")):
                assert f"{{env:{variable}" in read or f"${{{variable}" in read, (name, variable)


def test_every_address_is_a_service() -> None:
    """Whoever is named in an environment or a scrape target is there, and listens on that port."""
    listens = {
        "collector": {4317, 4318, 8888},
        "jaeger": {4317, 16686, 8889},
        "prometheus": {9090},
        "loki": {3100},
    }
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text())
    named = [t for j in config["scrape_configs"] for s in j["static_configs"] for t in s["targets"]]
    for service in SERVICES.values():
        for value in service.get("environment", {}).values():
            named += re.findall(r"(?:^|//)([a-z]+:\d{4,5})", str(value))
    assert len(named) >= 10
    for address in named:
        host, port = address.split(":")
        assert host == "localhost" or int(port) in listens[host], address


def test_prometheus_gets_the_flags_that_its_configuration_wants() -> None:
    """Without them it would refuse OTLP and forget exemplars."""
    assert set(PROMETHEUS_FLAGS) <= set(SERVICES["prometheus"]["command"])
