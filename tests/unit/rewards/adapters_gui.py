"""Examples of GUI-G²."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentgym.rewards.gaussian import centre, coverage_reward, gaussian_reward, point_reward
from agentgym.train.advantage import find_advantage, turn_rewards
from agentgym.trajectory import Trajectory, Turn

METHODS = ("GUI-G2",)
Inputs = Mapping[str, Any]
BOXES = (
    "perfect_match",
    "same_size_shifted",
    "double_size_concentric",
    "one_sigma_off_x",
    "far_miss",
    "degenerate_point_prediction",
)


def boxes(inputs: Inputs) -> dict[str, float]:
    predicted, target, alpha = inputs["pred"], inputs["gt"], inputs["alpha"]
    return {
        "point": point_reward(centre(predicted), target, alpha),
        "coverage": coverage_reward(predicted, target, alpha),
        "total": gaussian_reward(predicted, target, alpha, inputs["nu"], inputs["gamma"]),
    }


def click(inputs: Inputs) -> dict[str, float]:
    return {"point": point_reward(inputs["click"], inputs["gt"], inputs["alpha"])}


def advantages(inputs: Inputs) -> dict[str, list[float]]:
    group = [
        Trajectory("tests/Any-v0", "task", "train", turns=(Turn("see", "do", reward_terms={"gaussian": total}),))
        for total in inputs["totals"]
    ]
    assert inputs["ddof"] == 1
    found = find_advantage("grpo")(group, [turn_rewards(t) for t in group], epsilon=inputs["eps"])
    return {"advantages": [float(own[0]) for own in found]}


ADAPTERS = {
    **{("GUI-G2", name): boxes for name in BOXES},
    ("GUI-G2", "click_only_adaptation"): click,
    ("GUI-G2", "group_advantage_of_totals"): advantages,
}
OMITTED = {
    ("GUI-G2", name): {"released_rounding": "the released code rounds each part to 3 decimals; ours rounds nothing"}
    for name in BOXES
}
