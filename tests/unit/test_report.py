"""The report of a run: written from files that the real trainer's writers made."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agentgym.errors import UsageError
from agentgym.evaluate import compare, summarize
from agentgym.report import write_report
from agentgym.report.curves import moving_mean
from agentgym.report.episodes import GAINED, pick_pairs
from agentgym.report.record import load_run
from agentgym.report.summary import duration, points, summarize_run
from agentgym.stats import Interval
from agentgym.train.config import Recipe
from agentgym.train.figures import describe_episodes, describe_speed
from agentgym.train.metrics import RunLog
from agentgym.trajectory import Trajectory, Turn, write_trajectories

KINDS = ("pick_and_place_simple", "look_at_obj_in_light", "pick_clean_then_place", "pick_heat_then_place")
HOSTILE = "<script>document.title='owned'</script></pre><img src=x onerror=alert(1)>\x1b[2J\u202e$x_{$ & {{ 7*7 }}"
UPDATES = 24


def play(number: int, skill: float, split: str, chance: np.random.Generator, said: str = "") -> Trajectory:
    kind = KINDS[number % len(KINDS)]
    hardness = np.random.default_rng([number, split == "train"]).random()
    won = bool(skill + 0.15 * chance.normal() > hardness)
    length = int(chance.integers(4, 9)) if won else 12
    turns = []
    for place in range(length):
        last, act = place == length - 1, ("go to countertop 1", "take mug 1", "open fridge 1")[place % 3]
        ids = tuple(range(10, 14 + place % 3))
        turns.append(
            Turn(
                observation=said if said and place == 1 else f"You arrive at countertop {place}. You see a mug 1.",
                action=act,
                prompt_ids=(1, 2, 3),
                token_ids=ids,
                logprobs=tuple(-float(x) for x in chance.exponential(0.4, len(ids))),
                span=(3, 3 + len(ids)),
                reward_terms={"outcome": 1.0} if won and last else {},
                executable=place % 4 != 2,
                invalid_action=place == 3,
            )
        )
    return Trajectory(
        env_id="tests/House-v0", task_id=f"{split}/{number}", split=split, kind=kind, seed=number, policy="vllm",
        system_prompt="You are in a house.", turns=tuple(turns), final_observation="You won." if won else "Time is up.",
        success=won, ended="terminated" if won else "truncated",
    )  # fmt: skip


def evaluate(log: RunLog, label: str, step: int, episodes: Sequence[Trajectory]) -> None:
    """Write what the trainer writes about an evaluation."""

    def plain(interval: Interval | None) -> dict[str, float | None] | None:
        if interval is None:
            return None
        found = interval.as_dict()
        return {"mean": found["estimate"], "low": found["low"], "high": found["high"]}

    write_trajectories(log.folder / "episodes" / f"{label}.jsonl", episodes)
    found = summarize(episodes)
    by_kind = {
        kind: {"episodes": r.episodes, "success": plain(r.success), "return": plain(r.episode_return)}
        for kind, r in found.by_kind.items()
    }
    log.write_eval(
        {"label": label, "step": step, "split": "valid_unseen", "episodes": found.overall.episodes,
         "success": plain(found.success), "return": plain(found.episode_return), "turns/mean": found.turns,
         "by_kind": by_kind}
    )  # fmt: skip


def make_run(folder: Path, updates: int = UPDATES, said: str = "", tasks: int = 60, finish: bool = True) -> Path:
    recipe = Recipe.model_validate(
        {
            "run": {"name": "house-tiny", "out_dir": str(folder)},
            "env": {"id": "tests/House-v0", "split": "train"},
            "model": {"name": "tiny"},
            "warmstart": {"episodes": 300},
            "grpo": {"updates": UPDATES if finish else UPDATES + 6},
            "log": {"tensorboard": False},
        }
    )
    chance = np.random.default_rng(0)
    with RunLog(recipe) as log:
        (log.folder / "recipe.json").write_text(recipe.model_dump_json(indent=2))
        for step in range(30):
            log.write("warmstart", step + 1, {"loss": 5 * 0.9**step + 0.4, "grad_norm": 2.0})
        evaluate(log, "warmstart", 0, [play(i, 0.42, "valid_unseen", chance, said) for i in range(tasks)])
        for step in range(updates):
            skill = 0.4 + 0.35 * (1 - np.exp(-step / 9))
            played = [play(i + 8 * step, skill, "train", chance) for i in range(8) for _ in range(8)]
            marks = np.cumsum([0.0, *(np.array([9.0, 4.0, 0.8]) * chance.uniform(0.9, 1.15, 3))])
            learned = {"tokens/trained": 21_000, "kl": 0.0, "entropy": 1.1 * 0.97**step, "clip_fraction": 0.002 * step,
                       "grad_norm": float(chance.uniform(0.4, 0.9)), "loss": None, "sampler_gap/max": 2e-4}  # fmt: skip
            speed = describe_speed(marks.tolist(), played, {**learned})
            sync = {"sync_error": 2.5e-5 if step % 10 == 0 else None, "groups/tied": int(chance.integers(0, 4))}
            log.write("grpo", step + 1, {**describe_episodes(played), **learned, **sync, **speed})
            if (step + 1) % 8 == 0 and step + 1 < UPDATES:
                evaluate(log, f"step-{step + 1:06d}", step + 1,
                         [play(i, skill, "valid_unseen", chance) for i in range(tasks)])  # fmt: skip
        if finish and updates:
            evaluate(log, "final", updates, [play(i, 0.72, "valid_unseen", chance, said) for i in range(tasks)])
    return recipe.run_dir


class Page(html.parser.HTMLParser):
    """What a browser would make of a page: its scripts, its handlers, what it would fetch, its text."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        self.text = " ".join("".join(self.words).replace("\u00a0", " ").split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script" and not self.scripts:
            self.scripts.append(data)
        self.words.append(data)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("runs"), said=HOSTILE)
    assert write_report(run) == run / "report.html"
    return run


def png_width(path: Path) -> int:
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return int(struct.unpack(">I", data[16:20])[0])


def test_the_page_tells_the_result_that_the_episodes_hold(finished: Path) -> None:
    run, page = load_run(finished), Page(finished / "report.html")
    gain = compare(summarize(run.episodes["warmstart"]), summarize(run.episodes["final"]))
    assert gain.low > 0
    assert f"({points(gain.estimate)} points, 95 % interval {points(gain.low)} to {points(gain.high)})" in page.text
    assert "on 60 held-out tasks rose from" in page.text
    assert "warm-started on 300 expert episodes, then trained with GRPO on tests/House-v0" in page.text
    assert "run.name=house-tiny-again" in page.text
    assert '"tasks_per_update": 8' in page.text
    assert 'class="notes"' not in page.source


def test_the_picture_is_twice_as_wide_as_it_is_shown(finished: Path) -> None:
    assert png_width(finished / "curves.png") == 1800


def test_the_page_fetches_nothing(finished: Path) -> None:
    page = Page(finished / "report.html")
    for tag, attributes in page.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form", "audio", "video"}
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
    assert not re.search(r"@import|url\((?!#)", page.source)


def test_hostile_text_stays_text(finished: Path) -> None:
    page = Page(finished / "report.html")
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert "<script>document.title='owned'</script></pre><img src=x onerror=alert(1)>" in page.text
    assert "{{ 7*7 }}" in page.text
    assert "\x1b" not in page.source
    assert "\\x1b[2J\\u202e" in page.text
    policy = next(a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv"))
    digest = base64.b64encode(hashlib.sha256(page.scripts[0].encode()).digest()).decode()
    assert policy is not None
    assert f"script-src 'sha256-{digest}'" in policy


def test_hostile_names_reach_no_markup(tmp_path: Path) -> None:
    run = make_run(tmp_path, updates=4, tasks=8)
    lines = [json.loads(line) for line in (run / "evals.jsonl").read_text().splitlines()]
    for line in lines:
        found = next(iter(line["by_kind"].values()))
        line["by_kind"] = {HOSTILE: found, "font: 'x": found, "\ud800$\\frac": found, "家 🏠": found}
        line["split"] = HOSTILE
    (run / "evals.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["run"]["name"] = recipe["env"]["id"] = HOSTILE
    (run / "recipe.json").write_text(json.dumps(recipe))
    page = Page(write_report(run))
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert "img" not in [tag for tag, _ in page.tags]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_pairs_are_the_same_task_and_gains_come_first(finished: Path) -> None:
    run = load_run(finished)
    table = pick_pairs(run)
    before = {t.task_id: t.success for t in run.episodes["warmstart"]}
    after = {t.task_id: t.success for t in run.episodes["final"]}
    gained = [task for task in before if after[task] and not before[task]]
    assert table.counts[GAINED] == len(gained)
    assert sum(table.counts.values()) == 60
    assert len(table.pairs) == 12
    assert [pair.change for pair in table.pairs[:6]] == [GAINED] * 6
    assert len({pair.kind for pair in table.pairs[:4]}) == 4
    for pair in table.pairs:
        assert [view.won for view in pair.episodes] == [before[pair.task_id], after[pair.task_id]]
    refused = [turn for view in table.pairs[0].episodes for turn in view.turns if turn.flags]
    assert {flag for turn in refused for flag in turn.flags} == {"no move", "refused by the world"}
    paid = table.pairs[0].episodes[1].turns[-1]
    assert paid.rewards == ("outcome +1",)
    assert all(0 < p <= 1 for p in paid.probabilities)
    assert paid.probabilities


def test_a_run_in_progress_says_what_is_missing(tmp_path: Path) -> None:
    run = make_run(tmp_path, updates=5, tasks=8, finish=False)
    with open(run / "metrics.jsonl", "a") as file:
        file.write("\n".join(['{"phase": "grpo", "step": 6, "reward/mean": NaN, "loss": Infinity}', "[1]", '{"pha']))
    page = Page(write_report(run))
    assert "The run is not finished: 6 of 30 updates are done." in page.text
    assert "The last line of metrics.jsonl is torn" in page.text
    assert "of metrics.jsonl is no JSON object and was left out." in page.text
    assert "There is no evaluation after an update yet" in page.text
    assert "Before any update, success on 8 held-out tasks is" in page.text
    assert "Episodes of the one evaluation that there is." in page.text


def test_a_warm_start_alone_is_reported(tmp_path: Path) -> None:
    run = make_run(tmp_path, updates=0, tasks=8, finish=False)
    (run / "evals.jsonl").unlink()
    (run / "recipe.json").write_text('{"run": {"name": ')
    page = Page(write_report(run))
    assert "No reinforcement-learning update has been done yet." in page.text
    assert "evals.jsonl is not there." in page.text
    assert "recipe.json cannot be read" in page.text
    assert "Warm start: loss per token" in page.text
    assert "A language model was not trained yet" in page.text
    assert "Training curves" not in page.text
    assert png_width(run / "curves.png") == 1800


def test_broken_episodes_cost_only_themselves(tmp_path: Path) -> None:
    run = make_run(tmp_path, tasks=8)
    (run / "episodes" / "final.jsonl").write_text('{"env_id": 3}\n')
    page = Page(write_report(run))
    assert "Episodes of 'final' are missing from line 1 on" in page.text
    assert "The paired difference needs the episodes of both evaluations" in page.text
    assert page.text.count("95 % interval") >= 2


def test_an_evaluation_cannot_name_a_file_elsewhere(tmp_path: Path) -> None:
    run = make_run(tmp_path, updates=2, tasks=4)
    write_trajectories(run / "secret.jsonl", load_run(run).episodes["warmstart"])
    text = (run / "evals.jsonl").read_text().replace('"final"', '"../secret"')
    (run / "evals.jsonl").write_text(text)
    assert load_run(run).episodes["../secret"] == []
    assert "names no file of this run" in Page(write_report(run)).text


@pytest.mark.parametrize("made", ["nothing", "an empty directory", "an empty file"])
def test_no_run_is_a_user_error(tmp_path: Path, made: str) -> None:
    run = tmp_path / "run"
    if made != "nothing":
        run.mkdir()
    if made == "an empty file":
        (run / "metrics.jsonl").touch()
    with pytest.raises(UsageError, match="agentgym train"):
        write_report(run)


def test_a_change_within_the_noise_is_not_called_a_gain(tmp_path: Path) -> None:
    run = make_run(tmp_path, updates=3, tasks=12)
    episodes = (run / "episodes" / "warmstart.jsonl").read_bytes()
    (run / "episodes" / "final.jsonl").write_bytes(episodes)
    headline = summarize_run(load_run(run))
    assert headline.gain is not None
    assert headline.gain.estimate == 0
    assert "did not change clearly" in headline.sentence
    assert "(0 points, no task changed)" in headline.sentence


def test_an_update_done_again_after_a_resume_counts_once(tmp_path: Path) -> None:
    run = make_run(tmp_path, updates=3, tasks=4)
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"phase": "grpo", "step": 2, "success/mean": 0.125}\n')
    updates = load_run(run).updates
    assert [line["step"] for line in updates] == [1, 2, 3]
    assert updates[1]["success/mean"] == 0.125


def test_moving_mean_passes_over_what_is_missing() -> None:
    values = np.array([1.0, np.nan, 3.0, 5.0, np.nan, np.nan, np.nan])
    np.testing.assert_allclose(moving_mean(values, 3), [1.0, 2.0, 4.0, 4.0, 5.0, np.nan, np.nan])


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.25, "0.2 s"), (59.0, "59 s"), (843.0, "14 min 3 s"), (7260.0, "2 h 1 min")]
)
def test_durations_are_said_as_people_do(seconds: float, said: str) -> None:
    assert duration(seconds).replace("\u00a0", " ") == said


def test_the_same_run_gives_the_same_page(finished: Path) -> None:
    first: Any = (finished / "report.html").read_bytes(), (finished / "curves.png").read_bytes()
    write_report(finished)
    assert first == ((finished / "report.html").read_bytes(), (finished / "curves.png").read_bytes())
