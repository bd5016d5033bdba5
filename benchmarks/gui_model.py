"""The model of ``benchmarks/gui_train.py``: a LLaVA of a million weights, its words, and how it is sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agentgym.train.models import look_for_likeness

PAD, IMAGE, ASK, ANSWER, END, UNKNOWN = SPECIAL = ("<pad>", "<image>", "<obs>", "<act>", "<eot>", "<unk>")
PATCH_PX, STEP = 20, 25  # a coordinate is a word: 0, 25, ..., 1000
ANSWER_TOKENS = 5  # "[x1,"  "y1,"  "x2,"  "y2]"  and the end


@dataclass(frozen=True)
class Words:
    """A word-level vocabulary."""

    ids: dict[str, int]

    @staticmethod
    def of(texts: Sequence[str]) -> Words:
        coordinates = [f"{number}" for number in range(0, 1001, STEP)]
        answers = [form.format(c) for form in ("[{},", "{},", "{}]") for c in coordinates]
        spoken = sorted({word for text in texts for word in text.lower().split()})
        return Words({word: place for place, word in enumerate([*SPECIAL, *answers, *spoken])})

    def encode(self, text: str) -> list[int]:
        return [self.ids.get(word, self.ids[UNKNOWN]) for word in text.lower().split()]

    def decode(self, ids: Sequence[int]) -> str:
        names = list(self.ids)
        return " ".join(names[i] for i in ids if names[i] not in SPECIAL)


def write_box(box: Sequence[float], side_px: int) -> str:
    """Write a box of pixels on the grid of words."""
    grid = [min(1000, max(0, round(side * 1000 / side_px / STEP) * STEP)) for side in box]
    return f"[{grid[0]}, {grid[1]}, {grid[2]}, {grid[3]}]"


def make_model(words: Words, side_px: int, hidden: int, layers: tuple[int, int]) -> Any:
    """Make a LLaVA with fresh weights.

    Args:
        words: Its vocabulary.
        side_px: Side of the square image.
        hidden: Width of both halves, a multiple of 64.
        layers: Of the eye and of the reader.
    """
    from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration, Qwen3Config

    eye = CLIPVisionConfig(
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers[0],
        num_attention_heads=hidden // 32,
        image_size=side_px,
        patch_size=PATCH_PX,
        projection_dim=hidden,
    )
    reader = Qwen3Config(
        vocab_size=len(words.ids),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers[1],
        num_attention_heads=hidden // 64,
        num_key_value_heads=hidden // 64,
        head_dim=64,
        initializer_range=0.06,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
        max_position_embeddings=512,
        tie_word_embeddings=False,
        pad_token_id=words.ids[PAD],
        eos_token_id=words.ids[END],
    )
    config = LlavaConfig(
        vision_config=eye,
        text_config=reader,
        image_token_index=words.ids[IMAGE],
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=(side_px // PATCH_PX) ** 2,
        tie_word_embeddings=False,
    )
    model = LlavaForConditionalGeneration(config)
    with torch.no_grad():
        look_for_likeness(model.model.language_model, first=1)  # the first takes the question in
    return model


def as_pixels(images: NDArray[np.uint8]) -> Tensor:
    """Return images (B, H, W, 3) as the model takes them, (B, 3, H, W), from -1 to 1."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def prompt_ids(words: Words, instruction: str, patches: int) -> list[int]:
    """Lay out one question: the image's patches, the instruction, and the mark after which the model answers."""
    return [words.ids[IMAGE]] * patches + [words.ids[ASK], *words.encode(instruction), words.ids[ANSWER]]


def pad_left(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Return ids and mask, each (B, L), with the rows at the right."""
    longest = max(len(row) for row in rows)
    ids = torch.tensor([[pad] * (longest - len(row)) + list(row) for row in rows])
    return ids, (ids != pad).long()


@dataclass(frozen=True)
class Samples:
    """Answers to questions: ``ids``, ``logprobs`` and ``mask`` (1 up to the end mark) of shape (B, ANSWER_TOKENS)."""

    ids: Tensor
    logprobs: Tensor
    mask: Tensor


def chances_of(logits: Tensor) -> Tensor:
    """Return log-probabilities of words, given logits; the two that stand for no word cannot be said."""
    allowed = logits.float().clone()
    allowed[..., [SPECIAL.index(PAD), SPECIAL.index(IMAGE)]] = -torch.inf
    return allowed.log_softmax(-1)


@torch.no_grad()
def sample(model: Any, pixels: Tensor, rows: Sequence[Sequence[int]], copies: int, greedy: bool = False) -> Samples:
    """Answer each question ``copies`` times, at temperature 1 or greedily; rows of one question stand together."""
    config = model.config.text_config
    ids, mask = pad_left(rows, config.pad_token_id)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    out = model(
        input_ids=ids, pixel_values=pixels, attention_mask=mask, position_ids=positions, use_cache=True,
        logits_to_keep=1,
    )  # fmt: skip
    cache = out.past_key_values
    cache.batch_repeat_interleave(copies)
    logits = out.logits[:, -1].repeat_interleave(copies, 0)
    mask = mask.repeat_interleave(copies, 0)
    place = positions[:, -1:].repeat_interleave(copies, 0)
    alive = torch.ones(len(logits))
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for turn in range(ANSWER_TOKENS):
        chances = chances_of(logits)
        token = chances.argmax(-1) if greedy else torch.multinomial(chances.exp(), 1)[:, 0]
        found.append((token, chances.gather(1, token[:, None])[:, 0], alive))
        alive = alive * (token != config.eos_token_id)
        if turn == ANSWER_TOKENS - 1:
            break
        mask = torch.cat([mask, torch.ones(len(mask), 1, dtype=mask.dtype)], 1)
        place = place + 1
        out = model(
            input_ids=token[:, None], attention_mask=mask, position_ids=place, past_key_values=cache, use_cache=True
        )
        logits = out.logits[:, -1]
    tokens, logprobs, masks = (torch.stack(part, 1) for part in zip(*found, strict=True))
    return Samples(tokens, logprobs, masks)


def answer_logprobs(model: Any, pixels: Tensor, rows: Sequence[Sequence[int]], answers: Tensor) -> Tensor:
    """Return the log-probabilities of sampled answers, (B, ANSWER_TOKENS), with gradients."""
    ids, mask = pad_left(rows, model.config.text_config.pad_token_id)
    whole = torch.cat([ids, answers], 1)
    seen = torch.cat([mask, torch.ones_like(answers)], 1)
    positions = (seen.cumsum(1) - 1).clamp(min=0)
    logits = model(
        input_ids=whole, pixel_values=pixels, attention_mask=seen, position_ids=positions, use_cache=False,
        logits_to_keep=ANSWER_TOKENS + 1,
    ).logits  # fmt: skip
    chances = chances_of(logits[:, :-1])
    return chances.gather(2, answers[..., None])[..., 0]
