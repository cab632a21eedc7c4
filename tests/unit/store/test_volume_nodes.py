# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfsverity_proto.hashes import SHA256, hash_by_number
from nfsverity_proto.tree import levels
from nfsverity_store.layout import StoreError
from nfsverity_store.volume_nodes import VolumeNodes, write_nodes
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
        assert write_nodes(path, HASH, leaves) == merkle.tree_hash(merkle.SHA256, units)
        nodes = VolumeNodes(path, HASH, count)
        assert nodes.leaves(0, count) == leaves
        for level, values in enumerate(levels(HASH, leaves) if count else ()):
            assert [nodes.node(level, index) for index in range(len(values))] == list(values)
        nodes.close()


def test_a_file_of_another_length(tmp_path: Path) -> None:
    write_nodes(tmp_path / "nodes", HASH, leaves_of(5))
    with pytest.raises(StoreError):
        VolumeNodes(tmp_path / "nodes", HASH, 6)
    with pytest.raises(StoreError):
        VolumeNodes(tmp_path / "none", HASH, 6)
