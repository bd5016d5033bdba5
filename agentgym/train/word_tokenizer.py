"""Word tokenizer of the tiny model: one token per word, mark, numbered name or stock phrase; texts decode back exactly.

Worlds in text name things by a word and a number (``mug 1``) and say the rest in stock phrases (``. On the``). A name
is one token, so that a small model copies it in one step, and a phrase is one token, so that an episode is half as
long. A token remembers the blank before it (``▁``, as in SentencePiece), so that ``put mug 1 in/on desk 2`` comes back
to the letter; a line break counts as a blank, so that a word has the same token wherever its line begins.
"""

from __future__ import annotations

import collections
import re
import string
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

SPECIAL_TOKENS = ("<pad>", "<sys>", "<obs>", "<act>", "<eot>")
PAD, SYSTEM, OBSERVATION, ACTION, END_OF_TURN = SPECIAL_TOKENS
UNKNOWN = "<unk>"

# Three tokens are all that a turn costs: <obs>, <act>, <eot>.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ '<sys>' + message['content'] }}"
    "{% elif message['role'] == 'user' %}{{ '<obs>' + message['content'] }}"
    "{% else %}{{ '<act>' + message['content'] + '<eot>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<act>' }}{% endif %}"
)
_BLANK = "▁"
_NAME = re.compile(r"▁?[^\W\d_]+▁\d+")
_SINGLE = re.compile(r"\n|▁?(?:[^\W\d_]+|\d+|[^\w\s▁]|_)|▁|\s")
_WORD = re.compile(f"{_NAME.pattern}|{_SINGLE.pattern}")
_NUMBERS = 100
_PHRASE_SHARE = 0.1  # design: what one text in ten says is a phrase; a task's own words are rarer and stay apart
_MAX_PHRASES = 128
_LETTER_COST = 8.0  # a word that is known is never spelt


def build_word_tokenizer(
    texts: Iterable[str], *, phrases: bool = True, max_vocabulary: int = 8192, max_length: int = 2048
) -> Any:
    """Build a tokenizer whose words, names and phrases are those of ``texts``; other words are spelt in letters.

    Args:
        texts: What the model will read and write; letters that appear in none of them become ``<unk>``.
        phrases: Make a token of what one text in ten says. Where the words that matter are as frequent as that, a
            phrase hides them: ``icon star`` is not the ``star`` that is asked for.
        max_vocabulary: The most frequent words and names are kept.
        max_length: Longest sequence, in tokens, that the model will take.

    Returns:
        A ``transformers.PreTrainedTokenizerFast`` with a chat template.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [split_words(text) for text in texts]
    pieces = [(UNKNOWN, 0.0), *_pieces(words, find_phrases(words) if phrases else [], max_vocabulary).items()]
    backend = Tokenizer(models.Unigram(pieces, unk_id=0))  # it finds the cheapest way to write a text in pieces
    backend.normalizer = normalizers.Replace(Regex(r"\n(?!\z)"), "\n ")
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_BLANK, prepend_scheme="always", split=False)
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


def split_words(text: str) -> list[str]:
    """Split a text into words, marks and numbered names, each with the blank before it."""
    spaced = re.sub(r"\n(?!\Z)", "\n ", text).replace(" ", _BLANK)
    return _WORD.findall(spaced if spaced.startswith(_BLANK) else _BLANK + spaced)


def parts_of(token: str) -> list[str]:
    """Return the tokens of the single words and numbers that a token is made of."""
    return _SINGLE.findall(token)


def find_phrases(texts: Iterable[list[str]]) -> list[str]:
    """Merge neighbouring words, the most frequent pair first, as long as a tenth of the texts has it.

    Byte-pair encoding (Sennrich et al., 2016, arXiv:1508.07909) of words instead of letters, across their blanks, as
    in SuperBPE (Liu et al., 2025, arXiv:2503.13423). Names and line breaks end a phrase.
    """
    texts = list(texts)
    runs = collections.Counter(run for words in texts for run in _runs(words))
    phrases: list[str] = []
    while len(phrases) < _MAX_PHRASES:
        pairs: collections.Counter[tuple[str, str]] = collections.Counter()
        for run, count in runs.items():
            for pair in pairwise(run):
                pairs[pair] += count
        best = min(pairs, key=lambda pair: (-pairs[pair], pair), default=None)
        if best is None or pairs[best] < max(2, _PHRASE_SHARE * len(texts)):
            break
        phrases.append("".join(best))
        merged: collections.Counter[tuple[str, ...]] = collections.Counter()
        for run, count in runs.items():
            merged[_merge(run, best)] += count
        runs = merged
    return phrases


def _runs(words: Iterable[str]) -> Iterator[tuple[str, ...]]:
    run: list[str] = []
    for word in words:
        if word == "\n" or _NAME.fullmatch(word):
            yield tuple(run)
            run = []
        else:
            run.append(word)
    yield tuple(run)


def _merge(run: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged: list[str] = []
    for word in run:
        if merged and (merged[-1], word) == pair:
            merged[-1] += word
        else:
            merged.append(word)
    return tuple(merged)


def _pieces(texts: list[list[str]], phrases: list[str], max_vocabulary: int) -> Mapping[str, float]:
    """Return each piece with its score, the negative of what it costs."""
    counts = collections.Counter(word for words in texts for word in words)
    frequent = [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))][:max_vocabulary]
    # A word that was only ever glued to a mark (``on`` in ``in/on``) may be written alone by the model.
    words = [*frequent, *(_BLANK + word for word in frequent if word[0].isalnum())]
    words += [_BLANK + name.strip(_BLANK).partition(_BLANK)[0] for name in frequent if _NAME.fullmatch(name)]
    words += ["\n", _BLANK, *string.punctuation, *(f"{_BLANK}{number}" for number in range(_NUMBERS))]
    letters = sorted({*string.ascii_letters, *string.digits, *"".join(frequent)})
    return {
        **dict.fromkeys(letters, -_LETTER_COST),
        **dict.fromkeys(words, -1.0),
        **dict.fromkeys(phrases, -1.0),
    }
