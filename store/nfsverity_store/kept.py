# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The trees that the publisher kept beside the files: proof material, judged by whoever uses it."""

from __future__ import annotations

import os
from pathlib import Path

from nfsverity_proto.hashes import Hash
from nfsverity_proto.statement import Tree

from .layout import StoreError, part_descriptor, tree_path
from .nodes import FileStore, MemoryStore, Nodes, tree_length


def kept_tree(root: Path, hash: Hash, tree: Tree, inline: bytes | None) -> Nodes | None:
    """The kept tree of some content: `inline` from the index, or a file of its own; None where there is none.

    Its length is right; whether it folds to the root is not checked.
    """
    shape = tree.shape
    if shape.units < 2:
        return Nodes(hash, shape, MemoryStore(bytearray(tree.root)))
    length = tree_length(hash, shape)
    if inline is not None:
        return Nodes(hash, shape, MemoryStore(bytearray(inline))) if len(inline) == length else None
    path = tree_path(root, hash.name, shape.unit_log2, tree.root)
    try:
        store = FileStore(part_descriptor(path))
    except (StoreError, OSError):
        return None
    return Nodes(hash, shape, store) if os.fstat(store.fd).st_size == length else None
