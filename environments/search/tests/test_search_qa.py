"""The environment: contract, expert, formats, what is said to bad queries."""

from __future__ import annotations

import json
from typing import Any

import gymnasium
import numpy as np
import pytest

import agentgym
from agentgym.actions import Move
from agentgym.checks import check_env
from agentgym.errors import UnknownNameError, UsageError
from agentgym_search.generate import FAMILIES, SPLITS
from agentgym_search.search_qa import SearchQAEnv


def start(env: SearchQAEnv, family: str = "element_country_capital", number: int = 0) -> tuple[str, dict[str, Any]]:
    """Play the first train question of a family."""
    ids = [task_id for task_id in env.task_set("train").ids[:200] if task_id.startswith(f"{family}/")]
    observation, info = env.reset(seed=0, options={"task_id": ids[number]})
    return str(observation), info


@pytest.mark.parametrize(("action_format", "fictions"), [("plain", 0), ("json", 0), ("thought", 3)])
def test_contract(action_format: str, fictions: int) -> None:
    results = check_env("agentgym/SearchQA-v0", action_format=action_format, fictions=fictions)
    assert len(results) >= 8
    assert [result for result in results if not result.passed] == []


def test_expert_answers_and_random_play_does_not() -> None:
    env = SearchQAEnv()
    for split in SPLITS:
        lost = {task.id: result for task in env.task_set(split)[:420] if not (result := task.validate()).solved}
        assert len(lost) <= 0.02 * 420, lost
    kinds = {task.kind for task in env.task_set("train")[:21]}
    assert kinds == set(FAMILIES)
    chance, won, episodes = np.random.default_rng(0), 0, 400
    for seed in range(episodes):
        _, info = env.reset(seed=seed)
        over = False
        while not over:
            _, _, ended, truncated, info = env.step(str(chance.choice(info["admissible_actions"])))
            over = ended or truncated
        won += info["success"]
    assert won <= 0.12 * episodes


@pytest.mark.parametrize(
    ("action_format", "say"),
    [
        ("plain", lambda tool, text: f"{tool.upper()} :  {text}  "),
        ("thought", lambda tool, text: f"where? > {tool}: {text}"),
        ("tag", lambda tool, text: f"I think. <action>{tool}: {text}</action>"),
        (
            "json",
            lambda tool, text: json.dumps({"name": tool, "arguments": {"query" if tool == "search" else "text": text}}),
        ),
    ],
)
def test_every_format_searches_and_answers(action_format: str, say: Any) -> None:
    env = SearchQAEnv(action_format=action_format, top_k=2)
    _, info = start(env)
    assert {tool["name"] for tool in info["tools"]} == {"search", "answer"}
    before = info["state_key"]
    observation, reward, terminated, _, info = env.step(say("search", "gallium discovery"))
    assert str(observation).startswith("Gallium (discovery): ")
    assert str(observation).count("\n") == 1
    assert (reward, terminated, info["executable"], info["invalid_action"]) == (0, False, True, False)
    assert info["state_key"] != before
    answer = info["privileged"]["answers"][0]
    _, reward, terminated, truncated, info = env.step(say("answer", f"  {answer.upper()}. "))
    assert (reward, terminated, truncated, info["success"]) == (1.0, True, False, True)
    assert info["measures"] == {"exact_match": 1.0, "f1": 1.0, "recall": info["measures"]["recall"]}


def test_bad_queries_are_observations_and_leave_the_state() -> None:
    env = SearchQAEnv()
    _, info = start(env)
    before = info["state_key"]
    for bad in ("search:", "search:    ", "find gallium", "answer:", "search gallium"):
        observation, reward, terminated, _, info = env.step(bad)
        assert "search:" in str(observation)
        assert (reward, terminated, info["invalid_action"], info["executable"]) == (0, False, True, False)
        assert info["state_key"] == before
    observation, _, _, _, info = env.step("search: zzzzqqq xkcdwv")
    assert str(observation).startswith("No passage")
    assert (info["invalid_action"], info["executable"], info["state_key"]) == (False, False, before)


def test_state_is_what_was_seen_in_any_order() -> None:
    env = SearchQAEnv()
    keys = []
    for queries in (("France country", "Gallium discovery"), ("Gallium discovery", "France country")):
        start(env)
        for query in queries:
            *_, info = env.step(f"search: {query}")
        keys.append(info["state_key"])
    assert keys[0] == keys[1]
    *_, info = env.step("search: France country")
    assert info["state_key"] == keys[0], "nothing new was seen"


def test_half_an_answer_is_paid_by_f1_and_is_no_success() -> None:
    env = SearchQAEnv(families=["country_capital"])
    for task in env.task_set("train"):
        _, info = env.reset(options={"task_id": task.id})
        answer = info["privileged"]["answers"][0]
        if len(set(answer.split())) == 2 and answer.replace(" ", "").isalpha():
            break
    _, reward, terminated, _, info = env.step(f"answer: {answer.split()[1]}")
    assert reward == pytest.approx(2 / 3)
    assert info["reward_terms"] == {"outcome": reward}
    assert (terminated, info["success"]) == (True, False)
    assert info["measures"] == {"exact_match": 0.0, "f1": reward, "recall": 0.0}


def test_turn_limit_ends_without_success() -> None:
    env = SearchQAEnv(max_turns=2)
    start(env)
    env.step("search: Gallium")
    _, reward, terminated, truncated, info = env.step("search: France")
    assert (reward, terminated, truncated, info["success"]) == (0, False, True, False)
    assert info["measures"]["exact_match"] == 0


def test_passages_are_capped() -> None:
    env = SearchQAEnv(passage_chars=60, top_k=5)
    start(env)
    observation, *_ = env.step("search: airport of the city in the country")
    lines = str(observation).split("\n")
    assert len(lines) == 5
    assert all(len(line) <= 60 and line.endswith("…") for line in lines)


def test_expert_goes_on_after_slips_and_gives_up_where_nothing_is_found() -> None:
    env = SearchQAEnv()
    start(env)
    env.step("search: London Heathrow Airport")
    over, turns = False, 0
    while not over:
        move = env.expert_move()
        assert move.thought or move.tool == "answer"
        _, _, ended, truncated, info = env.step(env.action_format.render(move))
        over, turns = ended or truncated, turns + 1
    assert info["success"]
    assert turns == 3
    blind = SearchQAEnv(top_k=1)
    start(blind)
    blind._asked.update(query for hop in blind._playing().hops for query in hop.queries)
    assert blind.expert_move() == Move("answer: unknown", "answer", {"text": "unknown"})


def test_arguments_that_make_no_sense() -> None:
    for wrong in ({"top_k": 0}, {"passage_chars": 3}, {"max_turns": 0}):
        with pytest.raises(UsageError):
            SearchQAEnv(**wrong)
    with pytest.raises(UnknownNameError, match="valid_unseen"):
        SearchQAEnv(split="test")
    with pytest.raises(UsageError, match="reset"):
        SearchQAEnv().expert_move()


def test_the_pack_is_installed() -> None:
    (pack,) = [pack for pack in agentgym.load_packs() if pack.name == "search"]
    assert pack.env_ids == ("agentgym/SearchQA-v0",)
    assert isinstance(gymnasium.make("agentgym/SearchQA-v0").unwrapped, SearchQAEnv)
