"""Environments in child processes: crashes, hangs and kills of real processes cost one episode and leave nothing."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agentgym import Completion, Dialogue, InfrastructureError, Move, UsageError
from agentgym.actions import make_action_format
from agentgym.errors import ActionParseError, UnknownNameError
from agentgym.registry import make
from agentgym.rollout import Episode, Rollout
from agentgym.worker import WorkerEnv, env_factory

pytestmark = pytest.mark.usefixtures("nothing_left")


def _wait_until(condition: Callable[[], Any], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def _descendants(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    found, queue = [], [pid]
    while queue:
        parent = queue.pop()
        children = [child for child, its_parent in pairs if its_parent == parent]
        found += children
        queue += children
    return found


class Script:
    """Says fixed commands, after having done something to the worker's process."""

    name = "script"

    def __init__(self, says: Callable[[Dialogue], str]) -> None:
        self.says = says

    async def act(self, dialogue: Dialogue) -> Completion:
        return Completion(self.says(dialogue))

    async def aclose(self) -> None:
        pass


class Noted(WorkerEnv):
    """Remembers which task it plays."""

    task_id = ""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.task_id = (options or {})["task_id"]
        return super().reset(seed=seed, options=options)


def test_worker_plays_as_the_environment_itself_does(corridor: str) -> None:
    here, there = make(corridor), env_factory(corridor, workers="process")()
    try:
        options = {"split": "valid", "task_id": "valid-3"}
        assert there.reset(seed=5, options=options) == here.reset(seed=5, options=options)
        for action in ("forward", "nonsense", "", "\ud800", "forward"):
            assert there.step(action) == here.step(action)
        assert there.unwrapped.expert_move() == Move("forward")  # type: ignore[attr-defined]
        assert there.action_space == here.action_space
    finally:
        there.close()


def test_action_format_comes_along(corridor: str) -> None:
    env = env_factory(corridor, workers="process", action_format="json")()
    assert env.unwrapped.action_format.name == "json"  # type: ignore[attr-defined]
    env.close()
    copy = pickle.loads(pickle.dumps(make_action_format("json")))
    assert copy.parse('{"name": "act", "arguments": {"command": "look"}}').command == "look"
    with pytest.raises(ActionParseError, match="Wrong arguments"):
        copy.parse('{"name": "act", "arguments": {}}')


@pytest.mark.parametrize(
    ("action", "fate"),
    [
        ("abort", "was killed by SIGABRT during step"),
        ("exit", "exited with code 7 during step"),
        ("crash", "RuntimeError: the engine broke"),
    ],
)
def test_death_is_described_and_the_next_reset_starts_anew(corridor: str, action: str, fate: str) -> None:
    env = env_factory(corridor, workers="process")()
    env.reset(seed=0)
    with pytest.raises(InfrastructureError, match=fate):
        env.step(action)
    env.reset(seed=0)
    assert env.step("forward")[0] == "place 1"
    env.close()
    env.close()


def test_step_after_death_says_what_to_do(corridor: str) -> None:
    env = env_factory(corridor, workers="process")()
    env.reset(seed=0)
    with pytest.raises(InfrastructureError, match="exited"):
        env.step("exit")
    with pytest.raises(InfrastructureError, match="call reset"):
        env.step("forward")
    env.close()


def test_hang_is_killed_with_everything_that_it_started(corridor: str) -> None:
    env = WorkerEnv(functools.partial(make, corridor), call_timeout_s=1.0)
    env.reset(seed=0)
    assert env.pid is not None
    with ThreadPoolExecutor(1) as thread:
        stepping = thread.submit(env.step, "hang with child")
        _wait_until(lambda: _descendants(env.pid))
        family = [env.pid, *_descendants(env.pid)]
        with pytest.raises(InfrastructureError, match=r"did not finish step\(\) within 1 s and was killed"):
            stepping.result(timeout=5)
    _wait_until(lambda: not any(_is_running(pid) for pid in family))


def test_stopped_worker_cannot_block_even_a_huge_action(corridor: str) -> None:
    env = WorkerEnv(functools.partial(make, corridor), call_timeout_s=1.0)
    env.reset(seed=0)
    assert env.pid is not None
    os.kill(env.pid, signal.SIGSTOP)
    with pytest.raises(InfrastructureError, match="within 1 s"):
        env.step("a" * 10_000_000)
    env.close()


def test_huge_action_of_an_agent_is_an_observation(corridor: str) -> None:
    env = env_factory(corridor, workers="process")()
    env.reset(seed=0)
    observation, _, _, _, info = env.step("a" * 10_000_000)
    assert info["invalid_action"]
    assert "longer than" in observation
    env.close()


def test_errors_keep_their_type(corridor: str) -> None:
    env = env_factory(corridor, workers="process")()
    with pytest.raises(UnknownNameError, match="unknown split 'nowhere'"):
        env.reset(options={"split": "nowhere"})
    env.reset(seed=0)
    with pytest.raises(UnknownNameError, match="unknown thing 'nothing'"):
        env.step("usage")
    assert env.step("forward")[0] == "place 1", "an error of the user costs no worker"
    env.close()


def test_failing_constructor_is_told_and_leaves_nothing(corridor: str) -> None:
    with pytest.raises(UsageError, match="at least one step"):
        env_factory(corridor, workers="process", length=0)()
    with pytest.raises(UsageError, match="cannot be made with"):
        env_factory(corridor, workers="process", no_such_argument=0)()


def test_unknown_names_are_refused_before_a_worker_starts(corridor: str) -> None:
    with pytest.raises(UnknownNameError, match="kind of worker"):
        env_factory(corridor, workers="carrier pigeon")
    with pytest.raises(UnknownNameError, match="environment"):
        env_factory("agentgym/Nowhere-v0")


def test_unpicklable_factory_is_no_riddle() -> None:
    with pytest.raises(InfrastructureError, match="could not be started"):
        WorkerEnv(lambda: make("agentgym/Corridor-v0"))


def test_forgotten_worker_is_reaped(corridor: str) -> None:
    env = env_factory(corridor, workers="process")()
    pid = env.pid  # type: ignore[attr-defined]
    del env
    gc.collect()
    _wait_until(lambda: not Path(f"/proc/{pid}").exists())


def test_kill_in_a_rollout_costs_one_episode(corridor: str) -> None:
    """kill -9 on one of three workers in the middle of an episode: it is masked, the eleven others are scored."""
    workers: list[Noted] = []
    made_anew = threading.Event()

    class Patient(Script):
        """Leaves an episode for the lane that lost its worker, however long that takes to notice."""

        async def act(self, dialogue: Dialogue) -> Completion:
            if int(dialogue.task_id.rpartition("-")[2]) > 4:
                assert await asyncio.to_thread(made_anew.wait, 60)
            return await super().act(dialogue)

    def says(dialogue: Dialogue) -> str:
        if dialogue.task_id == "train-4" and dialogue.turn == 1:
            victim = next(worker for worker in workers if worker.task_id == "train-4")
            assert victim.pid is not None
            os.kill(victim.pid, signal.SIGKILL)
        return "forward"

    def make_noted() -> Noted:
        workers.append(Noted(functools.partial(make, corridor)))
        if len(workers) == 4:
            made_anew.set()
        return workers[-1]

    rollout = Rollout(make_noted, Patient(says), concurrency=3)
    episodes = [Episode(corridor, "train", task_id=f"train-{i}", seed=i) for i in range(12)]
    try:
        played = asyncio.run(rollout.play(episodes))
    finally:
        rollout.close()
    assert [t.ended for t in played] == ["infrastructure" if i == 4 else "terminated" for i in range(12)]
    assert "SIGKILL" in played[4].error
    assert played[4].success is None
    assert len(played[4].turns) == 1
    assert all(t.success for i, t in enumerate(played) if i != 4)
    assert len(workers) == 4, "the lost environment was made anew, once"


_PARENT = """
import sys, time
from agentgym.worker import env_factory
if __name__ == "__main__":
    envs = [env_factory("agentgym/Corridor-v0", workers="process")() for _ in range(2)]
    for env in envs:
        env.reset(seed=0)
    import threading
    threading.Thread(target=envs[0].step, args=("hang with child",), daemon=True).start()
    time.sleep(0.5)
    print("ready", flush=True)
    time.sleep(600)
"""


_PARENT_OF_LANES = """
import asyncio, functools
from agentgym.registry import make
from agentgym.world_host import open_lanes
async def main():
    lanes = open_lanes(functools.partial(make, "agentgym/Corridor-v0"), 4, processes=2)
    for lane in lanes:
        await lane.reset(0, {})
    hanging = asyncio.ensure_future(lanes[0].step("hang with child"))
    await asyncio.sleep(0.5)
    print("ready", flush=True)
    await hanging
if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.parametrize("program", [_PARENT, _PARENT_OF_LANES], ids=["envs", "lanes"])
def test_children_and_theirs_die_with_a_killed_parent(corridor: str, tmp_path: Path, program: str) -> None:
    """kill -9 the parent: its idle worker, its hanging worker and what that one started are gone."""
    script = tmp_path / "parent.py"
    script.write_text(program)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        family = _descendants(parent.pid)
        assert len(family) >= 4, "two workers, the sleeper of one, multiprocessing's tracker"
        parent.kill()
    _wait_until(lambda: not any(_is_running(pid) for pid in family))
