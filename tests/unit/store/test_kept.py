# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Kept trees: what is beside the files, or whatever else somebody has put there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nfsverity_proto.hashes import SHA256, hash_by_number
from nfsverity_proto.statement import Tree
from nfsverity_proto.tree import RFC9162
from nfsverity_store.kept import kept_tree
from nfsverity_store.layout import DIRECTORY, TREES, tree_path
from nfsverity_store.nodes import tree_length

HASH = hash_by_number(SHA256)
TREE = Tree(RFC9162, 12, 10_000, bytes(32))


@pytest.mark.parametrize("what", ["file", "short", "nothing", "fifo", "link", "directory"])
def test_a_kept_tree_is_a_file_of_its_length(tmp_path: Path, what: str) -> None:
    length = tree_length(HASH, TREE.shape)
    (tmp_path / DIRECTORY / TREES).mkdir(parents=True)
    path = tree_path(tmp_path, HASH.name, TREE.unit_log2, TREE.root)
    match what:
        case "file":
            path.write_bytes(bytes(length))
        case "short":
            path.write_bytes(bytes(length - 1))
        case "fifo":
            os.mkfifo(path)
        case "link":
            (tmp_path / "elsewhere").write_bytes(bytes(length))
            path.symlink_to(tmp_path / "elsewhere")
        case "directory":
            path.mkdir()
    assert (kept_tree(tmp_path, HASH, TREE, None) is not None) == (what == "file")
