# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfsverity_proto import tree
from nfsverity_proto.hashes import SHA256, hash_by_number
from nfsverity_store.layout import StoreError
from nfsverity_store.volume_nodes import VolumeNodes, levels, root_of, write_nodes
from oracle import merkle

HASH = hash_by_number(SHA256)


def leaves_of(count: int, salt: int = 0) -> list[bytes]:
    return [HASH.leaf(b"%d %d" % (i, salt)) for i in range(count)]


@given(st.integers(0, 70))
def test_nodes_written(count: int) -> None:
    leaves = leaves_of(count)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "nodes"
        units = [b"%d 0" % i for i in range(count)]
        made = levels(HASH, b"".join(leaves))
        assert root_of(HASH, made) == merkle.tree_hash(merkle.SHA256, units)
        write_nodes(path, made)
        nodes = VolumeNodes(path, HASH, count)
        assert nodes.leaves(0, count) == leaves
        for level, values in enumerate(tree.levels(HASH, leaves) if count else ()):
            assert [nodes.node(level, index) for index in range(len(values))] == list(values)
        nodes.close()


EDITS = st.lists(
    st.tuples(st.sampled_from(["put", "insert", "remove"]), st.integers(0, 40), st.integers(0, 5)), max_size=4
)


@given(st.lists(st.integers(0, 5), max_size=40), EDITS)
def test_levels_after_others(before: list[int], edits: list[tuple[str, int, int]]) -> None:
    """What is taken from the tree before is what would be made."""
    after = list(before)
    for what, at, value in edits:
        if what == "insert":
            after.insert(at, value)
        elif at < len(after):
            after[at : at + 1] = [value] if what == "put" else []
    old, new = (b"".join(HASH.leaf(b"%d" % value) for value in values) for values in (before, after))
    assert levels(HASH, new, levels(HASH, old)) == levels(HASH, new)


def test_few_nodes_are_made_of_one_change() -> None:
    before = b"".join(leaves_of(1000))
    made = []

    def new(data: bytes) -> Any:
        made.append(data)
        return HASH.new(data)

    counting = dataclasses.replace(HASH, new=new)
    old = levels(HASH, before)
    levels(counting, before[: 500 * 32] + bytes(32) + before[501 * 32 :], old)
    assert len(made) == 10
    made.clear()
    levels(counting, before + bytes(32), old)
    assert len(made) <= 10


def test_a_file_of_another_length(tmp_path: Path) -> None:
    write_nodes(tmp_path / "nodes", levels(HASH, b"".join(leaves_of(5))))
    with pytest.raises(StoreError):
        VolumeNodes(tmp_path / "nodes", HASH, 6)
    with pytest.raises(StoreError):
        VolumeNodes(tmp_path / "none", HASH, 6)
