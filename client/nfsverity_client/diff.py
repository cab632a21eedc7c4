# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Which units of two versions differ, from their trees alone (fim, "Comparing Two Versions").

The walk goes down from both roots at once, a few levels at a time, and only below nodes that differ. It does no
I/O of its own: each tree is a `TreeSource`, and every hash that comes from there is folded to a signed root.

With c changed units of n, h = ⌈log2(n)⌉, it asks for at most (c + 1) · ⌈h / 4⌉ · (16 + `GAP`) hashes of each tree,
and never for more than 4/3 · n + h; in ⌈h / 4⌉ turns, as long as at most `NODES` nodes of a level differ.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from nfsverity_proto.errors import NfsVerityError
from nfsverity_proto.hashes import Hash
from nfsverity_proto.tree import Shape, levels

STEP = 4
"""Levels that are gone down at once, at most: 16 hashes below each node that differs."""
NODES = 256
"""Nodes that are gone down from at once: it bounds the memory (fip-client-5)."""
GAP = 8
"""Hashes between two groups that are asked for along with them: a call of its own has more bytes."""


class Incomparable(NfsVerityError):
    """The trees of two versions have different types, hashes or unit sizes: no node of one is one of the other."""


class Side(StrEnum):
    """Which of the two versions has some bytes."""

    BOTH = "both"
    A = "a"
    B = "b"


@dataclass(frozen=True, slots=True)
class Range:
    """Neighbouring bytes that differ, or that only one version has. In whole units but for the ends of files."""

    offset: int
    length: int
    side: Side = Side.BOTH

    @property
    def stop(self) -> int:
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class Node:
    """A verified node of some level."""

    index: int
    value: bytes


class Root(Protocol):
    """What is signed of the tree of one version."""

    @property
    def type(self) -> int: ...

    @property
    def shape(self) -> Shape: ...

    @property
    def hash(self) -> Hash: ...

    @property
    def root(self) -> bytes: ...


class TreeSource(Root, Protocol):
    """The tree of one version. What it gives was folded to its signed root (fim-cache-1)."""

    async def below(self, level: int, nodes: Sequence[Node], step: int) -> Sequence[Sequence[bytes]]:
        """The hashes `step` levels below each of some of its verified nodes of `level`, which ascend.

        Raises the verdict where they do not fold to them.
        """


def group_of(shape: Shape, level: int, index: int, step: int) -> tuple[int, int]:
    """The nodes [first, end) that are `step` levels below node (level, index).

    Above the root there is one node for each level, which is the root: so trees of two heights begin at one level.
    """
    return index << step, min((index + 1) << step, shape.width(level - step))


def runs_of(groups: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Groups [first, end) in ascending order, as ranges to ask for at once: with small gaps asked for along."""
    first = end = -1
    for low, high in groups:
        if first >= 0 and low - end <= GAP:
            end = high
            continue
        if first >= 0:
            yield first, end
        first, end = low, high
    if first >= 0:
        yield first, end


def fold_group(hash: Hash, group: Sequence[bytes]) -> list[Sequence[bytes]]:
    """A group and what it folds to, level by level: the last has one node, that which the group is below."""
    return list(levels(hash, group))


def _check_comparable(a: Root, b: Root) -> None:
    for what, one, other in (
        ("tree types", str(a.type), str(b.type)),
        ("hashes", a.hash.name, b.hash.name),
        ("unit sizes", str(a.shape.unit_size), str(b.shape.unit_size)),
    ):
        if one != other:
            raise Incomparable(f"the two versions have different {what}, {one} and {other}: their trees say nothing")


def same_content(a: Root, b: Root) -> bool:
    """Whether the roots alone say that all bytes are the same. Raises `Incomparable` (fim-diff-2)."""
    if 0 in (a.shape.size, b.shape.size):
        return a.shape.size == b.shape.size
    _check_comparable(a, b)
    return a.shape.size == b.shape.size and a.root == b.root


@dataclass(frozen=True, slots=True)
class _Pair:
    index: int
    a: bytes
    b: bytes


async def differing_units(a: TreeSource, b: TreeSource) -> AsyncGenerator[tuple[int, int], None]:
    """Ranges of units [first, end) that both trees have and that differ: ascending, apart.

    Raises `Incomparable`, and what the sources raise.
    """
    if same_content(a, b):
        return
    common = min(a.shape.units, b.shape.units)
    if not common:
        return
    level = max(a.shape.height, b.shape.height)
    waiting = [(level, [_Pair(0, a.root, b.root)])]
    first = end = 0
    while waiting:
        level, pairs = waiting.pop()
        if level:
            if len(pairs) > NODES:
                waiting.append((level, pairs[NODES:]))
            step = _step(level)
            below = await _pairs_below(a, b, level, pairs[:NODES], step)
            if below:
                waiting.append((level - step, below))
            continue
        for pair in pairs:
            if pair.index > end and first < end:
                yield first, end
            if pair.index > end or first == end:
                first = pair.index
            end = pair.index + 1
    if first < end:
        yield first, end


def _step(level: int) -> int:
    """Steps of about one length, the longer ones first: where many units differ, it is below that most is asked."""
    turns = -(-level // STEP)
    return -(-level // turns)


async def _pairs_below(a: TreeSource, b: TreeSource, level: int, pairs: Sequence[_Pair], step: int) -> list[_Pair]:
    """The nodes `step` levels below that differ, or that do not cover the same units."""
    groups_a, groups_b = await _both(
        a, [Node(pair.index, pair.a) for pair in pairs], b, [Node(pair.index, pair.b) for pair in pairs], level, step
    )
    lower, common = level - step, min(a.shape.units, b.shape.units)
    same_shape = a.shape.units == b.shape.units
    found: list[_Pair] = []
    for pair, group_a, group_b in zip(pairs, groups_a, groups_b, strict=True):
        for index, (one, other) in enumerate(zip(group_a, group_b, strict=False), pair.index << step):
            if index << lower >= common:
                break
            covered_alike = same_shape or (index + 1) << lower <= common  # fim-diff-2
            if one != other or not covered_alike:
                found.append(_Pair(index, one, other))
    return found


async def _both(
    a: TreeSource, nodes_a: Sequence[Node], b: TreeSource, nodes_b: Sequence[Node], level: int, step: int
) -> tuple[Sequence[Sequence[bytes]], Sequence[Sequence[bytes]]]:
    """One turn, of both trees at the same time."""
    try:
        async with asyncio.TaskGroup() as tasks:
            one = tasks.create_task(_below(a, level, nodes_a, step))
            other = tasks.create_task(_below(b, level, nodes_b, step))
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    return one.result(), other.result()


async def _below(tree: TreeSource, level: int, nodes: Sequence[Node], step: int) -> Sequence[Sequence[bytes]]:
    """As `tree.below`, which is asked for nothing that needs no asking: a single node is the one above it."""
    asked = [node for node in nodes if _width(tree.shape, level, node.index, step) > 1]
    groups = iter(await tree.below(level, asked, step) if asked else ())
    return [next(groups) if _width(tree.shape, level, node.index, step) > 1 else [node.value] for node in nodes]


def _width(shape: Shape, level: int, index: int, step: int) -> int:
    first, end = group_of(shape, level, index, step)
    return end - first


async def ranges(a: TreeSource, b: TreeSource) -> AsyncGenerator[Range, None]:
    """The byte ranges that differ, ascending; last, what is beyond the end of the shorter version.

    A unit that differs is a range, though it may be one byte of it that does. Raises as `differing_units`.
    """
    size = min(a.shape.size, b.shape.size)
    async for first, end in differing_units(a, b):
        start, stop = first << a.shape.unit_log2, min(end << a.shape.unit_log2, size)
        yield Range(start, stop - start)
    longest = max(a.shape.size, b.shape.size)
    if size < longest:
        yield Range(size, longest - size, Side.A if a.shape.size == longest else Side.B)
