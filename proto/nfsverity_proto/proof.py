# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Range proofs: what is missing between some units and a node above them (fim, "Range proofs").

The draft defines a proof by one in-order walk. For a contiguous range that walk meets the subtrees left of
the range from the top down, then those right of it from the bottom up. So both sides here go up level by
level instead, taking left hashes from the end of the left part and right hashes from the start of the
right part: the same hashes in the same order, without a call per node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .hashes import Hash
from .tree import NodeSource, canonical, height


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring nodes of one level, from index `first`."""

    level: int
    first: int
    hashes: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Fold:
    """What folding came to: the top node, and every node met on the way (usable once the top is trusted)."""

    top: bytes
    runs: list[Run]


def check_range(units: int, first: int, end: int, level: int) -> None:
    """Raise `ValueError` unless [first, end) is a range under one node of `level` (fim-proof-1, fim-proof-2)."""
    if not 0 <= first < end <= units:
        raise ValueError(f"units [{first}, {end}) of {units}")
    if not 0 <= level <= height(units):
        raise ValueError(f"level {level} of a tree of {units} units")
    if first >> level != (end - 1) >> level:
        raise ValueError(f"units [{first}, {end}) are not under one node of level {level}")


def siblings(units: int, first: int, end: int, level: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The (level, index) of the hashes of a proof: the left part and the right part, each in proof order."""
    check_range(units, first, end, level)
    left, right = [], []
    low, high = first, end - 1
    for at in range(level):
        if low & 1:
            left.append((at, low - 1))
        if not high & 1 and (high + 1) << at < units:
            right.append((at, high + 1))
        low >>= 1
        high >>= 1
    left.reverse()
    return left, right


def proof_length(units: int, first: int, end: int, level: int) -> int:
    """The number of hashes: it follows from the tree and the range alone (fim-proof-4)."""
    left, right = siblings(units, first, end, level)
    return len(left) + len(right)


def prove(node: NodeSource, units: int, first: int, end: int, level: int) -> list[bytes]:
    """The proof of units [first, end) under the node of `level` above them."""
    left, right = siblings(units, first, end, level)
    return [node(*canonical(units, at, index)) for at, index in left + right]


def fold(hash: Hash, units: int, first: int, leaves: Sequence[bytes], level: int, proof: Sequence[bytes]) -> Fold:
    """Fold the leaves of units [first, first + len(leaves)) with their proof up to `level`.

    Raises `ValueError`, before anything is hashed, where the proof has not exactly the number of hashes that
    the range asks for, or one that is none (fim-proof-4).
    """
    end = first + len(leaves)
    left, right = siblings(units, first, end, level)
    if len(proof) != len(left) + len(right):
        raise ValueError(f"a proof of {len(proof)} hashes where {len(left) + len(right)} are due")
    if any(len(value) != hash.length for value in proof):
        raise ValueError(f"a proof with what is no {hash.name} hash")
    next_left, next_right = len(left) - 1, len(left)
    node = hash.node
    nodes, start = list(leaves), first
    runs: list[Run] = []
    for at in range(level):
        if start & 1:
            nodes.insert(0, proof[next_left])
            next_left -= 1
            start -= 1
        last = start + len(nodes) - 1
        if not last & 1 and (last + 1) << at < units:
            nodes.append(proof[next_right])
            next_right += 1
        runs.append(Run(at, start, nodes))
        above = [node(nodes[i], nodes[i + 1]) for i in range(0, len(nodes) - 1, 2)]
        if len(nodes) & 1:
            above.append(nodes[-1])
        nodes, start = above, start >> 1
    runs.append(Run(level, start, nodes))
    return Fold(nodes[0], runs)


def fold_unit(hash: Hash, units: int, index: int, leaf: bytes, proof: bytes) -> bytes:
    """The root that one leaf and its proof, hashes end to end, come to: RFC 9162's inclusion proof.

    Raises `ValueError` as `fold` does.
    """
    if not 0 <= index < units:
        raise ValueError(f"unit {index} of {units}")
    length, new = hash.length, hash.new
    # a node has a sibling on its right up to where the paths of this unit and of the last one meet
    meet = (index ^ (units - 1)).bit_length()
    lefts = index.bit_count()
    due = lefts + meet - (index & ((1 << meet) - 1)).bit_count()
    if len(proof) != due * length:
        raise ValueError(f"a proof of {len(proof)} bytes where {due} hashes are due")
    left = right = lefts * length
    top = leaf
    for at in range(height(units)):
        if index >> at & 1:
            top = new(b"\1" + proof[left - length : left] + top).digest()
            left -= length
        elif at < meet:
            top = new(b"\1" + top + proof[right : right + length]).digest()
            right += length
    return top


def split_hashes(data: bytes | memoryview, length: int) -> list[bytes]:
    """Hashes that travel one after the other. Raises `ValueError` for a part of one."""
    if len(data) % length:
        raise ValueError(f"{len(data)} bytes are no whole number of hashes of {length}")
    return [bytes(data[i : i + length]) for i in range(0, len(data), length)]
