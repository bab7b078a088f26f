"""Prometheus: configuration and rules, judged by promtool."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.build import path_of
from tests.deploy.servers import DEPLOY

FOLDER = DEPLOY / "prometheus"
TESTS = FOLDER / "tests" / "agents.yaml"


def promtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run promtool."""
    command = [path_of("promtool"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def rules() -> list[dict[str, Any]]:
    """Every rule that is shipped."""
    files = sorted((FOLDER / "rules").glob("*.yaml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def test_promtool_takes_configuration_and_rules() -> None:
    """`check config` reads the rules too; lint errors are fatal."""
    done = promtool("check", "config", "--lint=all", "--lint-fatal", FOLDER / "prometheus.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_do_what_their_tests_say() -> None:
    """Promtool's unit tests pass: when each alert fires, with what words, and when it does not."""
    done = promtool("test", "rules", TESTS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_shown_firing() -> None:
    """No alert without a test that makes it fire, and the words that a person will read."""
    tests = yaml.safe_load(TESTS.read_text())["tests"]
    fired = {c["alertname"] for t in tests for c in t.get("alert_rule_test", []) if c["exp_alerts"]}
    assert fired == {rule["alert"] for rule in rules() if "alert" in rule}


def test_the_order_of_groups_is_pinned() -> None:
    """Promtool takes groups in random order: alerts over recorded series would flake."""
    files = (FOLDER / "rules").glob("*.yaml")
    groups = {
        group["name"] for file in files for group in yaml.safe_load(file.read_text())["groups"]
    }
    assert set(yaml.safe_load(TESTS.read_text())["group_eval_order"]) == groups


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("14.4 * llmspell:error_budget:ratio", "44.4 * llmspell:error_budget:ratio"),
        ('llmspell_circuit_breaker_state="open"', 'llmspell_circuit_breaker_state="ajar"'),
        ("on (llmspell_cost_currency) group_left ()", "on () group_left ()"),
        ('error_type!=""', 'error_type=""'),
    ],
)
def test_those_tests_notice_a_wrong_rule(tmp_path: Path, right: str, wrong: str) -> None:
    """The tests above can fail: one wrong threshold, label or matching, and they do."""
    shutil.copytree(FOLDER, tmp_path / "prometheus")
    changed = 0
    for path in (tmp_path / "prometheus" / "rules").glob("*.yaml"):
        text = path.read_text()
        changed += text.count(right)
        path.write_text(text.replace(right, wrong))
    assert changed
    assert promtool("test", "rules", tmp_path / "prometheus/tests/agents.yaml").returncode == 1


def test_every_alert_says_what_to_do() -> None:
    """A severity, a summary, a description and a dashboard."""
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in {"page", "ticket"}
            assert set(rule["annotations"]) == {"summary", "description", "dashboard"}
