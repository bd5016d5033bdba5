"""Examples of the GRPO family."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from agentgym.train.advantage import discounted_returns, find_advantage, group_returns, is_tied, turn_rewards
from agentgym.trajectory import Trajectory, Turn

METHODS = ("GRPO-family", "GiGPO")
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
    from agentgym.train.batch import make_sequence, weigh
    from agentgym.train.micro_batch import collate

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
