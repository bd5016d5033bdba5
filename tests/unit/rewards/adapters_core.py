"""Examples of G-RA, SPA and IGPO."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from agentgym.rewards.gated import Gated
from agentgym.rewards.information_gain import AnswerFormat, InformationGain, word_f1
from agentgym.rewards.progress import EXECUTABLE, PROGRESS, LinearProgress, Progress, outcome_loss
from agentgym.rewards.trajectory_reward import Array, Continuation
from agentgym.train.advantage import igpo, token_rewards, turn_rewards
from agentgym.trajectory import Trajectory, Turn

METHODS = ("G-RA", "SPA", "IGPO")
Inputs = Mapping[str, Any]


# G-RA


def gated(inputs: Inputs) -> dict[str, Any]:
    *earlier, last = inputs["step_rewards"]
    turns = [Turn("see", "do", reward_terms={"step": reward}) for reward in earlier]
    turns.append(Turn("see", "do", reward_terms={"step": last, "outcome": inputs["outcome"]}))
    trajectory = Trajectory("tests/Any-v0", "task", "train", turns=tuple(turns))
    shaped = Gated(gates=[inputs["gate"]], strict=inputs["strict"]).shape(trajectory)
    return {
        "gate_open": shaped.measures["gates_open"] == 1,
        "total": shaped.episode_return,
        "direct_accumulation_total": shaped.measures["direct_accumulation"],
        "gated_step_rewards": [turn.reward_terms.get("step", 0.0) for turn in shaped.turns],
    }


def hierarchy(inputs: Inputs) -> dict[str, Any]:
    outcome, *lower = inputs["rewards_by_priority"]
    names = [f"level {i}" for i in range(len(lower))]
    turn = Turn("see", "do", reward_terms={"outcome": outcome, **dict(zip(names, lower, strict=True))})
    trajectory = Trajectory("tests/Any-v0", "task", "train", turns=(turn,))
    return {"total": Gated(names, inputs["gates"]).shape(trajectory).episode_return}


# SPA


class Told:
    """An estimator that was told the contributions."""

    fitted = True

    def __init__(self, contributions: Sequence[float]) -> None:
        self.told = np.array(contributions)

    def contributions(self, trajectories: Sequence[Trajectory]) -> list[Array]:
        return [self.told for _ in trajectories]

    def fit(self, trajectories: Sequence[Trajectory], outcomes: Sequence[float]) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        return None


def estimator_loss(inputs: Inputs) -> dict[str, Any]:
    if "outcomes" not in inputs:
        own = np.array(inputs["contributions"])
        loss, (gradient,) = outcome_loss([own], [inputs["outcome"]])
        return {"prediction": own.sum(), "loss": loss, "grad_wrt_each_contribution": gradient}
    all_own = [np.array(own) for own in inputs["contributions"]]
    return {"predictions": [own.sum() for own in all_own], "loss": outcome_loss(all_own, inputs["outcomes"])[0]}


def step_rewards(inputs: Inputs) -> dict[str, Any]:
    turns = tuple(Turn("see", "do", executable=bool(flag)) for flag in inputs["executable"])
    trajectory = Trajectory("tests/Any-v0", "task", "train", turns=turns, success=True)

    def paid(last_executable: bool) -> list[float]:
        method = Progress(
            Told(inputs["contributions"]), alpha=inputs["alpha"], beta=inputs["beta"], last_executable=last_executable
        )
        shaped = method.shape(trajectory)
        assert all(set(turn.reward_terms) == {PROGRESS, EXECUTABLE} for turn in shaped.turns)
        return [turn.reward for turn in shaped.turns]

    return {"step_rewards": paid(inputs["last_step_always_executable"]), "without_convention": paid(False)}


def linear(inputs: Inputs) -> dict[str, Any]:
    names = inputs["step_types"]
    turns = {name: Turn("see", name) for name in names}
    episodes = [
        Trajectory(
            "t/E-v0",
            "t",
            "train",
            turns=tuple(turns[n] for n, k in zip(names, row, strict=True) for _ in range(int(k))),
        )
        for row in inputs["step_type_counts"]
    ]
    estimator = LinearProgress(["action"], ridge=0.0)
    estimator.fit(episodes, inputs["outcomes"])
    each = [Trajectory("t/E-v0", "t", "train", turns=(turn,)) for turn in turns.values()]
    return {
        "weights": [own[0] for own in estimator.contributions(each)],
        "decomposition_of_traj0": estimator.contributions(episodes[:1])[0],
    }


def placed(inputs: Inputs) -> dict[str, Any]:
    spans = inputs["turn_spans_half_open"]
    paid = token_rewards(spans, inputs["step_rewards"], inputs["per_token_kl"], inputs["kl_coef"])
    return {"loss_mask": sequence_of(spans, [0.0] * len(spans)).sampled.astype(int), "token_rewards": paid}


# IGPO


def sequence_of(spans: Sequence[Sequence[int]], advantages: Sequence[float]) -> Any:
    """Lay out an episode with these spans; a first token of the world's is put before, and taken off again."""
    from agentgym.train.batch import TokenSequence, make_sequence

    turns, end = [], 0
    for start, stop in spans:
        gap, size = start - end + (not turns), stop - start
        ids = (1,) * size
        turns.append(Turn("", "", (0,) * gap, ids, (0.0,) * size, span=(start + 1, stop + 1)))
        end = stop
    trajectory = Trajectory("tests/Any-v0", "task", "train", turns=tuple(turns))
    whole = make_sequence(trajectory, np.array(advantages))
    arrays = {f.name: getattr(whole, f.name)[1:] for f in fields(TokenSequence) if f.name != "weight"}
    return TokenSequence(**arrays)


class TableModel:
    """Gives the answer, in order of the questions, the probabilities of a table."""

    def __init__(self, table: Sequence[Sequence[float]]) -> None:
        self.table = table

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def score(self, continuations: Sequence[Continuation]) -> list[Array]:
        assert [len(one.ids) for one in continuations] == [len(row) for row in self.table]
        lengths = [len(one.context_ids) for one in continuations]
        assert lengths == sorted(set(lengths)), "each context is longer than the one before"
        return [np.log(row) for row in self.table]


def gains(inputs: Inputs) -> dict[str, Any]:
    table = inputs["gt_token_probs_by_state"]
    turns = tuple(
        Turn("see", "do", (7,), (8,), (0.0,), span=(2 * i + 1, 2 * i + 2), reward_terms={"r": 0.0})
        for i in range(len(table))
    )
    trajectory = Trajectory("tests/Any-v0", "task", "train", turns=turns, privileged={"answers": ["ab"]})

    def found(difference: Any) -> tuple[list[float], list[float]]:
        method = InformationGain(difference=difference, answer_format=AnswerFormat("say {answer}"))
        method.bind(TableModel(table))
        shaped = method.shape(trajectory)
        return [turn.reward_terms["information_gain"] for turn in shaped.turns[:-1]], [
            shaped.measures["answer_logprob"]
        ]

    in_probability, _ = found("prob")
    in_logs, last = found("log")
    levels = np.exp(last[0] - np.concatenate([np.cumsum(in_logs[::-1])[::-1], [0.0]]))
    return {
        "geomean_prob": levels,
        "ig_prob_diff": in_probability,
        "ig_log_prob_diff": in_logs,
        "telescopes_prob": sum(in_probability),
        "telescopes_log": sum(in_logs),
    }


def advantages(inputs: Inputs) -> dict[str, Any]:
    group = []
    for own, outcome in zip(inputs["info_gains"], inputs["outcomes"], strict=True):
        terms = [*({"information_gain": gain} for gain in own), {"outcome": outcome}]
        turns = tuple(Turn("see", "do", reward_terms=one) for one in terms)
        group.append(Trajectory("tests/Any-v0", "task", "train", turns=turns))
    rewards = [turn_rewards(trajectory) for trajectory in group]
    return {
        "normalised": igpo(group, rewards, pools=inputs["mode"], discount=0.0),
        "turn_advantages": igpo(group, rewards, pools=inputs["mode"], discount=inputs["gamma"]),
    }


def broadcast(inputs: Inputs) -> dict[str, Any]:
    sequence = sequence_of(inputs["turn_spans_half_open"], inputs["turn_advantages"])
    assert len(sequence.ids) == inputs["n_tokens"]
    return {"loss_mask": sequence.sampled.astype(int), "token_advantages": sequence.advantages}


def f1(inputs: Inputs) -> dict[str, Any]:
    return {"f1": word_f1(inputs["prediction"], inputs["golds"])}


ADAPTERS: dict[tuple[str, str], Callable[[Inputs], Mapping[str, Any]]] = {
    ("G-RA", "gate_closed_empty_patch"): gated,
    ("G-RA", "gate_open_at_boundary"): gated,
    ("G-RA", "boundary_strict_variant"): gated,
    ("G-RA", "hierarchy_middle_gate_closed"): hierarchy,
    ("G-RA", "hierarchy_top_closed_blocks_all"): hierarchy,
    ("G-RA", "hierarchy_lower_gate_passing_cannot_reopen"): hierarchy,
    ("SPA", "estimator_mse_single"): estimator_loss,
    ("SPA", "estimator_mse_batch"): estimator_loss,
    ("SPA", "step_reward_last_step_convention"): step_rewards,
    ("SPA", "linear_estimator_recovers_contributions"): linear,
    ("SPA", "token_placement_with_kl"): placed,
    ("IGPO", "info_gain_prob_and_logprob"): gains,
    ("IGPO", "group_norm_joint_gamma_1.0"): advantages,
    ("IGPO", "group_norm_separate_gamma_1.0"): advantages,
    ("IGPO", "group_norm_separate_gamma_0.5"): advantages,
    ("IGPO", "degenerate_group_all_equal"): advantages,
    ("IGPO", "broadcast_to_tokens_with_tool_mask"): broadcast,
    ("IGPO", "f1_alias_max"): f1,
    ("IGPO", "f1_none"): f1,
}
OMITTED: dict[tuple[str, str], Mapping[str, str]] = {}
