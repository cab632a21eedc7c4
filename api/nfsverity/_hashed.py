# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Trees of what lies on this machine: hashed here, or kept there by the publisher."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Sequence
from typing import TypeVar

from nfsverity_client.diff import Node, fold_group, group_of, runs_of
from nfsverity_proto.errors import Mismatch
from nfsverity_proto.hashes import Hash
from nfsverity_proto.proof import split_hashes
from nfsverity_proto.tree import RFC9162, Shape
from nfsverity_store.hashing import build, hash_runs
from nfsverity_store.nodes import FileStore, MemoryStore, Nodes, Store, tree_length

T = TypeVar("T")
MEMORY = 2**22
"""Bytes of hashes of one tree that are kept in memory; a larger tree goes to a file without a name."""
HERE = 2**20
"""Bytes that are hashed at once without a thread: other files wait for it no longer than for starting one."""
Progress = Callable[[int], None]


class _Ended(Exception):
    """Nobody waits any more for what a thread does."""


async def beside(size: int, work: Callable[[Progress], T], progress: Progress) -> T:
    """The result of `work`, which reads or writes `size` bytes and tells how far it is; in a thread if they are many.

    Where the wait for it ends, so does the work, at its next telling; this returns only when it has ended.
    """
    if size <= HERE:
        return work(progress)
    loop = asyncio.get_running_loop()
    ended = False

    def telling(count: int) -> None:
        if ended:
            raise _Ended
        loop.call_soon_threadsafe(progress, count)

    task = asyncio.ensure_future(asyncio.to_thread(work, telling))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        ended = True
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise


class HashedTree:
    """The tree of some nodes that are at hand: a `TreeSource`."""

    type = RFC9162

    def __init__(self, nodes: Nodes, root: bytes) -> None:
        self.nodes = nodes
        self.shape = nodes.shape
        self.hash = nodes.hash
        self.root = root
        self.hashes = 0
        """How many were read."""

    async def below(self, level: int, nodes: Sequence[Node], step: int) -> Sequence[Sequence[bytes]]:
        return self.read_below(level, nodes, step)

    def read_below(self, level: int, nodes: Sequence[Node], step: int) -> list[Sequence[bytes]]:
        """Raises `Mismatch` where something is stored that does not fold to the root; `OSError`."""
        lower = level - step
        found: list[Sequence[bytes]] = []
        groups = iter([(node, *group_of(self.shape, level, node.index, step)) for node in nodes])
        pending = next(groups, None)
        for low, high in runs_of([group_of(self.shape, level, node.index, step) for node in nodes]):
            hashes = split_hashes(self.nodes.run(lower, low, high - low), self.hash.length)
            self.hashes += high - low
            while pending is not None and pending[2] <= high:
                node, first, end = pending
                group = hashes[first - low : end - low]
                top = fold_group(self.hash, group)[-1][0]
                if top != node.value:
                    raise Mismatch(
                        "the hashes at hand do not lead to the root", expected=node.value.hex(), found=top.hex()
                    )
                found.append(group)
                pending = next(groups, None)
        return found


def hash_file(fd: int, shape: Shape, hash: Hash, progress: Progress) -> HashedTree:
    """The tree of an open file of that size. Raises `ChangedSize`, `OSError`."""
    store: Store
    length = tree_length(hash, shape)
    if length <= MEMORY:
        store = MemoryStore(bytearray(length))
    else:
        with tempfile.TemporaryFile() as file:
            store = FileStore(os.dup(file.fileno()))
            os.ftruncate(store.fd, length)
    nodes = Nodes(hash, shape, store)
    return HashedTree(nodes, build(shape, hash, hash_runs(fd, shape, hash, progress), nodes))
