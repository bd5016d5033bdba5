"""Token trees: they hold the sequences that went in, and a model reads in them what it reads in sequences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import MistralConfig, MistralForCausalLM

from agentgym.rewards.trajectory_reward import Continuation
from agentgym.train.config import TinySection
from agentgym.train.learner import Learner, LearnerConfig
from agentgym.train.models import build_tiny
from agentgym.train.scoring import LearnerModel
from agentgym.train.sync import trainer_logprobs
from agentgym.train.token_tree import grow_trees

WORDS = [f"word{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(60)]


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), max_size=12), st.integers(1, 20))
def test_a_tree_holds_each_beginning_once(sequences: list[list[int]], most_nodes: int) -> None:
    found = {}
    for places, tree in grow_trees([np.array(own) for own in sequences], most_nodes):
        beginnings = {tuple(sequences[place][:end]) for place in places for end in range(1, len(sequences[place]) + 1)}
        assert len(tree.ids) == len(beginnings)
        assert len(tree.ids) <= max(most_nodes, len(sequences[places[0]]))
        for place, path in zip(places, tree.paths, strict=True):
            found[place] = tree.ids[path].tolist()
            assert tree.depths[path].tolist() == list(range(len(path)))
            for end, node in enumerate(path):
                assert np.flatnonzero(tree.sees[node]).tolist() == sorted(path[: end + 1])
    assert [found[place] for place in range(len(sequences))] == sequences


@pytest.fixture(scope="module")
def learner(tmp_path_factory: pytest.TempPathFactory) -> Learner:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    return Learner(build_tiny(WORDS, folder, TinySection(hidden=128, layers=2)), LearnerConfig(learning_rate=1e-3))


@pytest.fixture
def asked() -> list[Continuation]:
    """Four turns of three episodes of one opening, an answer after each; and the actions themselves."""
    chance = np.random.default_rng(0)
    opening = chance.integers(5, 50, 30).tolist()
    asked = []
    for _ in range(3):
        context = list(opening)
        for _ in range(4):
            action = chance.integers(5, 50, 4).tolist()
            asked += [Continuation([*context, 7], [8, 9, 10]), Continuation(list(context), action)]
            context += [*action, *chance.integers(5, 50, int(chance.integers(3, 25))).tolist()]
    return asked


@pytest.fixture(scope="module")
def windowed(learner: Learner, tmp_path_factory: pytest.TempPathFactory) -> Learner:
    """A model whose tokens see the last eight alone, which a tree's mask knows nothing of."""
    folder = tmp_path_factory.mktemp("model") / "windowed"
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = MistralConfig(**sizes, num_key_value_heads=1, vocab_size=len(learner.tokenizer), sliding_window=8)
    MistralForCausalLM(config).save_pretrained(folder)
    learner.tokenizer.save_pretrained(folder)
    return Learner(folder, LearnerConfig(learning_rate=1e-3))


def score_alone(learner: Learner, one: Continuation) -> list[float]:
    return trainer_logprobs(learner.model, one.context_ids, one.ids)


def test_a_model_with_a_window_is_asked_sequence_by_sequence(windowed: Learner, asked: list[Continuation]) -> None:
    assert not windowed.takes_trees
    for one, own in zip(asked, LearnerModel(windowed, 4096).score(asked), strict=True):
        assert own == pytest.approx(score_alone(windowed, one), abs=1e-4)


@pytest.mark.parametrize("tokens_per_batch", [40, 100, 4096])
def test_scores_in_trees_are_those_of_each_alone(
    learner: Learner, asked: list[Continuation], tokens_per_batch: int
) -> None:
    model = LearnerModel(learner, tokens_per_batch)
    assert learner.takes_trees
    for one, own in zip(asked, model.score(asked), strict=True):
        assert own == pytest.approx(score_alone(learner, one), abs=1e-4)


def test_what_continuations_begin_with_is_read_once(
    learner: Learner, asked: list[Continuation], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    tree_logits = learner.tree_logits
    monkeypatch.setattr(learner, "tree_logits", lambda ids, *rest: read.append(ids.numel()) or tree_logits(ids, *rest))
    episode = asked[:8]
    LearnerModel(learner, 4096).score(episode * 2)
    whole = {tuple([*one.context_ids, *one.ids][:-1]) for one in episode}
    assert sum(read) == len({ids[:end] for ids in whole for end in range(1, len(ids) + 1)})
    assert sum(read) < sum(map(len, whole)) / 2


def test_a_long_episode_is_one_tree_and_short_ones_share_some() -> None:
    long = [np.arange(1000 + 20 * place) for place in range(10)]
    assert [len(tree.ids) for _, tree in grow_trees(long, 8192)] == [1180]
    assert [len(tree.ids) for _, tree in grow_trees(long, 1150)] == [1140, 1160, 1180]
    short = [np.array([*range(40), 100 + place]) for place in range(400)]
    assert [len(tree.ids) for _, tree in grow_trees(short, 8192)] == [192, 192, 136]
