"""Examples of the GRPO family, G-RA, SPA and IGPO."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from agentgym.rewards.gated import Gated
from agentgym.rewards.information_gain import AnswerFormat, InformationGain, word_f1
from agentgym.rewards.progress import EXECUTABLE, PROGRESS, LinearProgress, Progress, outcome_loss
from agentgym.rewards.trajectory_reward import Array, Continuation
from agentgym.train.advantage import (
    discounted_returns,
    find_advantage,
    group_returns,
    is_tied,
    token_rewards,
    turn_rewards,
)
from agentgym.trajectory import Trajectory, Turn

METHODS = ("GRPO-family", "GiGPO", "G-RA", "SPA", "IGPO")
Inputs = Mapping[str, Any]


def episode(rewards: Sequence[float], states: Sequence[str] = ()) -> Trajectory:
    turns = tuple(
        Turn("see", "do", reward_terms={"r": reward}, state_key=states[i] if states else f"{i}")
        for i, reward in enumerate(rewards)
    )
    return Trajectory("tests/Any-v0", "task", "train", turns=turns)


def estimate(name: str, group: Sequence[Trajectory], **kwargs: Any) -> list[list[float]]:
    return [own.tolist() for own in find_advantage(name)(group, [turn_rewards(t) for t in group], **kwargs)]


def of_one_turn(name: str, rewards: Sequence[float], **kwargs: Any) -> list[float]:
    return [own[0] for own in estimate(name, [episode([reward]) for reward in rewards], **kwargs)]


def grpo_family(inputs: Inputs) -> dict[str, Any]:
    rewards = inputs["rewards"]
    return {
        "adv_eps_1e4_trl": of_one_turn("grpo", rewards, epsilon=1e-4),
        "adv_eps_1e6_verl": of_one_turn("grpo", rewards, epsilon=1e-6),
        "dr_grpo": of_one_turn("dr_grpo", rewards),
        "rloo": of_one_turn("rloo", rewards),
    }


def tied(inputs: Inputs) -> dict[str, Any]:
    return {"adv": of_one_turn("grpo", inputs["rewards"])}


def losses(logprobs: Any, settings: Any, advantages: Sequence[float], rows: Sequence[int]) -> list[float]:
    import torch

    from agentgym.train.loss import TokenData, token_losses

    zeros = torch.zeros(len(advantages), dtype=torch.float64)
    data = TokenData(zeros, zeros, torch.tensor(advantages, dtype=torch.float64), torch.tensor(rows))
    found: list[float] = token_losses(logprobs, data, settings).loss.tolist()
    return found


def clipped(inputs: Inputs) -> dict[str, Any]:
    import torch

    from agentgym.train.loss import PolicyLoss

    ratios, advantages = zip(*inputs["ratio_adv"], strict=True)
    logprobs, rows = torch.tensor(ratios, dtype=torch.float64).log(), range(len(ratios))
    plain = PolicyLoss(clip_low=inputs["eps"], clip_high=inputs["eps"])
    dual = PolicyLoss(clip_low=inputs["eps"], clip_high=inputs["eps"], dual_clip=3.0)
    return {
        "loss": losses(logprobs, plain, advantages, rows),
        "dual_clip_c3": losses(logprobs, dual, advantages, rows),
    }


def divergence(inputs: Inputs) -> dict[str, Any]:
    import torch

    from agentgym.train.loss import k3

    own, reference = torch.tensor(inputs["logp_ref"], dtype=torch.float64).T
    return {"k3": k3(own, reference).tolist()}


def aggregation(inputs: Inputs) -> dict[str, Any]:
    from agentgym.train.loss import aggregation_weights

    loss, mask = np.array(inputs["token_loss"], dtype=float), np.array(inputs["mask"])

    def total(name: Any) -> float:
        weights = aggregation_weights(mask.sum(1).tolist(), name, inputs["max_len"])
        return float((loss * mask * weights[:, None]).sum())

    names = ("token_mean", "seq_mean_token_mean", "seq_mean_token_sum")
    return {**{name: total(name) for name in names}, "dr_grpo_const_norm": total("constant")}


def dynamic_sampling(inputs: Inputs) -> dict[str, Any]:
    groups = [[episode([reward]) for reward in group] for group in inputs["groups"]]
    returns = [group_returns(group, [turn_rewards(t) for t in group]) for group in groups]
    return {"kept_indices": [i for i, one in enumerate(returns) if not is_tied(one)]}


def sequence_ratio(inputs: Inputs) -> dict[str, Any]:
    import torch

    from agentgym.train.loss import PolicyLoss, importance_ratio

    assert all(inputs["mask"])  # what is masked never reaches the loss here
    log_ratios = torch.tensor(inputs["log_ratios"], dtype=torch.float64)
    rows = torch.zeros(len(log_ratios), dtype=torch.long)
    settings = PolicyLoss(importance="sequence", clip_low=inputs["eps_low"], clip_high=inputs["eps_high"])
    found = [losses(log_ratios, settings, [a] * len(rows), rows.tolist()) for a in inputs["A_values"]]
    return {
        "seq_ratio": float(importance_ratio(log_ratios, torch.zeros(len(rows)), rows, "sequence")[0]),
        "loss": [float(np.mean(one)) for one in found],
    }


def truncated_sampling(inputs: Inputs) -> dict[str, Any]:
    import torch

    from agentgym.train.loss import truncated_importance

    own, sampler = (torch.tensor(inputs[name], dtype=torch.float64) for name in ("logp_train", "logp_sampler"))
    return {
        "raw": truncated_importance(own, sampler, 1e9).tolist(),
        "tis_truncated": truncated_importance(own, sampler, inputs["C"]).tolist(),
    }


def masked_tokens(inputs: Inputs) -> dict[str, Any]:
    """Lay the tokens out as two turns and let the batch pick those that are learned."""
    from agentgym.train.batch import collate, make_sequence, weigh

    ids = inputs["tokens"]["ids"]
    turns = (
        Turn("", "", prompt_ids=(1,), token_ids=tuple(ids[:2]), logprobs=(0.0, 0.0), span=(1, 3)),
        Turn("", "", prompt_ids=tuple(ids[2:5]), token_ids=tuple(ids[5:]), logprobs=(0.0, 0.0), span=(6, 8)),
    )
    trajectory = Trajectory("tests/Any-v0", "task", "train", turns=turns)
    batch = collate(weigh([make_sequence(trajectory, np.ones(2))], "token_mean"))
    loss_of = dict(zip(ids, inputs["per_token_loss"], strict=True))
    paid = [loss_of[int(target)] for target in batch.targets]
    return {"token_mean_masked": float(np.dot(paid, batch.weights.numpy()))}


def per_turn(inputs: Inputs) -> dict[str, Any]:
    group = [episode(rewards) for rewards in inputs["turn_rewards"]]
    assert inputs["ddof"] == 1
    return {
        "returns": [discounted_returns(turn_rewards(t), inputs["gamma"]).tolist() for t in group],
        "adv_by_turn_index": estimate("turn_level", group, discount=inputs["gamma"], epsilon=inputs["eps"]),
    }


def cispo(inputs: Inputs) -> dict[str, Any]:
    import torch

    from agentgym.train.loss import PolicyLoss, TokenData, token_losses

    ratios, advantages, logprobs = torch.tensor(inputs["ratio_adv_logp"], dtype=torch.float64).T
    old = logprobs - ratios.log()
    settings = PolicyLoss(surrogate="cispo", clip_high=inputs["eps_high"])
    data = TokenData(old, old, advantages, torch.arange(len(ratios)))
    return {"loss": token_losses(logprobs, data, settings).loss.tolist()}


def gigpo(inputs: Inputs) -> dict[str, Any]:
    deviation = inputs["normaliser"] == "std"
    group = [episode(one["rewards"], one["obs"]) for one in inputs["episodes"]]
    joint = estimate("gigpo", group, discount=inputs["gamma"], deviation=deviation)
    alone = estimate("gigpo", group, step_weight=0.0, deviation=deviation)
    return {
        "step_returns": [discounted_returns(turn_rewards(t), inputs["gamma"]).tolist() for t in group],
        "episode_adv": [own[0] for own in alone],
        "step_adv": [(np.array(a) - np.array(b)).tolist() for a, b in zip(joint, alone, strict=True)],
        "joint": joint,
    }


def revisited(inputs: Inputs) -> dict[str, Any]:
    found = gigpo(inputs)
    places = [(i, t, state) for i, one in enumerate(inputs["episodes"]) for t, state in enumerate(one["obs"])]
    by_state = {s: [found["step_adv"][i][t] for i, t, state in places if state == s] for s in ("A", "B")}
    return {
        "step_returns": found["step_returns"],
        "group_A_adv": by_state["A"],
        "group_B_adv": by_state["B"],
    }


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
    from dataclasses import fields

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


def igpo(inputs: Inputs) -> dict[str, Any]:
    group = []
    for own, outcome in zip(inputs["info_gains"], inputs["outcomes"], strict=True):
        terms = [*({"information_gain": gain} for gain in own), {"outcome": outcome}]
        turns = tuple(Turn("see", "do", reward_terms=one) for one in terms)
        group.append(Trajectory("tests/Any-v0", "task", "train", turns=turns))
    return {
        "normalised": estimate("igpo", group, pools=inputs["mode"], discount=0.0),
        "turn_advantages": estimate("igpo", group, pools=inputs["mode"], discount=inputs["gamma"]),
    }


def broadcast(inputs: Inputs) -> dict[str, Any]:
    sequence = sequence_of(inputs["turn_spans_half_open"], inputs["turn_advantages"])
    assert len(sequence.ids) == inputs["n_tokens"]
    return {"loss_mask": sequence.sampled.astype(int), "token_advantages": sequence.advantages}


def f1(inputs: Inputs) -> dict[str, Any]:
    return {"f1": word_f1(inputs["prediction"], inputs["golds"])}


ADAPTERS: dict[tuple[str, str], Callable[[Inputs], Mapping[str, Any]]] = {
    ("GRPO-family", "grpo_adv_two_of_four"): grpo_family,
    ("GRPO-family", "grpo_adv_one_of_four"): grpo_family,
    ("GRPO-family", "grpo_adv_zero_std"): tied,
    ("GRPO-family", "clipped_surrogate"): clipped,
    ("GRPO-family", "kl_estimators"): divergence,
    ("GRPO-family", "loss_aggregation"): aggregation,
    ("GRPO-family", "dapo_dynamic_sampling"): dynamic_sampling,
    ("GRPO-family", "gspo_sequence_ratio"): sequence_ratio,
    ("GRPO-family", "tis_and_mis"): truncated_sampling,
    ("GRPO-family", "env_token_masking"): masked_tokens,
    ("GRPO-family", "turn_level_discounted_then_per_turn_norm"): per_turn,
    ("GRPO-family", "cispo"): cispo,
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
    ("IGPO", "group_norm_joint_gamma_1.0"): igpo,
    ("IGPO", "group_norm_separate_gamma_1.0"): igpo,
    ("IGPO", "group_norm_separate_gamma_0.5"): igpo,
    ("IGPO", "degenerate_group_all_equal"): igpo,
    ("IGPO", "broadcast_to_tokens_with_tool_mask"): broadcast,
    ("IGPO", "f1_alias_max"): f1,
    ("IGPO", "f1_none"): f1,
    ("GiGPO", "two_episodes_mean"): gigpo,
    ("GiGPO", "two_episodes_std"): gigpo,
    ("GiGPO", "revisited_state_counts_twice"): revisited,
}
OMITTED: dict[tuple[str, str], Mapping[str, str]] = {
    ("GRPO-family", "grpo_adv_two_of_four"): {"adv_population_std": "GRPO divides by the sample deviation here"},
    ("GRPO-family", "grpo_adv_one_of_four"): {"adv_population_std": "GRPO divides by the sample deviation here"},
    ("GRPO-family", "kl_estimators"): {"k1": "only k3 is built", "k2": "only k3 is built"},
    ("GRPO-family", "loss_aggregation"): {"verl_seq_mean_token_sum_norm": "another library's, without the batch size"},
    ("GRPO-family", "tis_and_mis"): {
        "mis_masked": "ratios are truncated, never masked, here",
        "sequence_ratio": "truncation is per token here",
        "sequence_mask_C3": "truncation is per token here",
    },
    ("GRPO-family", "env_token_masking"): {"token_mean_unmasked": "the error that the example is there to find"},
}
