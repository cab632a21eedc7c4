# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The walk down two trees at once: it finds what a comparison of all leaves finds, and asks for little."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nfsverity_client import diff
from nfsverity_client.diff import Incomparable, Node, Range, Side
from nfsverity_proto.hashes import hash_by_number
from nfsverity_proto.tree import Shape
from oracle import merkle

UNIT = 4096


class Known:
    """The tree of some units, made by the oracle. Counts what is asked for."""

    type = 1

    def __init__(self, units: Sequence[bytes], size: int | None = None, *, hash: int = 1, unit_log2: int = 12) -> None:
        self.units = units
        self.shape = Shape(len(units) * UNIT if size is None else size, unit_log2)
        self.hash = hash_by_number(hash)
        self.digest = merkle.HASHES[hash][1]
        self.root = merkle.tree_hash(self.digest, units)
        self.hashes = self.turns = 0

    async def below(self, level: int, nodes: Sequence[Node], step: int) -> list[list[bytes]]:
        self.turns += 1
        groups = [diff.group_of(self.shape, level, node.index, step) for node in nodes]
        assert [node.index for node in nodes] == sorted({node.index for node in nodes})
        self.hashes += sum(end - first for first, end in diff.runs_of(groups))
        for node in nodes:
            assert node.value == merkle.node(self.digest, self.units, level, node.index)
        return [
            [merkle.node(self.digest, self.units, level - step, index) for index in range(first, end)]
            for first, end in groups
        ]


def naive(a: Sequence[bytes], b: Sequence[bytes]) -> list[int]:
    return [index for index, (one, other) in enumerate(zip(a, b, strict=False)) if one != other]


def found_by(a: Known, b: Known) -> list[tuple[int, int]]:
    async def run() -> list[tuple[int, int]]:
        return [part async for part in diff.differing_units(a, b)]

    return asyncio.run(run())


def ranges_of(a: Known, b: Known) -> list[Range]:
    async def run() -> list[Range]:
        return [part async for part in diff.ranges(a, b)]

    return asyncio.run(run())


def check(a: Known, b: Known) -> list[int]:
    """What differs, which is what the oracle finds; in ranges that ascend and do not touch."""
    parts = found_by(a, b)
    differing = naive(a.units, b.units)
    assert [index for first, end in parts for index in range(first, end)] == differing
    assert all(first < end for first, end in parts)
    assert all(end < first for (_, end), (first, _) in itertools.pairwise(parts))
    return differing


def bound(units: int, changed: int) -> int:
    """Hashes of one tree, as the module says."""
    height = merkle.height(units)
    turns = -(-height // diff.STEP)
    return min((changed + 1) * turns * (2**diff.STEP + diff.GAP), 4 * units // 3 + height)


COUNTS = st.integers(0, 40) | st.sampled_from([63, 64, 65, 255, 256, 257, 300])


@pytest.mark.spec("fim-diff-2")
@given(data=st.data(), count=COUNTS, other=COUNTS)
def test_any_two_versions(data: st.DataObject, count: int, other: int) -> None:
    alphabet = st.sampled_from([b"x", b"y"])
    units = data.draw(st.lists(alphabet, min_size=count, max_size=count))
    a, b = Known(units), Known(data.draw(st.lists(alphabet, min_size=other, max_size=other)))
    check(a, b)
    check(b, a)
    for tree in (a, b):
        assert tree.hashes <= 2 * (4 * len(tree.units) // 3 + merkle.height(len(tree.units)))


@given(
    count=st.integers(1, 600),
    longer=st.integers(0, 90),
    changes=st.sets(st.integers(0, 599), max_size=12),
)
@example(count=512, longer=0, changes={100})
@example(count=512, longer=0, changes=set())
@example(count=512, longer=1, changes=set())
@example(count=1, longer=599, changes={0})
def test_what_it_costs(count: int, longer: int, changes: set[int]) -> None:
    units = [b"%d" % index for index in range(count)]
    changed = [b"new" if index in changes else unit for index, unit in enumerate(units)]
    a, b = Known(units), Known(changed + [b"more"] * longer)
    differing = check(a, b)
    assert differing == sorted(index for index in changes if index < count)
    turns = -(-merkle.height(count + longer) // diff.STEP)
    for tree in (a, b):
        assert tree.hashes <= bound(count + longer, len(differing))
        assert tree.turns <= turns
    if not differing and not longer:
        assert a.hashes == b.hashes == 0


def test_a_figure_of_the_draft() -> None:
    units = [b"%d" % index for index in range(2**14)]  # 1 GiB in units of 64 KiB
    a, b = Known(units), Known([*units[:5000], b"new", *units[5001:]])
    with mock.patch.object(merkle, "node", _memory()):
        assert found_by(a, b) == [(5000, 5001)]
    assert (b.hashes, b.turns) == (48, 4)


def _memory() -> object:
    """`merkle.node`, from levels that are made once for each tree: the oracle is slow where the tree is large."""
    made: dict[int, list[list[bytes]]] = {}

    def node(digest: merkle.Digest, units: Sequence[bytes], level: int, index: int) -> bytes:
        rows = made.setdefault(id(units), [])
        if not rows:
            rows.append([digest(b"\0" + unit) for unit in units])
            while len(rows[-1]) > 1:
                below = rows[-1]
                rows.append([digest(b"\1" + below[at] + below[at + 1]) for at in range(0, len(below), 2)])
        return rows[level][index]

    return node


@given(count=st.integers(2, 200), data=st.data())
def test_few_nodes_at_once_find_the_same(count: int, data: st.DataObject) -> None:
    units = data.draw(st.lists(st.sampled_from([b"x", b"y"]), min_size=count, max_size=count))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diff, "NODES", 2)
        check(Known(units), Known([b"x"] * count))


@given(data=st.data())
def test_ranges_of_bytes(data: st.DataObject) -> None:
    whole = data.draw(st.binary(min_size=0, max_size=200))
    other = data.draw(st.binary(min_size=0, max_size=200) | st.just(whole + b"more") | st.just(whole[:-1]))
    # a unit of 8 letters stands for one of 4,096 bytes
    one, two = ([text[at : at + 8] for at in range(0, len(text), 8)] for text in (whole, other))

    def size(units: list[bytes]) -> int:
        return sum(UNIT if len(unit) == 8 else len(unit) for unit in units)

    a, b = Known(one, size(one)), Known(two, size(two))
    found = ranges_of(a, b)
    covered = {at // UNIT for part in found if part.side is Side.BOTH for at in range(part.offset, part.stop)}
    assert covered == {index for index in naive(one, two) if index * UNIT < min(a.shape.size, b.shape.size)}
    rest = [part for part in found if part.side is not Side.BOTH]
    shorter, longest = sorted((a.shape.size, b.shape.size))
    side = Side.A if a.shape.size == longest else Side.B
    assert rest == ([Range(shorter, longest - shorter, side)] if shorter < longest else [])
    assert [part.offset for part in found] == sorted(part.offset for part in found)
    assert (found == []) == (whole == other)


@pytest.mark.spec("fim-diff-2")
def test_trees_that_cannot_be_compared() -> None:
    a = Known([b"x"])
    other_type = Known([b"x"])
    other_type.type = 2  # type: ignore[misc]
    for b in (Known([b"x"], hash=8), Known([b"x"], unit_log2=13), other_type):
        with pytest.raises(Incomparable, match="different"):
            found_by(a, b)
    assert ranges_of(a, Known([], hash=8)) == [Range(0, UNIT, Side.A)], "nothing is the same everywhere"
    assert ranges_of(Known([]), Known([], hash=8)) == []


class Lying(Known):
    """Raises what a source raises."""

    async def below(self, level: int, nodes: Sequence[Node], step: int) -> list[list[bytes]]:
        raise ValueError("it does not fold")


def test_what_a_source_raises_is_raised() -> None:
    with pytest.raises(ValueError, match="does not fold"):
        found_by(Known([b"x", b"y"]), Lying([b"x", b"z"]))
