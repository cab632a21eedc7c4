# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The hashes of one version that this process has folded to the signed root (fim, "Trust envelope").

Only such hashes are in here, so each may stand for the root when what lies below it is verified. All but the
root may be forgotten at any time: the cost is a longer proof (R19).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from nfsverity_proto.proof import Run
from nfsverity_proto.tree import Shape

NODES_MAX = 2**15
"""Hashes that are remembered for one open file; about 8 MiB."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """A verified node above units [first, end), under which they are to be proved."""

    first: int
    end: int
    level: int
    value: bytes


class VerifiedNodes:
    """The root, the nodes met lately, and where it was fetched or made, one whole level."""

    def __init__(self, shape: Shape, root: bytes) -> None:
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

    def set_level(self, level: int, hashes: Sequence[bytes]) -> None:
        """Keep a whole level, which folds to the root."""
        self._level, self._level_hashes = level, hashes

    def forget(self) -> None:
        """Evict everything but the root."""
        self._recent.clear()
        self._level, self._level_hashes = None, ()

    def anchors(self, first: int, end: int) -> list[Anchor]:
        """Verified nodes above the units [first, end), as low as they are known; first < end."""
        if self._level is not None:
            level = self._level
            return [
                Anchor(max(first, index << level), min(end, (index + 1) << level), level, self._level_hashes[index])
                for index in range(first >> level, ((end - 1) >> level) + 1)
            ]
        level = ((end - 1) ^ first).bit_length()
        height = self.shape.height
        while level < height:
            value = self._recent.get((level, first >> level))
            if value is not None:
                self._recent.move_to_end((level, first >> level))
                return [Anchor(first, end, level, value)]
            level += 1
        return [Anchor(first, end, height, self._root)]
