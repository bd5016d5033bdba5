"""Token trees: what several sequences begin with is read once, in one pass over all of them.

The turns of an episode are asked about after ever longer parts of it, and members of a group have the same opening:
as sequences of their own, most tokens would be read many times. In a tree each is read once and sees its ancestors
alone, so that a model computes for it what it would have computed in a sequence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
_ENOUGH_NODES = 192


@dataclass(frozen=True)
class TokenTree:
    """Sequences whose equal beginnings stand once.

    Attributes:
        ids: Token of each node, shape ``(nodes,)``; a node stands after its ancestors.
        depths: Number of ancestors, shape ``(nodes,)``: the token's position in its sequences.
        sees: Whether the first node is the second or above it, shape ``(nodes, nodes)``.
        paths: For each sequence, the nodes that it consists of.
    """

    ids: Ids
    depths: Ids
    sees: NDArray[np.bool_]
    paths: tuple[Ids, ...]


def grow_trees(sequences: Sequence[Ids], most_nodes: int) -> Iterator[tuple[list[int], TokenTree]]:
    """Yield trees, each with the places of its sequences in ``sequences``.

    A tree shares the more the larger it is, but attention to it costs its square. Design: one ends before it has more
    than 192 nodes, unless they are fewer than twice the sequence at hand, as those of one long episode are.

    Args:
        sequences: Of one token or more, in any order.
        most_nodes: Of any tree; one longer sequence stands alone.
    """
    # In the order of a dictionary, none has a longer beginning in common with a sequence than its neighbours have.
    order = sorted(range(len(sequences)), key=lambda place: sequences[place].tolist())
    chosen: list[int] = []
    shared: list[int] = []
    nodes = 0
    for place in order:
        own = sequences[place]
        common = common_length(sequences[chosen[-1]], own) if chosen else 0
        if chosen and nodes + len(own) - common > min(max(_ENOUGH_NODES, 2 * len(own)), most_nodes):
            yield chosen, _tree([sequences[i] for i in chosen], shared)
            chosen, shared, nodes, common = [], [], 0, 0
        chosen.append(place)
        shared.append(common)
        nodes += len(own) - common
    if chosen:
        yield chosen, _tree([sequences[i] for i in chosen], shared)


def pad_trees(trees: Sequence[TokenTree]) -> tuple[Ids, NDArray[np.bool_], Ids]:
    """Return ids, sees and depths of trees, padded to the largest: ``(trees, longest)``, sees once more ``longest``."""
    longest = max(len(tree.ids) for tree in trees)
    ids, depths = np.zeros((2, len(trees), longest), dtype=np.int64)
    sees = np.tile(np.eye(longest, dtype=bool), (len(trees), 1, 1))  # padding sees itself: a softmax needs one
    for row, tree in enumerate(trees):
        size = len(tree.ids)
        ids[row, :size], depths[row, :size], sees[row, :size, :size] = tree.ids, tree.depths, tree.sees
    return ids, sees, depths


def common_length(one: Ids, other: Ids) -> int:
    """Return how many tokens both begin with."""
    length = min(len(one), len(other))
    differs = one[:length] != other[:length]
    return int(differs.argmax()) if differs.any() else length


def _tree(sequences: Sequence[Ids], shared: Sequence[int]) -> TokenTree:
    """Return the tree of sorted sequences, each with the number of tokens that it begins with as the one before."""
    sizes = [len(own) - common for own, common in zip(sequences, shared, strict=True)]
    total = sum(sizes)
    sees = np.zeros((total, total), dtype=bool)
    depths = np.zeros(total, dtype=np.int64)
    paths: list[Ids] = []
    start = 0
    for common, size in zip(shared, sizes, strict=True):
        own = np.arange(start, start + size)
        path = np.concatenate([paths[-1][:common], own]) if paths else own
        sees[start : start + size, path[:common]] = True
        sees[start : start + size, start : start + size] = np.tri(size, dtype=bool)
        depths[own] = np.arange(common, common + size)
        paths.append(path)
        start += size
    ids = np.concatenate([own[common:] for own, common in zip(sequences, shared, strict=True)])
    return TokenTree(ids, depths, sees, tuple(paths))
