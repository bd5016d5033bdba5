from __future__ import annotations

import math

import pytest
import torch

from agentgym.train.loss import (
    PolicyLoss,
    TokenData,
    aggregation_weights,
    clipped_surrogate,
    k3,
    token_losses,
    truncated_importance,
)


def data(old: torch.Tensor, advantages: torch.Tensor, **kwargs: torch.Tensor) -> TokenData:
    rows = kwargs.pop("rows", torch.zeros(len(old), dtype=torch.long))
    return TokenData(old, kwargs.pop("sampler_logprobs", old), advantages, rows, **kwargs)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (PolicyLoss(), [-1.2, 1.5, -0.5, 0.8, -1.1, 5.0]),
        (PolicyLoss(dual_clip=3.0), [-1.2, 1.5, -0.5, 0.8, -1.1, 3.0]),
    ],
)
def test_clipped_surrogate(settings: PolicyLoss, expected: list[float]) -> None:
    ratio = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1, 5.0])
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    loss, clipped = clipped_surrogate(ratio, advantages, settings)
    assert loss.tolist() == pytest.approx(expected)
    assert clipped.tolist() == [True, False, False, True, False, False]


def test_clip_higher_of_dapo() -> None:
    loss, _ = clipped_surrogate(torch.tensor([1.25, 1.4]), torch.ones(2), PolicyLoss(clip_low=0.2, clip_high=0.28))
    assert loss.tolist() == pytest.approx([-1.25, -1.28])


def test_a_clipped_token_has_no_gradient() -> None:
    logprobs = torch.tensor([math.log(0.6), math.log(0.44)], requires_grad=True)
    old = torch.full((2,), math.log(0.4))
    losses = token_losses(logprobs, data(old, torch.ones(2)), PolicyLoss())
    losses.loss.sum().backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([0.0, -1.1])
    assert losses.clipped.tolist() == [True, False]


def test_k3() -> None:
    present = torch.tensor([-1.0, -1.0, -1.0, -2.0])
    reference = torch.tensor([-0.9, -1.1, -1.0, -1.0])
    assert k3(present, reference).tolist() == pytest.approx([0.005170918, 0.004837418, 0.0, 0.718281828], abs=1e-6)
    assert torch.isfinite(k3(torch.tensor([-1000.0]), torch.tensor([0.0]))).all()


def test_kl_pulls_towards_the_reference() -> None:
    logprobs = torch.tensor([-1.0], requires_grad=True)
    known = data(torch.tensor([-1.0]), torch.zeros(1), reference_logprobs=torch.tensor([-2.0]))
    losses = token_losses(logprobs, known, PolicyLoss(kl_coef=0.5))
    assert losses.loss.item() == pytest.approx(0.5 * losses.kl.item())
    losses.loss.sum().backward()
    assert logprobs.grad is not None
    assert logprobs.grad.item() > 0


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [("token_mean", 4 / 3), ("seq_mean_token_mean", 1.5), ("seq_mean_token_sum", 4.0), ("constant", 0.5)],
)
def test_aggregation(aggregation: str, expected: float) -> None:
    weights = aggregation_weights([2, 4], aggregation, constant_length=8)  # type: ignore[arg-type]
    assert sum((1 + 3) * weights[0] for _ in [0]) + 4 * weights[1] == pytest.approx(expected)


def test_environment_tokens_would_have_counted() -> None:
    weight = aggregation_weights([4], "token_mean")[0]
    assert weight * sum([0.5, 0.5, 1.0, 2.0]) == pytest.approx(1.0)


@pytest.mark.parametrize(("advantage", "expected"), [(1.0, -1.0004), (-1.0, 1.02020134)])
def test_gspo(advantage: float, expected: float) -> None:
    ratios = torch.tensor([0.1, -0.05, 0.01])
    settings = PolicyLoss(importance="sequence", clip_low=3e-4, clip_high=4e-4)
    known = data(torch.zeros(3), torch.full((3,), advantage))
    losses = token_losses(ratios, known, settings).loss
    weight = aggregation_weights([3], "seq_mean_token_mean")[0]
    assert losses.sum().item() * weight == pytest.approx(expected, abs=1e-6)


def test_gspo_has_the_gradient_of_the_sequence_ratio() -> None:
    log_ratios = torch.tensor([0.1, -0.05, 0.01, 0.2], requires_grad=True)
    rows = torch.tensor([0, 0, 0, 1])
    advantages = torch.tensor([1.0, 1.0, 1.0, -2.0])
    settings = PolicyLoss(importance="sequence", clip_low=0.9, clip_high=9.0)
    losses = token_losses(log_ratios, data(torch.zeros(4), advantages, rows=rows), settings).loss
    weights = torch.tensor([1 / 6, 1 / 6, 1 / 6, 1 / 2])
    (gradient,) = torch.autograd.grad((losses * weights).sum(), log_ratios)
    direct = -(log_ratios[:3].mean().exp() - 2 * log_ratios[3].exp()) / 2
    (expected,) = torch.autograd.grad(direct, log_ratios)
    assert gradient.tolist() == pytest.approx(expected.tolist())


def test_truncated_importance() -> None:
    trainer = torch.tensor([-1.0, -2.0, -0.5])
    sampler = torch.tensor([-2.098612289, -1.306852819, -0.5])
    assert truncated_importance(trainer, sampler, 100.0).tolist() == pytest.approx([3.0, 0.5, 1.0])
    assert truncated_importance(trainer, sampler, 2.0).tolist() == pytest.approx([2.0, 0.5, 1.0])
    known = data(trainer, torch.ones(3), sampler_logprobs=sampler)
    assert token_losses(trainer, known, PolicyLoss(tis_cap=2.0)).loss.tolist() == pytest.approx([-2.0, -0.5, -1.0])


def test_cispo() -> None:
    logprobs = torch.tensor([-1.0, -2.0, -0.5], requires_grad=True)
    ratio = torch.tensor([1.5, 6.0, 0.3])
    known = data((logprobs - ratio.log()).detach(), torch.tensor([1.0, 1.0, -1.0]))
    loss = token_losses(logprobs, known, PolicyLoss(surrogate="cispo", clip_high=5.0)).loss
    assert loss.tolist() == pytest.approx([1.5, 10.0, -0.15])
    (gradient,) = torch.autograd.grad(loss.sum(), logprobs)
    assert gradient.tolist() == pytest.approx([-1.5, -5.0, 0.3])  # capped ratios go on learning


def test_on_policy_the_gradient_is_reinforce() -> None:
    logprobs = torch.tensor([-1.0, -2.0], requires_grad=True)
    advantages = torch.tensor([0.7, -0.3])
    for settings in (PolicyLoss(), PolicyLoss(surrogate="cispo", clip_high=5.0), PolicyLoss(importance="sequence")):
        loss = token_losses(logprobs, data(logprobs.detach(), advantages), settings).loss
        (gradient,) = torch.autograd.grad(loss.sum(), logprobs)
        assert gradient.tolist() == pytest.approx((-advantages).tolist())
