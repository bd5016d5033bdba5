from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgym import Trajectory, Turn, read_trajectories, write_trajectories
from agentgym.errors import TrajectoryFileError

TURNS = (
    Turn("o", "a", (1, 2), (3, 4), (-0.5, -0.25), (2, 4), {"outcome": 0.25, "format": 0.5}),
    Turn("p", "b", (5,), (6,), (-1.0,), (5, 6), {"outcome": 0.25}),
)
TRAJECTORY = Trajectory("e", "t", "train", turns=TURNS, success=True)


def test_sums_and_sequence() -> None:
    assert TRAJECTORY.episode_return == 1.0
    assert TRAJECTORY.reward_terms == {"outcome": 0.5, "format": 0.5}
    ids, mask, logprobs = TRAJECTORY.token_ids()
    assert ids == [1, 2, 3, 4, 5, 6]
    assert mask == [0, 0, 1, 1, 0, 1]
    assert logprobs == [0, 0, -0.5, -0.25, 0, -1.0]
    for turn in TRAJECTORY.turns:
        assert tuple(ids[slice(*turn.span)]) == turn.token_ids


@given(st.text(), st.sampled_from(["", "\ud800", "\x00", "\u2028"]))
def test_any_text_survives_the_file(tmp_path_factory: pytest.TempPathFactory, text: str, odd: str) -> None:
    path = tmp_path_factory.mktemp("t") / "t.jsonl"
    written = Trajectory("e", "t", "train", turns=(Turn(text + odd, text),), final_observation=odd)
    assert write_trajectories(path, [written]) == 1
    assert list(read_trajectories(path)) == [written]


def test_appending_keeps_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "deep/t.jsonl"
    write_trajectories(path, [TRAJECTORY])
    write_trajectories(path, [TRAJECTORY], append=True)
    assert list(read_trajectories(path)) == [TRAJECTORY, TRAJECTORY]


def test_a_torn_last_line_loses_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    write_trajectories(path, [TRAJECTORY, TRAJECTORY])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.warns(UserWarning, match="line 2 is torn"):
        assert list(read_trajectories(path)) == [TRAJECTORY]


@pytest.mark.parametrize("line", ["{", "[]", '{"env_id": 3}', "null"])
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "t.jsonl"
    write_trajectories(path, [TRAJECTORY])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(TrajectoryFileError, match="line 2 is no trajectory"):
        list(read_trajectories(path))


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrajectoryFileError, match="No such file"):
        list(read_trajectories(tmp_path / "none.jsonl"))
