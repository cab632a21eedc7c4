# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfsverity_proto.hashes import hash_by_number
from nfsverity_proto.proof import check_range, fold, fold_unit, proof_length, prove, siblings, split_hashes
from nfsverity_proto.tree import canonical, height
from oracle import merkle

SHA256 = hash_by_number(1)
SMALL = [*range(1, 19), 31, 32, 33]


def contents(n: int) -> list[bytes]:
    return [b"unit %d" % i for i in range(n)]


def ranges(n: int) -> list[tuple[int, int, int]]:
    """Every range of n units under every level that has it under one node."""
    return [
        (a, b, level)
        for level in range(height(n) + 1)
        for a in range(n)
        for b in range(a + 1, n + 1)
        if a >> level == (b - 1) >> level
    ]


@st.composite
def some_range(draw: st.DrawFn, most: int = 2**52) -> tuple[int, int, int, int]:
    """n, a, b, level."""
    n = draw(st.integers(1, most) | st.builds(lambda k, d: max(1, 2**k + d), st.integers(0, 10), st.integers(-1, 1)))
    n = min(n, most)
    a = draw(st.integers(0, n - 1))
    b = draw(st.integers(a + 1, min(n, a + 64)))
    least = next(level for level in range(height(n) + 1) if a >> level == (b - 1) >> level)
    return n, a, b, draw(st.integers(least, height(n)))


@pytest.mark.spec("fim-proof-3")
@pytest.mark.parametrize("n", SMALL)
def test_every_range_of_small_trees_under_every_level(n: int) -> None:
    units = contents(n)
    leaves = [SHA256.leaf(unit) for unit in units]
    nodes = {(h, i): merkle.node(merkle.SHA256, units, h, i) for h in range(height(n) + 1) for i in range(n)}
    for a, b, level in ranges(n):
        expected = merkle.range_proof(merkle.SHA256, units, a, b, level)
        asked: list[tuple[int, int]] = []

        def node(h: int, i: int, asked: list[tuple[int, int]] = asked) -> bytes:
            asked.append((h, i))
            return nodes[h, i]

        assert prove(node, n, a, b, level) == expected
        assert asked == [canonical(n, *name) for name in asked]
        assert proof_length(n, a, b, level) == len(expected)
        folded = fold(SHA256, n, a, leaves[a:b], level, expected)
        assert folded.top == nodes[level, a >> level]
        for run in folded.runs:
            assert list(run.hashes) == [nodes[run.level, run.first + at] for at in range(len(run.hashes))]
        assert [run.level for run in folded.runs] == list(range(level + 1))


@pytest.mark.spec("fim-proof-3", "fim-hash-2")
@given(some_range(most=200), st.sampled_from(list(merkle.HASHES)))
def test_ranges_of_larger_trees_under_every_hash(where: tuple[int, int, int, int], number: int) -> None:
    n, a, b, level = where
    units = contents(n)
    digest, hash = merkle.HASHES[number][1], hash_by_number(number)
    proof = prove(lambda h, i: merkle.node(digest, units, h, i), n, a, b, level)
    assert proof == merkle.range_proof(digest, units, a, b, level)
    top = fold(hash, n, a, [hash.leaf(unit) for unit in units[a:b]], level, proof).top
    assert top == merkle.fold(digest, n, a, units[a:b], level, proof) == merkle.node(digest, units, level, a >> level)


@pytest.mark.parametrize("n", SMALL)
def test_the_proof_of_one_unit_is_rfc_9162s_inclusion_proof_from_left_to_right(n: int) -> None:
    units = contents(n)
    for m in range(n):
        proof = prove(lambda h, i: merkle.node(merkle.SHA256, units, h, i), n, m, m + 1, height(n))
        path = merkle.inclusion_path(merkle.SHA256, m, units)
        to_the_left = [value for is_left, value in reversed(path) if is_left]
        assert proof == to_the_left + [value for is_left, value in path if not is_left]


@pytest.mark.spec("fim-proof-4", "fip-proof-5")
@given(some_range(), st.integers(-1, 1).filter(bool))
def test_a_proof_with_a_hash_too_many_or_too_few_is_malformed(where: tuple[int, int, int, int], by: int) -> None:
    n, a, b, level = where
    length = proof_length(n, a, b, level)
    leaves = [bytes(32)] * (b - a)
    fold(SHA256, n, a, leaves, level, [bytes(32)] * length)
    if length + by >= 0:
        with pytest.raises(ValueError, match="hashes"):
            fold(SHA256, n, a, leaves, level, [bytes(32)] * (length + by))


@pytest.mark.spec("fim-proof-5", "fim-proof-7")
@given(some_range(most=100), st.data())
def test_any_change_of_units_or_proof_changes_the_top(where: tuple[int, int, int, int], data: st.DataObject) -> None:
    n, a, b, level = where
    units = contents(n)
    proof = merkle.range_proof(merkle.SHA256, units, a, b, level)
    parts = [SHA256.leaf(unit) for unit in units[a:b]] + proof
    at = data.draw(st.integers(0, len(parts) - 1))
    changed = bytearray(parts[at])
    changed[data.draw(st.integers(0, 31))] ^= data.draw(st.integers(1, 255))
    parts[at] = bytes(changed)
    top = fold(SHA256, n, a, parts[: b - a], level, parts[b - a :]).top
    assert top != merkle.node(merkle.SHA256, units, level, a >> level)


@pytest.mark.spec("fim-proof-7")
@pytest.mark.parametrize("n", [2, 3, 5, 8, 9])
def test_hashes_in_another_order_or_of_another_range_do_not_fold_to_the_root(n: int) -> None:
    units = contents(n)
    leaves = [SHA256.leaf(unit) for unit in units]
    top, expected = height(n), merkle.tree_hash(merkle.SHA256, units)
    for a in range(n):
        proof = merkle.range_proof(merkle.SHA256, units, a, a + 1, top)
        if len(proof) > 1:
            assert fold(SHA256, n, a, [leaves[a]], top, proof[::-1]).top != expected
        for other in range(n):
            if other != a and proof_length(n, other, other + 1, top) == len(proof):
                assert fold(SHA256, n, other, [leaves[a]], top, proof).top != expected


@pytest.mark.spec("fim-proof-1", "fim-proof-2")
@pytest.mark.parametrize(
    ("units", "first", "end", "level"),
    [
        (0, 0, 0, 0),
        (0, 0, 1, 0),
        (4, 2, 2, 2),
        (4, 3, 2, 2),
        (4, -1, 1, 2),
        (4, 0, 5, 2),
        (4, 4, 5, 2),
        (4, 0, 1, 3),
        (4, 0, 1, -1),
        (4, 1, 3, 1),
        (5, 3, 5, 2),
        (2**52, 0, 2**52 + 1, 52),
    ],
)
def test_what_is_no_range_under_one_node_is_refused(units: int, first: int, end: int, level: int) -> None:
    with pytest.raises(ValueError):
        check_range(units, first, end, level)
    with pytest.raises(ValueError):
        prove(lambda h, i: bytes(32), units, first, end, level)
    if first <= end and end - first < 10:
        with pytest.raises(ValueError):
            fold(SHA256, units, first, [bytes(32)] * (end - first), level, [])


@given(some_range())
def test_the_largest_trees_have_proofs_of_two_hashes_a_level_at_most(where: tuple[int, int, int, int]) -> None:
    n, a, b, level = where
    left, right = siblings(n, a, b, level)
    assert len(left) + len(right) == proof_length(n, a, b, level) <= 2 * level
    levels_left, levels_right = [at for at, _ in left], [at for at, _ in right]
    assert levels_left == sorted(levels_left, reverse=True)
    assert levels_right == sorted(levels_right)
    assert all((index + 1) << at <= a for at, index in left)
    assert all(index << at >= b and index << at < n for at, index in right)


def test_a_unit_of_64_kib_of_1_gib_needs_14_hashes() -> None:
    n = 2**30 // 2**16
    assert {proof_length(n, a, a + 1, height(n)) for a in (0, 1, n // 2, n - 1)} == {14}


def test_hashes_travel_end_to_end() -> None:
    data = bytes(range(64))
    for form in (data, memoryview(data)):
        assert split_hashes(form, 32) == [data[:32], data[32:]]
    assert split_hashes(b"", 32) == []
    for length in (31, 33, 63):
        with pytest.raises(ValueError):
            split_hashes(data[:length], 32)


@pytest.mark.spec("fim-proof-4")
@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_proof_with_what_is_no_hash_is_malformed(length: int) -> None:
    with pytest.raises(ValueError, match="no sha256 hash"):
        fold(SHA256, 4, 0, [bytes(32)], 2, [bytes(32), bytes(length)])


@pytest.mark.spec("fim-proof-3", "fim-proof-4")
@given(st.integers(1, 2**52) | st.integers(1, 40), st.data())
def test_one_unit_is_folded_as_a_range_of_one(n: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, n - 1) | st.integers(max(0, n - 3), n - 1))
    due = proof_length(n, index, index + 1, height(n))
    count = data.draw(st.sampled_from([due, due, due, due + 1, max(due - 1, 0), 0]))
    proof = [SHA256.digest(b"%d" % number) for number in range(count)]
    leaf = SHA256.leaf(b"unit")
    if count == due:
        top = fold(SHA256, n, index, [leaf], height(n), proof).top
        assert fold_unit(SHA256, n, index, leaf, b"".join(proof)) == top
        proof = [*proof, b"x"]
    with pytest.raises(ValueError):
        fold_unit(SHA256, n, index, leaf, b"".join(proof))
    for beyond in (n, -1):
        with pytest.raises(ValueError):
            fold_unit(SHA256, n, beyond, leaf, b"")
