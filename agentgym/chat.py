"""Chat: a dialogue as tokens, built turn by turn and never decoded and encoded again.

The literal text between contents is read off the tokenizer's own chat template by rendering marked messages. It
alone is tokenised with special tokens; what the world says is data, in which ``<|im_end|>`` is eight harmless letters.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from agentgym.errors import ModelError
from agentgym.policy import Dialogue

_KNOWN_TEXTS = 512  # worlds repeat themselves, most of all to the members of a group
_MARKS = ("xsystemx", "xfirstx", "xanswerx", "xsecondx", "xreplyx", "xthirdx")


@dataclass(frozen=True)
class _Pieces:
    """Literal text of a template around the contents.

    Attributes:
        opening: Before the system prompt, or, without one, before the first observation.
        after_system: Between system prompt and first observation; empty without a system prompt.
        before_action: Between an observation and the action.
        after_action: Between an action and the next observation; begins with the end of turn.
        strips: The template strips blanks off the contents.
    """

    opening: str
    after_system: str
    before_action: str
    after_action: str
    strips: bool = False


class ChatRenderer:
    """Turns dialogues into token ids under a tokenizer's chat template.

    Without a template, a plain one is used: system prompt, observation, ``>``, action, end-of-sequence token.

    Args:
        tokenizer: A ``transformers`` tokenizer. It is copied, so that other threads may use the original.

    Attributes:
        stop_token_ids: Tokens that end an action: the template's end of turn, and the tokenizer's end of sequence.

    Raises:
        ModelError: The template rewrites earlier turns when the dialogue grows (an append-only one is needed, since
            sampled tokens are never encoded again), or ends no turn with a special token.
    """

    def __init__(self, tokenizer: Any) -> None:
        # Whether special tokens are split is state of the tokenizer: two copies that never change it cannot race.
        self._template_tokenizer = copy.deepcopy(tokenizer)
        self._content_tokenizer = copy.deepcopy(tokenizer)
        self._encode = functools.lru_cache(maxsize=_KNOWN_TEXTS)(self._encode_content)
        self._without_system = self._read_pieces(with_system=False)
        self._with_system = self._read_pieces(with_system=True)
        self._after_action_ids = self._template_ids(self._with_system.after_action)
        self._before_action_ids = self._template_ids(self._with_system.before_action)
        if not self._after_action_ids or self._after_action_ids[0] not in self._special_ids():
            raise ModelError(
                f"the chat template goes on after an answer with {self._with_system.after_action!r}, which does not "
                "begin with a special token, so nothing says where an answer ends; set tokenizer.chat_template to a "
                "template that ends turns with one, e.g. ChatML"
            )
        eos = self._template_tokenizer.eos_token_id
        ends = [self._after_action_ids[0], *([] if eos is None else [int(eos)])]
        self.stop_token_ids: tuple[int, ...] = tuple(dict.fromkeys(ends))
        self._check_round_trip()

    def prompt_ids(self, dialogue: Dialogue) -> list[int]:
        """Return the ids that a dialogue's newest observation adds to ``dialogue.token_ids``."""
        if dialogue.token_ids:
            return self.reply_ids(dialogue.observation, closed=dialogue.closed)
        return self.opening_ids(dialogue.system_prompt, dialogue.observation)

    def opening_ids(self, system: str, observation: str) -> list[int]:
        """Return the ids before the first action.

        Args:
            system: System prompt; with an empty one, the template's own default, if it has any, stands.
            observation: What the environment says first.
        """
        if not system:
            return (
                self._template_ids(self._without_system.opening)
                + self._content_ids(observation)
                + self._before_action_ids
            )
        return (
            self._template_ids(self._with_system.opening)
            + self._content_ids(system)
            + self._template_ids(self._with_system.after_system)
            + self._content_ids(observation)
            + self._before_action_ids
        )

    def reply_ids(self, observation: str, *, closed: bool) -> list[int]:
        """Return the ids between an action and the next one.

        Args:
            observation: What the environment answered.
            closed: The sampled action ends in a stop token. If it was cut, the end of turn is added here, as a token
                of the environment's side.
        """
        after_action = self._after_action_ids[1:] if closed else self._after_action_ids
        return after_action + self._content_ids(observation) + self._before_action_ids

    def action_ids(self, text: str) -> list[int]:
        """Return the ids of an action that was not sampled, e.g. an expert's, its end of turn included."""
        return [*self._content_ids(text), self._after_action_ids[0]]

    def action_text(self, token_ids: Sequence[int]) -> str:
        """Decode a sampled action, without its stop token."""
        ids = list(token_ids)
        while ids and ids[-1] in self.stop_token_ids:
            ids.pop()
        return str(self._template_tokenizer.decode(ids, clean_up_tokenization_spaces=False)).strip()

    def _special_ids(self) -> set[int]:
        added = getattr(self._template_tokenizer, "added_tokens_decoder", {})
        return set(self._template_tokenizer.all_special_ids) | set(added)

    def _template_ids(self, text: str) -> list[int]:
        return list(self._template_tokenizer.encode(text, add_special_tokens=False))

    def _content_ids(self, text: str) -> list[int]:
        text = text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates cannot be tokenised
        return list(self._encode(text.strip() if self._with_system.strips else text))

    def _encode_content(self, text: str) -> tuple[int, ...]:
        return tuple(self._content_tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))

    def _read_pieces(self, *, with_system: bool) -> _Pieces:
        if not getattr(self._template_tokenizer, "chat_template", None):
            return self._plain_pieces(with_system=with_system)
        messages = [
            {"role": role, "content": f" {mark} "}
            for role, mark in zip(("system", "user", "assistant", "user", "assistant", "user"), _MARKS, strict=True)
        ][0 if with_system else 1 :]
        marks = _MARKS[0 if with_system else 1 :]
        try:
            whole = self._render(messages)
        except Exception as error:  # a template is a program of its author's and raises what it likes
            if with_system:  # some models know no system prompt; it then opens the first message
                return replace(self._without_system, after_system="\n\n")
            raise ModelError(
                f"the chat template cannot render a dialogue of user and assistant turns ({error}); "
                "set tokenizer.chat_template to one that can, e.g. ChatML"
            ) from error
        strips = f" {marks[0]} " not in whole
        gaps = _split_at(whole, [mark if strips else f" {mark} " for mark in marks])
        for length in range(len(messages) - 4, len(messages) - 1, 2):
            shorter = self._render(messages[:length])
            if not whole.startswith(shorter):
                raise ModelError(_REWRITES)
        first = 1 if with_system else 0
        if gaps[first + 1] != gaps[first + 3] or gaps[first + 2] != gaps[first + 4] or gaps[first + 1] != gaps[-1]:
            raise ModelError(_REWRITES)
        return _Pieces(gaps[0], gaps[1] if with_system else "", gaps[first + 1], gaps[first + 2], strips)

    def _plain_pieces(self, *, with_system: bool) -> _Pieces:
        eos = self._template_tokenizer.eos_token
        if eos is None:
            raise ModelError("the tokenizer has neither a chat template nor an end-of-sequence token; set one of them")
        bos = self._template_tokenizer.bos_token or ""
        return _Pieces(bos, "\n\n" if with_system else "", "\n> ", f"{eos}\n")

    def _render(self, messages: list[dict[str, str]]) -> str:
        return str(self._template_tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def _check_round_trip(self) -> None:
        """Pieces and contents are encoded apart: find tokenizers that put blanks of their own between them."""
        pieces = self._with_system
        texts = [_MARKS[1], _MARKS[3]]
        ids = self._content_ids(texts[0]) + self._after_action_ids + self._content_ids(texts[1])
        literal = self._template_ids(texts[0] + pieces.after_action + texts[1])
        if self._template_tokenizer.decode(ids) != self._template_tokenizer.decode(literal):
            raise ModelError(
                "this tokenizer reads a text differently when it is encoded in parts (it adds blanks at their seams), "
                "so a dialogue cannot be grown turn by turn; set add_prefix_space=False or use another tokenizer"
            )


_REWRITES = (
    "the chat template rewrites earlier turns when the dialogue grows (some drop past reasoning, or move the system "
    "prompt): sampled tokens are kept as they were sampled, so a template that only ever appends is needed; "
    "set tokenizer.chat_template to one, e.g. ChatML"
)


def _split_at(text: str, marks: Sequence[str]) -> list[str]:
    gaps = []
    for mark in marks:
        gap, found, text = text.partition(mark)
        if not found or mark in text:
            raise ModelError(_REWRITES)
        gaps.append(gap)
    return [*gaps, text]
