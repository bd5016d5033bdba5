"""Warm start: what of a demonstration is learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agentgym.chat import ChatRenderer
from agentgym.train.config import TinySection
from agentgym.train.models import build_tiny, load_tokenizer
from agentgym.train.warmstart import demonstration
from agentgym.trajectory import Trajectory, Turn

TURNS = (
    Turn("You see a shelf.", "go to shelf 1"),
    Turn("On the shelf is a mug.", "go to bed", mistake=True),
    Turn("Nothing happens.", "take mug 1"),
)


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> ChatRenderer:
    folder: Path = tmp_path_factory.mktemp("tiny") / "model"
    build_tiny(
        [text for turn in TURNS for text in (turn.observation, turn.action)], folder, TinySection(hidden=64, layers=1)
    )
    return ChatRenderer(load_tokenizer(folder))


def shown() -> Trajectory:
    return Trajectory("agentgym/Test-v0", "task", "train", turns=TURNS)


def learned_text(renderer: ChatRenderer, context: int = 1000, observation_weight: float = 0.0) -> str:
    sequence = demonstration(shown(), renderer, context, observation_weight)
    return renderer.action_text(sequence.ids[sequence.advantages == 1].tolist())


def test_actions_are_learned_and_mistakes_are_not(renderer: ChatRenderer) -> None:
    text = learned_text(renderer)
    assert "shelf 1" in text
    assert "take mug 1" in text
    assert "bed" not in text
    assert "Nothing happens" not in text


def test_only_tokens_with_a_share_are_predicted(renderer: ChatRenderer) -> None:
    for weight in (0.0, 0.25):
        sequence = demonstration(shown(), renderer, 1000, weight)
        assert np.array_equal(sequence.sampled, sequence.advantages > 0)
        assert set(np.unique(sequence.advantages)) == {0.0, 1.0} | ({weight} if weight else set())
    assert sequence.advantages[0] == 0
    mistaken = renderer.action_ids("go to bed")
    assert sequence.advantages.tolist().count(0.0) == 1 + len(mistaken)


def test_turns_that_do_not_fit_are_left_out(renderer: ChatRenderer) -> None:
    whole = demonstration(shown(), renderer, 1000)
    cut = demonstration(shown(), renderer, len(whole.ids) - 1)
    assert len(cut.ids) < len(whole.ids)
    assert "take mug" not in learned_text(renderer, len(whole.ids) - 1)
    assert "shelf 1" in learned_text(renderer, len(whole.ids) - 1)
