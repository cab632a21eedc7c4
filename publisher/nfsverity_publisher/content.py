# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""From one file to what is signed of its content, and to the tree that is kept of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nfsverity_proto.hashes import Hash
from nfsverity_proto.statement import Content, Time, Tree
from nfsverity_proto.tree import RFC9162, Shape
from nfsverity_store.hashing import Progress, Run, build, hash_runs
from nfsverity_store.index import Seen
from nfsverity_store.layout import DIRECTORY, TREES, tree_path
from nfsverity_store.nodes import INLINE_MAX, FileStore, MemoryStore, Nodes, Store, tree_length

from . import workers

NEW = "new-"
"""How the name of a tree file begins until it is whole."""


@dataclass(frozen=True, slots=True)
class Hashed:
    """A content, and its kept tree: in the index where it is small, else in a file of the name `kept`."""

    content: Content
    tree: bytes | None
    kept: str | None


class Hasher:
    """Hashes the files of one tree. `made` are the tree files that it wrote."""

    def __init__(self, root: Path, jobs: int) -> None:
        self._root = root
        self._jobs = jobs
        self.made: list[Path] = []

    def hash(
        self, fd: int, names: Sequence[bytes], seen: Seen, hash: Hash, unit_log2: int, progress: Progress
    ) -> Hashed:
        """The content of the open file `fd`, which is at `names`. Raises `OSError`."""
        shape = Shape(seen.size, unit_log2)
        with contextlib.closing(self._runs(fd, names, seen, shape, hash, progress)) as runs:
            return self._hash(runs, seen, shape, hash)

    def _hash(self, runs: Iterator[Run], seen: Seen, shape: Shape, hash: Hash) -> Hashed:
        length = tree_length(hash, shape)
        if shape.units < 2:
            return Hashed(_content(seen, shape, build(shape, hash, runs, None)), None, None)
        if length <= INLINE_MAX:
            memory = bytearray(length)
            root = build(shape, hash, runs, Nodes(hash, shape, MemoryStore(memory)))
            return Hashed(_content(seen, shape, root), bytes(memory), None)
        temporary = self._root / DIRECTORY / TREES / f"{NEW}{os.urandom(8).hex()}"
        store: Store = FileStore(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        try:
            os.truncate(temporary, length)
            root = build(shape, hash, runs, Nodes(hash, shape, store))
            path = tree_path(self._root, hash.name, shape.unit_log2, root)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self.made.append(path)
        return Hashed(_content(seen, shape, root), None, path.name)

    def _runs(
        self, fd: int, names: Sequence[bytes], seen: Seen, shape: Shape, hash: Hash, progress: Progress
    ) -> Generator[Run, None, None]:
        stored = os.fstat(fd).st_blocks * 512
        if self._jobs < 2 or min(seen.size, stored) < workers.PARALLEL_MIN:
            return hash_runs(fd, shape, hash, progress)
        return workers.runs(self._root, names, seen, shape, hash, self._jobs, progress)


def _content(seen: Seen, shape: Shape, root: bytes) -> Content:
    return Content(Time.from_ns(seen.mtime), Tree(RFC9162, shape.unit_log2, shape.size, root))
