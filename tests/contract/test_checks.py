"""The shipped conformance tests pass on our environments and catch what they are for."""

from __future__ import annotations

from collections.abc import Iterator

import gymnasium
import pytest

from agentgym import AgentEnv, Move, Opening, Task, TaskSet, Transition
from agentgym.checks import check_env


@pytest.mark.parametrize("env_id", ["agentgym/Household-v0", "agentgym/TextWorld-v0"])
def test_our_environments_keep_the_contract(env_id: str) -> None:
    results = check_env(env_id, episodes=3)
    assert [f"{r.name}: {r.detail}" for r in results if not r.passed] == []


class Broken(AgentEnv):
    """Breaks every clause that a pack can break."""

    def task_set(self, split: str) -> TaskSet:
        return TaskSet(split, ["a"], lambda task_id: self.make_task(task_id, "elsewhere"))

    def _start(self, task: Task) -> Opening:
        secret = f"the key is {id(self)}"
        return Opening(f"Welcome. {secret}", admissible_actions=["win"], privileged={"secret": secret})

    def _move(self, move: Move) -> Transition:
        if move.command != "win":
            raise KeyError(move.command)
        return Transition("won", {"outcome": 1.0}, terminated=True, success=True)

    def expert_move(self) -> Move:
        raise RuntimeError("no plan")


@pytest.fixture
def broken_id() -> Iterator[str]:
    gymnasium.register("tests/Broken-v0", entry_point=Broken)
    yield "tests/Broken-v0"
    del gymnasium.registry["tests/Broken-v0"]


def test_each_breach_is_found(broken_id: str) -> None:
    failed = {result.name: result.detail for result in check_env(broken_id) if not result.passed}
    assert set(failed) >= {"splits", "determinism", "expert", "random", "bad_actions", "privileged"}
    assert "KeyError" in failed["bad_actions"]
    assert "the key is" in failed["privileged"]
