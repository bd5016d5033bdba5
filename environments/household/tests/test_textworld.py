"""TextWorld-v0 played for real: generated games, a user's own games, and what goes wrong with either."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from agentgym.actions import Move
from agentgym.errors import UnknownNameError, UsageError
from agentgym_household.textworld_env import TextWorldEnv
from agentgym_household.tw.options import CHALLENGES, SPLITS

REAL_GAMES = Path(__file__).parents[4] / "shared" / "data" / "textworld_games"
needs_real_games = pytest.mark.skipif(
    not REAL_GAMES.is_dir(), reason="the real TextWorld games, ../shared/data/textworld_games, are not here"
)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("textworld")


@pytest.fixture(scope="session")
def env(cache_dir: Path) -> TextWorldEnv:
    made = TextWorldEnv(cache_dir=cache_dir, tasks_per_split=4)
    assert made.prepare("train", progress=False) == 4
    return made


@pytest.fixture(scope="session")
def own_games(env: TextWorldEnv, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one good game, as a user would have it."""
    folder = tmp_path_factory.mktemp("own")
    story = env.find_story(env.task_set("train")[3])
    shutil.copy(story, folder / "mine.z8")
    shutil.copy(story.with_suffix(".json"), folder / "mine.json")
    return folder


def play_randomly(env: TextWorldEnv, task_id: str, chance: np.random.Generator) -> tuple[float, bool]:
    _, info = env.reset(options={"task_id": task_id})
    episode_return, over = 0.0, False
    while not over:
        choices = info["admissible_actions"]
        _, reward, terminated, truncated, info = env.step(choices[int(chance.integers(len(choices)))])
        episode_return, over = episode_return + reward, terminated or truncated
    return episode_return, info["success"]


@pytest.mark.parametrize("position", range(4), ids=CHALLENGES)
def test_expert_wins_every_challenge_with_return_1(env: TextWorldEnv, position: int) -> None:
    task = env.task_set("train")[position]
    assert task.kind == CHALLENGES[position]
    result = task.validate()
    assert result.solved, result.detail
    assert result.episode_return == pytest.approx(1.0, abs=1e-9)
    assert result.turns > 1


def test_reward_is_the_rise_of_the_score(env: TextWorldEnv) -> None:
    env.reset(options={"task_id": env.task_set("train")[1].id})
    rewards, over = [], False
    while not over:
        _, reward, over, _, info = env.step(env.expert_move().command)
        assert info["reward_terms"] == {"score": reward}
        rewards.append(reward)
    points = [reward for reward in rewards if reward]
    assert len(points) > 3, "a cooking game pays on the way, not only at its end"
    assert points == pytest.approx([1 / len(points)] * len(points))
    assert info["success"] is True


def test_losing_ends_the_episode_without_success(env: TextWorldEnv) -> None:
    """Eating an ingredient of the recipe loses the cooking game."""
    tasks = env.task_set("train")
    env.reset(options={"task_id": tasks[1].id})
    over = False
    for _ in range(30):
        eatable = [command for command in env.admissible_actions or () if command.startswith("eat ")]
        _, _, over, truncated, info = env.step(eatable[0] if eatable else env.expert_move().command)
        if over or truncated:
            break
    assert over
    assert info["success"] is False
    assert not truncated


def test_random_play_stays_low(env: TextWorldEnv) -> None:
    chance = np.random.default_rng(0)
    results = [play_randomly(env, task.id, chance) for task in env.task_set("train") for _ in range(6)]
    assert sum(won for _, won in results) / len(results) <= 0.25
    assert np.mean([total for total, _ in results]) < 0.5


def test_executable_and_state_key_follow_the_world(env: TextWorldEnv) -> None:
    _, opening = env.reset(options={"task_id": env.task_set("train")[3].id})
    key = opening["state_key"]
    _, _, _, _, info = env.step("look")
    assert info["executable"] is True
    assert info["state_key"] == key
    for useless in (
        "foo bar",
        "take moon",
        "tw-extra-infos score",
        "me, restart",
        "transcrip",
        "look. look",
        "a\u00e9",
    ):
        text, reward, _, _, info = env.step(useless)
        assert text
        assert reward == 0.0
        assert (info["executable"], info["state_key"]) == (False, key), useless
    there = next(c for c in env.admissible_actions or () if c.startswith("go "))
    _, _, _, _, info = env.step(there)
    assert info["executable"] is True
    assert info["state_key"] != key
    opposite = {"north": "south", "south": "north", "east": "west", "west": "east"}
    _, _, _, _, info = env.step(f"go {opposite[there.removeprefix('go ')]}")
    assert info["state_key"] == key


def test_opening_shows_neither_banner_nor_walkthrough(env: TextWorldEnv) -> None:
    for task in env.task_set("train"):
        text, info = env.reset(options={"task_id": task.id})
        assert "$$" not in text
        assert info["privileged"]["walkthrough"] not in text
        assert "-=" in text


@pytest.mark.parametrize("position", range(4), ids=CHALLENGES)
def test_expert_finds_back_after_strange_moves(env: TextWorldEnv, position: int) -> None:
    """It wins after two moves that were not its own, unless those ended the game."""
    task_id = env.task_set("train")[position].id
    wins = plays = 0
    for seed in range(4):
        chance = np.random.default_rng(seed)
        env.reset(options={"task_id": task_id})
        over = False
        for _ in range(2):
            choices = [
                c for c in env.admissible_actions or () if c.split()[0] in ("go", "open", "close", "take", "put")
            ]
            if choices and not over:
                _, _, over, _, info = env.step(choices[int(chance.integers(len(choices)))])
        if over:
            continue
        plays += 1
        truncated = False
        while not over and not truncated:
            _, _, over, truncated, info = env.step(env.expert_move().command)
        wins += info["success"]
    assert plays >= 2
    assert wins == plays


def test_expert_finds_back_where_textworld_has_no_plan(cache_dir: Path) -> None:
    """TextWorld's own plan is empty for cooking games with ``drop``."""
    options = {"recipe": 1, "take": 1, "go": 1, "drop": True}
    env = TextWorldEnv(cache_dir=cache_dir, challenge="cooking", game_options=options, tasks_per_split=1, max_turns=60)
    env.reset(options={"task_id": env.task_set("train")[0].id})
    env.step("take cookbook")
    over = truncated = False
    while not over and not truncated:
        _, _, over, truncated, info = env.step(env.expert_move().command)
    assert info["success"] is True
    env.close()


def test_gymnasium_accepts_it(env: TextWorldEnv) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that an env made without gym.make has no spec
        check_env(env, skip_render_check=True)


def test_resets_do_not_grow_memory(env: TextWorldEnv) -> None:
    """New sessions and resets of one session both give back what they took."""
    tasks = [task.id for task in env.task_set("train")]

    def cycle(rounds: int) -> None:
        for i in range(rounds):
            env.reset(options={"task_id": tasks[i // 2 % 4]})  # every other reset opens another game
            env.step("look")

    def resident_mb() -> float:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    cycle(24)
    before_mb = resident_mb()
    cycle(100)
    assert resident_mb() - before_mb < 12.0


def test_environment_that_nobody_closed_is_collected_safely(env: TextWorldEnv, cache_dir: Path) -> None:
    """An environment and its task hold each other; the collector must not free the interpreter under the engine."""
    program = (
        "import gc, sys\n"
        "from agentgym_household.textworld_env import TextWorldEnv\n"
        "for seed in range(3):\n"
        "    env = TextWorldEnv(cache_dir=sys.argv[1], tasks_per_split=4)\n"
        "    env.reset(seed=seed)\n"
        "    env.step('look')\n"
        "    del env\n"
        "    gc.collect()\n"
        "left_open = TextWorldEnv(cache_dir=sys.argv[1], tasks_per_split=4)\n"
        "left_open.reset(seed=0)\n"
    )
    path = os.pathsep.join(part for part in sys.path if part)
    ran = subprocess.run(
        [sys.executable, "-c", program, str(cache_dir)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")


@needs_real_games
def test_real_games_are_won_by_their_walkthrough() -> None:
    env = TextWorldEnv(games_dir=REAL_GAMES)
    assert env.splits == ("train",)
    tasks = list(env.task_set("train"))
    assert [task.id for task in tasks] == ["tw-rewardsDense_goalDetailed", "tw-rewardsSparse_goalNone"]
    for task in tasks:
        result = task.validate()
        assert (result.solved, result.turns) == (True, 12)
        assert result.episode_return == pytest.approx(1.0, abs=1e-9)
    env.close()


@needs_real_games
def test_real_sparse_game_pays_at_the_end_and_dense_on_the_way() -> None:
    env = TextWorldEnv(games_dir=REAL_GAMES)
    paid = {}
    for task in env.task_set("train"):
        env.reset(options={"task_id": task.id})
        paid[task.id] = [env.step(env.expert_move().command)[1] for _ in range(12)]
    dense, sparse = paid["tw-rewardsDense_goalDetailed"], paid["tw-rewardsSparse_goalNone"]
    assert dense == pytest.approx([0.1] * 9 + [0.0, 0.0, 0.1])
    assert sparse == pytest.approx([0.0] * 11 + [1.0])
    env.close()


def test_own_games_may_lie_in_folders_of_splits(own_games: Path, tmp_path: Path) -> None:
    shutil.copytree(own_games, tmp_path / "valid_unseen")
    env = TextWorldEnv(games_dir=tmp_path)
    assert env.splits == ("valid_unseen",)
    assert env.task_set("valid_unseen")[0].validate().solved
    with pytest.raises(UnknownNameError, match="unknown split 'train'"):
        env.task_set("train")
    env.close()


def test_closed_environment_begins_again(env: TextWorldEnv) -> None:
    task_id = env.task_set("train")[0].id
    first, _ = env.reset(options={"task_id": task_id})
    env.close()
    with pytest.raises(UsageError, match="reset"):
        env.step("look")
    with pytest.raises(UsageError, match="reset"):
        env.expert_move()
    again, _ = env.reset(options={"task_id": task_id})
    assert again == first
    assert env.action_format.parse("look") == Move("look")


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"challenge": "coin_colector"}, UnknownNameError, "Did you mean 'coin_collector'"),
        ({"challenge": []}, UsageError, "at least one"),
        ({"difficulty": "nightmare"}, UnknownNameError, "easy, hard, medium"),
        ({"split": "test"}, UnknownNameError, "train, valid_seen, valid_unseen"),
        ({"challenge": "treasure_hunter", "game_options": {"level": 31}}, UsageError, "from 1 to 30, got 31"),
        ({"challenge": "treasure_hunter", "game_options": {"level": "5"}}, UsageError, "an integer from 1 to 30"),
        ({"challenge": "coin_collector", "game_options": {"level": 0}}, UsageError, "from 1 to 300, got 0"),
        ({"challenge": "coin_collector", "game_options": {"level": 299}}, UsageError, "297 rooms"),
        ({"challenge": "cooking", "game_options": {"go": 7}}, UsageError, "one of 1, 6, 9, 12"),
        ({"challenge": "cooking", "game_options": {"recipe": 2, "take": 3}}, UsageError, "lower 'take'"),
        ({"challenge": "cooking", "game_options": {"bake": True}}, UnknownNameError, "cook"),
        ({"challenge": "custom", "game_options": {"quest_length": True}}, UsageError, "quest_length"),
        ({"game_options": {"level": 3}}, UnknownNameError, "Give options by challenge"),
        ({"game_options": {"cooking": 3}}, UsageError, "must map options"),
        ({"tasks_per_split": 0}, UsageError, "tasks_per_split"),
        ({"games_dir": "/nowhere/at/all"}, UsageError, "is no folder"),
    ],
)
def test_bad_arguments_say_what_to_do(kwargs: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TextWorldEnv(**kwargs)


def test_unknown_split_and_task(env: TextWorldEnv) -> None:
    with pytest.raises(UnknownNameError, match="split"):
        env.prepare("test")
    for wrong in ("coin_collector:level110:train:99999", "coin_collector:level110:valid_seen:00000", "", "a:b:c:0x1"):
        with pytest.raises(UnknownNameError, match="task of split 'train'"):
            env.reset(options={"split": "train", "task_id": wrong})


def test_impossible_options_are_the_users_mistake(tmp_path: Path) -> None:
    options = {"world_size": 1, "nb_objects": 1, "quest_length": 1, "quest_breadth": 5}
    env = TextWorldEnv(cache_dir=tmp_path, challenge="custom", game_options=options)
    with pytest.raises(UsageError, match="shorter quest or a larger world"):
        env.reset(seed=0)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_broken_game_folders(own_games: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no .z8 game"):
        TextWorldEnv(games_dir=tmp_path)
    (tmp_path / "old.ulx").write_bytes(b"Glul")
    with pytest.raises(UsageError, match="Glulx"):
        TextWorldEnv(games_dir=tmp_path)
    shutil.copy(own_games / "mine.z8", tmp_path / "mine.z8")
    with pytest.raises(UsageError, match="lacks mine.json"):
        TextWorldEnv(games_dir=tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda story: b"hello", "no Z-machine game"),
        (lambda story: story[: len(story) // 2], "cut short"),
        (lambda story: story[:5000] + bytes([story[5000] ^ 1]) + story[5001:], "checksum"),
    ],
)
def test_broken_story_is_refused_before_the_interpreter(
    own_games: Path, tmp_path: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    shutil.copytree(own_games, tmp_path / "games")
    story = tmp_path / "games" / "mine.z8"
    story.write_bytes(damage(story.read_bytes()))
    env = TextWorldEnv(games_dir=tmp_path / "games")
    with pytest.raises(UsageError, match=message):
        env.reset(seed=0)


@pytest.mark.parametrize("text", ["", "{}", "[1, 2]", '{"version": 1'])
def test_broken_description_is_refused(own_games: Path, tmp_path: Path, text: str) -> None:
    shutil.copytree(own_games, tmp_path / "games")
    (tmp_path / "games" / "mine.json").write_text(text)
    env = TextWorldEnv(games_dir=tmp_path / "games")
    with pytest.raises(UsageError, match=r"mine\.json is no TextWorld game"):
        env.reset(seed=0)


def test_tasks_of_splits_are_disjoint_and_found_by_id() -> None:
    env = TextWorldEnv(tasks_per_split=50)
    seeds: dict[str, set[int]] = {}
    for split in SPLITS:
        tasks = env.task_set(split)
        assert len(tasks) == 50
        assert [tasks.position(task.id) for task in tasks] == list(range(50))
        ids = env._game_ids(split)
        seeds[split] = {seed for i in range(0, 50, 4) for seed in ids.spec(i).seeds}
        assert len(seeds[split]) == 130
        assert all(json.dumps(ids.spec(i).request()) for i in range(4))
    assert not seeds["train"] & seeds["valid_seen"]
    assert not (seeds["train"] | seeds["valid_seen"]) & seeds["valid_unseen"]
