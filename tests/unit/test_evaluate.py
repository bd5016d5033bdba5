"""Evaluation: what is played, what is counted, and what two evaluations say of each other."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import replace

import pytest

from agentgym import Completion, Dialogue, Trajectory, Turn, UsageError, make_policy
from agentgym.errors import InfrastructureError, UnknownNameError
from agentgym.evaluate import (
    Evaluation,
    WorldOptions,
    compare,
    evaluate,
    evaluate_async,
    plan_episodes,
    summarize,
)
from agentgym.stats import wilson_interval


class Sometimes:
    """Walks to the end of every third corridor and turns back in the others; babbles once, breaks one engine."""

    name = "sometimes"

    async def act(self, dialogue: Dialogue) -> Completion:
        number = int(dialogue.task_id.rsplit("-", 1)[1])
        if number == 1:
            return Completion("crash")
        if number == 3 and dialogue.turn == 0:
            return Completion("two\nlines", token_ids=(5, 6), logprobs=(-0.1, -0.2))
        return Completion("forward" if number % 3 == 0 else "back", token_ids=(5,), logprobs=(-0.1,))

    async def aclose(self) -> None:
        pass


@pytest.fixture
def evaluation(corridor: str) -> Evaluation:
    return evaluate(corridor, Sometimes(), split="valid", episodes=12, seed=3)


def test_figures_are_those_of_the_episodes(evaluation: Evaluation) -> None:
    # Scored: all but task 1. Won: 0, 3, 6, 9. Even: 0 2 4 6 8 10, of which 0 and 6 are won. Odd: 3 5 7 9 11.
    assert evaluation.success == wilson_interval(4, 11)
    assert evaluation.episode_return is not None
    assert evaluation.episode_return.estimate == pytest.approx(4 / 11)
    assert evaluation.by_kind["even"].success == wilson_interval(2, 6)
    assert evaluation.by_kind["odd"].success == wilson_interval(2, 5)
    assert evaluation.infrastructure_failures == 1
    assert sum(evaluation.infrastructure_errors.values()) == 1
    assert "the engine broke" in next(iter(evaluation.infrastructure_errors))
    assert evaluation.turns == pytest.approx((4 * 3 + 1 + 7) / 11)
    assert evaluation.sampled_tokens == pytest.approx((4 * 3 + 2 + 7) / 11)
    assert evaluation.invalid_actions == pytest.approx(1 / 20)
    assert evaluation.endings == {"terminated": 11, "infrastructure": 1}
    assert [t.task_id for t in evaluation.trajectories] == [f"valid-{i}" for i in range(12)]


def test_plain_data_is_strict_json(evaluation: Evaluation) -> None:
    data = json.loads(json.dumps(evaluation.as_dict(), allow_nan=False))
    assert data["success"]["estimate"] == pytest.approx(4 / 11)
    assert data["infrastructure_failures"] == 1
    assert set(data["by_kind"]) == {"even", "odd"}


def test_plan_is_fixed_and_grows_at_its_end(corridor: str) -> None:
    plan = plan_episodes(corridor, "valid", 8, seed=1)
    assert plan == plan_episodes(corridor, "valid", 8, seed=1)
    assert plan == plan_episodes(corridor, "valid", 20, seed=1)[:8]
    assert len({episode.seed for episode in plan}) == 8
    other = plan_episodes(corridor, "valid", 8, seed=2)
    assert [e.task_id for e in plan] == [e.task_id for e in other]
    assert not {e.seed for e in plan} & {e.seed for e in other}


def test_plan_without_a_number_is_the_split_up_to_a_hundred(corridor: str) -> None:
    assert len(plan_episodes(corridor, "valid", None)) == 20
    assert len(plan_episodes(corridor, "valid", None, env_kwargs={"size": 5000})) == 100


@pytest.mark.parametrize(
    ("split", "episodes", "seed", "message"),
    [
        ("valid", 21, 0, "has 20 tasks and each is played once"),
        ("valid", 0, 0, "at least 1"),
        ("valid", 1, -1, "not negative"),
        ("test", 1, 0, "unknown split 'test'"),
    ],
)
def test_impossible_plans_say_what_is_possible(
    corridor: str, split: str, episodes: int, seed: int, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        plan_episodes(corridor, split, episodes, seed)


def test_only_environments_of_text_are_evaluated() -> None:
    with pytest.raises(UsageError, match="no agentgym environment"):
        plan_episodes("CartPole-v1", "train", 1)


def test_world_options_are_checked() -> None:
    with pytest.raises(UsageError, match="concurrency"):
        WorldOptions(concurrency=0)
    with pytest.raises(UsageError, match="call_timeout_s"):
        WorldOptions(call_timeout_s=math.nan)
    with pytest.raises(UnknownNameError, match="kind of worker"):
        WorldOptions(workers="cloud")


def test_gain_is_paired_by_task(corridor: str) -> None:
    before = evaluate(corridor, make_policy("random"), split="valid", episodes=20)
    after = evaluate(corridor, make_policy("expert"), split="valid", episodes=20)
    gain = compare(before, after)
    assert before.success is not None
    assert gain.estimate == pytest.approx(1 - before.success.estimate)
    assert gain.excludes_zero
    assert compare(after, after).estimate == 0
    shuffled = replace(after, trajectories=after.trajectories[::-1])
    assert compare(before, shuffled) == gain
    elsewhere = evaluate(corridor, make_policy("expert"), split="train", episodes=5)
    with pytest.raises(UsageError, match="share no graded task"):
        compare(before, elsewhere)


def test_faults_on_either_side_leave_the_pair_out(evaluation: Evaluation, corridor: str) -> None:
    whole = evaluate(corridor, make_policy("expert"), split="valid", episodes=12, seed=3)
    assert compare(evaluation, whole).estimate == pytest.approx(7 / 11)
    assert compare(whole, evaluation).estimate == pytest.approx(-7 / 11)


def test_what_is_broken_for_all_stops_early(corridor: str) -> None:
    options = WorldOptions(concurrency=2, env_kwargs={"fault": "crash"})
    with pytest.raises(InfrastructureError, match="(?s)first 8 episodes were all lost.*the engine broke"):
        evaluate(corridor, make_policy("expert"), split="valid", episodes=20, options=options)
    few = evaluate(corridor, make_policy("expert"), split="valid", episodes=8, options=options)
    assert few.infrastructure_failures == 8


def test_same_seed_same_evaluation(corridor: str) -> None:
    def play(concurrency: int, workers: str) -> list[list[str]]:
        options = WorldOptions(concurrency=concurrency, workers=workers)
        played = evaluate(corridor, make_policy("random"), split="valid", episodes=10, seed=7, options=options)
        return [[turn.action for turn in t.turns] for t in played.trajectories]

    assert play(1, "thread") == play(5, "thread") == play(2, "process")


async def test_inside_a_running_loop_the_async_face_works_and_the_other_says_so(corridor: str) -> None:
    evaluation = await evaluate_async(corridor, make_policy("expert"), split="train", episodes=3)
    assert evaluation.success == wilson_interval(3, 3)
    with pytest.raises(UsageError, match="await evaluate_async"):
        evaluate(corridor, make_policy("expert"), split="train", episodes=3)
    await asyncio.sleep(0)


def _trajectory(**fields: object) -> Trajectory:
    return replace(Trajectory("e/E-v0", "t", "valid", policy="p", turns=(Turn("o", "a"),), success=True), **fields)


def test_only_faults_give_no_figures() -> None:
    evaluation = summarize([_trajectory(ended="infrastructure", success=None, error="gone")])
    assert evaluation.success is None
    assert evaluation.episode_return is None
    json.dumps(evaluation.as_dict(), allow_nan=False)


def test_ungraded_episodes_do_not_count_as_losses() -> None:
    evaluation = summarize([_trajectory(), _trajectory(success=None)])
    assert evaluation.success == wilson_interval(1, 1)
    assert evaluation.overall.episodes == 2


def test_mixed_files_are_refused() -> None:
    with pytest.raises(UsageError, match="one environment, split and policy"):
        summarize([_trajectory(), _trajectory(policy="q")])
    with pytest.raises(UsageError, match="no episodes"):
        summarize([])
