# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Runs of nodes: the pieces of a tree that the node cache keeps (fim, "The Trust Envelope and Caches").

A tree is divided into rows of `ROW` levels, and a row into runs: run i of row k is what is below node i of the
row's upper level, down to the row's base level, ROW·k. What is known of a run is kept as a cut through it: from
left to right, the lowest nodes known, that together make up the node on top. A run read in full is its base
level; one of which a single unit was read is that unit's leaf and the proof beside it.

A cut that comes from outside the envelope is folded here, and is of use only if it comes to the verified node on top.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nfsverity_proto.hashes import Hash
from nfsverity_proto.proof import Run
from nfsverity_proto.tree import Shape

ROW = 8
"""Levels of a row; a run is at most 2^ROW hashes."""
VALUE_MAX = 2 + 2**ROW * (1 + 64)
"""Bytes of an encoded cut, with the longest hash."""

Cut = Sequence[tuple[int, bytes]]
"""Nodes from left to right: the level above the run's base, and the hash."""
Nodes = Mapping[tuple[int, int], bytes]
"""By level and index in the whole tree."""


def content_id(hash: int, tree_type: int, shape: Shape, root: bytes) -> bytes:
    """Names a content: the same for renamed files, copies and later statements of it."""
    fields = struct.pack(">IIIQ", hash, tree_type, shape.unit_log2, shape.size)
    return hashlib.sha256(fields + root).digest()


@dataclass(frozen=True, slots=True)
class NodeRun:
    """Run `index` of row `row` of a tree."""

    shape: Shape
    row: int
    index: int

    @property
    def base(self) -> int:
        """The lowest level in it."""
        return ROW * self.row

    @property
    def top(self) -> int:
        """The level of the one node that is above all of it."""
        return min(self.base + ROW, self.shape.height)

    @property
    def first(self) -> int:
        """The index of its first node on the base level."""
        return self.index << ROW

    @property
    def width(self) -> int:
        """Its nodes on the base level."""
        return min(1 << ROW, self.shape.width(self.base) - self.first)

    def key(self, content: bytes) -> bytes:
        return content + struct.pack(">BQ", self.row, self.index)


def rows(shape: Shape) -> int:
    return -(-shape.height // ROW)


def runs_above(shape: Shape, first: int, end: int, below: int) -> Iterator[NodeRun]:
    """The runs above units [first, end), from the top down, that have levels lower than `below`.

    One with a single node on its base level says nothing: that node is the one on top.
    """
    for row in range(min(rows(shape), -(-below // ROW)) - 1, -1, -1):
        shift = ROW * (row + 1)
        for index in range(first >> shift, ((end - 1) >> shift) + 1):
            run = NodeRun(shape, row, index)
            if run.width > 1:
                yield run


def cut(run: NodeRun, known: Callable[[int, int], bytes | None]) -> Cut | None:
    """The finest cut through a run of what is known; None where that leaves a gap."""
    base, width = run.base, run.width
    leaves = [known(base, index) for index in range(run.first, run.first + width)]
    if None not in leaves:
        return [(0, leaf) for leaf in leaves if leaf is not None]

    def below(level: int, index: int) -> list[tuple[int, bytes]] | None:
        """The cut under node (base + level, index of the run's)."""
        if level == 0:
            leaf = leaves[index]
            return None if leaf is None else [(0, leaf)]
        value = known(base + level, (run.first >> level) + index)
        left = below(level - 1, 2 * index)
        if left is not None:
            if (2 * index + 1) << (level - 1) >= width:
                return left
            right = below(level - 1, 2 * index + 1)
            if right is not None:
                return left + right
        return None if value is None else [(level, value)]

    return below(run.top - base, 0)


def encode(nodes: Cut) -> bytes:
    """As it is stored: the number of nodes, their levels, their hashes."""
    return b"".join((struct.pack(">H", len(nodes)), bytes(level for level, _ in nodes), *(value for _, value in nodes)))


def decode(run: NodeRun, length: int, value: object) -> Cut | None:
    """What was stored, with hashes of `length` bytes; None for what is no cut through the run."""
    if not isinstance(value, bytes) or len(value) < 2:
        return None
    (count,) = struct.unpack_from(">H", value)
    start = 2 + count
    if not 0 < count <= run.width or len(value) != start + count * length:
        return None
    levels = value[2:start]
    at = 0
    for level in levels:
        if at >= run.width or level > run.top - run.base or at & ((1 << level) - 1):
            return None
        at += 1 << level
    if at < run.width:
        return None
    return [(level, value[start + i * length : start + (i + 1) * length]) for i, level in enumerate(levels)]


def fold_cut(hash: Hash, run: NodeRun, nodes: Cut) -> tuple[bytes, list[Run]]:
    """The node on top that a cut leads to, and all nodes met on the way."""
    runs: list[Run] = []
    node = hash.node
    height = run.top - run.base
    if len(nodes) == run.width:  # nothing but the base level
        level, hashes = 0, [value for _, value in nodes]
        while True:
            runs.append(Run(run.base + level, run.first >> level, hashes))
            if level == height:
                return hashes[0], runs
            above = [node(hashes[i], hashes[i + 1]) for i in range(0, len(hashes) - 1, 2)]
            if len(hashes) & 1:
                above.append(hashes[-1])
            level, hashes = level + 1, above
    found: list[dict[int, bytes]] = [{} for _ in range(height + 1)]
    at = 0
    for level, value in nodes:
        found[level][at >> level] = value
        at += 1 << level
    for level in range(height):
        at_level, above_level = found[level], found[level + 1]
        for index, value in at_level.items():
            if index & 1:
                continue
            right = at_level.get(index + 1)
            above_level[index >> 1] = value if right is None else node(value, right)
    for level, at_level in enumerate(found):
        first = run.first >> level
        runs += [Run(run.base + level, first + index, [value]) for index, value in at_level.items()]
    return found[height][0], runs


def merged(hash: Hash, run: NodeRun, one: Cut, other: Cut) -> Cut | None:
    """The finer of two cuts everywhere; None where they are not of the same tree."""
    top, runs = fold_cut(hash, run, one)
    other_top, other_runs = fold_cut(hash, run, other)
    if top != other_top:
        return None
    nodes = {
        (part.level, index): value for part in runs + other_runs for index, value in enumerate(part.hashes, part.first)
    }
    return cut(run, lambda level, index: nodes.get((level, index)))
