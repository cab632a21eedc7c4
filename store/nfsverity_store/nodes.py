# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Kept trees: every level's hashes, level 0 first, in one run of bytes.

A slot of zero bytes stands for the zero subtree of its level, so that the tree of a sparse file is a sparse
file. Nothing here is trusted by a reader: it is proof material, judged by the root that was signed.
"""

from __future__ import annotations

import os
from itertools import accumulate
from typing import Protocol

from nfsverity_proto.hashes import Hash
from nfsverity_proto.tree import Shape, zero_node

INLINE_MAX = 65536
"""Trees of at most this many bytes of hashes are kept in the index itself."""


class Store(Protocol):
    """Where the bytes are."""

    def read(self, offset: int, length: int) -> bytes: ...

    def write(self, offset: int, data: bytes) -> None: ...


class MemoryStore:
    def __init__(self, data: bytearray) -> None:
        self.data = data

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self.data[offset : offset + length])

    def write(self, offset: int, data: bytes) -> None:
        self.data[offset : offset + len(data)] = data


class FileStore:
    """Over an open file, which it owns."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self.fd, length, offset)

    def write(self, offset: int, data: bytes) -> None:
        view = memoryview(data)
        while view:  # a disk that is nearly full takes a part
            count = os.pwrite(self.fd, view, offset)
            view, offset = view[count:], offset + count

    def __del__(self) -> None:
        os.close(self.fd)


class Nodes:
    """The nodes of one tree, by level and index."""

    def __init__(self, hash: Hash, shape: Shape, store: Store) -> None:
        self.hash = hash
        self.shape = shape
        self.store = store
        widths = [shape.width(level) for level in range(shape.height + 1)]
        self._starts = [0, *accumulate(width * hash.length for width in widths)]

    @property
    def length(self) -> int:
        """Bytes of all hashes."""
        return self._starts[-1]

    def place(self, level: int) -> int:
        """Where the hashes of a level begin."""
        return self._starts[level]

    def clear(self, level: int, first: int, count: int) -> None:
        """Let some nodes be zero subtrees. What is not set stays a hole."""
        offset, length = self._starts[level] + first * self.hash.length, count * self.hash.length
        if any(self.store.read(offset, length)):
            self.store.write(offset, bytes(length))

    def put(self, level: int, first: int, hashes: list[bytes]) -> None:
        self.store.write(self._starts[level] + first * self.hash.length, b"".join(hashes))

    def node(self, level: int, index: int) -> bytes:
        length = self.hash.length
        value = self.store.read(self._starts[level] + index * length, length)
        if len(value) != length:
            raise OSError(f"a kept tree ends after {len(value)} of {length} bytes")
        return value if any(value) else zero_node(self.hash, self.shape.unit_log2, level)

    def run(self, level: int, first: int, count: int) -> bytes:
        """The hashes of nodes [first, first + count) of a level, one after the other."""
        length = self.hash.length
        data = self.store.read(self._starts[level] + first * length, count * length)
        if len(data) != count * length:
            raise OSError(f"a kept tree ends after {len(data)} of {count * length} bytes")
        unset = bytes(length)
        if unset in data:
            zero = zero_node(self.hash, self.shape.unit_log2, level)
            parts = (data[i : i + length] for i in range(0, len(data), length))
            data = b"".join(zero if part == unset else part for part in parts)
        return data


def tree_length(hash: Hash, shape: Shape) -> int:
    """Bytes of a kept tree."""
    return sum(shape.width(level) for level in range(shape.height + 1)) * hash.length
