"""The Operator: its resources by its own definitions, and what it injects in a bare Python."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from deploy.kubernetes.render import operator_collector
from tests.deploy.servers import DEPLOY
from tests.deploy.test_collector import SIDECAR, resolved, run
from tests.deploy.test_kubernetes import FOLDER, VERSIONS, built, kubernetes_validate, one

OPERATOR = "github.com/open-telemetry/opentelemetry-operator@v0.140.0"
PAGE = DEPLOY.parent / "docs/how-to/deploy-kubernetes.md"


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
    resources = [tree for tree in built("operator") if tree["kind"] in definitions]
    assert len(resources) == 2
    for tree in resources:
        checker = jsonschema.Draft202012Validator(definitions[tree["kind"]])
        checker.validate(tree)
        wrong = json.loads(json.dumps(tree).replace('"env"', '"envs"', 1))
        with pytest.raises(jsonschema.ValidationError, match="envs"):
            checker.validate(wrong)


def test_injected_sidecars_are_let_in_and_scraped() -> None:
    """A pod with the page's labels: policies, Service and annotations all mean it."""
    (snippet,) = re.findall(r"```yaml\n(labels:.*?)```", PAGE.read_text(), re.DOTALL)
    pod = yaml.safe_load(snippet)
    resources = built("operator")
    names = {tree["metadata"]["name"] for tree in resources if "opentelemetry" in str(tree)}
    assert set(pod["annotations"].values()) == {"llmspell"} <= names
    service = one(resources, "Service", "otelcol-sidecars")
    for version in VERSIONS:
        kubernetes_validate.validate(service, version, strict=True)
    (admitted, _) = one(built("base"), "NetworkPolicy", "collector")["spec"]["ingress"]
    trial = built("overlays/trial")
    reached = one(trial, "NetworkPolicy", "prometheus")["spec"]["egress"][-1]["to"][0]
    for labels in (
        service["spec"]["selector"],
        admitted["from"][0]["podSelector"]["matchLabels"],
        reached["podSelector"]["matchLabels"],
    ):
        assert labels.items() <= pod["labels"].items()
    ports = [port["targetPort"] for port in service["spec"]["ports"]]
    config = one(resources, "OpenTelemetryCollector", "llmspell")["spec"]["config"]
    assert f":-{ports[0]}}}" in str(config["service"]["telemetry"]["metrics"])


def test_the_operators_collector_is_the_sidecar(tmp_path: Path) -> None:
    """Rendered from the shipped file, and read by the real collector as exactly the same."""
    text = (FOLDER / "operator" / "collector.yaml").read_text()
    assert text == operator_collector()
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load(text)["spec"]["config"]))
    done = run(SIDECAR, "print-config", "--mode=unredacted", "--format=json", f"--config={config}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == resolved(SIDECAR, "sidecar.yaml")


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
