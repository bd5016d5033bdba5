from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from agentgym.errors import DivergenceError, InfrastructureError
from agentgym.train.batch import TokenSequence, make_sequence, weigh
from agentgym.train.config import Aggregation, LoraSection, TinySection
from agentgym.train.learner import Learner, LearnerConfig, entropy_of, log_distributions
from agentgym.train.micro_batch import MicroBatch, Sharing, collate, in_batch_order, micro_batches, with_old_logprobs
from agentgym.train.models import build_tiny
from agentgym.trajectory import Trajectory, Turn


def play(seed: int, turns: int) -> Trajectory:
    """Make up an episode of tokens."""
    chance = np.random.default_rng(seed)
    played, end = [], 0
    for _ in range(turns):
        prompt = tuple(chance.integers(10, 100, chance.integers(2, 9)).tolist())
        sampled = tuple(chance.integers(10, 100, chance.integers(1, 5)).tolist())
        logprobs = tuple((-chance.random(len(sampled))).tolist())
        span = (end + len(prompt), end + len(prompt) + len(sampled))
        played.append(Turn("see", "do", prompt, sampled, logprobs, span))
        end = span[1]
    return Trajectory("tests/Any-v0", f"task-{seed}", "train", turns=tuple(played))


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = [f"word{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(60)]
    return build_tiny(words, tmp_path_factory.mktemp("models") / "tiny", TinySection(hidden=64, layers=2))


@pytest.fixture
def learner(model_dir: Path) -> Iterator[Learner]:
    return Learner(model_dir, LearnerConfig(learning_rate=1e-2))


EPISODES = [play(seed, turns) for seed, turns in enumerate([1, 4, 2, 7, 3, 1])]
SEQUENCES = weigh([make_sequence(e, np.arange(len(e.turns)) - 0.5) for e in EPISODES], "token_mean")


def test_every_token_gets_the_advantage_of_its_turn() -> None:
    episode = EPISODES[3]
    sequence = make_sequence(episode, np.arange(7) + 1.0)
    assert len(sequence.ids) == episode.turns[-1].span[1]
    for number, turn in enumerate(episode.turns):
        span = slice(*turn.span)
        assert sequence.ids[span].tolist() == list(turn.token_ids)
        assert sequence.sampled[span].all()
        assert (sequence.advantages[span] == number + 1).all()
        assert sequence.logprobs[span] == pytest.approx(turn.logprobs)
    assert (sequence.advantages[~sequence.sampled] == 0).all()
    assert sequence.sampled_tokens == episode.sampled_tokens


@pytest.mark.parametrize(
    "change", [{"span": (1, 2)}, {"logprobs": ()}, {"token_ids": (), "logprobs": (), "span": (3, 3)}]
)
def test_spans_that_do_not_fit_are_refused(change: dict[str, object]) -> None:
    episode = EPISODES[1]
    broken = replace(episode, turns=(episode.turns[0], replace(episode.turns[1], **change), *episode.turns[2:]))
    with pytest.raises(InfrastructureError, match="turn 1"):
        make_sequence(broken, np.zeros(4))


@pytest.mark.parametrize("budget", [1, 40, 90, 10_000])
def test_micro_batches_hold_each_token_once_within_the_budget(budget: int) -> None:
    batches = list(micro_batches(SEQUENCES, budget))
    assert sum(len(batch.targets) for batch in batches) == sum(e.sampled_tokens for e in EPISODES)
    assert sum(batch.ids.shape[0] for batch in batches) == len(EPISODES)
    assert all(batch.tokens <= budget or batch.ids.shape[0] == 1 for batch in batches)
    assert sum(batch.weights.double().sum().item() for batch in batches) == pytest.approx(1.0)
    for batch in batches:
        assert batch.ids.roll(-1, 1)[batch.predicts].equal(batch.targets)
        assert batch.predicts.nonzero()[:, 0].equal(batch.rows)


def test_padding_and_packing_change_no_logprob(learner: Learner) -> None:
    whole = collate(SEQUENCES)
    with torch.no_grad():
        together = learner.logprobs(whole)
        alone = torch.cat([learner.logprobs(collate([sequence])) for sequence in SEQUENCES])
    assert together.tolist() == pytest.approx(alone.tolist(), abs=1e-5)


def test_logprobs_are_those_of_the_whole_model(learner: Learner) -> None:
    batch = collate(SEQUENCES)
    with torch.no_grad():
        logits = learner.model(input_ids=batch.ids).logits
        expected = logits[batch.predicts].log_softmax(-1).gather(-1, batch.targets[:, None])[:, 0]
        assert learner.logprobs(batch).tolist() == pytest.approx(expected.tolist(), abs=1e-5)
        tempered = (logits[batch.predicts] / 0.7).log_softmax(-1).gather(-1, batch.targets[:, None])[:, 0]
        assert learner.logprobs(batch, temperature=0.7).tolist() == pytest.approx(tempered.tolist(), abs=1e-5)
        distribution = torch.distributions.Categorical(logits=logits[batch.predicts])
        assert entropy_of(log_distributions(learner.logits(batch))).tolist() == pytest.approx(
            distribution.entropy().tolist(), abs=1e-4
        )


def negative_log_likelihood(learner: Learner, batch: MicroBatch) -> torch.Tensor:
    return -(learner.logprobs(batch) * batch.weights).sum()


@pytest.mark.parametrize("aggregation", ["token_mean", "seq_mean_token_mean", "constant"])
def test_accumulation_gives_the_gradient_of_the_whole_batch(learner: Learner, aggregation: Aggregation) -> None:
    gradients = []
    for budget in (10_000, 50, 1):
        learner.optimizer.zero_grad()
        for batch in micro_batches(weigh(SEQUENCES, aggregation, 16), budget):
            negative_log_likelihood(learner, batch).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in learner.model.parameters()]))
    assert (gradients[0] - gradients[1]).abs().max() < 1e-6
    assert (gradients[0] - gradients[2]).abs().max() < 1e-6


def siblings(members: int, opening: int, seed: int, before: Sequence[int] = ()) -> list[TokenSequence]:
    """Make up a group: what stands before, one opening, answers of many lengths."""
    chance = np.random.default_rng(seed)
    start = np.array([*before, *chance.integers(10, 60, opening)])
    group = []
    for number in range(members):
        ids = np.concatenate([start, chance.integers(10, 60, 2 + 3 * number)])
        sampled = np.arange(len(ids)) >= len(start)
        logprobs = np.where(sampled, -1.0, 0.0).astype(np.float32)
        group.append(TokenSequence(ids, sampled, logprobs, logprobs, sampled * np.float32(number - 1.5)))
    return group


GROUPS = weigh([*siblings(4, 70, seed=1), *siblings(4, 90, seed=2), *siblings(1, 200, seed=3)], "token_mean")


@pytest.mark.parametrize(
    ("sharing", "passes"),
    [("none", [(0, 1), (0, 8)]), ("one", [(0, 1), (89, 4), (69, 4)]), ("many", [(0, 1), (2 * 89, 8)])],
)
def test_a_groups_opening_is_read_once(sharing: Sharing, passes: list[tuple[int, int]]) -> None:
    batches = list(micro_batches(GROUPS, 10_000, sharing=sharing))
    assert [(batch.prefixes.numel(), len(batch.ids)) for batch in batches] == passes
    rows = [
        [*batch.prefixes[prefix, : batch.prefix_lengths[prefix]].tolist(), *ids.tolist()]
        for batch in batches
        for prefix, ids in zip(batch.prefix_rows, batch.ids, strict=True)
    ]
    for row, sequence in zip(rows, in_batch_order(GROUPS), strict=True):
        assert row[: len(sequence.ids)] == sequence.ids.tolist()


def test_sharing_saves_tokens() -> None:
    none, one, many = (
        sum(batch.tokens for batch in micro_batches(GROUPS, 10_000, sharing=sharing)) for sharing in get_args(Sharing)
    )
    assert one < 0.6 * none
    assert many < 0.6 * none


def test_groups_that_begin_alike_have_one_prefix_in_common() -> None:
    """A long system prompt is read once, rather than with the opening of each group."""
    prompt = np.random.default_rng(4).integers(10, 60, 900).tolist()
    groups = [*siblings(2, 4, seed=5, before=prompt), *siblings(2, 4, seed=6, before=prompt)]
    (batch,) = micro_batches(groups, 10_000)
    assert batch.prefixes.shape == (1, 900)


@pytest.mark.parametrize("lora", [None, LoraSection(rank=4)], ids=["weights", "adapters"])
@pytest.mark.parametrize("sharing", ["one", "many"])
def test_what_is_read_once_changes_no_gradient(model_dir: Path, lora: LoraSection | None, sharing: Sharing) -> None:
    learner = Learner(model_dir, LearnerConfig(learning_rate=1e-2, lora=lora))
    assert learner.sharing == "many"
    trained = [parameter for parameter in learner.model.parameters() if parameter.requires_grad]
    found = []
    for own in (sharing, "none"):
        learner.optimizer.zero_grad()
        logprobs = []
        for batch in micro_batches(GROUPS, 10_000, sharing=own):
            logprobs.append(learner.logprobs(batch))
            (logprobs[-1] * batch.advantages * batch.weights).sum().backward()
        found.append((torch.cat(logprobs), [parameter.grad for parameter in trained]))
    assert found[0][0].tolist() == pytest.approx(found[1][0].tolist(), abs=1e-5)
    assert all((one - other).abs().max() < 1e-6 for one, other in zip(found[0][1], found[1][1], strict=True))
    assert max(gradient.abs().max() for gradient in found[0][1]) > 1e-3


def test_a_model_that_forgets_activations_reads_every_sequence_whole(model_dir: Path) -> None:
    learner = Learner(model_dir, LearnerConfig(learning_rate=1e-2, gradient_checkpointing=True))
    assert learner.sharing == "none"
    batches = list(micro_batches(GROUPS, 10_000, sharing=learner.sharing))
    assert not any(batch.prefixes.numel() for batch in batches)


def test_old_logprobs_return_to_their_tokens(learner: Learner) -> None:
    with torch.no_grad():
        renewed = with_old_logprobs(SEQUENCES, 60, learner.logprobs)
        for sequence in renewed:
            assert sequence.old_logprobs[sequence.sampled] == pytest.approx(
                learner.logprobs(collate([sequence])).numpy(), abs=1e-5
            )


def test_steps_lower_the_loss_and_respect_the_rate(learner: Learner) -> None:
    batches = list(micro_batches(SEQUENCES, 100))
    losses = [learner.step(batches, lambda b: negative_log_likelihood(learner, b)).loss for _ in range(15)]
    assert losses[-1] < 0.5 * losses[0]
    learner.set_learning_rate(0.0)
    before = [p.clone() for p in learner.model.parameters()]
    learner.step(batches, lambda b: negative_log_likelihood(learner, b))
    assert all(a.equal(b) for a, b in zip(before, learner.model.parameters(), strict=True))


def test_a_loss_that_is_not_finite_stops_and_leaves_the_weights(learner: Learner) -> None:
    before = [p.clone() for p in learner.model.parameters()]
    with pytest.raises(DivergenceError, match="nan"):
        learner.step(micro_batches(SEQUENCES, 100), lambda b: learner.logprobs(b).sum() * float("nan"))
    assert all(a.equal(b) for a, b in zip(before, learner.model.parameters(), strict=True))


def test_bfloat16_autocast_is_near_float32(model_dir: Path, learner: Learner) -> None:
    autocast = Learner(model_dir, LearnerConfig(learning_rate=1e-2, autocast=True))
    batch = collate(SEQUENCES)
    with torch.no_grad():
        gap = (autocast.logprobs(batch) - learner.logprobs(batch)).abs().max().item()
    assert 0 < gap < 0.05
    assert all(p.dtype == torch.float32 for p in autocast.model.parameters())
