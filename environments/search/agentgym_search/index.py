"""BM25 over a few thousand passages, with ties broken by their order, so that a search is the same everywhere."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from agentgym_search.facts import plain_words
from agentgym_search.passages import Passage


class PassageIndex:
    """An index in memory of titles and texts (bm25s; Lù, 2024, arXiv:2407.03618), with Lucene's variant of BM25.

    Words are compared without case and diacritics, and are not stemmed.

    Args:
        passages: What can be found, at least one.
    """

    def __init__(self, passages: Sequence[Passage]) -> None:
        import bm25s  # imports numba where it is installed, which takes a second or more

        logging.getLogger("bm25s").setLevel(logging.WARNING)  # it asks for DEBUG, and tells of every index

        self.passages = tuple(passages)
        self._numbers = {passage: number for number, passage in enumerate(self.passages)}
        self._by_title: dict[str, list[Passage]] = {}
        for passage in self.passages:
            self._by_title.setdefault(passage.title, []).append(passage)
        self._vocabulary: dict[str, int] = {}
        ids = [self._words(passage) for passage in self.passages]
        self._vocabulary.setdefault("", len(self._vocabulary))
        # By numbers of our own: the library numbers words by a set, whose order differs from process to process.
        self._bm25 = bm25s.BM25(backend="numpy")
        self._bm25.index((ids, self._vocabulary), show_progress=False)

    def search(self, query: str, top_k: int) -> list[int]:
        """Return the numbers of the passages that fit best and share a word with the query, best first."""
        known = [self._vocabulary[word] for word in plain_words(query) if word in self._vocabulary]
        if not known:
            return []
        scores = self._bm25.get_scores_from_ids(known)
        best = np.argsort(-scores, kind="stable")[:top_k]
        return [int(number) for number in best if scores[number] > 0]

    def find(self, title: str) -> Passage:
        """Return the first passage with this title.

        Raises:
            KeyError: There is none.
        """
        return self._by_title[title][0]

    def number_of(self, passage: Passage) -> int:
        """Return the number of a passage.

        Raises:
            KeyError: It is not in the index.
        """
        return self._numbers[passage]

    def _words(self, passage: Passage) -> list[int]:
        words = plain_words(f"{passage.title} {passage.text}")
        return [self._vocabulary.setdefault(word, len(self._vocabulary)) for word in words]
