"""Kubernetes: built by kustomize, strict by its schemas, true to the configurations."""

import json
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from deploy.build import path_of
from deploy.kubernetes.render import operator_collector
from tests.deploy.servers import COLLECTOR, DEPLOY, PROMETHEUS_FLAGS
from tests.deploy.test_collector import SIDECAR, resolved, run
from tests.deploy.test_compose import SERVICES, bytes_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import kubernetes_validate

FOLDER = DEPLOY / "kubernetes"
OVERLAYS = ("base", "overlays/trial", "overlays/production")
VERSIONS = ("1.30", "1.37")
OPERATOR = "github.com/open-telemetry/opentelemetry-operator@v0.140.0"


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


def strict(schema: Any) -> Any:
    """A CRD's schema as one that knows no field but its own."""
    if isinstance(schema, dict):
        schema = {key: strict(value) for key, value in schema.items()}
        if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
        if schema.pop("x-kubernetes-int-or-string", None):
            schema.pop("type", None)
        return schema
    return [strict(value) for value in schema] if isinstance(schema, list) else schema


@pytest.fixture(scope="module")
def definitions() -> dict[str, dict[str, Any]]:
    """The schema of each custom resource by kind, out of the Operator's own module."""
    command = ["go", "mod", "download", "-json", OPERATOR]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    found = {}
    for path in (Path(json.loads(done.stdout)["Dir"]) / "config/crd/bases").glob("*.yaml"):
        spec = yaml.safe_load(path.read_text())["spec"]
        newest = spec["versions"][-1]
        schema = strict(newest["schema"]["openAPIV3Schema"])
        for field in ("apiVersion", "kind"):
            schema["properties"].setdefault(field, {"type": "string"})
        schema["properties"]["metadata"] = {"type": "object"}
        found[spec["names"]["kind"]] = schema
    return found


def test_the_operator_takes_both_resources(definitions: dict[str, dict[str, Any]]) -> None:
    """The Operator's definitions allow every field, and notice a misspelt one."""
    for tree in built("operator"):
        checker = jsonschema.Draft202012Validator(definitions[tree["kind"]])
        checker.validate(tree)
        wrong = json.loads(json.dumps(tree).replace('"env"', '"envs"', 1))
        with pytest.raises(jsonschema.ValidationError, match="envs"):
            checker.validate(wrong)


def test_the_operators_collector_is_the_sidecar(tmp_path: Path) -> None:
    """Rendered from the shipped file, and read by the real collector as exactly the same."""
    text = (FOLDER / "operator" / "collector.yaml").read_text()
    assert text == operator_collector()
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load(text)["spec"]["config"]))
    done = run(SIDECAR, "print-config", "--mode=unredacted", "--format=json", f"--config={config}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == resolved(SIDECAR, "sidecar.yaml")


def test_configmaps_hold_every_file_that_is_read() -> None:
    """Each file that a configuration names is in the ConfigMap, under the path it is read from."""
    generator = yaml.safe_load((COLLECTOR / "kustomization.yaml").read_text())
    held = {
        entry.split("=")[-1] for one in generator["configMapGenerator"] for entry in one["files"]
    }
    for name in ("sidecar.yaml", "single-host.yaml"):
        named = re.findall(r"/etc/otelcol\}/([\w./]+)\}", (COLLECTOR / name).read_text())
        assert {name, *named} <= held


APP = """
import llmspell_otel, sys
from opentelemetry import trace
with trace.get_tracer("app").start_as_current_span("injected"):
    print(sys.argv[1], llmspell_otel.__name__)
"""


@pytest.fixture(scope="module")
def injected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree that the injection image holds, for the Python of these tests."""
    folder = tmp_path_factory.mktemp("injected")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    wheel = [*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), "."]
    subprocess.run(wheel, cwd=DEPLOY.parent, check=True)
    (built_wheel,) = folder.glob("*.whl")
    script = FOLDER / "autoinstrumentation" / "lay_out.py"
    command = [sys.executable, str(script), str(folder / "tree"), str(built_wheel)]
    subprocess.run([*command, "--python", version], check=True)
    return folder / "tree"


def inject(tree: Path, program: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run *program* with a Python that has no package, as the Operator would start it."""
    starter = tree / "opentelemetry/instrumentation/auto_instrumentation"
    environment = {
        "PYTHONPATH": f"{starter}:{tree}",
        "OTEL_PYTHON_DISTRO": "llmspell",
        "OTEL_PYTHON_CONFIGURATOR": "llmspell",
        **settings,
    }
    bare = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    command = [str(bare), str(program), "hello"]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.timeout(300)
def test_an_unprepared_program_is_seen(injected: Path, tmp_path: Path) -> None:
    """A Python without any package, started with the Operator's variables, prints its trace."""
    program = tmp_path / "app.py"
    program.write_text(APP)
    done = inject(injected, program, OTEL_TRACES_EXPORTER="console", OTEL_METRICS_EXPORTER="none")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "hello llmspell_otel"), done.stderr
    assert '"name": "injected"' in done.stdout


def test_a_python_that_the_tree_does_not_fit_runs_unseen(tmp_path: Path) -> None:
    """The program comes first: no fitting folder is a line on stderr, not a crash."""
    tree, program = tmp_path / "tree", tmp_path / "app.py"
    starter = tree / "opentelemetry/instrumentation/auto_instrumentation"
    starter.mkdir(parents=True)
    shutil.copy(FOLDER / "autoinstrumentation" / "sitecustomize.py", starter)
    (tree / "cp27").mkdir()
    program.write_text("print('alive')")
    done = inject(tree, program)
    assert (done.returncode, done.stdout) == (0, "alive\n")
    assert "not started: no cp3" in done.stderr
