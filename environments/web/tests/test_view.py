"""The page of ``agentgym view``, of a real MiniWoB run, shown in a real Chromium and driven by keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright", reason="the extra 'browser' is not installed")
from agentgym.cli.main import main
from agentgym.trajectory import read_trajectories

pytestmark = pytest.mark.timeout(300)
SEEN = """() => ({
  place: document.getElementById('place').textContent,
  action: document.getElementById('action').textContent,
  picture: document.querySelector('#stage img')?.naturalWidth ?? 0,
  marks: [...document.querySelectorAll('#stage circle.mark')].map(one => [one.cx.baseVal.value, one.cy.baseVal.value]),
  paths: document.querySelectorAll('#stage path.mark').length,
  episode: document.getElementById('episode').value,
})"""


def test_a_run_is_watched_turn_by_turn_with_the_clicked_spots(
    make: Callable[..., Any], site: Any, tmp_path: Path
) -> None:
    out = tmp_path / "run.jsonl"
    settings = ["--env-arg", "image=true", "--env-arg", 'task=["drag-box","choose-list"]', "--episodes", "2"]
    assert (
        main(["run", "agentgym/MiniWoB-v0", "--policy", "expert", *settings, "--concurrency", "1", "--out", str(out)])
        == 0
    )
    drag_box, choose_list = read_trajectories(out)
    assert all(turn.image and turn.mark for turn in (*drag_box.turns, *choose_list.turns))
    assert main(["view", str(out)]) == 0
    site.pages["/"] = (tmp_path / "run.html").read_text()
    env = make()
    env.reset(seed=0)

    def press(key: str) -> dict[str, Any]:
        assert env.step(f"press {key}")[4]["executable"]
        found: dict[str, Any] = env.session.evaluate(SEEN)
        return found

    seen = press("Home")
    mark = drag_box.turns[0].mark
    assert mark is not None
    assert mark.kind == "drag"
    assert (seen["place"], seen["action"], seen["picture"]) == ("Turn 1 of 2", drag_box.turns[0].action, 160)
    assert seen["marks"][0] == pytest.approx(mark.place[:2], abs=0.01)
    assert seen["paths"] == 2, "the arrow, and the light line under it"
    seen = press("ArrowRight")
    mark = drag_box.turns[1].mark
    assert mark is not None
    assert seen["place"] == "Turn 2 of 2"
    assert seen["marks"][0] == pytest.approx(mark.place, abs=0.01)
    seen = press("End")
    assert (seen["place"], seen["marks"], seen["picture"]) == ("End, after 2 turns", [], 160)
    seen = press("ArrowDown")
    assert (seen["episode"], seen["action"]) == ("1", choose_list.turns[0].action)
    mark = choose_list.turns[0].mark
    assert mark is not None
    assert seen["marks"][0] == pytest.approx(mark.place, abs=0.01)
