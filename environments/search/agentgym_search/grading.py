"""How an answer is graded: exact match and F1 over sets of words, the best over all accepted answers."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def split_answer(text: str) -> tuple[str, ...]:
    """Return the words of an answer in lower case; punctuation and symbols part words.

    Articles stay, as in IGPO's grader (arXiv:2510.14967); HotpotQA's own takes them out and deletes punctuation instead
    of parting at it. That letters are composed first (NFC), and that punctuation beyond ASCII counts, is design.
    """
    composed = unicodedata.normalize("NFC", text).lower()
    return tuple("".join(" " if unicodedata.category(sign)[0] in "PSC" else sign for sign in composed).split())


def is_exact(prediction: str, answers: Sequence[str]) -> bool:
    """Tell whether an answer has the same words in the same order as one of the accepted ones, and has any."""
    words = split_answer(prediction)
    return bool(words) and any(words == split_answer(answer) for answer in answers)


def grade_f1(prediction: str, answers: Sequence[str]) -> float:
    """Return the F1 of the set of words against that of the accepted answer that it fits best (arXiv:2510.14967).

    Returns:
        From 0 to 1; 0 where either has no words.
    """
    words = set(split_answer(prediction))
    return max((_overlap(words, set(split_answer(answer))) for answer in answers), default=0.0)


def _overlap(words: set[str], wanted: set[str]) -> float:
    common = len(words & wanted)
    return 2 * common / (len(words) + len(wanted)) if common else 0.0
