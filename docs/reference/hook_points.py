"""Write `hook-points.md` from the catalogue: `python -m docs.reference.hook_points`."""

from itertools import groupby
from pathlib import Path

from llmspell_otel.points import POINTS, HookPoint, Moment

PAGE = Path(__file__).with_name("hook-points.md")

HEAD = """# Hook points

<!-- Written by `python -m docs.reference.hook_points` from the catalogue; change that instead. -->

A hook is registered at a point in either spelling: `Hook.register("BeforeToolExecution", fn)` is
`Hook.register("tool:before_execution", fn)`. An unknown name is an error that names the nearest one.

Every context has `point`, `component` (`type`, `name`), `data`, `metadata`, `correlation_id`, `attempt`, `run_cost`,
`operation`, `parent`, `language` and `timestamp`. The tables say what `data` or `metadata` hold beside that.

## Which results act

| moment | Modified | Cancel | Redirect | Replace | Retry | Fork | Cache |
|---|---|---|---|---|---|---|---|
| before | changes the input | no call | another is called instead | no call; the value is the output | waits, asks again | runs beside the call | hit: no call; miss: stores |
| after | changes the output | output withheld | another is called, its output taken | the value is the output | calls again | runs, then goes on | stores |
| error | changes the error | refusal, the error as cause | fallback: another is called | recovery: the value is the output | calls again | runs, then goes on | nothing stored |
| chunk | changes the chunk | ends the stream | – | replaces the chunk | – | – | – |
| notice | noted | noted | – | – | – | – | – |

`Continue` and `Skipped` change nothing anywhere. `Cancel`, `Replace`, `Redirect`, `Retry` and a cache's hit decide: later hooks
of the point are not asked.
"""

FIRED_BY = {
    "agent": "`@agent`, `AgentLifecycle`, adapters that know agents",
    "tool": "`@tool`, adapters that know tools",
    "workflow": "`@workflow`, `@stage`, the workflow patterns, adapters that know stages",
    "state": "the `State` store",
    "system": "the engine: start, end, settings, limits, security",
    "session": "`session(…)`",
    "event": "the event bus",
    "performance": "the resource monitor",
    "model": "adapters of model providers",
}

CUSTOM = """
## custom

`custom:NAME` is yours: `Hook.fire("custom:deployed", {"input": ...})`, or `await Hook.fire_async(...)`. The phases of agents, tools and workflows beyond the
catalogue are custom points too: `custom:agent_paused`, `custom:tool_timeout`, `custom:workflow_step_boundary` and so on.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for group, points in groupby(POINTS, key=lambda point: point.spelling.partition(":")[0]):
        rows = [_row(point) for point in points]
        table = ["| point | spelling | moment | holds | when |", "|---|---|---|---|---|", *rows]
        parts.append(f"\n## {group}\n\nFired by {FIRED_BY[group]}.\n\n" + "\n".join(table) + "\n")
    return "".join([*parts, CUSTOM])


def _row(point: HookPoint) -> str:
    holds = ", ".join(f"`{key}`" for key in point.holds)
    moment = point.moment if point.moment is not Moment.NOTICE else "notice"
    return f"| `{point.name}` | `{point.spelling}` | {moment} | {holds} | {point.about} |"


if __name__ == "__main__":
    PAGE.write_text(page())
