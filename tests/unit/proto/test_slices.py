# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfsverity_proto.messages import Hole
from nfsverity_proto.slices import (
    check_holes,
    slice_count,
    slice_log2,
    slice_span,
    slices_of_units,
    units_of_slices,
)
from nfsverity_proto.tree import Shape

shapes = st.builds(
    Shape,
    st.integers(0, 2**63 - 1)
    | st.integers(0, 2**27)
    | st.builds(lambda k, d: k * 2**22 + d, st.integers(1, 9), st.integers(-1, 1)),
    st.integers(12, 24),
)


def the_drafts(shape: Shape) -> tuple[int, int, int]:
    """slice, k and slices, as the draft computes them."""
    unit = 2**shape.unit_log2
    length = min(unit, 4_194_304)
    return length, unit // length, shape.size // length + (1 if shape.size % length else 0)


@pytest.mark.spec("fip-slice-1")
@given(shapes)
def test_slices_follow_from_size_and_unit_size(shape: Shape) -> None:
    length, k, slices = the_drafts(shape)
    assert 2 ** slice_log2(shape) == length
    assert k in (1, 2, 4)
    assert slice_count(shape) == slices


@pytest.mark.spec("fip-slice-1")
@given(shapes.filter(lambda shape: shape.size > 0), st.data())
def test_the_bytes_and_units_of_a_range_of_slices(shape: Shape, data: st.DataObject) -> None:
    length, k, slices = the_drafts(shape)
    f = data.draw(st.integers(0, slices - 1))
    c = data.draw(st.integers(1, slices - f))
    assert slice_span(shape, f, f + c) == (f * length, min((f + c) * length, shape.size))
    assert units_of_slices(shape, f, f + c) == (f // k, (f + c - 1) // k + 1)


@pytest.mark.spec("fip-slice-2")
@given(shapes.filter(lambda shape: shape.size > 0), st.data())
def test_the_slices_of_units_are_all_their_bytes(shape: Shape, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, shape.units - 1))
    end = data.draw(st.integers(first + 1, shape.units))
    low, high = slices_of_units(shape, first, end)
    assert slice_span(shape, low, high) == shape.unit_span(first, end)
    assert units_of_slices(shape, low, high) == (first, end)


@pytest.mark.spec("fip-hole-1")
@pytest.mark.parametrize(
    "holes",
    [[], [(0, 1)], [(0, 8)], [(7, 1)], [(0, 2), (2, 1)], [(1, 1), (3, 4), (7, 1)]],
)
def test_holes_ascend_apart_and_inside_the_range(holes: list[tuple[int, int]]) -> None:
    check_holes([Hole(*hole) for hole in holes], 8)


@pytest.mark.spec("fip-hole-1")
@pytest.mark.parametrize(
    "holes",
    [
        [(0, 0)],
        [(8, 0)],
        [(8, 1)],
        [(0, 9)],
        [(7, 2)],
        [(3, 1), (1, 1)],
        [(3, 1), (3, 1)],
        [(1, 3), (3, 1)],
        [(2**32 - 1, 2**32 - 1)],
        [(1, 2**32 - 1)],
    ],
)
def test_other_holes_are_malformed(holes: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="hole"):
        check_holes([Hole(*hole) for hole in holes], 8)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=4), st.integers(0, 12))
def test_holes_are_good_when_they_name_each_slice_once_and_in_order(holes: list[tuple[int, int]], count: int) -> None:
    covered = [first + at for first, length in holes for at in range(length)]
    good = all(length for _, length in holes) and covered == sorted(set(covered)) and all(at < count for at in covered)
    if good:
        check_holes([Hole(*hole) for hole in holes], count)
    else:
        with pytest.raises(ValueError):
            check_holes([Hole(*hole) for hole in holes], count)
