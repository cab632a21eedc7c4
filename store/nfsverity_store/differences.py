# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Which bytes differ between two versions of a file, from their trees alone (fim, "Comparing Two Versions")."""

from __future__ import annotations

from .nodes import Nodes
from .update import merged


def differences(old: Nodes, new: Nodes) -> list[tuple[int, int]] | None:
    """The ranges (offset, length) of the new version, in whole units, that the old one does not have there.

    Both trees have one hash and one unit size. Nodes that cover the same units are compared from the top down,
    and only what is below two that differ is looked at. None where a tree contradicts itself: it is damaged.
    """
    same_size = old.shape.size == new.shape.size
    common = old.shape.units if same_size else min(old.shape.size, new.shape.size) >> new.shape.unit_log2
    differ = [] if common >= new.shape.units else [(common, new.shape.units)]
    left = [(new.shape.height, 0)] if same_size and common else _whole_subtrees(common)
    while left:
        level, index = left.pop()
        if old.node(level, index) == new.node(level, index):
            continue
        if level == 0:
            differ.append((index, index + 1))
            continue
        below = [2 * index]
        if not same_size or 2 * index + 1 < new.shape.width(level - 1):
            below.append(2 * index + 1)
        if all(old.node(level - 1, at) == new.node(level - 1, at) for at in below):
            return None
        left += [(level - 1, at) for at in below]
    spans = (new.shape.unit_span(*units) for units in merged(differ))
    return [(start, stop - start) for start, stop in spans]


def _whole_subtrees(units: int) -> list[tuple[int, int]]:
    """The largest aligned subtrees that make up units [0, units): one for each bit that is set."""
    found, start = [], 0
    for level in reversed(range(units.bit_length())):
        if units >> level & 1:
            found.append((level, start >> level))
            start += 1 << level
    return found
