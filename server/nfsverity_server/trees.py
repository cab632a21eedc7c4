# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Where the nodes of a file's tree come from: kept by the publisher, or made again from the content.

The replies are the same either way while the content is what was signed (fip-server-10). A tree that has to be
made is made once for all who ask (fip-server-11), in a thread, one or two at a time; the next ones wait, and beyond
that the answer is BUSY (fip-server-13, fip-server-14).
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nfsverity_proto.hashes import hash_by_number
from nfsverity_proto.messages import Status
from nfsverity_proto.path import split_path
from nfsverity_proto.statement import Tag
from nfsverity_store.content import open_below
from nfsverity_store.hashing import build, hash_runs
from nfsverity_store.index import Seen
from nfsverity_store.kept import kept_tree
from nfsverity_store.nodes import FileStore, MemoryStore, Nodes, Store, tree_length

from .catalog import Answer, Claims, OpenFile

BUILDS_MAX = 2
"""Trees that are being made at the same time."""
WAITING_MAX = 32
"""Trees that are being made, or wait for it."""
OPEN_MAX = 128
"""Trees in use: each may hold a descriptor."""
MEMORY_MAX = 2**24
"""Bytes of hashes of all trees in use."""
IN_MEMORY_MAX = 2**21
"""Bytes of hashes up to which a tree is held in memory: those of a file of 2 GiB with the usual units."""
OTHER_MAX = 1024
"""Contents that are remembered not to be what was signed."""
UPDATE_WINDOW = 5.0
"""Seconds after a change of a file in which a new record for it is expected (fip-status-9)."""


class Later(Exception):
    """The call cannot be answered before `wait()` is over. Then it is to be asked again.

    What `wait()` returns, if anything, is the status that the call ends with.
    """

    def __init__(self, wait: Callable[[], Awaitable[Status | None]], tree: Tag | None = None) -> None:
        super().__init__("later")
        self.wait = wait
        self.tree = tree
        """The version whose tree it waits for."""


class _Stopped(Exception):
    """The server stops: no tree is made any more."""


class Trees:
    """The trees in use, the latest few of them open."""

    def __init__(self, root: Path, *, keep: bool = True, update_window: float = UPDATE_WINDOW) -> None:
        self.update_window = update_window
        self._root = root
        self._keep = keep
        self._open: OrderedDict[Tag, Nodes] = OrderedDict()
        self._builds: dict[Tag, asyncio.Task[Status | None]] = {}
        self._other: OrderedDict[tuple[Tag, Seen], None] = OrderedDict()
        self._executor = ThreadPoolExecutor(BUILDS_MAX, "tree")
        self._stopped = False

    def close(self) -> None:
        """Make no tree any more, and keep none."""
        self._stopped = True
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._open.clear()

    def nodes(self, file: OpenFile, claims: Claims, tag: Tag) -> Nodes:
        """The tree of the version. Raises `Later`, `Answer`, `OSError`."""
        found = self._open.get(tag)
        if found is None:
            found = self._kept(file, claims)
            if found is None:
                self.check_content(file, claims, tag)
                return self._make(file, claims, tag)
            self._hold(tag, found)
        self._open.move_to_end(tag)
        return found

    def check_content(self, file: OpenFile, claims: Claims, tag: Tag) -> None:
        """Raises `Answer` where the content is known not to be the version (fip-status-7, fip-status-8)."""
        is_other = file.status.st_size != claims.content.tree.size or (tag, Seen.of(file.status)) in self._other
        if is_other:
            raise Answer(self._status_of_other(file.status, file.published))

    def _status_of_other(self, status: os.stat_result, published: float) -> Status:
        recent = time.time() - max(status.st_ctime, published) < self.update_window
        return Status.UPDATING if recent else Status.CHANGED

    def is_recent(self, file: OpenFile) -> bool:
        """Whether the file, or what is published, was changed or put in its place within the last few seconds.

        A record that is put in place before its content tells the server of an update, too.
        """
        return self._status_of_other(file.status, file.published) is Status.UPDATING

    def _hold(self, tag: Tag, nodes: Nodes) -> None:
        self._open[tag] = nodes
        while len(self._open) > OPEN_MAX or (len(self._open) > 1 and self._memory() > MEMORY_MAX):
            self._open.popitem(last=False)

    def _memory(self) -> int:
        return sum(nodes.length for nodes in self._open.values() if isinstance(nodes.store, MemoryStore))

    def _kept(self, file: OpenFile, claims: Claims) -> Nodes | None:
        """The publisher's tree, where it is whole: its top is the root."""
        tree = claims.content.tree
        hash, shape = hash_by_number(claims.statement.hash), tree.shape
        if not self._keep and shape.units > 1:
            return None
        nodes = kept_tree(self._root, hash, tree, None if file.entry is None else file.entry.tree)
        if nodes is None or shape.units < 2:
            return nodes
        try:
            if not isinstance(nodes.store, MemoryStore) and nodes.length <= IN_MEMORY_MAX:
                nodes = Nodes(hash, shape, MemoryStore(bytearray(nodes.store.read(0, nodes.length))))
            return nodes if nodes.node(shape.height, 0) == tree.root else None
        except OSError:
            return None

    def _make(self, file: OpenFile, claims: Claims, tag: Tag) -> Nodes:
        if tag not in self._builds and len(self._builds) >= WAITING_MAX:
            raise Answer(Status.BUSY)
        path, published = file.path, file.published
        raise Later(lambda: self._made(path, claims, tag, published), tag)

    async def _made(self, path: bytes, claims: Claims, tag: Tag, published: float) -> Status | None:
        """Until the tree is there; or the status that tells why it is not."""
        task = self._builds.get(tag)
        if task is None:
            if len(self._builds) >= WAITING_MAX or self._stopped:
                return Status.BUSY
            task = asyncio.create_task(self._build_for_all(path, claims, tag, published))
            self._builds[tag] = task
        return await asyncio.shield(task)

    async def _build_for_all(self, path: bytes, claims: Claims, tag: Tag, published: float) -> Status | None:
        try:
            loop = asyncio.get_running_loop()
            made, status = await loop.run_in_executor(self._executor, self.build, path, claims)
            if made is not None:
                self._hold(tag, made)
                return None
            self._other[tag, Seen.of(status)] = None
            if len(self._other) > OTHER_MAX:
                self._other.popitem(last=False)
            return self._status_of_other(status, published)
        except (FileNotFoundError, NotADirectoryError):
            return Status.CHANGED
        except PermissionError:
            return Status.ACCESS
        except OSError:
            return Status.IO
        except (_Stopped, asyncio.CancelledError, RuntimeError):
            if not self._stopped:
                raise
            return Status.BUSY
        finally:
            self._builds.pop(tag, None)

    def build(self, path: bytes, claims: Claims) -> tuple[Nodes | None, os.stat_result]:
        """The tree of the content at a path, None where its root is not the record's; and the file's `stat`.

        Runs in a thread. Raises `OSError`.
        """
        tree = claims.content.tree
        hash, shape = hash_by_number(claims.statement.hash), tree.shape
        fd = open_below(self._root, split_path(path))
        try:
            status = os.fstat(fd)
            if status.st_size != tree.size:
                return None, status
            nodes = Nodes(hash, shape, _room(tree_length(hash, shape)))
            root = build(shape, hash, hash_runs(fd, shape, hash, self._go_on), nodes)
            return nodes if root == tree.root else None, status
        finally:
            os.close(fd)

    def _go_on(self, _: int) -> None:
        if self._stopped:
            raise _Stopped


def _room(length: int) -> Store:
    if length <= IN_MEMORY_MAX:
        return MemoryStore(bytearray(length))
    with tempfile.TemporaryFile() as temporary:
        os.ftruncate(temporary.fileno(), length)
        return FileStore(os.dup(temporary.fileno()))
