"""Methods that learn from what was played: LaRe's decoders and MedLoc's bar."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agentgym.errors import RewardError
from agentgym.rewards.lare import LaRe
from agentgym.rewards.medloc import Medloc
from agentgym.trajectory import Trajectory, Turn

WORTH = {"key": 0.5, "door": 0.3, "wait": 0.0}


def opened(turn: Turn) -> float:
    return float(turn.action == "door")


def found(turn: Turn) -> float:
    return float(turn.action == "key")


def walk(actions: Sequence[str], group: str = "") -> Trajectory:
    """An episode whose outcome is the sum of what its actions are worth."""
    turns = [Turn("see", action) for action in actions[:-1]]
    turns.append(Turn("see", actions[-1], reward_terms={"outcome": sum(WORTH[action] for action in actions)}))
    return Trajectory("tests/Any-v0", "task", "train", group=group, turns=tuple(turns))


def walks(seed: int, count: int = 40) -> list[Trajectory]:
    chance = np.random.default_rng(seed)
    return [walk(chance.choice(sorted(WORTH), size=chance.integers(2, 6)).tolist()) for _ in range(count)]


def test_the_linear_decoder_finds_what_actions_are_worth() -> None:
    method = LaRe([found, opened], ridge=1e-9)
    assert not method.ready
    assert method.fit(walks(0))["loss"] == pytest.approx(0, abs=1e-12)
    assert method.ready
    shaped = method.shape(walk(["wait", "key", "door"]))
    assert [turn.reward for turn in shaped.turns] == pytest.approx([0.0, 0.5, 0.3], abs=1e-6)
    assert shaped.turns[-1].measures == {"raw/outcome": 0.8}


def test_the_linear_decoder_remembers_earlier_batches() -> None:
    apart, together = LaRe([found, opened]), LaRe([found, opened])
    apart.fit(walks(1))
    apart.fit(walks(2))
    together.fit([*walks(1), *walks(2)])
    assert apart.state_dict()["decoder"]["gram"] == pytest.approx(np.array(together.state_dict()["decoder"]["gram"]))
    one = walk(["wait", "key", "door"])
    assert apart.shape(one).reward_terms == pytest.approx(together.shape(one).reward_terms)


def test_the_network_learns_too() -> None:
    method = LaRe([found, opened], decoder="mlp", learning_rate=0.02, epochs=30)
    losses = [method.fit(walks(seed))["loss"] for seed in range(6)]
    assert losses[-1] < losses[0] / 20
    shaped = method.shape(walk(["wait", "key", "door"]))
    assert [turn.reward for turn in shaped.turns] == pytest.approx([0.0, 0.5, 0.3], abs=0.05)


@pytest.mark.parametrize("decoder", ["linear", "mlp"])
def test_lare_goes_on_from_a_checkpoint_as_if_nothing_had_been(decoder: Any, tmp_path: Path) -> None:
    def make() -> LaRe:
        return LaRe([found, opened], decoder=decoder, sampled_turns=2, seed=3)

    whole, resumed = make(), make()
    whole.fit(walks(1))
    torch.save({"0.lare": whole.state_dict()}, tmp_path / "rewards.pt")  # as the trainer's checkpoints do
    resumed.load_state_dict(torch.load(tmp_path / "rewards.pt", weights_only=True)["0.lare"])
    assert whole.fit(walks(2)) == resumed.fit(walks(2))
    one = walk(["wait", "key", "door"])
    assert whole.shape(one) == resumed.shape(one)
    with pytest.raises(RewardError, match="lare's state"):
        LaRe([found], decoder=decoder).load_state_dict(whole.state_dict())
    with pytest.raises(RewardError, match="fitted, decoder and chance"):
        make().load_state_dict({"bar": 1})


def test_sampled_turns_are_drawn_anew_and_by_the_seed() -> None:
    first, same, other = (LaRe([found, opened], sampled_turns=1, seed=seed) for seed in (0, 0, 1))
    losses = [method.fit(walks(4))["loss"] for method in (first, same, other)]
    assert losses[0] == losses[1] != losses[2]


def test_an_episode_without_turns_teaches_nothing() -> None:
    method = LaRe([found])
    assert method.fit([Trajectory("tests/Any-v0", "task", "train")]) == {}
    assert not method.ready


def batch(grades: Sequence[float | Sequence[float]], start: int = 0) -> list[Trajectory]:
    """Groups of the grades given; a group of one number is two episodes of that grade."""
    return [
        Trajectory(
            "tests/Any-v0", "t", "train", group=str(start + i), turns=(Turn("", "", reward_terms={"iou": grade}),)
        )
        for i, group in enumerate(grades)
        for grade in (group if isinstance(group, Sequence) else [group] * 2)
    ]


def test_the_bar_rises_with_a_full_window_and_keeps_its_newest_half() -> None:
    method = Medloc("reward/iou", window=4)
    assert method.fit(batch([0.9] * 3)) == {"bar": 0.3, "window": 3.0}
    assert method.fit(batch([0.9], 3)) == {"bar": 0.45, "window": 2.0}
    assert method.fit(batch([0.9], 4)) == {"bar": 0.45, "window": 3.0}
    assert method.fit(batch([0.9] * 9, 5)) == {"bar": 0.8, "window": 4.0}  # and stays there


@pytest.mark.parametrize(
    "grades",
    [
        [(0.9, 0.9, 0.9, 0.2)] * 4,  # too few of each group reach the bar
        [0.0, 0.9, 0.9, 0.9, 0.9, 0.9],  # reached, but unevenly
        [0.35] * 6,  # reached, but barely
    ],
)
def test_the_bar_stays_where_competence_is_missing(grades: list[float | Sequence[float]]) -> None:
    method = Medloc("reward/iou", window=len(grades))
    assert method.fit(batch(grades))["bar"] == 0.3


def test_a_grade_at_the_bar_is_paid() -> None:
    method = Medloc("reward/iou", start=0.5)
    paid = method([*batch([0.5, 0.49])])
    assert [t.reward_terms for t in paid] == [{"medloc": 1.0}] * 2 + [{"medloc": 0.0}] * 2
    assert paid[0].measures == {"raw/iou": 0.5, "medloc_grade": 0.5, "medloc_bar": 0.5}


def test_medloc_goes_on_from_a_checkpoint_as_if_nothing_had_been() -> None:
    whole, resumed = Medloc("reward/iou", window=4), Medloc("reward/iou", window=4)
    whole.fit(batch([0.9, 0.8, 0.9]))
    resumed.load_state_dict(json.loads(json.dumps(whole.state_dict())))
    assert whole.fit(batch([0.7, 0.9], 3)) == resumed.fit(batch([0.7, 0.9], 3)) == {"bar": 0.45, "window": 3.0}
    assert whole.state_dict() == resumed.state_dict()
