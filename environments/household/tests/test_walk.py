"""Episodes that go where somebody has been before, beside an engine that is stepped each time."""

from __future__ import annotations

import random
from typing import Any

import pytest

from agentgym_household.alfred import compiled
from agentgym_household.alfred import engine as engine_module
from agentgym_household.alfred.compiled import GameCache
from agentgym_household.alfred.engine import MemoPddlEnv
from agentgym_household.alfred.generate import draw_recipe, generate_game
from agentgym_household.alfred.walk import Walk
from agentgym_household.household import HouseholdEnv


def _two_engines(monkeypatch: pytest.MonkeyPatch, index: int) -> tuple[MemoPddlEnv, MemoPddlEnv]:
    """Return two engines with the same game loaded, which share no memory."""
    engines = MemoPddlEnv(), MemoPddlEnv()
    for engine in engines:
        monkeypatch.setattr(engine_module, "GAMES", GameCache())
        engine.load(generate_game(draw_recipe("train", index)))
    return engines


@pytest.mark.parametrize("most", [5, 1_000])
@pytest.mark.parametrize("index", range(3))
def test_walks_that_cross_equal_the_engine(monkeypatch: pytest.MonkeyPatch, index: int, most: int) -> None:
    monkeypatch.setattr(compiled, "MAX_LANDINGS", most)
    plain, engine = _two_engines(monkeypatch, index)
    chance = random.Random(index)
    ways: list[list[str]] = [[]]
    for _ in range(30):
        walk, state = Walk(engine, {}), plain.reset()
        assert walk.opening.observation == state.feedback
        assert walk.opening.admissible_actions == state["admissible_commands"]
        known, way = chance.choice(ways), []
        for turn in range(25):
            own = turn >= len(known) or chance.random() < 0.1
            command = chance.choice([*state["admissible_commands"], "look", "dance"]) if own else known[turn]
            way.append(command)
            before = plain.place
            state, _, won = plain.step(command)
            transition = walk.step(command)
            assert transition.observation == state.feedback
            assert list(transition.admissible_actions or ()) == state["admissible_commands"]
            assert (transition.terminated, transition.success) == (won, won)
            assert transition.reward_terms == {"outcome": float(won)}
            assert transition.state_key == plain.state_key
            assert transition.executable or plain.place == before
            if chance.random() < 0.05:
                assert set(walk.catch_up().facts_and_names()[0]) == set(plain.facts_and_names()[0])
            if won:
                break
        ways.append(way)
        assert len(engine.game.landings) <= most
    if most > len(ways):
        assert len(engine.game.landings) < sum(map(len, ways)), "no way was gone twice"
    plain.close()
    engine.close()


def test_engine_stands_still_on_a_known_way(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, engine = _two_engines(monkeypatch, 1)
    chance, way = random.Random(0), []
    walk = Walk(engine, {})
    choices: Any = walk.opening.admissible_actions
    for _ in range(10):
        way.append(chance.choice(choices))
        choices = walk.step(way[-1]).admissible_actions
    gone = []
    monkeypatch.setattr(engine, "advance", lambda command: gone.append(command) or MemoPddlEnv.advance(engine, command))
    walk = Walk(engine, {})
    for command in way:
        walk.step(command)
    assert gone == []
    walk.step("dance")
    assert gone == [*way, "dance"], "what nobody has tried is asked of the engine, where the episode is"
    plain.close()
    engine.close()


def test_nobody_can_change_what_others_are_told() -> None:
    env = HouseholdEnv(data_dir="generated")
    episodes = []
    for _ in range(3):
        _, info = env.reset(seed=0)
        env.step(info["admissible_actions"][0])
        env.reset(seed=0)
        text, _, _, _, info = env.step(info["admissible_actions"][0])
        episodes.append(repr((text, info)))
        for inside in (info["admissible_actions"], info["reward_terms"], info["privileged"], info["task"]):
            inside.clear()
        assert isinstance(env.admissible_actions, tuple)
    env.close()
    assert episodes == episodes[:1] * 3


@pytest.mark.parametrize("kwargs", [{}, {"progress_reward": 0.5}, {"expert": "wandering"}])
def test_an_episode_played_again_is_the_same_and_so_is_its_expert(kwargs: dict[str, Any]) -> None:
    told = []
    for _ in range(2):
        env = HouseholdEnv(data_dir="generated", **kwargs)
        for _ in range(2):
            told.append([env.reset(seed=5)])
            over = False
            while not over:
                move = env.expert_move()
                told[-1].append((move, env.step(move.command)))
                over = told[-1][-1][1][2] or told[-1][-1][1][3]
        env.close()
    assert told[0][-1][1][-1]["success"]
    assert told == told[:1] * 4


def test_what_was_looked_at_counts_where_the_rules_ask_for_it() -> None:
    game = generate_game(draw_recipe("train", 1))
    rule = "(receptacleAtLocation ?r ?lEnd)\n                    ;(exists"
    assert rule in game["pddl_domain"]
    engine = MemoPddlEnv(trust_game_files=True)
    engine.load({**game, "pddl_domain": game["pddl_domain"].replace(rule, f"(checked ?a) {rule}")})
    walk = Walk(engine, {})
    first = walk.step("inventory")
    go = next(command for command in first.admissible_actions or () if command.startswith("go to "))
    assert first.state_key == walk.opening.state_key
    assert walk.step(go).executable
    walk = Walk(engine, {})
    assert not walk.step(go).executable, "here nobody took stock first"
    assert walk.step("inventory").admissible_actions == first.admissible_actions
    assert walk.step(go).executable
    engine.close()
