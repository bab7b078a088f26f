"""Kubernetes: built by kustomize, strict by its schemas, true to the configurations."""

import json
import re
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.build import path_of
from tests.deploy.servers import COLLECTOR, DEPLOY, PROMETHEUS_FLAGS
from tests.deploy.test_collector import SIDECAR, resolved
from tests.deploy.test_compose import SERVICES, bytes_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import kubernetes_validate

FOLDER = DEPLOY / "kubernetes"
OVERLAYS = ("base", "overlays/trial", "overlays/production")
VERSIONS = ("1.30", "1.37")


def built(overlay: str) -> list[dict[str, Any]]:
    """What `kubectl apply -k` would send."""
    kubectl = shutil.which("kubectl") or shutil.which("kustomize")
    assert kubectl, "kubectl or kustomize is needed to build the overlays"
    verb = "kustomize" if kubectl.endswith("kubectl") else "build"
    command = [kubectl, verb, str(FOLDER / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [tree for tree in yaml.safe_load_all(done.stdout) if tree]


@pytest.fixture(scope="module", params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """The manifests of each overlay in turn."""
    return built(request.param)


@pytest.fixture(scope="module")
def trial() -> list[dict[str, Any]]:
    """The overlay that has everything: servers, an agent, its sidecar."""
    return built("overlays/trial")


def pods(manifests: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The name and the pod template's spec of every workload."""
    for tree in manifests:
        if tree["kind"] in {"Deployment", "StatefulSet"}:
            yield tree["metadata"]["name"], tree["spec"]["template"]["spec"]


def containers(manifests: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every container with its pod."""
    for _, pod in pods(manifests):
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            yield pod, container


@pytest.mark.parametrize("version", VERSIONS)
def test_the_schemas_take_every_manifest(manifests: list[dict[str, Any]], version: str) -> None:
    """The strict schemas of an old and of the newest Kubernetes find no fault."""
    for tree in manifests:
        kubernetes_validate.validate(tree, version, strict=True)


def test_the_schemas_notice_a_misspelt_field(trial: list[dict[str, Any]]) -> None:
    """The check above can fail: a native sidecar is one misspelling from a container that hangs."""
    text = json.dumps(next(tree for tree in trial if tree["kind"] == "Deployment"))
    wrong = json.loads(text.replace('"restartPolicy"', '"restartPolcy"'))
    with pytest.raises(kubernetes_validate.ValidationError, match="restartPolcy"):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_pods_keep_to_the_restricted_standard(manifests: list[dict[str, Any]]) -> None:
    """No root, no privileges, no writable image, limits on memory, no token of the API server."""
    for pod, container in containers(manifests):
        security = pod["securityContext"] | container["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["seccompProfile"]["type"] == "RuntimeDefault"
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"]["drop"] == ["ALL"]
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert container["resources"]["limits"].keys() == {"memory"}
        assert pod["automountServiceAccountToken"] is False


def test_memory_limits_agree(manifests: list[dict[str, Any]]) -> None:
    """The limiter refuses before Go collects hard, and Go collects before the kernel kills."""
    for _, container in containers(manifests):
        environment = {e["name"]: e.get("value") for e in container.get("env", [])}
        if limit := environment.get("GOMEMLIMIT"):
            room = bytes_of(container["resources"]["limits"]["memory"][:-1])
            assert 0.75 <= bytes_of(limit) / room <= 0.9, container["name"]
            if "otelcol" in str(container.get("args")):
                limiter = int(environment.get("LLMSPELL_MEMORY_LIMIT_MIB") or 180) * 2**20
                assert limiter < bytes_of(limit)


def test_every_volume_is_there(manifests: list[dict[str, Any]]) -> None:
    """Mounts name volumes; ConfigMap volumes name ConfigMaps and keys that are generated."""
    maps = {t["metadata"]["name"]: t["data"] for t in manifests if t["kind"] == "ConfigMap"}
    claims = {
        t["metadata"]["name"]: {c["metadata"]["name"] for c in t["spec"]["volumeClaimTemplates"]}
        for t in manifests
        if t["kind"] == "StatefulSet"
    }
    for name, pod in pods(manifests):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            for mount in container["volumeMounts"]:
                assert mount["name"] in {*volumes, *claims.get(name, ())}
        for volume in volumes.values():
            sources = [volume, *volume.get("projected", {}).get("sources", [])]
            for source in (s["configMap"] for s in sources if "configMap" in s):
                keys = {item["key"] for item in source.get("items", [])}
                assert keys <= maps[source["name"]].keys()


def test_images_and_flags_are_those_of_compose(trial: list[dict[str, Any]]) -> None:
    """One set of versions everywhere, and Prometheus with the flags that it wants."""
    known = {service["image"] for service in SERVICES.values()}
    for _, container in containers(trial):
        assert container["image"] in known
        if container["name"] == "prometheus":
            assert set(PROMETHEUS_FLAGS) <= set(container["args"])


def test_the_sidecar_is_a_native_one(trial: list[dict[str, Any]]) -> None:
    """It starts before the agent, is probed on the pod's address, and outlives the agent."""
    pod = next(pod for name, pod in pods(trial) if name == "support-desk")
    (sidecar,) = pod["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["startupProbe"]
    assert pod["terminationGracePeriodSeconds"] >= 60
    environment = {entry["name"]: entry for entry in sidecar["env"]}
    path = environment["LLMSPELL_HEALTH_HOST"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert path == "status.podIP"


def test_the_queue_fits_its_volume(trial: list[dict[str, Any]]) -> None:
    """One and a half times the queues of three signals, or the kubelet evicts the pod."""
    queue = resolved(SIDECAR, "sidecar.yaml")["exporters"]["otlp_grpc/upstream"]["sending_queue"]
    pod = next(pod for name, pod in pods(trial) if name == "support-desk")
    (size,) = (v["emptyDir"]["sizeLimit"] for v in pod["volumes"] if v["name"] == "otelcol-queue")
    assert bytes_of(size[:-1]) >= 1.5 * 3 * int(queue["queue_size"])


def test_network_policies_follow_the_arrows(trial: list[dict[str, Any]]) -> None:
    """Everything is denied first; each server's policy names ports that its container has."""
    policies = {t["metadata"]["name"]: t["spec"] for t in trial if t["kind"] == "NetworkPolicy"}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    ports = {c["name"]: {p["name"] for p in c.get("ports", [])} for _, c in containers(trial)}
    for name, policy in policies.items():
        if name in ports:
            assert policy["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": name}
            for rule in policy.get("ingress", []):
                assert {p["port"] for p in rule["ports"]} <= ports[name], name
    namespace = next(
        t for t in trial if t["kind"] == "Namespace" and "agents" in str(t["metadata"])
    )
    (admitted, _) = policies["collector"]["ingress"]
    wanted = admitted["from"][0]
    labels = wanted["namespaceSelector"]["matchLabels"]
    assert labels.items() <= namespace["metadata"]["labels"].items()
    agent = next(t for t in trial if t["kind"] == "Deployment")["spec"]["template"]
    assert wanted["podSelector"]["matchLabels"].items() <= agent["metadata"]["labels"].items()


def one(manifests: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """The manifest of that *kind* whose name is or, as a generated one's, begins with *name*."""
    (found,) = (
        tree
        for tree in manifests
        if tree["kind"] == kind and re.fullmatch(rf"{name}(-\w{{10}})?", tree["metadata"]["name"])
    )
    return found


def test_prometheus_finds_the_sidecars(trial: list[dict[str, Any]]) -> None:
    """By the name of a Service behind which stand the very pods, on the sidecars' own port."""
    service = one(trial, "Service", "otelcol-sidecars")
    agent = one(trial, "Deployment", "support-desk")
    labels = agent["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"].items() <= labels.items()
    (port,) = service["spec"]["ports"]
    (sidecar,) = agent["spec"]["template"]["spec"]["initContainers"]
    assert {"name": port["name"], "containerPort": port["port"]} in sidecar["ports"]
    config = yaml.safe_load(one(trial, "ConfigMap", "prometheus")["data"]["scrape-sidecars.yaml"])
    ((found,),) = (job["dns_sd_configs"] for job in config["scrape_configs"])
    namespace = service["metadata"]["namespace"]
    assert found["names"] == [f"{service['metadata']['name']}.{namespace}.svc.cluster.local"]
    assert found["port"] == port["port"]
    policy = one(trial, "NetworkPolicy", "prometheus")["spec"]["egress"][-1]
    assert policy["ports"] == [{"port": port["port"]}]
    (to,) = policy["to"]
    assert to["podSelector"]["matchLabels"].items() <= labels.items()
    wanted = to["namespaceSelector"]["matchLabels"]
    assert wanted.items() <= one(trial, "Namespace", namespace)["metadata"]["labels"].items()


def test_promtool_takes_what_prometheus_is_given(
    trial: list[dict[str, Any]], tmp_path: Path
) -> None:
    """The ConfigMaps as the container sees them: the jobs of the cluster are read, too."""
    held = one(trial, "ConfigMap", "prometheus")["data"]
    rules = one(trial, "ConfigMap", "prometheus-rules")["data"]
    for name, text in held.items() | {(f"rules/{name}", text) for name, text in rules.items()}:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    command = [path_of("promtool"), "check", "config", tmp_path / "prometheus.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = tmp_path / "scrape-sidecars.yaml"
    wrong.write_text(wrong.read_text().replace("dns_sd_configs", "dns_sd_config"))
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1


def test_configmaps_hold_every_file_that_is_read() -> None:
    """Each file that a configuration names is in the ConfigMap, under the path it is read from."""
    generator = yaml.safe_load((COLLECTOR / "kustomization.yaml").read_text())
    held = {
        entry.split("=")[-1] for one in generator["configMapGenerator"] for entry in one["files"]
    }
    for name in ("sidecar.yaml", "single-host.yaml"):
        named = re.findall(r"/etc/otelcol\}/([\w./]+)\}", (COLLECTOR / name).read_text())
        assert {name, *named} <= held
