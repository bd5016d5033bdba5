"""Many environments in a few child processes: what a crash, a hang or a kill of real processes costs, and what not."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentgym import Completion, Dialogue, InfrastructureError, Move, Trajectory, UsageError
from agentgym.errors import UnknownNameError
from agentgym.evaluate import WorldOptions
from agentgym.machine import usable_cores
from agentgym.registry import make, make_policy
from agentgym.rollout import Episode, Rollout
from agentgym.world_host import HostedLane, open_lanes

pytestmark = pytest.mark.usefixtures("nothing_left")


class Script:
    """Says what a function of the dialogue says."""

    name = "script"

    def __init__(self, says: Callable[[Dialogue], str]) -> None:
        self.says = says

    async def act(self, dialogue: Dialogue) -> Completion:
        return Completion(self.says(dialogue))

    async def aclose(self) -> None: ...


def episodes(env_id: str, count: int, group_size: int = 1) -> list[Episode]:
    return [Episode(env_id, "train", task_id=f"train-{i // group_size}", seed=i) for i in range(count)]


def play(
    lanes: list[HostedLane], says: Callable[[Dialogue], str], plan: list[Episode], *, close: bool = True
) -> list[Trajectory]:
    rollout = Rollout(lanes, Script(says))
    try:
        return asyncio.run(rollout.play(plan))
    finally:
        if close:
            rollout.close()


def pids(lanes: list[HostedLane]) -> list[int | None]:
    return [lane.home.pid for lane in lanes]


async def test_a_lane_plays_as_the_environment_itself_does(corridor: str) -> None:
    here = make(corridor, action_format="tag")
    (there,) = open_lanes(functools.partial(make, corridor, action_format="tag"), 1)
    options = {"split": "valid", "task_id": "valid-3"}
    try:
        assert await there.reset(5, options) == here.reset(seed=5, options=options)
        for action in ("<action>forward</action>", "nonsense", "", "\ud800", "a" * 1_000_000):
            assert await there.step(action) == here.step(action)
        assert await there.expert_move() == Move("forward")
        assert there.action_format.name == "tag"
    finally:
        there.close()


@pytest.mark.parametrize(
    ("processes", "children", "place"), [(0, max(1, usable_cores() - 1), "a thread"), (3, 3, "a thread"),
                                         (5, 5, "the main thread"), (9, 5, "the main thread")]
)  # fmt: skip
def test_lanes_are_dealt_over_processes(corridor: str, processes: int, children: int, place: str) -> None:
    options = WorldOptions(concurrency=5, workers="process", processes=processes, env_kwargs={"max_turns": 1})
    rollout = options.open_rollout(corridor, Script(lambda _: "look"))
    try:
        played = asyncio.run(rollout.play(episodes(corridor, 10)))
    finally:
        rollout.close()
    seen = [trajectory.final_observation for trajectory in played]
    assert all(place in text for text in seen)
    assert len(set(seen)) == min(children, 5)


def test_workers_make_no_difference_to_what_is_played(corridor: str) -> None:
    def said(**options: Any) -> list[list[str]]:
        rollout = WorldOptions(concurrency=6, **options).open_rollout(corridor, make_policy("random"))
        try:
            played = asyncio.run(rollout.play(episodes(corridor, 24, group_size=4)))
        finally:
            rollout.close()
        return [[turn.action for turn in trajectory.turns] for trajectory in played]

    assert said(workers="process", processes=2) == said(workers="thread")


def test_a_kill_costs_the_episodes_of_one_process_and_no_more(corridor: str) -> None:
    lanes = open_lanes(functools.partial(make, corridor), 4, processes=2)
    before: list[int | None] = []

    def says(dialogue: Dialogue) -> str:
        if dialogue.task_id == "train-5" and dialogue.turn == 1:
            before[:] = pids(lanes)
            assert before[1] is not None
            os.kill(before[1], signal.SIGKILL)
        return "forward"

    played = play(lanes, says, episodes(corridor, 16), close=False)
    lost = [t for t in played if t.ended == "infrastructure"]
    assert 1 <= len(lost) <= 2, "a process has two lanes"
    assert all("SIGKILL" in t.error and t.success is None for t in lost)
    assert all(t.success for t in played if t not in lost)
    assert pids(lanes)[0] == before[0]
    assert pids(lanes)[1] != before[1]
    Rollout(lanes, Script(says)).close()


def test_a_hang_costs_the_episodes_of_one_process_and_is_killed(corridor: str) -> None:
    lanes = open_lanes(functools.partial(make, corridor), 4, processes=2, call_timeout_s=3.0)
    played = play(lanes, lambda d: "hang" if d.task_id == "train-0" else "forward", episodes(corridor, 12))
    lost = [t for t in played if t.ended == "infrastructure"]
    assert played[0] in lost
    assert len(lost) <= 2
    assert all("did not finish step() within 3 s and was killed" in t.error for t in lost)
    assert all(t.success for t in played if t not in lost)


def test_a_crash_costs_one_episode_and_no_process(corridor: str, caplog: pytest.LogCaptureFixture) -> None:
    lanes = open_lanes(functools.partial(make, corridor), 3, processes=1)
    asyncio.run(lanes[0].reset(0, {}))
    before = pids(lanes)
    says = lambda d: "crash" if d.task_id == "train-2" else "forward"  # noqa: E731
    played = play(lanes, says, episodes(corridor, 9), close=False)
    assert [t.ended for t in played] == ["infrastructure" if i == 2 else "terminated" for i in range(9)]
    assert "RuntimeError: the engine broke" in played[2].error
    assert "crashed in its worker" in caplog.text
    assert pids(lanes) == before
    lanes[0].close()


def test_a_child_that_dies_between_two_batches_is_replaced(corridor: str) -> None:
    lanes = open_lanes(functools.partial(make, corridor), 2, processes=1)
    forward = lambda _: "forward"  # noqa: E731
    assert all(t.success for t in play(lanes, forward, episodes(corridor, 4), close=False))
    (before, _) = pids(lanes)
    assert before is not None
    os.kill(before, signal.SIGKILL)
    while Path(f"/proc/{before}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
        time.sleep(0.02)
    played = play(lanes, forward, episodes(corridor, 4))
    assert [t.ended for t in played].count("infrastructure") <= 2, "at most what was sent before it was noticed"
    assert [t.success for t in played][2:] == [True, True]


def test_a_stopped_child_blocks_neither_the_loop_nor_a_huge_action(corridor: str) -> None:
    lanes = open_lanes(functools.partial(make, corridor), 2, processes=2, call_timeout_s=2.0)

    async def main() -> None:
        await asyncio.gather(*(lane.reset(0, {}) for lane in lanes))
        stopped = lanes[0].home.pid
        assert stopped is not None
        os.kill(stopped, signal.SIGSTOP)
        stuck = asyncio.ensure_future(lanes[0].step("a" * 10_000_000))
        started_s = time.monotonic()
        assert (await lanes[1].step("forward"))[0] == "place 1"
        assert time.monotonic() - started_s < 1.5, "it waited for the other one"
        with pytest.raises(InfrastructureError, match="within 2 s"):
            await stuck
        with pytest.raises(InfrastructureError, match="environment is gone: .*within 2 s"):
            await lanes[0].step("forward")
        await lanes[0].reset(0, {})

    try:
        asyncio.run(main())
    finally:
        for lane in lanes:
            lane.close()


def test_worlds_of_one_child_wait_at_the_same_time(corridor: str) -> None:
    lanes = open_lanes(functools.partial(make, corridor, fault="slow"), 16, processes=1)

    async def main() -> float:
        await asyncio.gather(*(lane.reset(0, {}) for lane in lanes))
        started_s = time.monotonic()
        await asyncio.gather(*(lane.step("forward") for lane in lanes))
        return time.monotonic() - started_s

    try:
        assert asyncio.run(main()) < 16 * 0.2 / 2, "they slept one after the other"
    finally:
        lanes[0].close()


def test_a_cancelled_caller_leaves_a_lane_that_works(corridor: str) -> None:
    lanes = open_lanes(functools.partial(make, corridor), 2, processes=1)

    async def cancel() -> None:
        await asyncio.gather(*(lane.reset(0, {}) for lane in lanes))
        slow = asyncio.ensure_future(lanes[0].step("slow"))
        await asyncio.sleep(0.05)
        slow.cancel()

    async def go_on() -> None:
        assert (await lanes[1].step("forward"))[0] == "place 1"
        observation, _ = await lanes[0].reset(0, {"split": "train", "task_id": "train-7"})
        assert observation == "train-7: place 0", "no answer goes to another call"

    try:
        asyncio.run(cancel())
        asyncio.run(go_on())
    finally:
        lanes[0].close()


async def test_errors_keep_their_type(corridor: str) -> None:
    lanes = open_lanes(functools.partial(make, corridor), 2, processes=1)
    broken = open_lanes(functools.partial(make, corridor, length=0), 1)
    try:
        with pytest.raises(UnknownNameError, match="unknown split 'nowhere'"):
            await lanes[0].reset(0, {"split": "nowhere"})
        await lanes[0].reset(0, {})
        with pytest.raises(UnknownNameError, match="unknown thing 'nothing'"):
            await lanes[0].step("usage")
        assert (await lanes[0].step("forward"))[0] == "place 1", "an error of the user costs no environment"
        with pytest.raises(UsageError, match="at least one step"):
            await broken[0].reset(0, {})
    finally:
        lanes[0].close()
        broken[0].close()


def test_members_of_a_group_are_played_in_one_process(corridor: str) -> None:
    """Six tasks of four episodes in two processes: each task stays in one, and both get as many."""
    homes: dict[str, list[int]] = {}

    class Noted(HostedLane):
        async def reset(self, seed: int, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            homes.setdefault(options["task_id"], []).append(id(self.home))
            return await super().reset(seed, options)

    # Worlds that sleep, in processes that run already: what else the machine does hardly changes who is done first.
    make_env = functools.partial(make, corridor, fault="slow")
    lanes = [Noted(lane.home, i) for i, lane in enumerate(open_lanes(make_env, 8, processes=2))]
    play(list(lanes), lambda _: "back", episodes(corridor, 8, group_size=4), close=False)
    homes.clear()
    play(list(lanes), lambda _: "forward", episodes(corridor, 24, group_size=4))
    assert [len(visits) for visits in homes.values()] == [4] * 6
    strayed = sum(len(set(visits)) > 1 for visits in homes.values())
    assert strayed <= 1, "only the last group is shared with who has nothing left to do"
    played = [home for visits in homes.values() for home in visits]
    assert max(played.count(home) for home in set(played)) <= 16


def test_one_group_is_shared_by_all_processes(corridor: str) -> None:
    lanes = open_lanes(functools.partial(make, corridor, max_turns=1), 4, processes=2)
    played = play(lanes, lambda _: "look", episodes(corridor, 4, group_size=4))
    assert len({trajectory.final_observation for trajectory in played}) == 2
