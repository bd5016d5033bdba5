"""The supervised warm start of ``benchmarks/gui_train.py``: pointing, naming what is seen, looking at what is asked."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gui_model import ANSWER, ANSWER_TOKENS, ASK, END, IMAGE, PATCH_PX, UNKNOWN, Words, as_pixels, write_box
from gui_screens import Placed, Screens, compose, cut_signs
from numpy.typing import NDArray
from torch import Tensor

from agentgym.train.optimizer import Optimizer
from agentgym.train.token_tree import TokenTree, grow_trees, pad_trees
from agentgym_gui.generate.panels import SIDE_PX

_SIDE = SIDE_PX // PATCH_PX
PATCHES = _SIDE**2
_LOOKS = 1  # the layer of the reader that looks at the sign: the one before takes the question in, the next one answers


@dataclass(frozen=True)
class Lesson:
    """One screen and questions for all of its signs, none of which sees the others: who is asked last is no secret.

    Attributes:
        tree: The image, from which the questions branch off, each with its answer.
        learned: Of each node, whether it is part of an answer.
        looks: Nodes from which an answer begins, each with the patches of its sign, (PATCHES,).
    """

    tree: TokenTree
    learned: NDArray[np.bool_]
    looks: list[tuple[int, NDArray[np.bool_]]]


def make_lesson(words: Words, asked: list[Placed], chance: np.random.Generator) -> Lesson:
    """Ask for each sign once."""
    image, sequences = [words.ids[IMAGE]] * PATCHES, []
    for sign, box in asked:
        question = [words.ids[ASK], *words.encode(str(chance.choice(sign.phrases))), words.ids[ANSWER]]
        sequences.append(np.array([*image, *question, *words.encode(write_box(box, SIDE_PX)), words.ids[END]]))
    ((order, tree),) = grow_trees(sequences, most_nodes=sum(map(len, sequences)))
    answers = {number: path[-ANSWER_TOKENS:] for number, path in zip(order, tree.paths, strict=True)}
    learned = np.zeros(len(tree.ids), dtype=bool)
    learned[np.concatenate(list(answers.values()))] = True
    looks = [(int(nodes[0]) - 1, covered_patches(asked[number][1])) for number, nodes in answers.items()]
    return Lesson(tree, learned, looks)


def covered_patches(box: Sequence[float]) -> NDArray[np.bool_]:
    """Return which patches have their middle in a box of pixels, shape (PATCHES,)."""
    left, top, right, bottom = box
    middles = (np.arange(_SIDE) + 0.5) * PATCH_PX
    return np.outer((middles > top) & (middles < bottom), (middles > left) & (middles < right)).reshape(-1)


def patch_words(words: Words, asked: list[Placed]) -> NDArray[np.int64]:
    """Return two words for each patch of a screen, shape (PATCHES, 2): those of the sign over its middle."""
    named = np.full((PATCHES, 2), words.ids[UNKNOWN])
    for sign, box in asked:
        named[covered_patches(box)] = words.encode(f"{sign.colour} {sign.name}")
    return named


def point(model: Any, pixels: Tensor, lessons: Sequence[Lesson]) -> tuple[Tensor, Tensor]:
    """Return the loss of the answers, and what their layer of the reader attends to, (B, heads, L, L)."""
    ids, sees, depths = (torch.from_numpy(array) for array in pad_trees([lesson.tree for lesson in lessons]))
    out = model(
        input_ids=ids,
        pixel_values=pixels,
        attention_mask=torch.zeros(sees.shape).masked_fill(~sees, torch.finfo(torch.float32).min)[:, None],
        position_ids=depths,
        use_cache=False,
        output_attentions=True,
    )
    learned = torch.zeros(ids.shape, dtype=torch.bool)
    for row, lesson in enumerate(lessons):
        learned[row, : len(lesson.learned)] = torch.from_numpy(lesson.learned)
    loss = torch.nn.functional.cross_entropy(out.logits[:, :-1][learned[:, 1:]].float(), ids[learned])
    return loss, out.attentions[_LOOKS]


def naming_loss(model: Any, patches: Tensor, named: Tensor) -> Tensor:
    """Return how badly the embeddings of patches, (B, PATCHES, H), point to those of their words.

    A reader that compares what it is asked for with what it sees then compares like with like. Without this the eye
    learns nothing for as long as the reader does not look, and the reader does not look while the eye says nothing.
    """
    known = torch.nn.functional.normalize(model.get_input_embeddings().weight, dim=-1)
    chances = (16 * torch.nn.functional.normalize(patches, dim=-1) @ known.T).log_softmax(-1)
    return -chances.gather(-1, named).mean()


def looking_loss(attention: Tensor, lessons: Sequence[Lesson]) -> Tensor:
    """Return how little the places that answer attend to the patches of their sign, given (B, heads, L, L).

    The idea is GUI-Actor's (Wu et al., 2025, arXiv:2506.03143), whose head of its own points by attention; here it only
    shows the reader's own heads what to compare. One head of two that does nothing else leaves ln 2.
    """
    looks = [(row, place, patches) for row, lesson in enumerate(lessons) for place, patches in lesson.looks]
    rows, places, patches = zip(*looks, strict=True)
    seen = attention[list(rows), :, list(places), :PATCHES].mean(1)
    return -(seen * torch.from_numpy(np.stack(patches))).sum(-1).clamp(min=1e-6).log().mean()


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
    model.set_attn_implementation({"text_config": "eager"})  # the one that tells where it attended to
    optimizer = Optimizer(model, "muon", 2e-3, weight_decay=0.01)
    log, last = [*done], done[-1] if done else {"step": 0, "minutes": 0.0}
    first = step = int(last["step"])
    chance = np.random.default_rng([0, first])
    started = time.process_time() - 60 * last["minutes"]
    while (spent := (time.process_time() - started) / 60 / minutes) < 1:
        optimizer.set_learning_rate(2e-3 * min(1.0, (step - first) / 100) * max(0.02, min(1.0, 2 * (1 - spent))))
        papers = data.images[chance.integers(len(data.images), size=batch), 0, 0]
        made = [compose(signs, paper, chance) for paper in papers]
        images = np.stack([screen for screen, _ in made])
        named = torch.from_numpy(np.stack([patch_words(words, asked) for _, asked in made]))
        lessons = [make_lesson(words, asked, chance) for _, asked in made]
        pointing, attention = point(model, as_pixels(images), lessons)
        naming = naming_loss(model, seen.pop().reshape(batch, PATCHES, -1), named)
        looking = looking_loss(attention, lessons)
        loss = pointing + naming + looking
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 25 == 0:
            log.append({"step": step, "screens": step * batch, "minutes": spent * minutes})
            log[-1] |= {"loss": pointing.item(), "naming": naming.item(), "looking": looking.item()}
            if step % 100 == 0:
                print(json.dumps(log[-1]), flush=True)
    hook.remove()
    model.set_attn_implementation({"text_config": "sdpa"})
    return log
