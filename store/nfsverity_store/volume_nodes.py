# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The nodes of a volume's tree in a file: every level, the leaves first, hash after hash.

A hash that was altered there makes proofs that fold to nothing: whoever reads them finds out.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from nfsverity_proto.hashes import Hash
from nfsverity_proto.proof import split_hashes
from nfsverity_proto.tree import height, levels, width

from .layout import StoreError


def write_nodes(path: Path, hash: Hash, leaves: Sequence[bytes]) -> bytes:
    """Make the file of a tree with these leaves; the root."""
    top = hash.digest(b"")
    with path.open("xb") as file:
        for level in levels(hash, leaves) if leaves else ():
            file.write(b"".join(level))
            top = level[0]
    return top


def _starts(entries: int, length: int) -> list[int]:
    """Where each level begins, in bytes, and where the last one ends."""
    widths = [width(entries, level) for level in range(height(entries) + 1)]
    return [0, *accumulate(count * length for count in widths)]


class VolumeNodes:
    """The file, open for reading: close it. Raises `StoreError` where it has not the length that is due."""

    def __init__(self, path: Path, hash: Hash, entries: int) -> None:
        self.hash, self.entries = hash, entries
        self._starts = _starts(entries, hash.length)
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size != self._starts[-1]:
                    raise StoreError(f"{path} has not the length of the nodes of {entries} entries")
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if entries else None
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error}") from error

    def close(self) -> None:
        if self._map is not None:
            self._map.close()

    def node(self, level: int, index: int) -> bytes:
        """The hash of node (level, index)."""
        if self._map is None:
            raise ValueError("a volume without entries has no nodes")
        at = self._starts[level] + index * self.hash.length
        return self._map[at : at + self.hash.length]

    def leaves(self, first: int, end: int) -> list[bytes]:
        """The leaves of entries [first, end)."""
        if self._map is None:
            return []
        length = self.hash.length
        return split_hashes(self._map[first * length : end * length], length)
