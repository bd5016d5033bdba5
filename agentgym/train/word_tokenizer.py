"""Word tokenizer of the tiny model: one token per word, number or mark, and texts that decode back exactly.

A token remembers the blank before it (``▁``, as in SentencePiece), so ``put mug 1 in/on desk 2`` comes back to the
letter; a line break counts as a blank, so that a word has the same token wherever its line begins.
"""

from __future__ import annotations

import collections
import re
import string
from collections.abc import Iterable
from typing import Any

SPECIAL_TOKENS = ("<pad>", "<unk>", "<sys>", "<obs>", "<act>", "<eot>")
PAD, UNKNOWN, SYSTEM, OBSERVATION, ACTION, END_OF_TURN = SPECIAL_TOKENS

# Three tokens are all that a turn costs: <obs>, <act>, <eot>.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ '<sys>' + message['content'] }}"
    "{% elif message['role'] == 'user' %}{{ '<obs>' + message['content'] }}"
    "{% else %}{{ '<act>' + message['content'] + '<eot>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<act>' }}{% endif %}"
)
_BLANK = "▁"
_PIECE = r"\n|▁?(?:\p{L}+|\p{N}+|[^\p{L}\p{N}\s▁])|▁|\s"
_PIECE_PYTHON = re.compile(r"\n|▁?(?:[^\W\d_]+|\d+|[^\w\s▁]|_)|▁|\s")
_NUMBERS = 100


def split_words(text: str) -> list[str]:
    """Split a text into the tokens that the tokenizer makes of it, were they all known."""
    spaced = text.replace("\n", "\n ").replace(" ", _BLANK)
    return _PIECE_PYTHON.findall(spaced if spaced.startswith(_BLANK) else _BLANK + spaced)


def build_word_tokenizer(texts: Iterable[str], *, max_vocabulary: int = 8192, max_length: int = 2048) -> Any:
    """Build a tokenizer whose words are those of ``texts``, besides ASCII marks and the numbers 0 to 99.

    Args:
        texts: What the model will read and write; words that appear in none of them become ``<unk>``.
        max_vocabulary: The most frequent words are kept.
        max_length: Longest sequence, in tokens, that the model will take.

    Returns:
        A ``transformers.PreTrainedTokenizerFast`` with a chat template.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel(_vocabulary(texts, max_vocabulary), unk_token=UNKNOWN))
    backend.normalizer = normalizers.Replace("\n", "\n ")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(replacement=_BLANK, prepend_scheme="always", split=False),
            pre_tokenizers.Split(Regex(_PIECE), behavior="isolated"),
        ]
    )
    silent = [decoders.Replace(before + _BLANK, before) for before in ("\n", *SPECIAL_TOKENS)]
    backend.decoder = decoders.Sequence(
        [decoders.Fuse(), *silent, decoders.Replace(_BLANK, " "), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END_OF_TURN,
        extra_special_tokens=[SYSTEM, OBSERVATION, ACTION],
        clean_up_tokenization_spaces=False,
        model_max_length=max_length,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _vocabulary(texts: Iterable[str], max_vocabulary: int) -> dict[str, int]:
    counts: collections.Counter[str] = collections.Counter()
    for text in texts:
        counts.update(split_words(text))
    always = ["\n", _BLANK, *string.punctuation, *(f"{_BLANK}{number}" for number in range(_NUMBERS))]
    frequent = [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    # A word that was only ever glued to a mark (``on`` in ``in/on``) may be written alone by the model.
    alone = [_BLANK + word for word in frequent if word.isalnum()]
    words = dict.fromkeys([*SPECIAL_TOKENS, *always, *frequent[:max_vocabulary], *alone[:max_vocabulary]])
    return {word: number for number, word in enumerate(words)}
