"""Optimizers: what each trains, and that their states come back."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from agentgym.train.config import GrpoSection
from agentgym.train.grpo import rate_share
from agentgym.train.muon import Muon
from agentgym.train.optimizer import Optimizer, OptimizerName

NAMES: tuple[OptimizerName, ...] = ("adamw", "muon")


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(16, 8)
        self.inner = nn.Linear(8, 8, bias=False)
        self.norm = nn.LayerNorm(8)
        self.lm_head = nn.Linear(8, 16, bias=False)

    def loss(self, ids: torch.Tensor) -> torch.Tensor:
        logits = self.lm_head(self.norm(self.embed(ids[:-1]) + self.inner(self.embed(ids[:-1]))))
        return nn.functional.cross_entropy(logits, ids[1:])


def train(model: Small, optimizer: Optimizer, steps: int) -> float:
    ids = torch.arange(32) * 5 % 16
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model.loss(ids)
        loss.backward()
        optimizer.step()
    return float(model.loss(ids).detach())


def make(name: OptimizerName) -> tuple[Small, Optimizer]:
    torch.manual_seed(0)
    model = Small()
    return model, Optimizer(model, name, learning_rate=3e-3, weight_decay=0.0)


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_learns(name: OptimizerName) -> None:
    model, optimizer = make(name)
    before = {path: weight.detach().clone() for path, weight in model.named_parameters()}
    first = train(model, optimizer, 0)
    assert train(model, optimizer, 100) < first / 2
    assert all(not torch.equal(before[path], weight) for path, weight in model.named_parameters())


def test_muon_takes_the_inner_matrices_only() -> None:
    model, optimizer = make("muon")
    train(model, optimizer, 1)
    adamw, muon = (part["state"] for part in optimizer.state_dict()["parts"])
    assert len(muon) == 1
    assert muon[0]["momentum_buffer"].shape == model.inner.weight.shape
    assert len(adamw) == 4  # embedding, norm's weight and bias, head


def test_weights_without_gradient_are_left_alone() -> None:
    torch.manual_seed(0)
    model = Small()
    model.embed.requires_grad_(False)
    before = model.embed.weight.detach().clone()
    train(model, Optimizer(model, "muon", 3e-3, 0.1), 5)
    assert torch.equal(before, model.embed.weight)


@pytest.mark.parametrize("name", NAMES)
def test_rates_move_together(name: OptimizerName) -> None:
    model, optimizer = make(name)
    before = [weight.detach().clone() for weight in model.parameters()]
    optimizer.set_learning_rate(0.0)
    train(model, optimizer, 3)
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_states_come_back(name: OptimizerName) -> None:
    model, optimizer = make(name)
    train(model, optimizer, 5)
    weights, states = {k: v.clone() for k, v in model.state_dict().items()}, copy.deepcopy(optimizer.state_dict())
    expected = train(model, optimizer, 5)

    other, again = make(name)
    other.load_state_dict(weights)
    again.load_state_dict(states)
    assert train(other, again, 5) == pytest.approx(expected, abs=1e-6)


def test_states_of_another_optimizer_are_refused() -> None:
    _, adamw = make("adamw")
    _, muon = make("muon")
    with pytest.raises(ValueError, match="parameter group"):
        muon.load_state_dict(adamw.state_dict())


@pytest.mark.parametrize("shape", [(8, 8), (24, 8), (8, 24)])
def test_muon_steps_as_torchs_does_but_for_rounding(shape: tuple[int, int]) -> None:
    torch.manual_seed(1)
    ours, theirs = (nn.Parameter(torch.zeros(shape)) for _ in range(2))
    optimizers = Muon([ours], lr=0.1, weight_decay=0.1), torch.optim.Muon([theirs], lr=0.1, weight_decay=0.1)
    for _ in range(3):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    assert ours.detach().norm() > 0.2
    assert (ours - theirs).norm() < 0.02 * theirs.norm()  # theirs is rounded to bfloat16


def test_the_learning_rate_rises_and_falls_in_straight_lines() -> None:
    settings = GrpoSection(updates=5, warmup_updates=2, last_rate=0.2)
    assert [rate_share(step, settings) for step in range(5)] == pytest.approx([0.5, 0.8, 0.6, 0.4, 0.2])
    assert {rate_share(step, GrpoSection(updates=3)) for step in range(3)} == {1.0}
