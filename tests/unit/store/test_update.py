# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Trees made from the tree before are those that hashing all gives, and what is taken over is checked."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nfsverity_proto.hashes import hash_by_number
from nfsverity_proto.tree import Shape
from nfsverity_store.differences import differences
from nfsverity_store.hashing import build, hash_runs
from nfsverity_store.nodes import FileStore, MemoryStore, Nodes, tree_length
from nfsverity_store.update import (
    NotTakenOver,
    changed_units,
    check_taken_over,
    copy_nodes,
    fold_used,
    merged,
    untouched,
    update,
)
from oracle import merkle

UNIT = 4096
SHA256 = hash_by_number(1)


class Content:
    """A file of so many bytes, of which all may be a hole, and its tree."""

    def __init__(self, path: Path, hash: int = 1, unit_log2: int = 12, *, in_memory: bool = True) -> None:
        self.path = path
        self.path.touch()
        self.hash = hash_by_number(hash)
        self.unit_log2 = unit_log2
        self.in_memory = in_memory
        self.fd = os.open(path, os.O_RDWR)

    def close(self) -> None:
        os.close(self.fd)

    def shape(self) -> Shape:
        return Shape(os.fstat(self.fd).st_size, self.unit_log2)

    def room(self) -> Nodes:
        shape = self.shape()
        length = tree_length(self.hash, shape)
        if self.in_memory:
            return Nodes(self.hash, shape, MemoryStore(bytearray(length)))
        fd, name = tempfile.mkstemp(dir=self.path.parent)
        os.unlink(name)
        os.truncate(fd, length)
        return Nodes(self.hash, shape, FileStore(fd))

    def full(self) -> tuple[Nodes, bytes]:
        nodes, shape = self.room(), self.shape()
        root = build(shape, self.hash, hash_runs(self.fd, shape, self.hash), nodes)
        return nodes, root

    def updated(
        self, old: Nodes, root: bytes, ranges: Sequence[tuple[int, int]], meanwhile: Callable[[], object] = bool
    ) -> tuple[Nodes, bytes, int]:
        """As the publisher does; with the number of bytes that were hashed. `meanwhile`: when all was checked."""
        shape, done = self.shape(), list[int]()
        changed = changed_units(old.shape, shape, ranges)
        if not shape.units or changed == [(0, shape.units)]:
            nodes, root = self.full()
            return nodes, root, shape.size
        looked, taken = check_taken_over(self.fd, old, root, shape, ranges, done.append)
        assert sum(done) == looked
        meanwhile()
        nodes = self.room()
        copy_nodes(old, nodes)
        root = update(self.fd, nodes, changed, taken,
                      lambda a, b: hash_runs(self.fd, shape, self.hash, done.append, a, b), done.append)  # fmt: skip
        return nodes, root, sum(done)


@pytest.fixture
def content(tmp_path: Path) -> Iterator[Content]:
    made = Content(tmp_path / "content")
    yield made
    made.close()


def values(nodes: Nodes) -> list[bytes]:
    """All levels, as a reader gets them."""
    return [nodes.run(level, 0, nodes.shape.width(level)) for level in range(nodes.shape.height + 1)]


@dataclass(frozen=True)
class Write:
    offset: int
    data: bytes


@dataclass(frozen=True)
class Resize:
    size: int


@dataclass(frozen=True)
class Punch:
    """Zeros that are not stored, where the file system has that: what is cut off and grown again is a hole."""

    offset: int


SIZES = st.integers(0, 40 * UNIT) | st.builds(
    lambda k, d: max(0, 2**k * UNIT + d), st.integers(0, 5), st.sampled_from([-UNIT, -1, 0, 1, UNIT])
)
EDITS = st.lists(
    st.builds(Write, st.integers(0, 40 * UNIT), st.binary(min_size=1, max_size=9) | st.just(b"w" * (3 * UNIT + 5)))
    | st.builds(Resize, SIZES)
    | st.builds(Punch, st.integers(0, 40 * UNIT)),
    max_size=6,
)


def apply(path: Path, edits: Sequence[Write | Resize | Punch]) -> list[tuple[int, int]]:
    """Edit a file; what it says then has changed, beside its size."""
    before, named, least = path.stat().st_size, list[tuple[int, int]](), path.stat().st_size
    for edit in edits:
        if isinstance(edit, Write):
            with path.open("r+b") as file:
                file.seek(edit.offset)
                file.write(edit.data)
            named.append((edit.offset, edit.offset + len(edit.data)))
        elif isinstance(edit, Resize):
            os.truncate(path, edit.size)
            least = min(least, edit.size)
        elif edit.offset < path.stat().st_size:
            size = path.stat().st_size
            os.truncate(path, edit.offset)
            os.truncate(path, size)
            named.append((edit.offset, size))
    if least < min(before, path.stat().st_size):
        named.append((least, before))
    return named


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    size=SIZES,
    rounds=st.lists(EDITS, min_size=1, max_size=4),
    hash=st.sampled_from(list(merkle.HASHES)),
    unit_log2=st.sampled_from([12, 12, 13, 16]),
    in_memory=st.booleans(),
)
def test_an_update_gives_what_hashing_all_gives(
    size: int, rounds: list[list[Write | Resize | Punch]], hash: int, unit_log2: int, in_memory: bool
) -> None:
    """Any edits, one update after the other, each from the tree that the one before left."""
    with tempfile.TemporaryDirectory() as directory:
        content = Content(Path(directory) / "content", hash, unit_log2, in_memory=in_memory)
        content.path.write_bytes(bytes(range(251)) * (size // 251 + 1))
        os.truncate(content.path, size)
        try:
            nodes, root = content.full()
            for edits in rounds:
                before = nodes
                ranges = apply(content.path, edits)
                nodes, root, hashed = content.updated(nodes, root, ranges)
                whole, whole_root = content.full()
                data = content.path.read_bytes()
                units = merkle.cut(data, 2**unit_log2)
                assert root == whole_root == merkle.tree_hash(merkle.HASHES[hash][1], units)
                assert not units or values(nodes) == values(whole)
                if in_memory and units:
                    assert nodes.store.read(0, nodes.length) == whole.store.read(0, whole.length)
                changed = changed_units(before.shape, nodes.shape, ranges)
                assert hashed <= min(len(data), sum((b - a) << unit_log2 for a, b in changed)) + (3 << unit_log2)
                check_differences(before, nodes)
        finally:
            content.close()


def check_differences(old: Nodes, new: Nodes) -> None:
    """The ranges are exactly the units that are not the same leaf at the same place."""
    if not new.shape.units:
        assert differences(old, new) == []
        return
    leaves = [[nodes.node(0, at) for at in range(nodes.shape.units)] for nodes in (old, new)]
    differ = [(at, at + 1) for at, leaf in enumerate(leaves[1]) if leaves[0][at : at + 1] != [leaf]]
    spans = [new.shape.unit_span(*units) for units in merged(differ)]
    assert differences(old, new) == [(start, stop - start) for start, stop in spans]


@pytest.mark.spec("fim-keep-2")
@pytest.mark.parametrize("before", range(0, 9 * UNIT + 1, UNIT // 2))
def test_every_small_file_made_longer_or_shorter(content: Content, before: int) -> None:
    """To each size up to nine units, whole ones and a half more."""
    for after in range(0, 9 * UNIT + 1, UNIT // 2):
        content.path.write_bytes(b"".join(bytes([number + 1]) * UNIT for number in range(9))[:before])
        nodes, root = content.full()
        os.truncate(content.path, after)
        found, found_root, _ = content.updated(nodes, root, [])
        whole, whole_root = content.full()
        assert found_root == whole_root == merkle.tree_hash(merkle.SHA256, merkle.cut(content.path.read_bytes(), UNIT))
        assert not after or values(found) == values(whole)


RUN = 1024 * UNIT
LARGE = st.builds(lambda runs, d: max(0, runs * RUN + d), st.integers(0, 4), st.sampled_from([-UNIT, -1, 0, 1, UNIT]))
PLACES = st.builds(lambda runs, d: max(0, runs * RUN + d), st.integers(0, 3), st.integers(-3 * UNIT, 3 * UNIT))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    rounds=st.lists(
        st.lists(
            st.builds(Write, PLACES, st.binary(min_size=1, max_size=9) | st.just(b"w" * (2 * UNIT)))
            | st.builds(Write, PLACES, st.just(b"run" * (RUN // 3 + UNIT)))
            | st.builds(Resize, LARGE)
            | st.builds(Punch, PLACES),
            max_size=4,
        ),
        min_size=2,
        max_size=4,
    ),
    in_memory=st.booleans(),
)
def test_runs_that_are_holes_before_or_after(rounds: list[list[Write | Resize | Punch]], in_memory: bool) -> None:
    """What is not stored is neither read nor put down; a node reads the same whether it is."""
    with tempfile.TemporaryDirectory() as directory:
        content = Content(Path(directory) / "content", in_memory=in_memory)
        try:
            nodes, root = content.full()
            for edits in rounds:
                nodes, root, _ = content.updated(nodes, root, apply(content.path, edits))
                whole, whole_root = content.full()
                units = merkle.cut(content.path.read_bytes(), UNIT)
                assert root == whole_root == merkle.tree_hash(merkle.SHA256, units)
                assert not units or values(nodes) == values(whole)
        finally:
            content.close()


@given(st.integers(1, 300), st.data())
def test_what_is_taken_over_is_the_largest_subtrees_that_did_not_change(units: int, data: st.DataObject) -> None:
    ranges = st.integers(0, units - 1).flatmap(lambda a: st.tuples(st.just(a), st.integers(a + 1, units)))
    changed = merged(data.draw(st.lists(ranges, max_size=5)))
    touched = {unit for first, end in changed for unit in range(first, end)}
    found = untouched(units, changed)
    covered = [unit for h, i in found for unit in range(i << h, min((i + 1) << h, units))]
    assert covered == [unit for unit in range(units) if unit not in touched]
    for level, index in found:
        above = range((index >> 1) << (level + 1), min(((index >> 1) + 1) << (level + 1), units))
        assert (level, index) == (Shape(units * UNIT, 12).height, 0) or touched & set(above)


@given(st.integers(1, 80), st.data())
def test_a_hash_that_is_used_and_wrong_shows_at_the_root(units: int, data: st.DataObject) -> None:
    leaves = [b"unit %d" % i for i in range(units)]
    wrong = data.draw(st.integers(0, units - 1))
    used = untouched(units, [(wrong, wrong + 1)])

    def node(level: int, index: int) -> bytes:
        return merkle.node(merkle.SHA256, leaves, level, index)

    root = node(merkle.height(units), 0)
    assert fold_used(SHA256, units, node, used) == root
    for name in used:
        bad = bytes(32)
        assert fold_used(SHA256, units, lambda h, i: bad if (h, i) == name else node(h, i), used) != root  # noqa: B023


@pytest.fixture
def filled(content: Content) -> Content:
    """40 units and a bit, each with other bytes."""
    content.path.write_bytes(b"".join(bytes([number]) * UNIT for number in range(40)) + b"bit")
    return content


@pytest.mark.parametrize("level", range(6))
def test_a_kept_tree_that_is_damaged_where_it_is_used_is_not_used(filled: Content, level: int) -> None:
    nodes, root = filled.full()
    apply(filled.path, [Write(7 * UNIT, b"x")])
    for h, i in untouched(41, [(0, 1), (7, 8), (40, 41)]):
        if h == level:
            nodes.put(h, i, [bytes([1]) * 32])
            with pytest.raises(NotTakenOver, match="damaged"):
                filled.updated(nodes, root, [(7 * UNIT, 7 * UNIT + 1)])


def test_a_kept_tree_of_another_content_is_not_used(filled: Content) -> None:
    nodes, _ = filled.full()
    with pytest.raises(NotTakenOver, match="damaged"):
        filled.updated(nodes, bytes(32), [(0, 1)])


@pytest.mark.parametrize(
    ("edit", "named", "where"),
    [
        (Write(0, b"other"), (9 * UNIT, 10 * UNIT), "bytes 0 to 4096"),
        (Write(40 * UNIT, b"new"), (0, 1), "bytes 163840 to 163843"),
        (Write(UNIT, b"other"), (0, 1), "bytes 4096 to 8192"),
    ],
    ids=["first", "last", "first-not-named"],
)
def test_a_wrong_word_is_noticed_at_the_ends_of_what_is_taken_over(
    filled: Content, edit: Write, named: tuple[int, int], where: str
) -> None:
    nodes, root = filled.full()
    apply(filled.path, [edit])
    with pytest.raises(NotTakenOver, match=where):
        filled.updated(nodes, root, [named])


def test_what_was_not_appended_to_but_begun_anew_is_noticed(filled: Content) -> None:
    """As a log that is rotated by copying and cutting: it is longer again, and the part of a unit is another."""
    nodes, root = filled.full()
    with filled.path.open("r+b") as file:
        file.seek(40 * UNIT)
        file.write(b"BIT and more")
    with pytest.raises(NotTakenOver, match="bytes 163840 to 163843"):
        filled.updated(nodes, root, [])
    assert filled.updated(nodes, root, [(40 * UNIT + 2, 40 * UNIT + 3)])[1] == filled.full()[1]


def test_one_unit_of_many_costs_the_nodes_above_it(content: Content) -> None:
    """One hash is taken over for each level; the unit is hashed, and the two that are looked at."""
    os.truncate(content.path, 2**34)
    nodes, root = content.full()
    with content.path.open("r+b") as file:
        file.seek(2**33)
        file.write(b"x")
    shape = content.shape()
    used = untouched(shape.units, changed_units(shape, shape, [(2**33, 2**33 + 1)]))
    assert len(used) == shape.height == 22
    assert fold_used(content.hash, shape.units, nodes.node, used) == root
    assert content.updated(nodes, root, [(2**33, 2**33 + 1)])[2] == 3 * UNIT


@pytest.mark.spec("fim-keep-1", "fim-st-3")
@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("units", [9, 3000])
def test_what_is_put_into_a_kept_tree_once_it_was_checked_is_not_signed(
    tmp_path: Path, in_memory: bool, units: int
) -> None:
    content = Content(tmp_path / "content", in_memory=in_memory)
    content.path.write_bytes(os.urandom(units * UNIT - 7))
    old, root = content.full()
    with content.path.open("r+b") as file:
        file.seek(2 * UNIT)
        file.write(b"changed")
        file.seek(0, os.SEEK_END)
        file.write(b"appended" * UNIT)

    def put() -> None:
        for level in range(old.shape.height + 1):
            for index in range(old.shape.width(level)):
                old.put(level, index, [b"what the thief wants signed, so!"])

    _, found, _ = content.updated(old, root, [(2 * UNIT, 2 * UNIT + 7)], put)
    assert found == content.full()[1]
    content.close()
