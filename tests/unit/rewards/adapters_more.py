"""Examples of the methods beside the five that the recipe book leads with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from agentgym.rewards.dense_split import split_rewards
from agentgym.rewards.infopo import info_reward
from agentgym.rewards.lare import decomposition_loss
from agentgym.rewards.medloc import Medloc, is_competent
from agentgym.rewards.oni import Oni
from agentgym.rewards.par import Par
from agentgym.rewards.regret_preference import Segment, regret_preference, return_preference
from agentgym.rewards.rto import RtoWeights, rto_token_rewards
from agentgym.rewards.shaping import shaping_rewards
from agentgym.rewards.ssl_tiers import SslTiers
from agentgym.rewards.stock import group_cvar, stock_invariant, stocks
from agentgym.rewards.subpo import SubPO
from agentgym.rewards.verpo import discounted_outcome, sharing_counts, turn_rewards, weights_of_tests
from agentgym.rewards.webarbiter import Webarbiter
from agentgym.train.advantage import discounted_returns
from agentgym.train.advantage.branches import (
    expansion_gain,
    expansion_score,
    phase_advantages,
    sibling_advantages,
)
from agentgym.train.advantage.infopo import infopo, information_gate, outcome_deviation
from agentgym.train.advantage.verpo import verpo
from agentgym.trajectory import Trajectory, Turn

METHODS = (
    "F-GRPO",
    "InfoPO",
    "LaRe",
    "MedLoc-R1",
    "ONI",
    "PAR",
    "RTO",
    "SSL",
    "SubPO",
    "V-STAR",
    "VeRPO",
    "WebArbiter",
    "potential-shaping",
    "practitioners-guide",
    "regret-preference",
    "stock-augmented-DP",
)
Inputs = Mapping[str, Any]


def episode(terms: Sequence[Mapping[str, float]], **kwargs: Any) -> Trajectory:
    turns = tuple(Turn("see", "do", reward_terms=own) for own in terms)
    return Trajectory("tests/Any-v0", "task", "train", turns=turns, **kwargs)


def rewards_of(group: Sequence[Trajectory]) -> list[Any]:
    return [np.array([turn.reward for turn in member.turns]) for member in group]


def info_of_turn(inputs: Inputs) -> dict[str, Any]:
    return {"r_info": info_reward(np.array(inputs["logp_with_obs"]), np.array(inputs["logp_without_obs"]))}


def fusion(inputs: Inputs) -> dict[str, Any]:
    outcomes, gains = inputs["outcomes"], inputs["info_rewards"]
    group = [episode([{"infopo": gain}, {"outcome": own}]) for own, gain in zip(outcomes, gains, strict=True)]
    settings = {"weight": inputs["beta"], "temperature": inputs["T"], "epsilon": inputs["eps"]}
    deviation = outcome_deviation(np.array(outcomes))
    return {
        "sigma_ext": deviation,
        "gate": information_gate(deviation, inputs["T"]),
        "advantages": [own[0] for own in infopo(group, rewards_of(group), **settings)],
    }


def difficulty(inputs: Inputs) -> dict[str, Any]:
    rates, width = np.array(inputs["pass_rates"]), inputs["sigma"]
    weights = weights_of_tests(rates, inputs["alpha"], width, inputs["delta"])
    rewards = turn_rewards(np.array(inputs["turn_passes"], dtype=float), weights)
    return {"kernel_counts": sharing_counts(rates, width), "weights": weights, "turn_rewards": rewards}


def dual(inputs: Inputs) -> dict[str, Any]:
    group, outcomes = [], []
    for one in inputs["trajectories"]:
        outcomes.append(discounted_outcome(one["R"], len(one["turn"]), inputs["gamma"]))
        terms = [{"verpo": value} for value in one["turn"]]
        terms[-1]["outcome"] = outcomes[-1]
        group.append(episode(terms))
    advantages = verpo(group, rewards_of(group), weight=inputs["beta"])
    return {"discounted_traj_rewards": outcomes, "advantages": [own.tolist() for own in advantages]}


def tiers(inputs: Inputs) -> dict[str, Any]:
    settings = {"edges": inputs["edges"], "tiers": inputs["tier_values"]}
    found: dict[str, list[float]] = {"tiers": [], "reward": []}
    for near, correct in zip(inputs["proximity"], inputs["correct"], strict=True):
        graded = episode([{"near": near, "outcome": correct}])
        alone = SslTiers("reward/near", weight=1.0, **settings).shape(graded)
        weighted = SslTiers("reward/near", weight=inputs["alpha"], **settings).shape(graded)
        found["tiers"].append(alone.reward_terms["ssl"])
        found["reward"].append(weighted.reward_terms["ssl"] + weighted.reward_terms["outcome"])
    return found


def schedule(inputs: Inputs) -> dict[str, Any]:
    method = Medloc("reward/iou", start=inputs["tau0"], highest=inputs["tau_max"], window=2)
    bars = [method.bar]
    for number in range(12):
        bar = method.fit([episode([{"iou": 1.0}], group=str(number))])["bar"]
        if bar != bars[-1]:
            bars.append(bar)
    return {"taus": bars}


def decision(inputs: Inputs) -> dict[str, Any]:
    names = ("tau", "mean_reward", "reward_std", "mean_iou")
    return {"raise_": [is_competent(*(case[name] for name in names)) for case in inputs["cases"]]}


def par(inputs: Inputs) -> dict[str, Any]:
    method = Par("reward/score", inputs["ref_rewards"], k=inputs["k"])
    return {"par": method.shape(episode([{"score": inputs["reward"]}])).episode_return}


def decomposition(inputs: Inputs) -> dict[str, Any]:
    sampled = np.array(inputs["step_rewards"])[inputs["sampled_indices"]]
    return {"loss": decomposition_loss(sampled, inputs["episode_return"] / inputs["T"])}


def count_scaled(inputs: Inputs) -> dict[str, Any]:
    turns = [{"outcome": inputs["r_ext"]}] * inputs["N"]
    method = Oni(
        lambda _: inputs["r_llm"],
        weight=inputs["c_llm"],
        extrinsic_weight=inputs["c_ext"],
        exponent=inputs["beta_exp"],
    )
    return {"total": method.shape(episode(turns, final_observation="see")).turns[-1].reward}


def coverage(inputs: Inputs) -> dict[str, Any]:
    steps = iter(inputs["covered_by_step"])
    method = SubPO(lambda turn, after: next(steps), weights=inputs["weights"], other_weight=0.0)
    shaped = method.shape(episode([{}] * len(inputs["covered_by_step"])))
    gains = [turn.reward for turn in shaped.turns]
    to_go = discounted_returns(np.array(gains), 1.0)
    return {"marginal_gains": gains, "F_total": shaped.episode_return, "reward_to_go": to_go.tolist()}


def stock(inputs: Inputs) -> dict[str, Any]:
    settings = (inputs["c0"], inputs["rewards"], inputs["gamma"])
    invariant = stock_invariant(*settings)
    return {
        "stocks": stocks(*settings),
        "c0_plus_return": invariant[0],
        "gamma_t_times_ct_plus_Gt": invariant,
    }


def cvar(inputs: Inputs) -> dict[str, Any]:
    returns = inputs["returns"]
    return {"cvar": group_cvar(returns, inputs["alpha"]), "mean": group_cvar(returns, 1.0)}


def telescoping(inputs: Inputs) -> dict[str, Any]:
    rewards = shaping_rewards(inputs["potentials"], inputs["gamma"])
    return {"shaping": rewards, "discounted_sum": discounted_returns(np.array(rewards), inputs["gamma"])[0]}


def dense_split(inputs: Inputs) -> dict[str, Any]:
    rewards, available = inputs["intermediate"], inputs["total_available"]
    return {"won": split_rewards(rewards, True, available), "lost": split_rewards(rewards, False, available)}


def phases(inputs: Inputs) -> dict[str, Any]:
    found = phase_advantages({"A_slate": np.array(inputs["slate_rewards"]), "A_rank": np.array(inputs["rank_rewards"])})
    return {name: own.tolist() for name, own in found.items()}


def siblings(inputs: Inputs) -> dict[str, Any]:
    values, advantages = sibling_advantages(inputs["children_rewards"], inputs["eps"])
    return {"node_values": values.tolist(), "A_node": advantages.tolist()}


def expansion(inputs: Inputs) -> dict[str, Any]:
    gain = expansion_gain(inputs["V"], inputs["H"], inputs["lam"])
    return {"G": gain, "U": expansion_score(gain, inputs["N_root"], inputs["N"], inputs["beta"])}


def of_tokens(inputs: Inputs) -> dict[str, Any]:
    weights = RtoWeights(inputs["beta1"], inputs["clip"], inputs["kl_coef"])
    ratios = np.log(inputs["dpo_over_ref_ratio"]), np.array(inputs["log_ratio_policy_ref"])
    return {"token_rewards": rto_token_rewards(*ratios, inputs["rm_score"], weights).tolist()}


def verdicts(inputs: Inputs) -> dict[str, Any]:
    judged = [
        replace(
            episode([{}]),
            privileged={"verdict": inputs["gold"]},
            turns=(Turn("A or B?", f"<verdict>{said}</verdict>"),),
        )
        for said in inputs["verdicts"]
    ]
    return {"reward": [shaped.episode_return for shaped in Webarbiter()(judged)]}


def segments(inputs: Inputs) -> list[Segment]:
    return [Segment(one["sum_reward"], one["V_start"], one["V_end"]) for one in (inputs["seg1"], inputs["seg2"])]


def preferences(inputs: Inputs) -> dict[str, Any]:
    pair = segments(inputs)
    return {"p_regret": regret_preference(*pair), "p_partial_return": return_preference(*pair)}


def regrets(inputs: Inputs) -> dict[str, Any]:
    found = [one.regret for one in segments(inputs)]
    return {**preferences(inputs), "regret": found, "delta": [-one for one in found]}


ADAPTERS: dict[tuple[str, str], Callable[[Inputs], Mapping[str, Any]]] = {
    ("InfoPO", "turn_info_reward"): info_of_turn,
    ("InfoPO", "variance_gated_fusion_mixed_outcomes"): fusion,
    ("VeRPO", "difficulty_weights"): difficulty,
    ("VeRPO", "dual_advantage"): dual,
    ("SSL", "tiered_reward"): tiers,
    ("MedLoc-R1", "threshold_schedule_always_passing"): schedule,
    ("MedLoc-R1", "raise_decision"): decision,
    ("PAR", "sigmoid_centred"): par,
    ("PAR", "many_references"): par,
    ("LaRe", "return_decomposition_loss"): decomposition,
    ("ONI", "count_scaled_intrinsic"): count_scaled,
    ("SubPO", "coverage_marginal_gains"): coverage,
    ("F-GRPO", "factorised_advantages"): phases,
    ("V-STAR", "sibling_advantage"): siblings,
    ("V-STAR", "ved_score"): expansion,
    ("RTO", "token_rewards"): of_tokens,
    ("WebArbiter", "verdict_reward"): verdicts,
    ("regret-preference", "probability"): regrets,
    ("regret-preference", "models_disagree"): preferences,
    ("stock-augmented-DP", "stock_update_and_invariant"): stock,
    ("stock-augmented-DP", "group_cvar"): cvar,
    ("potential-shaping", "telescoping"): telescoping,
    ("practitioners-guide", "dense_reward_split"): dense_split,
}
OMITTED: dict[tuple[str, str], Mapping[str, str]] = {
    ("LaRe", "return_decomposition_loss"): {
        "mean_sampled": "a step inside the loss",
        "target": "the adapter's own quotient",
    },
    ("potential-shaping", "telescoping"): {"closed_form": "a property, tested as such"},
}
