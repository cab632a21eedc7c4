# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""From one file to what is signed of its content, and to the tree that is kept of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nfsverity_proto.errors import VerificationError
from nfsverity_proto.hashes import Hash, hash_by_number
from nfsverity_proto.record import SIGNATURE, Record, signature_of
from nfsverity_proto.statement import Content, Time, Tree
from nfsverity_proto.tree import RFC9162, Shape
from nfsverity_store.hashing import RUN_LOG2, Progress, Run, build, hash_runs
from nfsverity_store.index import Seen
from nfsverity_store.kept import kept_tree
from nfsverity_store.layout import DIRECTORY, TREES, naming, tree_path
from nfsverity_store.nodes import INLINE_MAX, FileStore, MemoryStore, Nodes, Store, tree_length
from nfsverity_store.update import Bytes, NotTakenOver, changed_units, check_taken_over, copy_nodes, update

from . import workers
from .keys import SigningKey

NEW = "new-"
"""How the name of a tree file begins until it is whole."""
_TIMES = 2**63
"""Nanoseconds, as SQLite has signed integers of 64 bits."""
Place = tuple[Path, Sequence[bytes]]
"""A directory, and the names that lead from it to a file."""


@dataclass(frozen=True, slots=True)
class Hashed:
    """A content, and its kept tree: in the index where it is small, else in a file of the name `kept`."""

    content: Content
    tree: bytes | None
    kept: str | None
    count: int
    """Bytes that were hashed for it."""


@dataclass(frozen=True, slots=True)
class Before:
    """What a file held when it was signed, by a record that one of the keys signed (fim-keep-1)."""

    hash: int
    tree: Tree
    nodes: bytes | None
    """The kept tree, where it is small."""


def signed_by(record: Record, keys: Sequence[SigningKey]) -> bool:
    """Whether one of the keys signed it."""
    for attestation in record.attestations:
        signature = signature_of(attestation) if attestation.type == SIGNATURE else None
        for key in keys:
            if signature is not None and signature.signer == key.certificate.fingerprint:
                try:
                    key.check(signature, record.statement)
                except VerificationError:
                    continue
                return True
    return False


def seen_of(status: os.stat_result) -> Seen:
    """What tells that a file has not changed. Raises `OSError` for times that have no place in an index."""
    seen = Seen.of(status)
    if not all(-_TIMES <= time < _TIMES for time in (seen.mtime, seen.ctime)):
        raise OSError("its time is after 2262-04-11, the last that can be kept: give it another one (touch)")
    return seen


class Hasher:
    """Hashes the files of one tree. `made` are the tree files that it wrote."""

    def __init__(self, root: Path, jobs: int) -> None:
        self._root = root
        self._jobs = jobs
        self.made: list[Path] = []

    def hash(self, fd: int, place: Place, seen: Seen, hash: Hash, unit_log2: int, progress: Progress) -> Hashed:
        """The content of the open file `fd`, which lies at `place`. Raises `OSError`."""
        shape = Shape(seen.size, unit_log2)
        with contextlib.closing(self._runs(fd, place, seen, shape, hash, progress)) as runs:
            return self._keep(seen, shape, hash, seen.size, lambda nodes: build(shape, hash, runs, nodes))

    def update_as_told(
        self, fd: int, place: Place, seen: Seen, number: int, unit_log2: int, before: Before,
        changed: Sequence[tuple[int, int | None]], appended: bool, progress: Progress,
    ) -> Hashed:  # fmt: skip
        """The content, hashed where the caller says that it changed. Raises `NotTakenOver`, `OSError`."""
        if (before.hash, before.tree.unit_log2) != (number, unit_log2):
            raise NotTakenOver("its hash or its unit size is to be another")
        old = kept_tree(self._root, hash_by_number(number), before.tree, before.nodes)
        if old is None:
            raise NotTakenOver("its kept tree is missing")
        if appended and seen.size < before.tree.size:
            raise NotTakenOver("it became shorter")
        end = max(seen.size, before.tree.size)
        ranges = [(offset, end if length is None else offset + length) for offset, length in changed]
        return self.update(fd, place, seen, old, before.tree.root, ranges, progress)

    def update(
        self, fd: int, place: Place, seen: Seen, old: Nodes, root: bytes, ranges: Sequence[Bytes],
        progress: Progress,
    ) -> Hashed:  # fmt: skip
        """The same, where nothing but `ranges` changed in what had the tree `old` with the signed `root`.

        Raises `NotTakenOver`, `OSError`.
        """
        hash, shape = old.hash, Shape(seen.size, old.shape.unit_log2)
        changed = changed_units(old.shape, shape, ranges)
        if not shape.units or changed == [(0, shape.units)]:
            return self.hash(fd, place, seen, hash, shape.unit_log2, progress)
        count, taken = check_taken_over(fd, old, root, shape, ranges, progress)
        for units in changed:
            start, stop = shape.unit_span(*units)
            count += stop - start

        def runs(first: int, end: int) -> Iterator[Run]:
            with contextlib.closing(self._runs(fd, place, seen, shape, hash, progress, first, end)) as found:
                yield from found

        def make(nodes: Nodes | None) -> bytes:
            if nodes is None:
                nodes = Nodes(hash, shape, MemoryStore(bytearray(tree_length(hash, shape))))
            copy_nodes(old, nodes)
            return update(fd, nodes, changed, taken, runs, progress)

        return self._keep(seen, shape, hash, count, make)

    def _keep(self, seen: Seen, shape: Shape, hash: Hash, count: int, make: Callable[[Nodes | None], bytes]) -> Hashed:
        """Where the nodes go that `make` gives with the root. Of one unit or none, no tree is kept."""
        length = tree_length(hash, shape)
        if shape.units < 2:
            return Hashed(_content(seen, shape, make(None)), None, None, count)
        if length <= INLINE_MAX:
            memory = bytearray(length)
            root = make(Nodes(hash, shape, MemoryStore(memory)))
            return Hashed(_content(seen, shape, root), bytes(memory), None, count)
        temporary = self._root / DIRECTORY / TREES / f"{NEW}{os.urandom(8).hex()}"
        store: Store = FileStore(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        try:
            with naming(temporary):
                os.truncate(temporary, length)
                root = make(Nodes(hash, shape, store))
            path = tree_path(self._root, hash.name, shape.unit_log2, root)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self.made.append(path)
        return Hashed(_content(seen, shape, root), None, path.name, count)

    def _runs(
        self, fd: int, place: Place, seen: Seen, shape: Shape, hash: Hash, progress: Progress,
        first: int = 0, end: int | None = None,
    ) -> Generator[Run, None, None]:  # fmt: skip
        """The runs [first, end) of a file, by as many processes as are worth it."""
        start, stop = shape.unit_span(first << RUN_LOG2, (end or shape.width(RUN_LOG2)) << RUN_LOG2)
        stored = os.fstat(fd).st_blocks * 512
        if self._jobs < 2 or min(stop - start, stored) < workers.PARALLEL_MIN:
            return hash_runs(fd, shape, hash, progress, first, end)
        return workers.runs(*place, seen, shape, hash, self._jobs, progress, first, end)


def _content(seen: Seen, shape: Shape, root: bytes) -> Content:
    return Content(Time.from_ns(seen.mtime), Tree(RFC9162, shape.unit_log2, shape.size, root))
