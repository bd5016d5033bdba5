"""The memoised engine against ALFWorld's own, and games that it must refuse."""

from __future__ import annotations

import json
import random
import resource
import time
from pathlib import Path
from typing import Any

import pytest
import textworld
from textworld.envs.pddl import PddlEnv

from agentgym_household.alfred import engine as engine_module
from agentgym_household.alfred.alfworld_data import import_alfworld
from agentgym_household.alfred.compiled import GameCache
from agentgym_household.alfred.engine import MemoPddlEnv
from agentgym_household.alfred.errors import GameFileError, UntrustedGameError
from agentgym_household.alfred.generate import draw_recipe, generate_game
from agentgym_household.alfred.translation import find_translation, translate

INFOS = {"won": True, "admissible_commands": True}


@pytest.fixture(scope="module")
def game() -> dict[str, Any]:
    return generate_game(draw_recipe("train", 1))


def test_text_and_commands_equal_the_stock_engine_and_come_5_times_faster() -> None:
    demangler = import_alfworld("alfworld.agents.environment.alfred_tw_env").AlfredDemangler
    stock = demangler(PddlEnv(textworld.EnvInfos(**INFOS)))
    ours = MemoPddlEnv(textworld.EnvInfos(**INFOS))
    stock_s = ours_s = 0.0
    for index in (0, 1, 3, 5):
        data = generate_game(draw_recipe("train", index))
        stock.load(data)
        ours.load(data)
        theirs, mine = stock.reset(), ours.reset()
        assert mine.feedback == theirs.feedback
        chance = random.Random(index)
        for turn in range(25):
            command = chance.choice(theirs["admissible_commands"]) if turn % 9 else "dance"
            start = time.perf_counter()
            theirs, their_score, their_end = stock.step(command)
            middle = time.perf_counter()
            mine, my_score, my_end = ours.step(command)
            ours_s += time.perf_counter() - middle
            stock_s += middle - start
            assert mine.feedback == theirs.feedback, command
            assert mine["admissible_commands"] == theirs["admissible_commands"], command
            assert (my_score, my_end) == (their_score, their_end)
    ours.close()
    assert stock_s / ours_s > 5


def test_state_key_names_states(game: dict[str, Any]) -> None:
    env = MemoPddlEnv()
    env.load(game)
    env.reset()
    start = env.state_key
    env.step("look")
    assert env.state_key == start, "looking changes nothing"
    places = [c for c in env.state["admissible_commands"] if c.startswith("go to ")]
    env.step(places[0])
    first = env.state_key
    env.step(places[1])
    assert len({start, first, env.state_key}) == 3
    env.step(places[0])
    assert env.state_key == first, "back at the same place, the state is the same"
    env.close()


def test_caches_are_bounded_and_memory_does_not_grow(game: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    cache = GameCache(capacity=2)
    monkeypatch.setattr(engine_module, "GAMES", cache)
    env = MemoPddlEnv()
    for index in range(4):
        env.load(generate_game(draw_recipe("valid_unseen", index)))
        env.reset()
    assert len(cache) == 2
    env.load(game)
    peak = 0
    for episode in range(300):
        env.reset()
        for turn in range(3):
            env.step(env.state["admissible_commands"][turn])
        if episode == 100:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 8_000  # kB
    env.close()


def test_translations_are_kept_and_torn_ones_made_again(game: dict[str, Any], tmp_path: Path) -> None:
    made = find_translation(game["pddl_domain"], game["pddl_problem"], tmp_path)
    (entry,) = tmp_path.iterdir()
    whole = entry.read_bytes()
    assert find_translation(game["pddl_domain"], game["pddl_problem"], tmp_path) == made
    assert translate(game["pddl_domain"], game["pddl_problem"]) == made
    entry.write_bytes(whole[:-100])
    assert find_translation(game["pddl_domain"], game["pddl_problem"], tmp_path) == made
    assert [path.read_bytes()[10:] for path in tmp_path.iterdir()] == [whole[10:]]  # gzip's head holds the time


def test_a_folder_that_cannot_be_written_costs_no_game(
    game: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert find_translation(game["pddl_domain"], game["pddl_problem"], tmp_path / "file" / "inside").sas
    assert "cannot be kept" in caplog.text


HOSTILE = "__import__('os').system('touch /tmp/agentgym-owned')"


@pytest.mark.parametrize(
    ("field", "old", "new"),
    [
        ("grammar", "You close the {r.name}.", "{" + HOSTILE + "}"),
        ("grammar", "Your task is to: ", "Your task is to: {" + HOSTILE + "} "),
        ("pddl_domain", "(opened ?r)", "(opened ?l)"),
    ],
)
def test_foreign_rules_are_refused(game: dict[str, Any], field: str, old: str, new: str) -> None:
    assert old in game[field]
    with pytest.raises(UntrustedGameError, match="trust_game_files=True"):
        MemoPddlEnv().load({**game, field: game[field].replace(old, new)})


def test_foreign_rules_are_played_on_request(game: dict[str, Any]) -> None:
    env = MemoPddlEnv(trust_game_files=True)
    env.load({**game, "grammar": game["grammar"].replace("You are in the middle of a room", "{2 + 3} rooms")})
    assert "5 rooms" in env.reset().feedback
    env.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grammar": 3}, "'grammar' is missing or is no text"),
        ({"pddl_problem": None}, "'pddl_problem' is missing"),
        ({"walkthrough": "look"}, "must be a list of commands"),
        ({"pddl_problem": "(define (problem p)"}, "not one balanced"),
        ({"pddl_problem": "(define))"}, "never opened"),
        ({"pddl_problem": "(" * 5000}, "nested deeper"),
        ({"pddl_problem": "(define (problem p) (:domain alfred) (:objects {x} - object))"}, "no plain PDDL name"),
        ({"pddl_problem": "(define (problem p) (:domain alfred) (:init (nonsense a b)))"}, "cannot be translated"),
    ],
)
def test_broken_games_are_refused(game: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(GameFileError, match=message):
        MemoPddlEnv().load({**game, **change})


def test_half_written_file_is_named(game: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "game.tw-pddl"
    path.write_text(json.dumps(game)[:-100])
    with pytest.raises(GameFileError, match=r"game\.tw-pddl: is not whole JSON"):
        MemoPddlEnv().load(path)
