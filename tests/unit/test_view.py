"""Pictures beside trajectories, and the page that plays them."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from agentgym import AgentEnv, Completion, Dialogue, Move, Opening, Task, TaskSet, Transition
from agentgym.cli.main import main
from agentgym.errors import UsageError
from agentgym.pictures import PictureFolder, pictures_beside
from agentgym.report import player
from agentgym.report.player import Reel, open_reels, write_player
from agentgym.rollout import Episode, Rollout
from agentgym.trajectory import Mark, Trajectory, Turn, read_trajectories, write_trajectories

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[2J\u202e{{ 7*7 }}"


def paint(shade: int, width: int = 8, height: int = 6) -> NDArray[np.uint8]:
    return np.full((height, width, 3), shade, dtype=np.uint8)


class Shades(AgentEnv):
    """Each turn shows another shade of grey; a move names a point."""

    def task_set(self, split: str) -> TaskSet:
        return TaskSet(split, ["only"], lambda name: self.make_task(name, split))

    def _start(self, task: Task) -> Opening:
        return Opening({"text": "start", "image": paint(10)})

    def _move(self, move: Move) -> Transition:
        x, _, y = move.command.partition(",")
        shown = {"text": "next", "image": paint(10 + 10 * self._turn)}
        return Transition(shown, {"outcome": 1.0}, terminated=self._turn == 3, mark=Mark("point", (float(x), float(y))))


class Pointer:
    """Points at the turn's number."""

    name = "pointer"

    async def act(self, dialogue: Dialogue) -> Completion:
        return Completion(f"{dialogue.turn},2.5")

    async def aclose(self) -> None: ...


def played(pictures: PictureFolder | None) -> Trajectory:
    rollout = Rollout(Shades, Pointer(), 1)
    rollout.pictures = pictures
    try:
        return asyncio.run(rollout.play([Episode("tests/Shades-v0", "train", "only")]))[0]
    finally:
        rollout.close()


def data_of(page: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_a_picture_is_kept_once_and_names_its_pixels(tmp_path: Path) -> None:
    folder = PictureFolder(tmp_path / "x")
    names = [folder.keep(pixels) for pixels in (paint(1), paint(1), paint(2), paint(1, 6, 8))]
    assert len(set(names)) == 3
    assert names[0] == names[1]
    assert sorted(path.name for path in folder.folder.iterdir()) == sorted(set(names))
    with Image.open(folder.folder / names[2]) as image:
        np.testing.assert_array_equal(np.asarray(image), paint(2))


def test_a_turn_names_what_was_seen_before_it_and_where_it_acted(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    folder = PictureFolder(pictures_beside(out))
    write_trajectories(out, [played(folder)])
    (read,) = read_trajectories(out)
    names = [*(turn.image for turn in read.turns), read.final_image]
    shades = [int(np.asarray(Image.open(tmp_path / "run.pictures" / name))[0, 0, 0]) for name in names]
    assert shades == [10, 20, 30, 40]
    assert [turn.mark for turn in read.turns] == [Mark("point", (float(n), 2.5)) for n in range(3)]


def test_no_picture_is_kept_unless_asked_for(tmp_path: Path) -> None:
    trajectory = played(None)
    assert {turn.image for turn in trajectory.turns} == {""}
    assert trajectory.final_image == ""


def test_files_from_before_there_were_pictures_are_read(tmp_path: Path) -> None:
    out = tmp_path / "old.jsonl"
    write_trajectories(out, [Trajectory("e", "t", "train", turns=(Turn("seen", "said"),))])
    plain = json.loads(out.read_text())
    for holder in (plain, *plain["turns"]):
        for name in ("image", "mark", "final_image"):
            holder.pop(name, None)
    out.write_text(json.dumps(plain) + "\n")
    (read,) = read_trajectories(out)
    assert read.turns[0].mark is None


def test_the_page_holds_each_picture_once_with_marks_and_target(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    trajectory = played(PictureFolder(pictures_beside(out)))
    grounded = replace(trajectory, privileged={"box": [4, 4, 8, 8], "size": [16, 12]})
    write_trajectories(out, [trajectory, grounded])
    data = data_of(write_player(open_reels(out), tmp_path / "page.html"))
    assert len(data["pictures"]) == 4
    assert all(p["src"].startswith("data:image/png;base64,") for p in data["pictures"].values())
    first, second = data["episodes"]
    assert first["turns"][1]["mark"] == {"kind": "point", "place": [1.0, 2.5]}
    assert data["pictures"][first["turns"][0]["picture"]]["width"] == 8
    assert first["target"] is None
    assert second["target"] == [2.0, 2.0, 4.0, 4.0], "in pixels of the picture, which is half as large"


def test_nothing_that_was_said_leaves_its_place(tmp_path: Path) -> None:
    turn = Turn(HOSTILE, HOSTILE, reward_terms={HOSTILE: 1.0}, image="x.png")
    hostile = Trajectory(
        HOSTILE, HOSTILE, HOSTILE, system_prompt=HOSTILE, policy=HOSTILE, error=HOSTILE, turns=(turn,),
        final_observation=HOSTILE, privileged={"box": HOSTILE, "size": [0, 0]},
    )  # fmt: skip
    page = write_player([Reel(HOSTILE, [hostile], tmp_path)], tmp_path / "page.html")
    text = page.read_text()
    assert text.count("<script") == 2, "the data and the page's own"
    assert "<img src=x" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "49" not in data_of(page)["episodes"][0]["task"]
    assert "1 pictures are not in the folder" in text


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "secret.txt", "fake.png", "folder.png"])
def test_only_pictures_of_the_folder_are_shown(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "run.pictures"
    (folder / "folder.png").mkdir(parents=True)
    real = PictureFolder(tmp_path).keep(paint(7))
    (tmp_path / real).rename(tmp_path / "secret.png")
    (folder / "secret.txt").write_text("secret")
    (folder / "fake.png").write_text("secret" * 20)
    episode = Trajectory("e", "t", "train", turns=(Turn("seen", "said", image=name),))
    page = write_player([Reel("r", [episode], folder)], tmp_path / "page.html")
    assert data_of(page)["pictures"] == {}


def test_a_page_of_too_many_pictures_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run.jsonl"
    write_trajectories(out, [played(PictureFolder(pictures_beside(out)))])
    monkeypatch.setattr(player, "_MOST_PICTURES_MB", 0)
    page = write_player(open_reels(out), tmp_path / "page.html")
    assert data_of(page)["pictures"] == {}
    assert "4 pictures were left out" in page.read_text()


def test_view_writes_chosen_episodes_and_prints_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run.jsonl"
    write_trajectories(out, [Trajectory("e", f"t{n}", "train", turns=(Turn("seen", "said"),)) for n in range(4)])
    assert main(["view", str(out), "--episode", "2", "--episode", "-1"]) == 0
    page = Path(capsys.readouterr().out.strip())
    assert page == tmp_path / "run.html"
    assert [episode["task"] for episode in data_of(page)["episodes"]] == ["t2", "t3"]


def test_view_of_a_training_run_shows_its_first_and_last_evaluation(tmp_path: Path) -> None:
    for step, label in enumerate(("start", "step-1", "step-2")):
        line = {"label": label, "step": step, "split": "valid", "episodes": 1, "success": {"mean": 0.5}}
        with open(tmp_path / "evals.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")
        write_trajectories(tmp_path / "episodes" / f"{label}.jsonl", [Trajectory("e", label, "valid")])
    assert main(["view", str(tmp_path)]) == 0
    data = data_of(tmp_path / "episodes.html")
    assert [(episode["reel"], episode["task"]) for episode in data["episodes"]] == [(0, "start"), (1, "step-2")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "there is no nowhere: give a file that `agentgym run` wrote"),
        (["empty.jsonl"], "empty.jsonl holds no episodes"),
        (["."], "holds no figures yet"),
        (["bad.jsonl"], "line 1 is no trajectory"),
        (["good.jsonl", "--episode", "1"], "holds 1 episodes and none with number 1"),
        (["good.jsonl", "--out", "good.jsonl"], "is its source"),
        (["good.jsonl", "--out", "."], "is a folder"),
    ],
)
def test_bad_input_is_one_clear_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.jsonl").touch()
    Path("bad.jsonl").write_text('{"env_id": 3}\n')
    write_trajectories("good.jsonl", [Trajectory("e", "t", "train")])
    good = Path("good.jsonl").read_bytes()
    assert main(["view", *arguments]) == 2
    errors = capsys.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1
    assert Path("good.jsonl").read_bytes() == good


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="watching episodes needs jinja2"):
        write_player([Reel("r", [Trajectory("e", "t", "train")], tmp_path)], tmp_path / "page.html")
