# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Files to trees: what is hashed is what RFC 9162 says, however the file is cut, stored and read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nfsverity_proto.hashes import hash_by_number
from nfsverity_proto.tree import Shape
from nfsverity_store.hashing import (
    BUFFER,
    RUN_LOG2,
    ChangedSize,
    build,
    hash_run,
    hash_runs,
    leaves,
    next_data,
    next_hole,
    read_scattered,
)
from nfsverity_store.nodes import FileStore, MemoryStore, Nodes, Store, tree_length
from oracle import merkle

UNIT = 4096


@contextmanager
def opened(data: bytes, holes: bool = False) -> Iterator[int]:
    """A file with this content; with `holes`, blocks of zeros are not stored."""
    with tempfile.TemporaryFile() as file:
        if holes:
            os.truncate(file.fileno(), len(data))
            for at in range(0, len(data), UNIT):
                if data[at : at + UNIT].strip(b"\0"):
                    os.pwrite(file.fileno(), data[at : at + UNIT], at)
        else:
            os.pwrite(file.fileno(), data, 0)
        yield file.fileno()


contents = st.lists(st.tuples(st.integers(1, 3 * UNIT), st.integers(0, 255)), max_size=8).map(
    lambda parts: b"".join(bytes([value]) * length for length, value in parts)
)


@given(contents, st.sampled_from(sorted(merkle.HASHES)), st.integers(12, 15), st.booleans())
@example(b"", 1, 12, False)
@example(bytes(UNIT), 1, 12, True)
@example(bytes(5 * UNIT) + b"x" + bytes(4 * UNIT), 1, 12, True)
@example(b"x" * (5 * UNIT - 1), 0x10000, 12, False)
@settings(max_examples=60)
def test_the_tree_of_a_file_is_that_of_its_units(data: bytes, number: int, unit_log2: int, holes: bool) -> None:
    hash, digest = hash_by_number(number), merkle.HASHES[number][1]
    shape = Shape(len(data), unit_log2)
    units = merkle.cut(data, 1 << unit_log2)
    memory = bytearray(tree_length(hash, shape))
    nodes = Nodes(hash, shape, MemoryStore(memory))
    with opened(data, holes) as fd:
        assert build(shape, hash, hash_runs(fd, shape, hash), nodes) == merkle.tree_hash(digest, units)
        assert build(shape, hash, hash_runs(fd, shape, hash), None) == merkle.tree_hash(digest, units)
    for level in range(shape.height + 1 if units else 0):
        expected = [merkle.node(digest, units, level, index) for index in range(shape.width(level))]
        assert nodes.run(level, 0, len(expected)) == b"".join(expected)
        assert [nodes.node(level, index) for index in range(len(expected))] == expected


@pytest.mark.parametrize("unit_log2", [12, 17, 18, 19, 24])
@pytest.mark.parametrize("size", [1, UNIT + 1, BUFFER - 1, BUFFER, BUFFER + 1, 3 * BUFFER + 7])
def test_units_smaller_and_larger_than_the_buffer(unit_log2: int, size: int) -> None:
    data = bytes(at * 7 % 251 for at in range(size))
    hash, shape = hash_by_number(1), Shape(size, unit_log2)
    expected = [merkle.SHA256(b"\0" + unit) for unit in merkle.cut(data, 1 << unit_log2)]
    done: list[int] = []
    with opened(data) as fd:
        assert leaves(fd, shape, hash, 0, shape.units, done.append) == expected
        assert leaves(fd, shape, hash, shape.units - 1, shape.units) == expected[-1:]
    assert sum(done) == size


def test_runs_join_to_the_whole_tree() -> None:
    """More than two runs of the smallest units, the last one ragged, the second one a hole."""
    run = UNIT << RUN_LOG2
    hash, shape = hash_by_number(1), Shape(2 * run + 3 * UNIT + 5, 12)
    with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as tree:
        fd = file.fileno()
        first = os.urandom(UNIT) * (1 << RUN_LOG2)
        os.pwrite(fd, first, 0)
        os.truncate(fd, shape.size)
        os.pwrite(fd, b"end", shape.size - 3)
        assert hash_run(fd, shape, hash, 1) is None
        found = list(hash_runs(fd, shape, hash))
        assert [None if run is None else len(run) for run in found] == [1 << RUN_LOG2, None, 4]
        os.truncate(tree.fileno(), tree_length(hash, shape))
        nodes = Nodes(hash, shape, FileStore(os.dup(tree.fileno())))
        root = build(shape, hash, found, nodes)
        data = first + bytes(shape.size - run - 3) + b"end"
        assert root == merkle.tree_hash(merkle.SHA256, merkle.cut(data, UNIT))
        assert nodes.node(shape.height, 0) == root
        assert nodes.run(RUN_LOG2, 0, 3) == b"".join(
            merkle.node(merkle.SHA256, merkle.cut(data, UNIT), RUN_LOG2, index) for index in range(3)
        )
        assert nodes.run(3, 200, 2) == 2 * merkle.node(merkle.SHA256, [bytes(UNIT)] * 8, 3, 0)
        assert os.fstat(tree.fileno()).st_blocks * 512 < tree_length(hash, shape), "a hole's nodes are not stored"


def test_a_file_of_a_tebibyte_is_mostly_not_read() -> None:
    hash, shape = hash_by_number(1), Shape(2**40, 16)
    with tempfile.TemporaryFile() as file:
        os.truncate(file.fileno(), shape.size)
        os.pwrite(file.fileno(), b"x", 123_456_789_012)
        root = build(shape, hash, hash_runs(file.fileno(), shape, hash), None)
    index, zero = 123_456_789_012 >> 16, merkle.SHA256(b"\0" + bytes(65536))
    at = 123_456_789_012 & 65535
    node = merkle.SHA256(b"\0" + bytes(at) + b"x" + bytes(65535 - at))
    for _ in range(24):
        node = merkle.SHA256(b"\1" + (zero + node if index & 1 else node + zero))
        zero, index = merkle.SHA256(b"\1" + zero + zero), index >> 1
    assert root == node


@pytest.mark.parametrize("unit_log2", [12, 19])
def test_a_file_that_ends_early_is_an_error(unit_log2: int) -> None:
    with opened(b"x" * 3000) as fd, pytest.raises(ChangedSize):
        leaves(fd, Shape(3001, unit_log2), hash_by_number(1), 0, 1)


def test_reads_go_on_where_one_ended() -> None:
    """preadv takes at most 1,024 buffers, and may return less than was asked for."""
    buffers = [memoryview(bytearray(3)) for _ in range(4)]
    with opened(b"0123456789ab") as fd:
        read_scattered(fd, buffers, 0)
        assert b"".join(buffers) == b"0123456789ab"
        with pytest.raises(ChangedSize):
            read_scattered(fd, buffers, 1)


def test_where_data_and_holes_are() -> None:
    with opened(bytes(UNIT * 4) + b"x" * UNIT + bytes(UNIT * 4), holes=True) as fd:
        assert next_data(fd, 0, 9 * UNIT) == 4 * UNIT
        assert next_hole(fd, 4 * UNIT, 9 * UNIT) == 5 * UNIT
        assert next_data(fd, 5 * UNIT, 9 * UNIT) == 9 * UNIT
        assert next_hole(fd, 4 * UNIT, 5 * UNIT - 1) == 5 * UNIT - 1


def test_a_kept_tree_that_ends_early_is_an_error(tmp_path: Path) -> None:
    hash, shape = hash_by_number(1), Shape(5 * UNIT, 12)
    path = tmp_path / "tree"
    path.write_bytes(b"x" * (tree_length(hash, shape) - 1))
    stores: list[Store] = [FileStore(os.open(path, os.O_RDONLY)), MemoryStore(bytearray(path.read_bytes()))]
    for store in stores:
        nodes = Nodes(hash, shape, store)
        assert nodes.node(0, 0) == b"x" * 32
        with pytest.raises(OSError):
            nodes.node(3, 0)
        with pytest.raises(OSError):
            nodes.run(3, 0, 1)
