"""A run as one HTML page that needs no network, and its curves as a picture.

Needs the extra ``train`` (matplotlib, jinja2). Everything that an environment or a model said is untrusted: the page
escapes it, shows control characters as text, and carries a policy under which no script but its own runs.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentgym.errors import UsageError
from agentgym.machine import machine_size
from agentgym.report import curves, style, summary
from agentgym.report.episodes import pick_pairs, visible
from agentgym.report.page import render_page
from agentgym.report.record import RunRecord, load_run
from agentgym.report.summary import Headline
from agentgym.whole_file import write_whole

PAGE, PICTURE = "report.html", "curves.png"


def write_report(run_dir: Path) -> Path:
    """Write ``report.html`` and ``curves.png`` into a run's directory; a run in progress gives what it has.

    Args:
        run_dir: Directory that ``agentgym train`` wrote.

    Returns:
        Path of the page.

    Raises:
        UsageError: The directory is missing or holds no figures yet, or the packages that draw are not installed.
    """
    for package in ("jinja2", "matplotlib"):
        if importlib.util.find_spec(package) is None:
            raise UsageError(f"a report needs {package}: pip install 'agentgym-core[train]'")
    run = load_run(run_dir)
    headline = summary.summarize_run(run)
    with style.drawing():
        title = f"{run.setting('env.id') or 'Training'}, {run.name}"
        unfinished = run_dir / f".{PICTURE}"
        style.save_png(curves.draw_overview(run, visible(title), headline.sentence), unfinished)
        os.replace(unfinished, run_dir / PICTURE)
        figures = {"overview": style.to_svg(curves.draw_overview(run), "overview", headline.sentence)}
        health = curves.draw_health(run)
        if health is not None:
            figures["health"] = style.to_svg(
                health, "health", "Entropy, gradient norm and other figures of each update"
            )
    write_whole(run_dir / PAGE, _render(run, headline, figures))
    return run_dir / PAGE


def _render(run: RunRecord, headline: Headline, figures: Mapping[str, str]) -> str:
    from markupsafe import Markup

    values = {
        "run": run,
        "headline": headline,
        "facts": summary.facts(run),
        "machine": machine_size(),
        "held_out": summary.tasks_named(run, run.evals[-1]) if run.evals else "",
        "command": visible(summary.rerun_command(run)),
        "recipe": visible(json.dumps(run.recipe, indent=2, ensure_ascii=False, default=str)) if run.recipe else "",
        "caption": curves.caption(run),
        "table": pick_pairs(run),
        "figures": {name: Markup(svg) for name, svg in figures.items()},
        "kinds": _kind_rows(run),
    }
    said = (summary.percent, summary.points, summary.interval_said, visible)
    filters = {say.__name__: say for say in said}
    return render_page("page.html.jinja", values, styles=("page.css",), script="page.js", filters=filters)


def _kind_rows(run: RunRecord) -> list[dict[str, Any]]:
    """Return one row for each kind of task: its name, how many, success before and after."""
    points = {"before": run.first, "after": run.last}
    names = sorted({kind for point in points.values() if point is not None for kind in point.by_kind})
    rows = []
    for kind in names:
        found = {end: point.by_kind.get(kind) for end, point in points.items() if point is not None}
        tasks = max((result.episodes for result in found.values() if result is not None), default=0)
        rows.append({"kind": kind, "tasks": tasks, "before": found.get("before"), "after": found.get("after")})
    return rows
