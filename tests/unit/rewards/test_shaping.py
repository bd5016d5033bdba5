"""Reward methods in the trainer: their order, what they learn and when, their state, the model that they look into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agentgym.errors import RecipeError, RewardError, UnknownNameError
from agentgym.rewards.gated import Gated
from agentgym.rewards.information_gain import InformationGain
from agentgym.rewards.progress import Progress
from agentgym.rewards.trajectory_reward import Continuation, TrajectoryReward, with_terms
from agentgym.train.checkpoint import find_checkpoint, read_reward_state, save_checkpoint
from agentgym.train.config import LoraSection, TinySection, parse_recipe
from agentgym.train.figures import describe_rewards
from agentgym.train.learner import Learner, LearnerConfig
from agentgym.train.models import build_tiny
from agentgym.train.scoring import LearnerModel
from agentgym.train.shaping import RewardChain, open_rewards
from agentgym.train.sync import trainer_logprobs
from agentgym.trajectory import Trajectory, Turn

WORDS = [f"word{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(60)]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny(WORDS, tmp_path_factory.mktemp("models") / "tiny", TinySection(hidden=64, layers=1))


class Counting(TrajectoryReward):
    """Notes what it is given; pays the number of fits."""

    def __init__(self, *, needs_fit: bool = False) -> None:
        self.needs_fit, self.fits, self.saw = needs_fit, [], []  # type: ignore[var-annotated]

    @property
    def ready(self) -> bool:
        return bool(self.fits) or not self.needs_fit

    def shape(self, trajectory: Trajectory) -> Trajectory:
        self.saw.append(trajectory)
        return replace(
            trajectory, turns=tuple(with_terms(t, {"fits": float(len(self.fits))}) for t in trajectory.turns)
        )

    def fit(self, trajectories: Sequence[Trajectory]) -> Mapping[str, float]:
        self.fits.append([t.seed for t in trajectories])
        assert all("outcome" in t.reward_terms for t in trajectories), "what the environment paid"
        return {"episodes": float(len(trajectories))}


def episode(seed: int, outcome: float = 1.0, step: float = 0.1) -> Trajectory:
    turns = (Turn("a", "go", reward_terms={"step": step}), Turn("b", "end", reward_terms={"outcome": outcome}))
    return Trajectory("tests/Any-v0", "task", "train", seed=seed, turns=turns, success=outcome > 0.5)


def test_methods_follow_each_other_and_learn_what_was_played_once() -> None:
    first, second = Counting(needs_fit=True), Counting()
    chain = RewardChain([("first", first), ("second", second)])
    chain.shape([episode(1), episode(2)])
    shaped = chain.shape([episode(3)])
    assert first.fits == [[1, 2]]  # it could not shape before
    assert second.fits == []
    assert [t.reward_terms for t in second.saw] == [{"fits": 2.0}] * 3  # 1 for each of two turns
    assert shaped[0].reward_terms == {"fits": 0.0}
    figures = chain.fit()
    assert (first.fits, second.fits) == ([[1, 2], [3]], [[1, 2, 3]])
    assert (figures["fit/first/episodes"], figures["fit/second/episodes"]) == (1.0, 3.0)
    assert figures["seconds/reward"] > 0
    chain = RewardChain([("late", Counting(needs_fit=True))])
    chain.shape([episode(1)])
    assert chain.fit()["fit/late/episodes"] == 1.0, "the figures of a first fit are not lost"
    assert chain.fit().keys() == {"seconds/reward"}


def test_a_method_that_changes_more_than_rewards_is_refused() -> None:
    class Flattering(TrajectoryReward):
        def shape(self, trajectory: Trajectory) -> Trajectory:
            return replace(trajectory, success=True)

    with pytest.raises(RewardError, match="'flattering' changed more than rewards"):
        RewardChain([("flattering", Flattering())]).shape([episode(1, 0.0)])


def test_figures_are_means_over_episodes() -> None:
    shaped = RewardChain([("gated", Gated())]).shape([episode(1), episode(2, 0.0)])
    fault = replace(episode(3, 9.0), ended="infrastructure")
    figures = describe_rewards([*shaped, fault])
    assert figures["reward/step"] == pytest.approx(0.05)
    assert figures["reward/outcome"] == figures["measure/gates_open"] == 0.5
    assert figures["measure/raw/step"] == pytest.approx(0.1)
    assert figures["measure/direct_accumulation"] == pytest.approx(0.6)


def test_state_goes_through_a_checkpoint(tmp_path: Path, model_dir: Path) -> None:
    def chain() -> RewardChain:
        return RewardChain([("gated", Gated()), ("progress", Progress(estimator_kwargs={"kinds": ["verb"]}))])

    before, after = chain(), chain()
    before.shape([episode(1), episode(2, 0.0, 0.3)])
    before.fit()
    learner = Learner(model_dir, LearnerConfig(learning_rate=1e-2))
    recipe = parse_recipe({"env": {"id": "tests/Any-v0"}})
    save_checkpoint(tmp_path, 1, learner, recipe, keep=1, rewards=before.state_dict())
    found, _ = find_checkpoint(tmp_path)
    assert found is not None
    after.load_state_dict(read_reward_state(found))
    assert after.shape([episode(5)]) == before.shape([episode(5)])
    with pytest.raises(RewardError, match=r"state of the rewards \['1.progress'\]"):
        RewardChain([("gated", Gated())]).load_state_dict(before.state_dict())
    save_checkpoint(tmp_path, 2, learner, recipe, keep=1)
    newest, _ = find_checkpoint(tmp_path)
    assert newest is not None
    assert read_reward_state(newest) == {}


def test_recipes_name_methods() -> None:
    recipe = parse_recipe({"env": {"id": "e"}, "reward": [{"name": "gated", "kwargs": {"gates": [0.2]}}]})
    assert recipe.reward[0].kwargs == {"gates": [0.2]}
    with pytest.raises(UnknownNameError, match=r"Did you mean 'reward\.kwargs'"):
        parse_recipe({"env": {"id": "e"}, "reward": [{"name": "gated", "kwarg": {}}]})
    with pytest.raises(RecipeError, match=r"reward\.0\.name"):
        parse_recipe({"env": {"id": "e"}, "reward": [{}]})
    with pytest.raises(UnknownNameError, match="unknown reward 'no such'"):
        open_rewards(parse_recipe({"env": {"id": "e"}, "reward": [{"name": "no such"}]}))


@pytest.mark.parametrize("lora", [None, LoraSection(rank=2, targets=["q_proj"], dropout=0.5)])
def test_the_learner_scores_what_it_would_sample(model_dir: Path, lora: LoraSection | None) -> None:
    learner = Learner(model_dir, LearnerConfig(learning_rate=1e-2, lora=lora))
    model = LearnerModel(learner, tokens_per_batch=64)
    chance = np.random.default_rng(0)
    opening = chance.integers(5, 50, 40).tolist()
    asked = [
        Continuation(
            [*opening[: int(chance.integers(1, 40))], *chance.integers(5, 50, 3)], chance.integers(5, 50, n).tolist()
        )
        for n in (3, 1, 5, 2, 4, 3, 1)
    ]
    scores = model.score(asked)
    learner.model.eval()
    for one, own in zip(asked, scores, strict=True):
        assert own == pytest.approx(trainer_logprobs(learner.model, one.context_ids, one.ids), abs=1e-4)
    learner.model.train()
    again = model.score([*asked, *asked[::-1]])
    assert [own.tolist() for own in again] == [
        own.tolist() for own in again[: len(asked)] + again[len(asked) - 1 :: -1]
    ]
    model.score(asked[:1])
    assert learner.model.training
    assert all(p.grad is None for p in learner.model.parameters())
    assert model.score([]) == []
    for bad in (Continuation([], [5]), Continuation([5], [])):
        with pytest.raises(RewardError, match="at least one"):
            model.score([asked[0], bad])


def test_information_gain_with_a_real_model(model_dir: Path) -> None:
    learner = Learner(model_dir, LearnerConfig(learning_rate=1e-2))
    # The word's token begins with the blank before it.
    method = InformationGain(answer_format={"template": f"{WORDS[0]} {{answer}}"}, outcome="environment")
    chain = RewardChain([("information_gain", method)])
    assert chain.needs_model
    chain.bind(LearnerModel(learner, 256))
    clue, noise, answer = (
        learner.tokenizer.encode(w, add_special_tokens=False) for w in (WORDS[7], WORDS[9], WORDS[8])
    )
    assert len(clue) == len(answer) == 1
    start = learner.tokenizer.encode(WORDS[0], add_special_tokens=False)
    for _ in range(60):  # teach it that the clue, and nothing else, says the answer
        learner.optimizer.zero_grad()
        rows = torch.tensor([[*noise * 2, *clue, *start, *answer], [*noise * 3, *start, *noise]])
        torch.autograd.backward(learner.model(input_ids=rows, labels=rows).loss)
        learner.optimizer.step()

    def played(second: list[int]) -> Trajectory:
        turns = (
            Turn("", "", tuple(noise), tuple(noise), (0.0,), (1, 2), {}),
            Turn("", "", tuple(second), tuple(noise), (0.0,), (3, 4), {"outcome": 1.0}),
        )
        return Trajectory("tests/Any-v0", "t", "train", turns=turns, privileged={"answers": [WORDS[8]]}, success=True)

    taught, idle = (t.turns[0].reward_terms["information_gain"] for t in chain.shape([played(clue), played(noise)]))
    assert taught > idle + 0.5


def test_a_chain_without_methods_pays_what_the_environment_paid() -> None:
    batch: list[Any] = [episode(1), episode(2, 0.0)]
    chain = RewardChain()
    assert chain.shape(batch) == batch
    assert not chain.needs_model
    assert chain.state_dict() == {}
