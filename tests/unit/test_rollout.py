from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import agentgym
from agentgym import Completion, Dialogue, Trajectory, UsageError, write_trajectories
from agentgym.errors import ContextLimitError
from agentgym.rollout import Episode, Rollout


class Scripted:
    """Answers with a function of the dialogue."""

    name = "scripted"

    def __init__(self, answer: Callable[[Dialogue], str]) -> None:
        self.answer = answer

    async def act(self, dialogue: Dialogue) -> Completion:
        text = self.answer(dialogue)
        return Completion(text, prompt_ids=(0,) * (dialogue.turn + 1), token_ids=(1, 2), logprobs=(-0.1, -0.2))

    async def aclose(self) -> None: ...


def play(guess_id: str, policy: agentgym.Policy, episodes: list[Episode], concurrency: int = 4) -> list[Trajectory]:
    rollout = Rollout(lambda: agentgym.make(guess_id, max_turns=5), policy, concurrency)
    try:
        return asyncio.run(rollout.play(episodes))
    finally:
        rollout.close()


def episodes(count: int) -> list[Episode]:
    return [Episode("tests/GuessDigit-v0", "valid", f"valid/{i}", seed=i) for i in range(count)]


def test_expert_wins_every_episode_in_order(guess_id: str) -> None:
    played = play(guess_id, agentgym.make_policy("expert"), episodes(10), concurrency=3)
    assert [t.task_id for t in played] == [f"valid/{i}" for i in range(10)]
    assert all(t.success and t.episode_return == 1.0 and t.ended == "terminated" for t in played)


def test_an_expert_that_errs_marks_its_mistakes(guess_id: str) -> None:
    policy = agentgym.make_policy("expert", mistakes=0.5)
    played = play(guess_id, policy, episodes(10))
    turns = [turn for trajectory in played for turn in trajectory.turns]
    assert 0 < sum(turn.mistake for turn in turns) < len(turns)
    right = {trajectory.task_id[-1] for trajectory in played}
    assert all(turn.mistake or turn.action in right for turn in turns)
    assert [t.action for trajectory in play(guess_id, policy, episodes(10)) for t in trajectory.turns] == [
        turn.action for turn in turns
    ], "the same seeds, the same slips"


@pytest.mark.parametrize("share", [-0.1, 1.0, 2.0])
def test_a_share_of_mistakes_is_a_share(share: float) -> None:
    with pytest.raises(UsageError, match="from 0 to below 1"):
        agentgym.make_policy("expert", mistakes=share)


def test_spans_lay_out_the_tokens(guess_id: str) -> None:
    (played,) = play(guess_id, Scripted(lambda d: str(9 - d.turn)), [Episode("e", "valid", "valid/7")])
    assert [turn.span for turn in played.turns] == [(1, 3), (5, 7), (10, 12)]
    ids, mask, _ = played.token_ids()
    assert ids == [0, 1, 2, 0, 0, 1, 2, 0, 0, 0, 1, 2]
    assert mask == [0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1]
    assert [turn.state_key for turn in played.turns] == ["start", "after 9", "after 8"]
    assert played.final_state_key == ""  # the environment gives its last state no key


def test_a_crash_masks_only_its_own_episode(guess_id: str, caplog: pytest.LogCaptureFixture) -> None:
    policy = Scripted(lambda d: "crash" if d.task_id == "valid/3" else d.task_id[-1])
    played = play(guess_id, policy, episodes(6), concurrency=1)
    assert [t.ended for t in played] == ["terminated"] * 3 + ["infrastructure"] + ["terminated"] * 2
    assert played[3].success is None
    assert not played[3].scorable
    assert "the engine fell over" in played[3].error
    assert "crashed" in caplog.text


def test_a_full_context_truncates(guess_id: str) -> None:
    def answer(dialogue: Dialogue) -> str:
        if dialogue.turn == 2:
            raise ContextLimitError("full")
        return "0"

    (played,) = play(guess_id, Scripted(answer), [Episode("e", "valid", "valid/7")])
    assert (played.ended, played.success, len(played.turns)) == ("context", False, 2)


def test_turn_limit_truncates(guess_id: str) -> None:
    (played,) = play(guess_id, Scripted(lambda d: "0"), [Episode("e", "valid", "valid/7")])
    assert (played.ended, played.success, len(played.turns)) == ("truncated", False, 5)
    assert played.final_state_key == "after 0"


def test_a_users_mistake_is_raised_and_stops_the_rest(guess_id: str) -> None:
    with pytest.raises(UsageError, match="unknown task"):
        play(guess_id, agentgym.make_policy("expert"), [Episode("e", "valid", "valid/99"), *episodes(3)])


def test_no_episode_waits_for_anothers_world(guess_id: str) -> None:
    """One slow world among eight: the others finish while it still waits."""

    def slow_env() -> object:
        env = agentgym.make(guess_id)
        reset = env.reset
        env.reset = lambda **kw: (time.sleep(0.5 if kw["seed"] == 0 else 0), reset(**kw))[1]  # type: ignore[method-assign]
        return env

    order: list[str] = []
    rollout = Rollout(slow_env, agentgym.make_policy("expert"), concurrency=2)  # type: ignore[arg-type]
    asyncio.run(rollout.play(episodes(8), on_done=lambda t: order.append(t.task_id)))
    rollout.close()
    assert order[-1] == "valid/0"


def test_random_is_seeded_and_replay_repeats_it(guess_id: str, tmp_path: Path) -> None:
    first = play(guess_id, agentgym.make_policy("random"), episodes(5), concurrency=1)
    again = play(guess_id, agentgym.make_policy("random"), episodes(5), concurrency=5)
    write_trajectories(tmp_path / "t.jsonl", first)
    replayed = play(guess_id, agentgym.make_policy("replay", file=tmp_path / "t.jsonl"), episodes(5))

    def said(trajectories: list[Trajectory]) -> list[list[str]]:
        return [[turn.action for turn in t.turns] for t in trajectories]

    assert said(first) == said(again) == said(replayed)
    with pytest.raises(UsageError, match="holds no episode of task 'valid/7'"):
        play(guess_id, agentgym.make_policy("replay", file=tmp_path / "t.jsonl"), [Episode("e", "valid", "valid/7")])
