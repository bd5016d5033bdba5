"""MiniWoB++ in a real browser: its episodes, its rewards, its experts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Literal

import pytest

from agentgym.errors import UnknownNameError, UsageError
from agentgym.task import Task

pytest.importorskip("playwright", reason="the extra 'browser' is not installed")
pytest.importorskip("PIL", reason="the pack's requirements are not installed")
from agentgym_web.miniwob.catalogue import TASKS
from agentgym_web.miniwob.digests import digest_tasks
from agentgym_web.miniwob.experts import EXPERTS
from agentgym_web.miniwob.miniwob_env import MiniWoBEnv
from agentgym_web.miniwob.pages import find_html

pytestmark = pytest.mark.timeout(600)
SAMPLE = ("click-test-2", "login-user", "choose-date", "click-pie", "stock-market", "use-slider")


@pytest.fixture
def env() -> Iterator[MiniWoBEnv]:
    env = MiniWoBEnv()
    yield env
    env.close()


def test_the_catalogue_is_the_package() -> None:
    pages = {file.stem for file in find_html().glob("miniwob/*.html")}
    flights = {f"flight.{file.parent.name}" for file in find_html().glob("flight/*/wrapper.html")}
    assert set(TASKS) == pages | flights
    assert len(TASKS) == 134
    assert set(EXPERTS) < set(TASKS)
    assert len(EXPERTS) >= 60


def test_splits_are_disjoint_and_ids_find_their_tasks(env: MiniWoBEnv) -> None:
    seeds: dict[int, str] = {}
    for split in env.splits:
        tasks = env.task_set(split)
        assert len(tasks) == 134 * 10_000
        for task in (tasks[0], tasks[133], tasks[134], tasks[len(tasks) - 1]):
            assert tasks.get(task.id) == task
            assert seeds.setdefault(task.data["seed"], split) == split
        for wrong in ("click-test/train/x", "click-test/test/1", "click-test/train/01", "click-test/train/10000"):
            assert wrong not in tasks
    with pytest.raises(UnknownNameError, match="click-test"):
        MiniWoBEnv(task="click-tset")
    with pytest.raises(UsageError, match="twice"):
        MiniWoBEnv(task=["click-test", "click-test"])


@pytest.mark.parametrize(("paid", "lost"), [("raw", -1.0), ("success", 0.0)])
def test_reward_ends_the_episode_win_or_lose(paid: Literal["raw", "success"], lost: float) -> None:
    with closing(MiniWoBEnv(reward=paid)) as env:
        for name, won in (("TWO", False), ("ONE", True)):
            seen, _ = env.reset(seed=0, options={"task_id": "click-test-2/train/0"})
            line = next(line for line in seen.splitlines() if f'"{name}"' in line)
            _, reward, terminated, _, info = env.step(f"click {line.split('[')[1].split(']')[0]}")
            assert terminated
            assert info["reward_terms"] == {"outcome": 1.0 if won else lost}
            assert reward == info["reward_terms"]["outcome"]
            assert info["success"] is won


def test_no_other_reward_is_known() -> None:
    with pytest.raises(UsageError, match="success"):
        MiniWoBEnv(reward="sparse")  # type: ignore[arg-type]


def test_time_stands_still_between_turns_and_no_reward_is_discounted() -> None:
    env = MiniWoBEnv(task="click-collapsible", turn_ms=0)
    env.reset(seed=0)
    before = env.session.evaluate("() => [frames[0].Date.now(), frames[0].performance.now()]")
    env.session.evaluate("() => new Promise(done => setTimeout(done, 50))")
    assert env.session.evaluate("() => [frames[0].Date.now(), frames[0].performance.now()]") == before
    env.close()


def test_no_world_of_an_episode_reaches_the_next(env: MiniWoBEnv) -> None:
    first, _ = env.reset(seed=0, options={"task_id": "click-button/train/0"})
    script = "frames[0].Math.random = () => 0.5; frames[0].localStorage.x = 1; frames[0].core.shuffle = list => list"
    env.session.evaluate(f"() => {{ {script} }}")
    again, _ = env.reset(seed=0, options={"task_id": "click-button/train/0"})
    assert again == first
    assert env.session.evaluate("() => frames[0].localStorage.length") == 0


def test_the_mouse_is_felt_where_the_last_episode_left_it() -> None:
    with closing(MiniWoBEnv(task="scroll-text-2")) as env:
        for seed in (1, 2, 3):
            env.reset(seed=seed)
            for _ in range(2):
                *_, info = env.step(env.action_format.render(env.expert_move()))
            assert info["success"], seed


def test_same_seed_same_episode_in_another_process() -> None:
    here = digest_tasks(SAMPLE, number=3)
    assert here == digest_tasks(SAMPLE, number=3)
    call = f"digest_tasks({SAMPLE!r}, number=3)"
    program = f"import json; from agentgym_web.miniwob.digests import digest_tasks; print(json.dumps({call}))"
    environment = {**os.environ, "PYTHONHASHSEED": "4242"}
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert json.loads(there.stdout) == here
    assert digest_tasks(SAMPLE, number=4) != here


def test_eight_play_at_once_in_one_browser() -> None:
    def play(number: int) -> tuple[float, int]:
        env = MiniWoBEnv(task=["click-test-2", "enter-text", "click-checkboxes", "login-user"])
        task: Task = env.task_set("train")[number]
        result = task.validate()
        browser = id(env._seat.take())
        env.close()
        return result.episode_return, browser

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(play, range(8)))
    assert [reward for reward, _ in results] == [1.0] * 8
    assert len({browser for _, browser in results}) == 1


@pytest.mark.parametrize("name", ["click-checkboxes-soft", "email-inbox", "use-slider", "drag-items", "read-table"])
def test_experts_win_in_the_format_of_tool_calls(name: str) -> None:
    env = MiniWoBEnv(task=name, action_format="json")
    for split in env.splits:
        assert env.task_set(split)[1].validate().episode_return == 1.0
    env.close()


def test_tasks_without_an_expert_say_so(env: MiniWoBEnv) -> None:
    env.reset(seed=0, options={"task_id": "chase-circle/train/0"})
    with pytest.raises(UsageError, match="chase-circle"):
        env.expert_move()
