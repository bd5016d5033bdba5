from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgym.errors import RewardError
from agentgym.rewards.progress import LinearProgress, Progress, outcome_loss
from agentgym.trajectory import Trajectory, Turn

VERBS = ("look", "take", "wait")


def episode(actions: Sequence[str], outcome: float, **kwargs: Any) -> Trajectory:
    turns = [Turn("see", action, state_key="room", executable=action != "wait") for action in actions]
    turns[-1] = replace(turns[-1], reward_terms={"outcome": outcome})
    return Trajectory("tests/Any-v0", "lonely", "train", turns=tuple(turns), **kwargs)


EPISODES = [
    episode(["look", "take"], 1.0),
    episode(["look", "wait"], 0.4),
    episode(["take", "wait", "wait"], 0.6),
    episode(["wait"], 0.0),
]


def fitted(**kwargs: Any) -> Progress:
    method = Progress(estimator_kwargs={"kinds": ["verb"], "ridge": 1e-9}, **kwargs)
    method.fit(EPISODES)
    return method


def test_turns_are_paid_what_they_contribute() -> None:
    shaped = fitted()(EPISODES)
    paid = [[turn.reward_terms["progress"] for turn in t.turns] for t in shaped]
    assert paid == [pytest.approx(own, abs=1e-6) for own in ([0.4, 0.6], [0.4, 0.0], [0.6, 0.0, 0.0], [0.0])]
    assert [turn.reward_terms["executable"] for turn in shaped[2].turns] == [0.5, 0.0, 0.5]  # the last always counts
    assert shaped[0].measures == pytest.approx({"raw/outcome": 1.0, "outcome": 1.0, "predicted_outcome": 1.0})


@given(st.lists(st.tuples(st.lists(st.sampled_from(VERBS), min_size=1, max_size=5), st.floats(0, 1)), min_size=1))
def test_exact_redistribution_sums_to_the_outcome(played: list[tuple[list[str], float]]) -> None:
    episodes = [episode(actions, outcome) for actions, outcome in played]
    method = Progress(exact=True, beta=0.0)
    method.fit(episodes)
    for own, shaped in zip(episodes, method(episodes), strict=True):
        assert shaped.episode_return == pytest.approx(own.episode_return, abs=1e-9)


@given(st.lists(st.tuples(st.lists(st.sampled_from(VERBS), min_size=1, max_size=5), st.floats(0, 1)), min_size=2))
def test_the_fit_is_ridge_regression_in_whatever_batches(played: list[tuple[list[str], float]]) -> None:
    episodes = [episode(actions, outcome) for actions, outcome in played]
    outcomes = [outcome for _, outcome in played]
    counts = np.array([[actions.count(verb) for verb in VERBS] for actions, _ in played], dtype=float)
    oracle = np.linalg.solve(counts.T @ counts + 0.1 * np.eye(3), counts.T @ outcomes)
    at_once, by_one = (LinearProgress(["verb"], ridge=0.1) for _ in range(2))
    at_once.fit(episodes, outcomes)
    for own, outcome in zip(episodes, outcomes, strict=True):
        by_one.fit([own], [outcome])
    each = [episode([verb], 0.0) for verb in VERBS]
    met = counts.any(0)
    for estimator in (at_once, by_one):
        found = np.array([own[0] for own in estimator.contributions(each)])
        assert found[met] == pytest.approx(oracle[met], abs=1e-8)
        assert (found[~met] == 0).all()


def test_losses_are_told_before_they_are_learned() -> None:
    method = Progress(estimator_kwargs={"kinds": ["verb"], "ridge": 1e-9})
    assert method.fit(EPISODES) == {"episodes": 4.0, "fitted_episodes": 4.0, "features": 3.0}
    figures = method.fit([episode(["look"], 1.0)])
    assert figures["loss"] == pytest.approx(0.36, abs=1e-6)  # it was thought to be worth 0.4
    assert outcome_loss([np.array([0.1, 0.2])], [1.0])[1][0] == pytest.approx([-1.4, -1.4])


def test_forgetting_follows_a_world_that_changes() -> None:
    worth = []
    for forgetting in (0.0, 0.9):
        estimator = LinearProgress(["verb"], ridge=1e-9, forgetting=forgetting)
        for outcome in (0.0, 1.0):
            estimator.fit([episode(["look"], outcome)], [outcome])
        worth.append(estimator.contributions([episode(["look"], 0.0)])[0][0])
    assert worth == pytest.approx([0.5, 1 / 1.1])


def test_what_is_met_too_late_is_left_out() -> None:
    method = Progress(estimator_kwargs={"kinds": ["verb"], "most_features": 2, "ridge": 1e-9}, beta=0.0)
    assert method.fit(EPISODES)["features"] == 2
    paid = method.shape(episode(["wait", "never met", "look"], 0.0))
    assert [turn.reward != 0 for turn in paid.turns] == [False, False, True]


def test_state_survives_json() -> None:
    method = fitted()
    state = json.loads(json.dumps(method.state_dict()))
    other = Progress(estimator_kwargs={"kinds": ["verb"], "ridge": 1e-9})
    assert not other.ready
    other.load_state_dict(state)
    assert other(EPISODES) == method(EPISODES)
    method.fit(EPISODES[:2])
    other.fit(EPISODES[:2])
    assert other(EPISODES) == method(EPISODES)
    with pytest.raises(RewardError, match="was saved with 3 features"):
        Progress().load_state_dict(state)


def test_bad_input_is_told() -> None:
    with pytest.raises(RewardError, match="'lonely': progress was not fitted"):
        Progress()(EPISODES)
    with pytest.raises(RewardError, match="no outcome"):
        fitted().fit([Trajectory("tests/Any-v0", "lonely", "train", turns=(Turn("a", "b"),))])
    for kwargs in ({"estimator": "quadratic"}, {"estimator_kwargs": {"kinds": ["smell"]}},
                   {"estimator_kwargs": {"size": 3}}, {"estimator_kwargs": {"forgetting": 1.0}},
                   {"estimator": LinearProgress(), "estimator_kwargs": {"ridge": 0.1}}):  # fmt: skip
        with pytest.raises(RewardError, match="progress"):
            Progress(**kwargs)
    fault = episode(["look"], 1.0, ended="infrastructure")
    assert Progress()([fault]) == [fault]
    assert Progress().fit([fault]) == {"episodes": 0.0}


# a language model as the estimator


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=16, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=True,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("backbone")
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def spoken(kinds: Sequence[int]) -> Trajectory:
    """An episode in which an action is token 5 (worth a half) or 6 (worth nothing), after one token of the world's."""
    turns = tuple(Turn("", "", (3,), (kind, 2), (0.0, 0.0), (3 * i + 1, 3 * i + 3)) for i, kind in enumerate(kinds))
    last = replace(turns[-1], reward_terms={"outcome": 0.5 * kinds.count(5)})
    return Trajectory("tests/Any-v0", "lonely", "train", turns=(*turns[:-1], last))


def make_backbone(folder: Path, **kwargs: Any) -> Progress:
    settings = {"model_dir": folder, "learning_rate": 3e-3, "warmup_steps": 1, "tokens_per_step": 24, **kwargs}
    return Progress("backbone", beta=0.0, estimator_kwargs=settings)


def test_a_language_model_learns_contributions_from_outcomes(backbone: Path) -> None:
    import torch

    episodes = [spoken(kinds) for kinds in ([5], [6], [5, 6], [6, 5], [5, 5], [6, 6], [6, 5, 6], [5, 6, 5])]
    method = make_backbone(backbone, epochs=30)
    figures = method.fit(episodes)
    assert method.ready
    assert figures["steps"] >= 60
    held_out = spoken([6, 6, 5])
    paid = [turn.reward for turn in method.shape(held_out).turns]
    assert paid == pytest.approx([0.0, 0.0, 0.5], abs=0.2)

    other = make_backbone(backbone, epochs=30)
    other.load_state_dict(method.state_dict())
    assert other.shape(held_out) == method.shape(held_out)
    for one in (method, other):
        one.estimator.epochs = 1  # type: ignore[attr-defined]
        torch.manual_seed(0)
        one.fit(episodes)
    assert other.shape(held_out) == method.shape(held_out)


def test_padding_does_not_matter(backbone: Path) -> None:
    method = make_backbone(backbone, tokens_per_step=1000)
    batch = [spoken([5]), spoken([6, 5, 5, 6])]
    together = method.estimator.contributions(batch)
    for own, alone in zip(together, (method.estimator.contributions([one])[0] for one in batch), strict=True):
        assert own == pytest.approx(alone, abs=1e-5)


def test_what_the_backbone_cannot_read_is_told(backbone: Path) -> None:
    with pytest.raises(RewardError, match="reads 3"):
        make_backbone(backbone, max_length=3).fit([spoken([5, 6])])
    with pytest.raises(RewardError, match="token 99"):
        make_backbone(backbone).fit([spoken([99])])
    with pytest.raises(RewardError, match="'lonely', turn 0 has span"):
        make_backbone(backbone).fit([episode(["look"], 1.0)])
    with pytest.raises(RewardError, match="cannot be loaded"):
        make_backbone(backbone / "nowhere")
