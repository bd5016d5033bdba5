"""InfoPO on dialogues as the chat renderer lays them out, with real tokenizers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agentgym.chat import ChatRenderer
from agentgym.rewards.infopo import InfoPO
from agentgym.rewards.trajectory_reward import Continuation
from agentgym.train.config import TinySection
from agentgym.train.learner import Learner, LearnerConfig
from agentgym.train.models import build_tiny, resolve_model
from agentgym.train.scoring import LearnerModel
from agentgym.train.word_tokenizer import build_word_tokenizer
from agentgym.trajectory import Trajectory, Turn

OBSERVATIONS = [
    "You are in the middle of a room.\nYour task is to: put a cool apple in it.",
    "\n On the countertop 2, you see an apple 1, and a knife 3.\n\nNothing else's here (yet). ",
    "You pick up the apple 1.",
]
ACTIONS = ["go to countertop 2", "take apple 1", "look"]
WORDS = [f"word{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(60)]
PLACEHOLDER = "No information found."


@pytest.fixture(scope="module", params=["tiny", "smollm2"])
def tokenizer(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "tiny":
        return build_word_tokenizer([*OBSERVATIONS, *ACTIONS, PLACEHOLDER])
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(resolve_model("smollm2"))


class Reader:
    """Keeps what it is asked to score; what it answers is of no matter here."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.asked: list[Continuation] = []

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def score(self, continuations: Sequence[Continuation]) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
        self.asked += continuations
        return [np.zeros(len(one.ids)) for one in continuations]


def test_the_observation_alone_is_replaced(tokenizer: Any) -> None:
    renderer, turns, context = ChatRenderer(tokenizer), [], 0
    for number, (observation, action) in enumerate(zip(OBSERVATIONS, ACTIONS, strict=True)):
        opening = renderer.opening_ids("", observation) if number == 0 else None
        prompt = opening or renderer.reply_ids(observation, closed=True)
        tokens = renderer.action_ids(action)
        context += len(prompt)
        turns.append(
            Turn(
                observation,
                action,
                prompt_ids=tuple(prompt),
                token_ids=tuple(tokens),
                span=(context, context + len(tokens)),
            )
        )
        context += len(tokens)
    reader = Reader(tokenizer)
    method = InfoPO(placeholder=PLACEHOLDER)
    method.bind(reader)
    method.shape(Trajectory("tests/Any-v0", "task", "train", turns=tuple(turns)))
    assert len(reader.asked) == 4
    for read, blank, observation in zip(reader.asked[::2], reader.asked[1::2], OBSERVATIONS[1:], strict=True):
        assert read.ids == blank.ids
        assert len(read.context_ids) == len(blank.context_ids)
        changed = np.flatnonzero(np.array(read.context_ids) != np.array(blank.context_ids))
        said = tokenizer.decode(list(read.context_ids)[changed[0] : changed[-1] + 1])
        assert said.strip() in observation
        assert len(said.split()) >= len(observation.split()) - 2  # a token or two may be the placeholder's own
        text, blank_text = (tokenizer.decode(list(one.context_ids)) for one in (read, blank))
        assert observation.strip() in text
        assert observation.strip() not in blank_text
        assert "No information" in blank_text


def test_a_policy_that_learned_to_use_an_answer_is_paid_for_asking(tmp_path: Path) -> None:
    learner = Learner(
        build_tiny(WORDS, tmp_path / "tiny", TinySection(hidden=64, layers=1)), LearnerConfig(learning_rate=1e-2)
    )
    model = LearnerModel(learner, 256)
    asking, clue, noise, used, unused = (model.encode(word) for word in WORDS[:5])
    for _ in range(60):  # the clue, and nothing else, says what to do next
        learner.optimizer.zero_grad()
        rows = torch.tensor([[*noise, *asking, *clue, *used], [*noise, *asking, *noise, *unused]])
        torch.autograd.backward(learner.model(input_ids=rows, labels=rows).loss)
        learner.optimizer.step()

    def played(said: int, did: list[int]) -> Trajectory:
        opening = Turn(WORDS[2], "", prompt_ids=tuple(noise), token_ids=tuple(asking), span=(1, 2))
        reply = Turn(WORDS[said], "", prompt_ids=tuple(model.encode(WORDS[said])), token_ids=tuple(did), span=(3, 4))
        return Trajectory("tests/Any-v0", "task", "train", turns=(opening, reply))

    method = InfoPO(placeholder=WORDS[2])
    method.bind(model)
    told, not_told, not_used = method([played(1, used), played(2, unused), played(1, unused)])
    assert told.turns[0].reward_terms["infopo"] > 2
    assert not_told.turns[0].reward_terms["infopo"] == pytest.approx(0, abs=1e-5)  # it read what it would have read
    assert not_used.turns[0].reward_terms["infopo"] < -2
