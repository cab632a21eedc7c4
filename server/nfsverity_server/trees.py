# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Where the nodes of a file's tree come from: kept by the publisher, or made again from the content.

The replies are the same either way while the content is what was signed (R14). A tree that has to be made is
made once for all who ask, in a thread, a few at a time; beyond that the answer is BUSY (fip-server).
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import OrderedDict
from pathlib import Path

from nfsverity_proto.hashes import hash_by_number
from nfsverity_proto.messages import Status
from nfsverity_proto.path import split_path
from nfsverity_proto.statement import Tag
from nfsverity_store.content import open_below
from nfsverity_store.hashing import build, hash_runs
from nfsverity_store.layout import DIRECTORY
from nfsverity_store.nodes import FileStore, MemoryStore, Nodes, tree_length

from .catalog import Answer, SignedFile

BUILDS_MAX = 4
"""Trees that are being made at the same time."""
NODES_KEPT = 128
MEMORY_MAX = 2**20
"""Bytes of hashes from which on a tree that was made is held in a temporary file."""


class Trees:
    """The trees in use, the latest few of them open."""

    def __init__(self, root: Path, *, keep: bool = True) -> None:
        self._root = root
        self._keep = keep
        self._open: OrderedDict[Tag, Nodes] = OrderedDict()
        self._builds: dict[Tag, asyncio.Task[Nodes]] = {}

    async def nodes(self, file: SignedFile) -> Nodes:
        """Raises `Answer(BUSY)`, `OSError`."""
        found = self._open.get(file.tag)
        if found is not None:
            self._open.move_to_end(file.tag)
            return found
        found = self._kept(file) if self._keep or file.file.content.tree.shape.units < 2 else None
        if found is None:
            found = await self._built(file)
        self._open[file.tag] = found
        if len(self._open) > NODES_KEPT:
            self._open.popitem(last=False)
        return found

    def forget(self) -> None:
        """The publication is another one."""
        self._open.clear()

    def _kept(self, file: SignedFile) -> Nodes | None:
        tree = file.file.content.tree
        hash, shape = hash_by_number(file.statement.hash), tree.shape
        if shape.units < 2:
            return Nodes(hash, shape, MemoryStore(bytearray(tree.root)))
        if file.entry.tree is not None:
            return Nodes(hash, shape, MemoryStore(bytearray(file.entry.tree)))
        path = self._root / DIRECTORY / "trees" / f"{hash.name}-{shape.unit_log2}-{tree.root.hex()}"
        try:
            store = FileStore(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError:
            return None
        if os.fstat(store.fd).st_size != tree_length(hash, shape):
            return None
        return Nodes(hash, shape, store)

    async def _built(self, file: SignedFile) -> Nodes:
        task = self._builds.get(file.tag)
        if task is None:
            if len(self._builds) >= BUILDS_MAX:
                raise Answer(Status.BUSY)
            task = asyncio.create_task(asyncio.to_thread(self._build, file))
            self._builds[file.tag] = task
            task.add_done_callback(lambda _: self._builds.pop(file.tag, None))
        return await asyncio.shield(task)

    def _build(self, file: SignedFile) -> Nodes:
        hash, shape = hash_by_number(file.statement.hash), file.file.content.tree.shape
        length = tree_length(hash, shape)
        if length <= MEMORY_MAX:
            nodes = Nodes(hash, shape, MemoryStore(bytearray(length)))
        else:
            with tempfile.TemporaryFile() as temporary:
                store = FileStore(os.dup(temporary.fileno()))
            os.ftruncate(store.fd, length)
            nodes = Nodes(hash, shape, store)
        fd = open_below(self._root, split_path(file.path))
        try:
            build(shape, hash, hash_runs(fd, shape, hash), nodes)
        finally:
            os.close(fd)
        return nodes
