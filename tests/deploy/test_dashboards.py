"""Dashboards: what is committed is what the code says, and Grafana would take it."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana.render import rendered
from llmspell_exporters import ledger
from llmspell_otel.builtin import caching
from llmspell_otel.telemetry import names
from llmspell_otel.telemetry.instruments import TABLE
from tests.deploy.servers import DEPLOY

FOLDER = DEPLOY / "grafana" / "dashboards"
BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
every_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
# Grafana's own variables: https://grafana.com/docs, "Global variables".
BUILT_IN = {"__rate_interval", "__interval", "__range", "__all"}


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """The panels of *board* that are not rows."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def targets(board: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every query with its panel."""
    for panel in panels(board):
        for target in panel["targets"]:
            yield panel, target


def variables(board: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The variables of *board* by name."""
    return {variable["name"]: variable for variable in board["templating"]["list"]}


def test_the_committed_json_is_what_the_code_renders() -> None:
    """Nobody edited the JSON by hand, and nobody forgot `make dashboards`."""
    committed = {path.name: path.read_text() for path in FOLDER.glob("*.json")}
    assert committed == rendered()


@every_board
def test_ids_are_unique(board: dict[str, Any]) -> None:
    """Links to panels work only when no two share an id."""
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    assert 0 not in ids


@every_board
def test_no_two_panels_overlap(board: dict[str, Any]) -> None:
    """Every panel has its own place in the 24 columns."""
    cells = [panel["gridPos"] for panel in board["panels"]]
    assert all(cell["x"] + cell["w"] <= 24 for cell in cells)
    for one, two in combinations(cells, 2):
        beside = one["x"] + one["w"] <= two["x"] or two["x"] + two["w"] <= one["x"]
        below = one["y"] + one["h"] <= two["y"] or two["y"] + two["h"] <= one["y"]
        assert beside or below, (one, two)


@every_board
def test_every_panel_says_what_it_tells(board: dict[str, Any]) -> None:
    """A title, a description of more than a few words, and a unit."""
    for panel in panels(board):
        assert panel["title"]
        assert len(panel["description"].split()) >= 4, panel["title"]
        if panel["type"] != "logs":
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
    titles = [panel["title"] for panel in panels(board)]
    assert len(titles) == len(set(titles))


@every_board
def test_data_sources_are_chosen_by_the_reader(board: dict[str, Any]) -> None:
    """No panel is tied to one installation's data source."""
    sources = {f"${{{n}}}" for n, v in variables(board).items() if v["type"] == "datasource"}
    for panel, target in targets(board):
        assert panel["datasource"]["uid"] in sources
        assert target["datasource"]["uid"] in sources


@every_board
def test_queries_follow_the_rules(board: dict[str, Any]) -> None:
    """Rates over `$__rate_interval`, no unknown variable, no job or bucket bound written out."""
    known = set(variables(board)) | BUILT_IN
    for panel, target in targets(board):
        expression = target.get("expr") or f"{target['service']} {target['operation']}"
        names = set(re.findall(r"\$\{?([A-Za-z_]\w*)", expression))
        assert names <= known, (panel["title"], names - known)
        for window in re.findall(r"rate\(.*?\[([^\]]+)\]", expression):
            assert window == "$__rate_interval", panel["title"]
        assert not re.search(r'\bjob="|\ble="', expression), panel["title"]


@every_board
def test_only_the_chosen_services_are_shown(board: dict[str, Any]) -> None:
    """Whatever an agent emits is filtered by the environment and service at the top."""
    for panel, target in targets(board):
        for selector in re.findall(r"(?:gen_ai|llmspell)_\w+\{([^}]*)\}", target.get("expr", "")):
            assert "$service" in selector, panel["title"]
            assert "$environment" in selector, panel["title"]


@every_board
def test_latency_panels_lead_to_traces(board: dict[str, Any]) -> None:
    """A quantile over time asks for exemplars, which open traces in Jaeger."""
    for panel, target in targets(board):
        if panel["type"] == "timeseries" and "_bucket" in target["expr"]:
            assert target["exemplar"] is True, panel["title"]


def test_boards_and_rules_use_only_names_that_the_code_emits() -> None:
    """Every metric of ours that is shown or watched is one of the instruments in the code."""
    emitted = {
        *(row.name for row in TABLE),
        *(names.BREAKER_STATUS, names.QUEUE_SIZE, names.QUEUE_CAPACITY, names.EVENTS_PROCESSED),
        *(ledger.RECORDS, ledger.MADE, ledger.PENDING),
        *(caching.SAVED_COST, caching.SAVED_TIME),
    }
    stems = {name.replace(".", "_") for name in emitted}
    used = set()
    for board in BOARDS.values():
        for _, target in targets(board):
            used |= set(re.findall(r"\b((?:gen_ai|llmspell)_\w+)\{", target.get("expr", "")))
    for path in (DEPLOY / "prometheus/rules").glob("*.yaml"):
        used |= set(re.findall(r"\b((?:gen_ai|llmspell)_\w+)[{\[]", path.read_text()))
    assert len(used) >= 30
    endings = [
        "",
        "_total",
        "_count",
        "_sum",
        "_bucket",
        "_seconds_total",
        "_seconds_count",
        "_seconds_sum",
        "_seconds_bucket",
    ]
    for metric in used:
        assert any(metric == f"{stem}{end}" for stem in stems for end in endings), metric


def test_boards_and_sources_find_each_other() -> None:
    """Alerts name boards that exist; data sources link to each other by uids that exist."""
    rules = yaml.safe_load((DEPLOY / "prometheus/rules/alerts.yaml").read_text())
    named = {rule["annotations"]["dashboard"] for g in rules["groups"] for rule in g["rules"]}
    assert named <= set(BOARDS)
    text = (DEPLOY / "grafana/provisioning/datasources/agents.yaml").read_text()
    uids = {source["uid"] for source in yaml.safe_load(text)["datasources"]}
    assert set(re.findall(r"datasourceUid: (\S+)", text)) == uids


PANEL_TYPES = {
    "timeseries": "timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen",
    "stat": "stat/panelcfg/x/StatPanelCfg_types.gen",
    "heatmap": "heatmap/panelcfg/x/HeatmapPanelCfg_types.gen",
    "state-timeline": "statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen",
    "table": "table/panelcfg/x/TablePanelCfg_types.gen",
    "logs": "logs/panelcfg/x/LogsPanelCfg_types.gen",
}
# Grafana's types use enums, JSON has their values: `Plain` is the type of the JSON.
PLAIN = """
type Plain<T> = T extends string ? `${T}`
  : T extends number | boolean | null | undefined ? T
  : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
"""


def typescript(board: dict[str, Any]) -> str:
    """*board* as a TypeScript program that compiles only if Grafana's types allow it."""
    lines = ['import type { Dashboard } from "@grafana/schema";', PLAIN]
    lines += [
        f'import type {{ Options as O{n} }} from "@grafana/schema/dist/esm/raw/composable/{path}";'
        for n, path in enumerate(PANEL_TYPES.values())
    ]
    lines.append(f"export const board: Plain<Dashboard> = {json.dumps(board)};")
    order = list(PANEL_TYPES)
    lines += [
        f"export const p{panel['id']}: Plain<Partial<O{order.index(panel['type'])}>> ="
        f" {json.dumps(panel.get('options', {}))};"
        for panel in panels(board)
    ]
    return "\n".join(lines)


def compiles(folder: Path, programs: dict[str, str]) -> str:
    """What the compiler has to say of *programs*; nothing, if they are right."""
    source = folder / "src"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir()
    for name, text in programs.items():
        (source / f"{name}.ts").write_text(text)
    options = "--strict --noEmit --skipLibCheck --module esnext --target es2022"
    command = [
        *(str(folder / "node_modules/.bin/tsc"), *options.split()),
        *("--moduleResolution", "bundler", "--pretty", "false"),
        *(str(source / f"{name}.ts") for name in programs),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_grafana_knows_every_field(node: Path) -> None:
    """Each board has the type that Grafana 13 gives to dashboards and to each panel's options."""
    assert compiles(node, {name: typescript(board) for name, board in BOARDS.items()}) == ""


def test_the_types_notice_a_wrong_field(node: Path) -> None:
    """The check above can fail: a misspelt field, an unknown value, an unknown option."""
    text = typescript(BOARDS["llmspell-overview"])
    wrong = {
        "field": text.replace('"schemaVersion"', '"schemaVerison"', 1),
        "value": text.replace('"mode": "absolute"', '"mode": "absolutely"', 1),
        "option": text.replace('"graphMode": "none"', '"graphMoed": "none"'),
    }
    said = compiles(node, wrong)
    assert all(f"{name}.ts" in said for name in wrong), said
