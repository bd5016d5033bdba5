"""GRPO: sample, shape, score, advantage, update, sync."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from agentgym.errors import InfrastructureError
from agentgym.rollout import Episode
from agentgym.train.advantage import estimate_advantages, find_advantage, group_returns, is_tied, turn_rewards
from agentgym.train.batch import TokenSequence, make_sequence, weigh
from agentgym.train.config import GrpoSection, Recipe
from agentgym.train.curriculum import TaskStream, batch_digest
from agentgym.train.figures import Figures, LearningTotals, describe_episodes, describe_rewards, describe_speed
from agentgym.train.learner import Learner, entropy_of, log_distributions, pick_logprobs
from agentgym.train.loss import PolicyLoss, TokenData, token_losses
from agentgym.train.micro_batch import MicroBatch, micro_batches, with_old_logprobs
from agentgym.train.scoring import LearnerModel
from agentgym.train.shaping import RewardChain
from agentgym.train.sync import assert_on_policy, push_weights
from agentgym.trajectory import Trajectory

Play = Callable[[Sequence[Episode]], list[Trajectory]]


@dataclass(frozen=True)
class Sampled:
    """What an update played.

    Attributes:
        groups: What is learned from.
        played: Every trajectory that was played for them, with what the environment paid.
        shaped: The same ones, as the reward methods left them.
    """

    groups: list[Group]
    played: list[Trajectory]
    shaped: list[Trajectory]


@dataclass(frozen=True)
class Group:
    """Episodes of one task and seed, one reward per turn of each."""

    members: tuple[Trajectory, ...]
    rewards: tuple[np.ndarray[Any, np.dtype[np.float64]], ...]

    @property
    def tied(self) -> bool:
        """All returns are equal: nothing to learn."""
        return is_tied(group_returns(self.members, self.rewards))


class Grpo:
    """The training loop's body.

    Args:
        recipe: The run's.
        stream: Deals out the tasks.
        learner: The model in training.
        engine: The sampler; it holds the learner's weights.
        play: Plays episodes with the sampler.
        reference: The model that the KL term pulls towards; ``None`` without one, or if it is the learner without
            its adapters.
        rewards: Shape the trajectories before advantages are taken.
    """

    def __init__(
        self,
        recipe: Recipe,
        stream: TaskStream,
        learner: Learner,
        engine: Any,
        play: Play,
        reference: Learner | None = None,
        rewards: RewardChain | None = None,
    ) -> None:
        self.recipe, self.settings = recipe, recipe.grpo
        self.stream, self.learner, self.engine, self.play = stream, learner, engine, play
        self.reference = reference
        self.rewards = rewards or RewardChain()
        if self.rewards.needs_model:
            self.rewards.bind(LearnerModel(learner, recipe.grpo.tokens_per_batch))
        self.estimate = find_advantage(recipe.grpo.advantage)
        self.loss = PolicyLoss(**{name: getattr(recipe.grpo, name) for name in PolicyLoss.__dataclass_fields__})
        self.batch = ""
        self._proved = False

    def update(self, step: int) -> Figures:
        """Do one update; ``step`` counts from 0.

        Raises:
            InfrastructureError: More than half of the episodes failed by a fault of ours.
            DivergenceError: The loss is not finite.
            OffPolicyError: The sampler does not have the trainer's weights.
            RewardError: A reward method lacks something.
        """
        marks_s = [time.perf_counter()]
        sampled = self.sample(step)
        played = sampled.played
        self.batch = batch_digest((t.task_id, t.seed) for t in played)
        fitted = self.rewards.fit()
        marks_s.append(time.perf_counter())
        sequences = self.sequences(sampled.groups)
        learned = self.learn(step, sequences)
        marks_s.append(time.perf_counter())
        push_weights(self.engine, self.learner.model)
        sync_error = self.prove(step, played)
        marks_s.append(time.perf_counter())
        return {
            **describe_rewards(sampled.shaped),
            **describe_episodes(sampled.shaped),
            "groups/tied": self.settings.tasks_per_update - sum(not group.tied for group in sampled.groups),
            **learned,
            "sync_error": sync_error,
            **fitted,
            **describe_speed(marks_s, played, learned, fitted["seconds/reward"]),
        }

    # sample, shape and score

    def sample(self, step: int) -> Sampled:
        """Play and shape a batch; with dynamic sampling, tied groups are replaced, in a bounded number of rounds."""
        wanted = self.settings.tasks_per_update
        kept: list[Group] = []
        tied: list[Group] = []
        played: list[Trajectory] = []
        shaped: list[Trajectory] = []
        for round_number in range(self.settings.max_rounds if self.settings.dynamic_sampling else 1):
            plan = self.stream.groups(step, round_number)[: wanted - len(kept)]
            trajectories = self.play([episode for group in plan for episode in group])
            _check_faults(trajectories)
            paid = self.rewards.shape(trajectories)
            played += trajectories
            shaped += paid
            for start in range(0, len(paid), self.settings.group_size):
                group = self.score(paid[start : start + self.settings.group_size])
                (tied if group.tied else kept).append(group)
            if len(kept) >= wanted:
                break
        return Sampled(kept if self.settings.dynamic_sampling else kept + tied, played, shaped)

    def score(self, members: Sequence[Trajectory]) -> Group:
        """Give each turn its reward."""
        penalty = self.settings.invalid_action_penalty
        return Group(tuple(members), tuple(turn_rewards(t, invalid_action_penalty=penalty) for t in members))

    # advantage

    def sequences(self, groups: Iterable[Group]) -> list[TokenSequence]:
        """Return the batch as weighted token sequences with advantages."""
        sequences = []
        groups = list(groups)
        paired = [(group.members, group.rewards) for group in groups]
        found = estimate_advantages(self.estimate, paired, self.settings.advantage_kwargs)
        for group, advantages in zip(groups, found, strict=True):
            for trajectory, own in zip(group.members, advantages, strict=True):
                cut = trajectory.ended in ("truncated", "context") and self.settings.truncated == "mask"
                if trajectory.scorable and trajectory.turns and not cut:
                    sequences.append(make_sequence(trajectory, own))
        return sequences

    # update

    def learn(self, step: int, sequences: Sequence[TokenSequence]) -> Figures:
        """Take the optimizer's steps over a batch."""
        settings = self.settings
        rate = self.learner.set_learning_rate(rate_share(step, settings))
        totals = LearningTotals()
        chance = np.random.default_rng([self.recipe.run.seed, 5, step])
        batches = self._with_old_logprobs(sequences)
        for _ in range(settings.epochs):
            for part in np.array_split(chance.permutation(len(batches)), settings.minibatches):
                chosen = weigh([batches[i] for i in part], settings.aggregation, settings.constant_length)
                if settings.kl_coef == 0:  # without a KL term, no advantage is no gradient
                    chosen = [sequence for sequence in chosen if sequence.advantages.any()]
                if not chosen:  # all groups tied, or all episodes masked
                    continue
                steps = micro_batches(chosen, settings.tokens_per_batch, sharing=self.learner.sharing)
                result = self.learner.step(steps, lambda batch: self._loss(batch, totals))
                totals.add_step(result.loss, result.grad_norm)
        return {**totals.figures(), "learning_rate": rate}

    def _with_old_logprobs(self, sequences: Sequence[TokenSequence]) -> Sequence[TokenSequence]:
        if self.settings.old_logprobs == "sampler" or self._single_step or not sequences:
            return sequences
        temperature = self.recipe.sampling.temperature
        with torch.no_grad():
            return with_old_logprobs(
                sequences,
                self.settings.tokens_per_batch,
                lambda batch: self.learner.logprobs(batch, temperature),
                sharing=self.learner.sharing,
            )

    @property
    def _single_step(self) -> bool:
        return self.settings.minibatches * self.settings.epochs == 1

    def _loss(self, batch: MicroBatch, totals: LearningTotals) -> torch.Tensor:
        device, temperature = self.learner.device, self.recipe.sampling.temperature
        distributions = log_distributions(self.learner.logits(batch), temperature)
        logprobs = pick_logprobs(distributions, batch.targets.to(device))
        sampler = batch.logprobs.to(device)
        from_trainer = self.settings.old_logprobs == "trainer" and self._single_step
        old = logprobs.detach() if from_trainer else batch.old_logprobs.to(device)
        data = TokenData(old, sampler, batch.advantages.to(device), batch.rows.to(device), self._reference(batch))
        losses = token_losses(logprobs, data, self.loss)
        entropy = entropy_of(distributions) if self.settings.log_entropy else None
        totals.add_tokens(batch, losses, (logprobs.detach() - sampler).abs(), entropy)
        return (losses.loss * batch.weights.to(device)).sum()

    def _reference(self, batch: MicroBatch) -> torch.Tensor | None:
        if self.settings.kl_coef == 0:
            return None
        temperature = self.recipe.sampling.temperature
        with torch.no_grad():
            if self.reference is not None:
                return self.reference.logprobs(batch, temperature)
            with self.learner.adapters_off():
                return self.learner.logprobs(batch, temperature)

    # sync

    def prove(self, step: int, played: Sequence[Trajectory]) -> float | None:
        """Check, after the first update and every so many, that the sampler has the trainer's weights.

        Returns:
            The largest difference of log-probabilities in nats; ``None`` if it was not checked.
        """
        every = self.settings.on_policy_every
        if self._proved and (every == 0 or (step + 1) % every):
            return None
        prompts = [list(t.token_ids()[0][: t.turns[-1].span[0]]) for t in played if t.turns][
            :: max(1, len(played) // 4)
        ]
        if not prompts:
            return None
        error = assert_on_policy(self.engine, self.learner.model, prompts, tolerance=self.settings.on_policy_tolerance)
        self._proved = True
        return error


def rate_share(step: int, settings: GrpoSection) -> float:
    """Return the share of the learning rate at ``step`` (from 0): it rises in a straight line, and so it falls."""
    rise = min(1.0, (step + 1) / max(1, settings.warmup_updates))
    return rise * (1 - (1 - settings.last_rate) * step / max(1, settings.updates - 1))


def _check_faults(trajectories: Sequence[Trajectory]) -> None:
    """Stop if more than half of the episodes failed by a fault of ours: what is left says little about the policy."""
    faults = [t for t in trajectories if not t.scorable]
    if 2 * len(faults) > len(trajectories):
        raise InfrastructureError(
            f"{len(faults)} of {len(trajectories)} episodes of a batch failed by a fault of ours, the first with: "
            f"{faults[0].error}. Mend it and resume the run (--resume)"
        )
