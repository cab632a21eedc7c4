# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The hashes of one version that this process has folded to the signed root (fim, "Trust envelope").

Only such hashes are in here, so each may stand for the root when what lies below it is verified. All but the
root may be forgotten at any time: the cost is a longer proof (R19). `node_cache` keeps them beyond the process.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from nfsverity_proto.proof import Run
from nfsverity_proto.tree import Shape

NODES_MAX = 2**15
"""Hashes that are remembered for one open file; about 8 MiB."""
SESSION_NODES_MAX = 2**18
"""The same for all files of a session together, whole levels included. One file may have more."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """A verified node above units [first, end), under which they are to be proved."""

    first: int
    end: int
    level: int
    value: bytes


class NodeMemory:
    """What bounds the verified nodes of all open files of a session: those that were used longest ago forget theirs."""

    def __init__(self) -> None:
        self._sizes: OrderedDict[weakref.ref[VerifiedNodes], int] = OrderedDict()
        self.total = 0

    def grown(self, nodes: VerifiedNodes) -> None:
        """Nodes were added to those of a file, which is the one used last."""
        ref = weakref.ref(nodes, self._gone)
        self.total += len(nodes) - self._sizes.pop(ref, 0)
        self._sizes[ref] = len(nodes)
        while self.total > SESSION_NODES_MAX and len(self._sizes) > 1:
            oldest, size = self._sizes.popitem(last=False)
            self.total -= size
            forgetting = oldest()
            if forgetting is not None:
                forgetting.forget()

    def _gone(self, ref: weakref.ref[VerifiedNodes]) -> None:
        self.total -= self._sizes.pop(ref, 0)


class VerifiedNodes:
    """The root, the nodes met lately, and where it was fetched or made, one whole level."""

    def __init__(self, shape: Shape, root: bytes, memory: NodeMemory | None = None) -> None:
        self._memory = memory
        self.shape = shape
        self._root = root
        self._recent: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._level: int | None = None
        self._level_hashes: Sequence[bytes] = ()

    def add(self, runs: Sequence[Run]) -> None:
        """Remember what a fold that came to a verified node has met."""
        recent = self._recent
        for run in runs:
            for index, value in enumerate(run.hashes, run.first):
                recent[run.level, index] = value
        while len(recent) > NODES_MAX:
            recent.popitem(last=False)
        if self._memory is not None:
            self._memory.grown(self)

    def set_level(self, level: int, hashes: Sequence[bytes]) -> None:
        """Keep a whole level, which folds to the root."""
        self._level, self._level_hashes = level, hashes
        if self._memory is not None:
            self._memory.grown(self)

    def __len__(self) -> int:
        return len(self._recent) + len(self._level_hashes)

    def known(self, level: int, index: int) -> bytes | None:
        """The hash of a node where it is known, under this name or one of a higher level."""
        while True:
            if level >= self.shape.height:
                return self._root
            value = self._level_hashes[index] if level == self._level else self._recent.get((level, index))
            if value is not None or index & 1 or index + 1 < self.shape.width(level):
                return value
            level, index = level + 1, index >> 1

    def forget(self) -> None:
        """Evict everything but the root."""
        self._recent.clear()
        self._level, self._level_hashes = None, ()

    def anchors(self, first: int, end: int) -> list[Anchor]:
        """Verified nodes above the units [first, end), in order, so that the fewest hashes are to be asked for."""
        whole: list[Anchor] = []
        level = ((end - 1) ^ first).bit_length()
        if self._cover(first, end, level, first >> level, whole):
            return whole
        if self._level is None:
            return [self._lowest(first, end, self.shape.height, self._root)]
        level = self._level
        return [
            self._lowest(max(first, index << level), min(end, (index + 1) << level), level, self._level_hashes[index])
            for index in range(first >> level, ((end - 1) >> level) + 1)
        ]

    def _cover(self, first: int, end: int, level: int, index: int, whole: list[Anchor]) -> bool:
        """Whether known nodes lie above exactly the units of [first, end) that node (level, index) is above.

        What is known was folded up to the root: below a node that is not known, nothing is looked for.
        """
        low, high = index << level, min((index + 1) << level, self.shape.units)
        if low >= end or high <= first:
            return True
        value = self._known(level, index)
        if value is not None and first <= low and high <= end:
            whole.append(Anchor(low, high, level, value))
            return True
        if level == 0 or (value is None and (self._level is None or level <= self._level)):
            return False
        return self._cover(first, end, level - 1, 2 * index, whole) and self._cover(
            first, end, level - 1, 2 * index + 1, whole
        )

    def _lowest(self, first: int, end: int, level: int, value: bytes) -> Anchor:
        """The lowest known node above the units; that of `level` is one."""
        for lower in range(((end - 1) ^ first).bit_length(), level):
            known = self._known(lower, first >> lower)
            if known is not None:
                return Anchor(first, end, lower, known)
        return Anchor(first, end, level, value)

    def _known(self, level: int, index: int) -> bytes | None:
        if level == self._level:
            return self._level_hashes[index]
        value = self._recent.get((level, index))
        if value is not None:
            self._recent.move_to_end((level, index))
        return value
