# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The Merkle tree of RFC 9162 section 2.1, addressed by level and index (fim, "The tree").

Node (level h, index i) covers units [i·2^h, min((i+1)·2^h, n)). A node whose right half is empty has the
hash of its left child: that is RFC 9162's split at the largest power of two smaller than n, seen from below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from .hashes import Hash, hash_by_number

RFC9162 = 1
"""The tree type of the registry that is this tree."""

UNIT_LOG2_MIN, UNIT_LOG2_MAX = 12, 24
UNIT_LOG2_DEFAULT = 16
SIZE_MAX = 2**63 - 1
AHEAD_NODES = 2**16
"""Presentation `ahead` fetches the lowest level of at most this many nodes."""

NodeSource = Callable[[int, int], bytes]
"""The hash of node (level, index)."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What size in bytes and unit size say about a tree. All arithmetic is on exact integers."""

    size: int
    unit_log2: int

    def __post_init__(self) -> None:
        if not 0 <= self.size <= SIZE_MAX:
            raise ValueError(f"a size of {self.size} bytes")
        if not UNIT_LOG2_MIN <= self.unit_log2 <= UNIT_LOG2_MAX:
            raise ValueError(f"a unit of 2^{self.unit_log2} bytes")

    @property
    def unit_size(self) -> int:
        return 1 << self.unit_log2

    @property
    def units(self) -> int:
        """n (fim-tree-4): never (size + unit − 1) div unit, which overflows 64 bits."""
        return (self.size >> self.unit_log2) + (1 if self.size & (self.unit_size - 1) else 0)

    @property
    def height(self) -> int:
        """The root's level: the least h with 2^h ≥ n."""
        return height(self.units)

    def width(self, level: int) -> int:
        """The number of nodes of a level."""
        return width(self.units, level)

    def unit_span(self, first: int, end: int) -> tuple[int, int]:
        """The bytes [start, stop) of units [first, end)."""
        return first << self.unit_log2, min(end << self.unit_log2, self.size)

    def units_of(self, offset: int, stop: int) -> tuple[int, int]:
        """The units [first, end) that hold the bytes [offset, stop) of the file; offset < stop ≤ size."""
        return offset >> self.unit_log2, ((stop - 1) >> self.unit_log2) + 1

    def lowest_level(self, most: int) -> int:
        """The lowest level of at most `most` nodes."""
        level = 0
        while self.width(level) > most:
            level += 1
        return level


def height(units: int) -> int:
    return (units - 1).bit_length() if units else 0


def width(units: int, level: int) -> int:
    return ((units - 1) >> level) + 1 if units else 0


def canonical(units: int, level: int, index: int) -> tuple[int, int]:
    """The name with the least level of the node that is also (level, index). `ValueError` for no node (fim-tree-6)."""
    if not (0 <= level <= height(units) and 0 <= index < width(units, level)):
        raise ValueError(f"there is no node ({level}, {index}) over {units} units")
    while level and ((2 * index + 1) << (level - 1)) >= units:
        level, index = level - 1, 2 * index
    return level, index


def parents(hash: Hash, nodes: Sequence[bytes]) -> list[bytes]:
    """The level above a whole level, or above an aligned run of one that starts at an even index."""
    node = hash.node
    above = [node(nodes[i], nodes[i + 1]) for i in range(0, len(nodes) - 1, 2)]
    if len(nodes) & 1:
        above.append(nodes[-1])
    return above


def levels(hash: Hash, nodes: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """A whole level, the one above it, and so on up to the single root."""
    yield nodes
    while len(nodes) > 1:
        nodes = parents(hash, nodes)
        yield nodes


def root(hash: Hash, nodes: Sequence[bytes]) -> bytes:
    """The root over a whole level; over no nodes it is H of nothing (RFC 9162 2.1.1)."""
    if not nodes:
        return hash.digest(b"")
    while len(nodes) > 1:
        nodes = parents(hash, nodes)
    return nodes[0]


@lru_cache(maxsize=4096)
def _zero_node(number: int, unit_log2: int, level: int) -> bytes:
    hash = hash_by_number(number)
    if level == 0:
        return hash.leaf(bytes(1 << unit_log2))
    below = _zero_node(number, unit_log2, level - 1)
    return hash.node(below, below)


def zero_node(hash: Hash, unit_log2: int, level: int) -> bytes:
    """The node over 2^level whole units of zeros (fim-hole-1)."""
    return _zero_node(hash.number, unit_log2, level)
