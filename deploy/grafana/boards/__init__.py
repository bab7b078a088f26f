"""One dashboard per file; each is a table of panels and says of every panel what it tells."""

from deploy.grafana.boards.agent import AGENT
from deploy.grafana.boards.cost import COST_BOARD
from deploy.grafana.boards.hooks import HOOKS_BOARD
from deploy.grafana.boards.overview import OVERVIEW
from deploy.grafana.boards.telemetry import TELEMETRY
from deploy.grafana.boards.tools import TOOLS_BOARD

BOARDS = (OVERVIEW, AGENT, COST_BOARD, TOOLS_BOARD, HOOKS_BOARD, TELEMETRY)

__all__ = ["BOARDS"]
