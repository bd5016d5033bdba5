"""Household tasks: generated and real games, experts, splits, determinism."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections import Counter, OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from agentgym import make_policy
from agentgym.actions import Move
from agentgym.errors import UnknownNameError, UsageError
from agentgym.evaluate import WorldOptions, plan_episodes, play_plan
from agentgym_household.alfred.alfworld_data import import_alfworld
from agentgym_household.alfred.beliefs import Reader
from agentgym_household.alfred.engine import GAMES, MemoPddlEnv, read_game
from agentgym_household.alfred.errors import GameFileError
from agentgym_household.alfred.expert import Expert
from agentgym_household.alfred.generate import SPLITS, draw_recipe, generate_game
from agentgym_household.alfred.goal import TASK_TYPES
from agentgym_household.alfred.translation import Translation, find_translation
from agentgym_household.household import EXPERTS, HouseholdEnv, read_command

REAL = Path(__file__).parents[4] / "shared" / "data" / "alfworld"
REAL_SPLITS = ("train", "valid_seen")
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the real ALFWorld games are not in ../shared/data")


@pytest.mark.parametrize("style", EXPERTS)
def test_expert_wins_generated_games_of_every_type(style: str) -> None:
    env = HouseholdEnv(data_dir="generated", expert=style)
    results = {}
    for split in SPLITS:
        for task in env.task_set(split)[:20]:
            results[task.id] = (task.kind, task.validate())
    env.close()
    lost = {name: result.detail for name, (_, result) in results.items() if not result.solved}
    assert len(results) == 60
    assert len(lost) <= 1, lost
    assert set(Counter(kind for kind, _ in results.values())) == set(TASK_TYPES)
    assert all(result.turns > 1 for _, result in results.values()), "no goal is true from the start"


@pytest.mark.parametrize("style", ["searching", "sweeping", "wandering"])
def test_expert_needs_nothing_but_the_text(style: str) -> None:
    """An expert beside the world, told the task and what a player reads, says the same in every turn."""
    env = HouseholdEnv(data_dir="generated", expert=style)
    for seed in range(6):
        observation, info = env.reset(seed=seed)
        assert env._goal is not None
        assert env._expert is not None
        beside, reader = Expert(env._goal, style, env._expert.seed), Reader(observation)
        over = False
        while not over:
            command = env.expert_move().command
            assert command == beside.next_command(reader.beliefs)
            observation, _, terminated, truncated, info = env.step(command)
            reader.note(command, observation)
            over = terminated or truncated
        assert info["success"]
    env.close()


def test_experts_take_turns_by_their_weights() -> None:
    task = "pick_heat_then_place_in_recep"
    env = HouseholdEnv(data_dir="generated", expert={"searching": 1, "sweeping": 3}, task_types=[task])
    task_id = env.task_set("train")[0].id

    def first_thought(seed: int) -> str:
        env.reset(seed=seed, options={"task_id": task_id})
        return env.expert_move().thought

    thoughts = [first_thought(seed) for seed in range(60)]
    assert thoughts[:10] == [first_thought(seed) for seed in range(10)]
    shares = Counter("search cabinet" in thought for thought in thoughts)
    assert len(set(thoughts)) == 2
    assert 5 <= shares[False] <= 25, "a quarter looks first where things tend to be, the others at the first cabinet"
    env.close()


def test_wandering_expert_searches_in_an_order_of_chance_and_plans_nothing() -> None:
    env = HouseholdEnv(data_dir="generated", expert="wandering")
    task_id = env.task_set("train")[0].id

    def first_move(seed: int) -> Move:
        env.reset(seed=seed, options={"task_id": task_id})
        return env.expert_move()

    moves = [first_move(seed) for seed in range(12)]
    assert moves[:3] == [first_move(seed) for seed in range(3)]
    assert len({move.command for move in moves}) > 5
    assert not any("search" in move.thought for move in moves)
    env.close()


def test_unknown_or_weightless_experts_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="sweeping"):
        HouseholdEnv(data_dir="generated", expert={"sweping": 1})
    for weights in ({}, {"oracle": 0}, {"oracle": -1, "searching": 2}, {"oracle": float("nan")}, {"oracle": "much"}):
        with pytest.raises(UsageError, match="weights"):
            HouseholdEnv(data_dir="generated", expert=weights)  # type: ignore[arg-type]  # as a recipe may have it


def test_expert_takes_over_after_random_moves() -> None:
    won = 0
    for style in EXPERTS:
        env = HouseholdEnv(data_dir="generated", expert=style, max_turns=100)
        for position in range(12):
            _, info = env.reset(seed=position, options={"task_id": env.task_set("train")[position].id})
            over = False
            for _ in range(15):
                _, _, over, _, info = env.step(str(env.np_random.choice(info["admissible_actions"])))
                if over:
                    break
            while not over:
                _, _, ended, truncated, info = env.step(env.expert_move().command)
                over = ended or truncated
            won += info["success"]
        env.close()
    assert won >= 12 * len(EXPERTS) - 1


def test_random_policy_stays_low() -> None:
    env = HouseholdEnv(data_dir="generated")
    chance, won = np.random.default_rng(0), 0
    for position in range(18):
        task = env.task_set("valid_unseen")[position]
        _, info = env.reset(options={"split": task.split, "task_id": task.id})
        over = False
        while not over:
            _, _, ended, truncated, info = env.step(str(chance.choice(info["admissible_actions"])))
            over = ended or truncated
        won += info["success"]
    env.close()
    assert won <= 3


def test_splits_are_disjoint() -> None:
    drawn = {
        split: {(r.task_type, r.target, r.parent, r.scene) for r in (draw_recipe(split, i) for i in range(1200))}
        for split in SPLITS
    }
    assert not drawn["train"] & drawn["valid_seen"]
    rooms = {split: {combination[3] for combination in drawn[split]} for split in SPLITS}
    assert rooms["valid_seen"] <= rooms["train"]
    assert not rooms["train"] & rooms["valid_unseen"]
    assert all(len(combinations) > 150 for combinations in drawn.values())


_EPISODE = """
import hashlib, sys
from agentgym_household.household import HouseholdEnv
env = HouseholdEnv(data_dir="generated", expert="searching")
seen = hashlib.sha256()
for seed in (3, 4):
    text, info = env.reset(seed=seed, options={"split": "valid_seen"})
    over = False
    while not over:
        seen.update(repr((text, info["task"], info["state_key"], info["admissible_actions"])).encode())
        text, _, ended, truncated, info = env.step(env.expert_move().command)
        over = ended or truncated
print(seen.hexdigest())
"""


def test_threads_that_import_at_once_leave_the_users_variable_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: import_alfworld("alfworld.gen.constants"), range(4000)))
    assert "ALFWORLD_DATA" not in os.environ


def test_a_new_game_is_translated_beside_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AGENTGYM_CACHE", str(tmp_path))
    monkeypatch.setattr(GAMES, "_games", OrderedDict())  # another test may have played it in this process
    here, there = HouseholdEnv(data_dir="generated"), HouseholdEnv(data_dir="generated")
    here.reset(seed=0)
    begun, may_end = threading.Event(), threading.Event()

    def slowly(domain: str, problem: str) -> Translation:
        begun.set()
        assert may_end.wait(60)
        return find_translation(domain, problem)

    monkeypatch.setattr("agentgym_household.alfred.compiled.find_translation", slowly)
    with ThreadPoolExecutor(1) as thread:
        opening = thread.submit(there.reset, seed=1)
        assert begun.wait(60)
        here.step("look")
        assert not opening.done()
        may_end.set()
        assert "Your task is to" in str(opening.result()[0])
    here.close()
    there.close()


def test_same_seed_same_bytes_in_any_process() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", _EPISODE],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "77")
    }
    assert len(digests) == 1
    assert len(digests.pop().strip()) == 64
    game = json.dumps(generate_game(draw_recipe("train", 5)))
    assert (
        hashlib.sha256(game.encode()).digest()
        == hashlib.sha256(json.dumps(generate_game(draw_recipe("train", 5))).encode()).digest()
    )


def test_task_types_restrict_the_tasks() -> None:
    env = HouseholdEnv(data_dir="generated", task_types=["pick_two_obj_and_place", "look_at_obj_in_light"])
    tasks = env.task_set("train")
    assert Counter(task.kind for task in tasks[:10]) == {TASK_TYPES[1]: 5, TASK_TYPES[5]: 5}
    assert all(tasks.position(tasks.ids[i]) == i for i in range(20))
    _, info = env.reset(seed=1, options={"task_types": ["look_at_obj_in_light"]})
    assert info["task"]["kind"] == "look_at_obj_in_light"
    env.close()
    with pytest.raises(UnknownNameError, match="task type"):
        HouseholdEnv(data_dir="generated", task_types=["pick"])
    with pytest.raises(UsageError, match="task_types is empty"):
        HouseholdEnv(data_dir="generated", task_types=[])
    with pytest.raises(UnknownNameError, match="expert"):
        HouseholdEnv(data_dir="generated", expert="genius")
    with pytest.raises(UnknownNameError, match="task of split"):
        HouseholdEnv(data_dir="generated").reset(options={"task_id": "train/nothing-0/0"})


def test_put_is_an_alias_of_move_and_nonsense_is_not_executable() -> None:
    assert read_command("put  apple 1 in/on fridge 1") == "move apple 1 to fridge 1"
    assert read_command("put apple 1 in fridge 1") == "move apple 1 to fridge 1"
    env = HouseholdEnv(data_dir="generated", task_types=["pick_and_place_simple"])
    _, info = env.reset(seed=2)
    key = info["state_key"]
    text, reward, _, _, info = env.step("dance")
    assert (text, reward, info["executable"], info["state_key"]) == ("Nothing happens.", 0.0, False, key)
    over = False
    while not over:
        command = env.expert_move().command
        if command.startswith("move "):
            command = command.replace("move ", "put ").replace(" to ", " in/on ")
        _, reward, over, _, info = env.step(command)
        assert info["executable"], command
    assert info["success"]
    assert info["reward_terms"] == {"outcome": 1.0}
    env.close()


@needs_real
def test_real_games_are_won_by_their_walkthrough() -> None:
    paths = sorted(REAL.glob("**/game.tw-pddl"))
    assert len(paths) == 72
    engine = MemoPddlEnv()
    for path in paths:
        engine.load(path)
        won = engine.reset()["won"]
        for command in read_game(path)["walkthrough"]:
            _, _, won = engine.step(command)
        assert won, path
    engine.close()


@needs_real
@pytest.mark.parametrize("style", EXPERTS)
def test_expert_wins_real_games(style: str) -> None:
    env = HouseholdEnv(data_dir=REAL, expert=style, max_turns=100)
    tasks = [task for split in REAL_SPLITS for task in env.task_set(split)]
    assert len(tasks) == 72
    results = [task.validate() for task in tasks]
    env.close()
    assert sum(result.solved for result in results) >= 0.95 * len(results)


def write_game(root: Path, task: str, **change: object) -> None:
    folder = root / "json_2.1.1" / "train" / task / "trial_1"
    folder.mkdir(parents=True)
    (folder / "game.tw-pddl").write_text(json.dumps({**generate_game(draw_recipe("train", 0)), **change}))


def test_own_games_are_filtered_and_an_empty_set_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_game(tmp_path, "pick_and_place_simple-Mug-None-Shelf-1", solvable=False)
    write_game(tmp_path, "pick_and_place_with_movable_recep-Pen-Mug-Shelf-2")
    write_game(tmp_path, "pick_and_place_simple-AppleSliced-None-Shelf-3")
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path))
    with pytest.raises(GameFileError, match=r"no solvable game in .*2 movable or sliced, 1 not marked solvable"):
        HouseholdEnv().reset(seed=0)
    write_game(tmp_path, "pick_and_place_simple-Mug-None-Shelf-4")
    env = HouseholdEnv()
    assert list(env.task_set("train").ids) == ["train/pick_and_place_simple-Mug-None-Shelf-4/trial_1"]
    assert env.task_set("train")[0].validate().solved
    env.close()
    with pytest.raises(GameFileError, match="none was there"):
        HouseholdEnv().task_set("valid_unseen")
    with pytest.raises(GameFileError, match="is no folder"):
        HouseholdEnv(data_dir=tmp_path / "absent")


@pytest.mark.parametrize("style", EXPERTS)
def test_expert_errs_recovers_and_thinks_aloud(style: str) -> None:
    kwargs = {"data_dir": "generated", "expert": style, "action_format": "thought", "system_prompt": ""}
    options = WorldOptions(concurrency=2, env_kwargs=kwargs)
    plan = plan_episodes("agentgym/Household-v0", "train", 12, 0, kwargs)
    for mistakes in (0.0, 0.25):
        played = asyncio.run(play_plan(plan, make_policy("expert", mistakes=mistakes), options))
        turns = [turn for trajectory in played for turn in trajectory.turns]
        erred = sum(turn.mistake for turn in turns) / len(turns)
        assert abs(erred - mistakes) < 0.12
        assert sum(bool(t.success) for t in played) >= 11
        assert not any(turn.invalid_action for turn in turns)
        for trajectory in played:
            assert trajectory.system_prompt == ""
            kind = trajectory.task_id.split("-")[1].lower()
            assert all(kind in turn.action.rpartition(">")[0] for turn in trajectory.turns)
    assert any(turn.mistake and not turn.executable for turn in turns), "some slips are refused by the world"


def test_thought_names_what_is_held_and_where() -> None:
    env = HouseholdEnv(data_dir="generated", expert="searching")
    _, info = env.reset(seed=0)
    assert ", at nowhere, hold nothing, see nothing, search " in env.expert_move().thought
    while "success" not in info:
        move = env.expert_move()
        _, _, _, _, info = env.step(move.command)
        if move.command.startswith("take "):
            thing, place = move.command.removeprefix("take ").split(" from ")
            assert move.thought.endswith(f"at {place}, hold nothing, see {thing}")
            assert f"hold {thing}," in env.expert_move().thought
            break
    env.close()


def test_searching_expert_plans_once_and_keeps_to_its_plan() -> None:
    env = HouseholdEnv(data_dir="generated", expert="searching", task_types=["pick_heat_then_place_in_recep"])
    lengths = []
    for seed in range(8):
        env.reset(seed=seed)
        _, _, planned = env.expert_move().thought.partition(", search ")
        visited = []
        while (move := env.expert_move()).command.startswith(("go to ", "open ")):
            assert not visited or "search" not in move.thought
            if move.command.startswith("go to "):
                visited.append(move.command.removeprefix("go to "))
            env.step(move.command)
        assert visited[:8] == planned.split(", ")[: len(visited)]
        lengths.append(len(visited))
    assert max(lengths) > 2, "some search takes more than a glance"
    env.close()
