# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The nodes of a volume's tree in a file: every level, the leaves first, hash after hash.

A hash that was altered there makes proofs that fold to nothing: whoever reads them finds out.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, pairwise
from pathlib import Path

from nfsverity_proto.hashes import Hash
from nfsverity_proto.proof import split_hashes
from nfsverity_proto.tree import height, width

from .layout import StoreError, open_part


def levels(hash: Hash, leaves: bytes, before: Sequence[bytes] = ()) -> list[bytes]:
    """Every level of a tree from its leaves, all hashes of one end to end; no level without leaves.

    `before` are the levels of another tree that was made so. What is the same in both is taken from it.
    """
    if not leaves:
        return []
    length, new = hash.length, hash.new
    pair = 2 * length
    first, end = _differing(leaves, before[0], length) if before else (0, len(leaves))
    made = [leaves]
    while len(leaves) > length:
        pairs = len(leaves) // pair
        first, end = first >> 1, (end + 1) >> 1
        old = before[len(made)] if first or end < pairs else b""
        stop = min(end, pairs)
        nodes = [new(b"\1" + leaves[at : at + pair]).digest() for at in range(first * pair, stop * pair, pair)]
        rest = leaves[pairs * pair :] if stop == pairs else old[stop * length :]
        leaves = b"".join([old[: first * length], *nodes, rest])
        made.append(leaves)
    return made


def _differing(leaves: bytes, before: bytes, length: int) -> tuple[int, int]:
    """The leaves [first, end) that are other ones than before, and behind which there are as many.

    A node that is over others only, on either side, is the same in both trees.
    """
    count = min(len(leaves), len(before)) // length
    first = _most(count, lambda low, high: _part(leaves, length, low, high) == _part(before, length, low, high))
    if len(leaves) != len(before):
        return first, len(leaves) // length
    same = _most(
        count - first,
        lambda low, high: (
            _part(leaves, length, count - high, count - low) == _part(before, length, count - high, count - low)
        ),
    )
    return first, count - same


def _most(count: int, holds: Callable[[int, int], bool]) -> int:
    """The greatest number up to which all of [0, number) has a property; `holds` tells it of a part."""
    low, high = 0, count
    while low < high:
        middle = (low + high + 1) // 2
        if holds(low, middle):
            low = middle
        else:
            high = middle - 1
    return low


def _part(hashes: bytes, length: int, first: int, end: int) -> bytes:
    return hashes[first * length : end * length]


def root_of(hash: Hash, made: Sequence[bytes]) -> bytes:
    """The root over the levels of a tree; H of nothing over none (RFC 9162 2.1.1)."""
    return made[-1] if made else hash.digest(b"")


def write_nodes(path: Path, made: Iterable[bytes]) -> None:
    """Make the file of a tree with these levels."""
    with path.open("xb") as file:
        file.writelines(made)


def read_levels(path: Path, hash: Hash, entries: int) -> list[bytes]:
    """What `write_nodes` wrote, read once. Raises `StoreError` where it has not the length that is due."""
    starts = _starts(entries, hash.length) if entries else [0]
    try:
        with open_part(path) as file:
            data = file.read(starts[-1] + 1)
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    if len(data) != starts[-1]:
        raise StoreError(_not_due(path, entries))
    return [data[start:end] for start, end in pairwise(starts)]


def _not_due(path: Path, entries: int) -> str:
    return f"{path} has not the length of the nodes of {entries} entries"


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
            with open_part(path) as file:
                if os.fstat(file.fileno()).st_size != self._starts[-1]:
                    raise StoreError(_not_due(path, entries))
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
