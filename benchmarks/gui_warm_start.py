"""The supervised warm start of ``benchmarks/gui_train.py``: pointing, and naming what is seen."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import torch
from gui_model import ANSWER, ASK, END, IMAGE, PAD, PATCH_PX, UNKNOWN, Words, as_pixels, write_box
from gui_screens import Placed, Screens, compose, cut_signs
from numpy.typing import NDArray
from torch import Tensor

from agentgym.train.optimizer import Optimizer
from agentgym_gui.generate.panels import SIDE_PX

PATCHES = (SIDE_PX // PATCH_PX) ** 2


def lesson(words: Words, asked: list[Placed], chance: np.random.Generator) -> tuple[list[int], list[int]]:
    """Lay out one screen as a dialogue over all of its signs; the second list marks what is learned."""
    ids, learned = [words.ids[IMAGE]] * PATCHES, [0] * PATCHES
    for place in chance.permutation(len(asked)):
        sign, box = asked[int(place)]
        question = [words.ids[ASK], *words.encode(str(chance.choice(sign.phrases))), words.ids[ANSWER]]
        answer = [*words.encode(write_box(box, SIDE_PX)), words.ids[END]]
        ids += question + answer
        learned += [0] * len(question) + [1] * len(answer)
    return ids, learned


def patch_words(words: Words, asked: list[Placed]) -> NDArray[np.int64]:
    """Return two words for each patch of a screen, shape (PATCHES, 2): those of the sign over its middle."""
    side = SIDE_PX // PATCH_PX
    middles = (np.arange(side) + 0.5) * PATCH_PX
    named = np.full((side, side, 2), words.ids[UNKNOWN])
    for sign, (left, top, right, bottom) in asked:
        covered = np.ix_((middles > top) & (middles < bottom), (middles > left) & (middles < right))
        named[covered] = words.encode(f"{sign.colour} {sign.name}")
    return named.reshape(PATCHES, 2)


def naming_loss(model: Any, patches: Tensor, named: Tensor) -> Tensor:
    """Return how badly the embeddings of patches, (B, PATCHES, H), point to those of their words.

    A reader that compares what it is asked for with what it sees then compares like with like. Without this the eye
    learns nothing for as long as the reader does not look, and the reader does not look while the eye says nothing.
    """
    known = torch.nn.functional.normalize(model.get_input_embeddings().weight, dim=-1)
    chances = (16 * torch.nn.functional.normalize(patches, dim=-1) @ known.T).log_softmax(-1)
    return -chances.gather(-1, named).mean()


def warm_start(
    model: Any, words: Words, data: Screens, minutes: float, done: list[dict[str, float]], batch: int = 16
) -> list[dict[str, float]]:
    """Learn from the boxes themselves until the processor's time is over; the rate falls to nothing by then.

    Every screen is composed anew: of a thousand screens that come again and again, the dialogues are learned by heart.

    Args:
        model: As a shorter warm start left it, or new.
        words: Its vocabulary.
        data: Where signs are cut out of.
        minutes: Of the processor, with those that were spent before.
        done: The log of the shorter one, or nothing.
        batch: Screens of a step.

    Returns:
        The log of all of it.
    """
    signs = cut_signs(data)
    seen: list[Tensor] = []
    hook = model.model.multi_modal_projector.register_forward_hook(lambda module, given, out: seen.append(out))
    optimizer = Optimizer(model, "muon", 2e-3, weight_decay=0.01)
    log, last = [*done], done[-1] if done else {"step": 0, "minutes": 0.0}
    first = step = int(last["step"])
    chance = np.random.default_rng([0, first])
    pad = words.ids[PAD]
    started = time.process_time() - 60 * last["minutes"]
    while (spent := (time.process_time() - started) / 60 / minutes) < 1:
        optimizer.set_learning_rate(2e-3 * min(1.0, (step - first) / 100) * max(0.02, min(1.0, 2 * (1 - spent))))
        papers = data.images[chance.integers(len(data.images), size=batch), 0, 0]
        made = [compose(signs, paper, chance) for paper in papers]
        images = np.stack([screen for screen, _ in made])
        named = torch.from_numpy(np.stack([patch_words(words, asked) for _, asked in made]))
        rows = [lesson(words, asked, chance) for _, asked in made]
        longest = max(len(ids) for ids, _ in rows)
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row, _ in rows])
        learned = torch.tensor([row + [0] * (longest - len(row)) for _, row in rows])[:, 1:].bool()
        out = model(
            input_ids=ids, pixel_values=as_pixels(images), attention_mask=(ids != pad).long(),
            use_cache=False,
        )  # fmt: skip
        pointing = torch.nn.functional.cross_entropy(out.logits[:, :-1][learned].float(), ids[:, 1:][learned])
        naming = naming_loss(model, seen.pop().reshape(batch, PATCHES, -1), named)
        loss = pointing + naming
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 25 == 0:
            log.append({"step": step, "screens": step * batch, "minutes": spent * minutes})
            log[-1] |= {"loss": pointing.item(), "naming": naming.item()}
            if step % 100 == 0:
                print(json.dumps(log[-1]), flush=True)
    hook.remove()
    return log
