# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Slices: what READ counts in (fip-slice-1). A slice is a unit, or 4 MiB of a unit that is larger than that."""

from __future__ import annotations

from collections.abc import Sequence

from .messages import SLICE_LOG2_MAX, Hole
from .tree import Shape


def slice_log2(shape: Shape) -> int:
    return min(shape.unit_log2, SLICE_LOG2_MAX)


def slice_count(shape: Shape) -> int:
    """Slices of the whole file."""
    log2 = slice_log2(shape)
    return (shape.size >> log2) + (1 if shape.size & ((1 << log2) - 1) else 0)


def slices_of_units(shape: Shape, first: int, end: int) -> tuple[int, int]:
    """The slices [first, end) that are units [first, end)."""
    more = shape.unit_log2 - slice_log2(shape)
    return first << more, min(end << more, slice_count(shape))


def units_of_slices(shape: Shape, first: int, end: int) -> tuple[int, int]:
    """The units [first, end) that slices [first, end) touch."""
    more = shape.unit_log2 - slice_log2(shape)
    return first >> more, ((end - 1) >> more) + 1


def slice_span(shape: Shape, first: int, end: int) -> tuple[int, int]:
    """The bytes [start, stop) of slices [first, end)."""
    log2 = slice_log2(shape)
    return first << log2, min(end << log2, shape.size)


def check_holes(holes: Sequence[Hole], count: int) -> None:
    """Holes are not empty, ascending, apart, and inside the range (fip-hole-1). Raises `ValueError`."""
    end = 0
    for hole in holes:
        if hole.count == 0 or hole.first < end or hole.first + hole.count > count:
            raise ValueError(f"a hole of {hole.count} slices from {hole.first} in {count}")
        end = hole.first + hole.count
