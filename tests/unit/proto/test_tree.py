# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfsverity_proto.hashes import hash_by_number
from nfsverity_proto.tree import (
    Shape,
    canonical,
    height,
    levels,
    parents,
    root,
    width,
    zero_node,
)
from oracle import merkle

SHA256 = hash_by_number(1)
AROUND_POWERS = sorted({2**k + d for k in range(8, 11) for d in (-1, 0, 1)})
sizes = st.integers(0, 2**63 - 1) | st.builds(
    lambda k, d: min(max(2**k + d, 0), 2**63 - 1), st.integers(0, 63), st.integers(-2, 2)
)
logs = st.integers(12, 24)


def contents(n: int) -> list[bytes]:
    return [b"unit %d" % i for i in range(n)]


@pytest.mark.spec("fim-tree-1", "fim-tree-2", "fim-tree-3")
@pytest.mark.parametrize("n", [*range(131), *AROUND_POWERS])
def test_roots_of_every_ragged_tree(n: int) -> None:
    units = contents(n)
    leaves = [SHA256.leaf(unit) for unit in units]
    assert root(SHA256, leaves) == merkle.tree_hash(merkle.SHA256, units)
    assert height(n) == merkle.height(n)


@pytest.mark.spec("fim-hash-1", "fim-hash-2")
@pytest.mark.parametrize("number", list(merkle.HASHES))
@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 8, 13])
def test_roots_under_every_hash(number: int, n: int) -> None:
    units = contents(n)
    hash = hash_by_number(number)
    assert root(hash, [hash.leaf(unit) for unit in units]) == merkle.tree_hash(merkle.HASHES[number][1], units)


@pytest.mark.spec("fim-tree-2", "fip-tree-2")
@pytest.mark.parametrize("n", [*range(1, 35), 63, 64, 65])
def test_every_node_has_its_hash_and_every_level_its_width(n: int) -> None:
    units = contents(n)
    found = list(levels(SHA256, [SHA256.leaf(unit) for unit in units]))
    assert len(found) == height(n) + 1
    for level, nodes in enumerate(found):
        assert len(nodes) == width(n, level)
        for index, value in enumerate(nodes):
            assert value == merkle.node(merkle.SHA256, units, level, index)


def test_no_units_have_neither_levels_nor_width() -> None:
    assert list(levels(SHA256, [])) == [[]]
    assert width(0, 0) == width(0, 5) == height(0) == 0


@pytest.mark.spec("fim-tree-5")
@pytest.mark.parametrize("n", range(1, 35))
def test_a_canonical_name_is_the_lowest_of_the_same_node(n: int) -> None:
    def span(level: int, index: int) -> tuple[int, int]:
        return index << level, min((index + 1) << level, n)

    for level in range(height(n) + 1):
        for index in range(width(n, level)):
            low, at = canonical(n, level, index)
            same = [
                (h, i) for h in range(height(n) + 1) for i in range(width(n, h)) if span(h, i) == span(level, index)
            ]
            assert (low, at) == min(same)


@given(st.integers(2, 300), st.data())
def test_parents_of_an_aligned_run(n: int, data: st.DataObject) -> None:
    units = contents(n)
    first = 2 * data.draw(st.integers(0, (n - 1) // 2))
    leaves = [SHA256.leaf(unit) for unit in units[first:]]
    assert parents(SHA256, leaves) == [
        merkle.node(merkle.SHA256, units, 1, index) for index in range(first // 2, width(n, 1))
    ]


@pytest.mark.spec("fim-tree-4", "fim-unit-1", "fim-unit-2", "fim-proof-6")
@given(sizes, logs)
def test_the_shape_of_a_size(size: int, log2: int) -> None:
    shape = Shape(size, log2)
    whole, rest = divmod(size, 2**log2)
    n = whole + (rest > 0)
    assert (shape.unit_size, shape.units, shape.height) == (2**log2, n, merkle.height(n))
    for level in range(shape.height + 1):
        assert shape.width(level) == (n + 2**level - 1) // 2**level
    if n:
        assert shape.width(shape.height) == 1
        start, stop = shape.unit_span(n - 1, n)
        assert (start, stop) == ((n - 1) * 2**log2, size)
        assert 0 < stop - start <= 2**log2


@given(st.integers(1, 2**63 - 1), logs, st.data())
def test_the_units_of_a_byte_range_are_the_least_that_hold_it(size: int, log2: int, data: st.DataObject) -> None:
    offset = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(offset + 1, size))
    shape = Shape(size, log2)
    first, end = shape.units_of(offset, stop)
    start, past = shape.unit_span(first, end)
    assert start <= offset < start + shape.unit_size
    assert past - shape.unit_size < stop <= past or past == size
    assert 0 <= first < end <= shape.units
    assert stop > shape.unit_span(end - 1, end)[0]


@given(st.integers(0, 2**63 - 1), logs, st.integers(1, 2**20))
def test_the_lowest_level_of_at_most_so_many_nodes(size: int, log2: int, most: int) -> None:
    shape = Shape(size, log2)
    level = shape.lowest_level(most)
    assert shape.width(level) <= most
    assert level == 0 or shape.width(level - 1) > most


@pytest.mark.parametrize(("size", "log2"), [(-1, 16), (2**63, 16), (0, 11), (0, 25)])
def test_a_shape_beyond_the_bounds_is_refused(size: int, log2: int) -> None:
    with pytest.raises(ValueError):
        Shape(size, log2)


@pytest.mark.spec("fim-hole-1")
@pytest.mark.parametrize("number", list(merkle.HASHES))
@pytest.mark.parametrize("level", [0, 1, 4])
def test_zero_nodes_are_those_of_units_of_zeros(number: int, level: int) -> None:
    expected = merkle.tree_hash(merkle.HASHES[number][1], [bytes(4096)] * 2**level)
    assert zero_node(hash_by_number(number), 12, level) == expected


@pytest.mark.spec("fim-hole-1")
@pytest.mark.parametrize("log2", range(12, 25))
def test_zero_nodes_of_every_unit_size(log2: int) -> None:
    leaf = merkle.SHA256(bytes(1 + 2**log2))
    assert zero_node(SHA256, log2, 0) == leaf
    assert zero_node(SHA256, log2, 1) == merkle.SHA256(b"\x01" + leaf + leaf)


def test_the_zero_node_of_the_largest_file_is_found_at_once() -> None:
    top = Shape(2**63 - 1, 12).height
    assert top == 51
    value = merkle.SHA256(bytes(4097))
    for _ in range(top):
        value = merkle.SHA256(b"\x01" + value + value)
    assert zero_node(SHA256, 12, top) == value


@pytest.mark.spec("fim-tree-6")
@pytest.mark.parametrize(
    ("units", "level", "index"),
    [(0, 0, 0), (1, 1, 0), (1, 0, 1), (7, 4, 0), (7, 1, 4), (7, 3, 1), (7, -1, 0), (7, 0, -1)],
)
def test_a_name_of_no_node_is_refused(units: int, level: int, index: int) -> None:
    with pytest.raises(ValueError, match="no node"):
        canonical(units, level, index)
