# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Tree type 2: the unsalted tree of fs-verity, so that a server which has one can prove with it (fim, "Tree Type 2").

Units are padded with zeros to the unit size. A block holds as many hashes as fit into a unit, padded with zeros,
and is hashed like a unit; the last hash that is left is the root. Node (level h, index i) covers units
[i·k^h, min((i+1)·k^h, n)), where k is the number of hashes of a block. Leaves and blocks have no prefix: that
the tree's shape follows from the signed size is what tells them apart.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .hashes import Hash
from .tree import NodeSource, Shape
from .xdr import Buffer

FSVERITY = 2
"""The tree type of the registry that is this tree."""
HASHES = {1: 1, 8: 2}
"""The hashes that it is defined for (SHA-256, SHA-512), and the numbers that fs-verity has for them."""
_DESCRIPTOR = struct.Struct("<BBBBIQ64s32s144s")


@dataclass(frozen=True, slots=True)
class BlockTree:
    """The tree of one file. Raises `ValueError` for a hash that it is not defined for."""

    hash: Hash
    shape: Shape

    def __post_init__(self) -> None:
        if self.hash.number not in HASHES:
            raise ValueError(f"tree type {FSVERITY} is not defined for {self.hash.name}")

    @property
    def arity(self) -> int:
        """k: hashes in a block."""
        return self.shape.unit_size // self.hash.length

    @property
    def height(self) -> int:
        """The root's level: the least h with k^h ≥ n."""
        level, covered = 0, 1
        while covered < self.shape.units:
            level, covered = level + 1, covered * self.arity
        return level

    def leaf(self, unit: Buffer) -> bytes:
        return self.hash.digest(bytes(unit).ljust(self.shape.unit_size, b"\0"))

    def block(self, hashes: Iterable[bytes]) -> bytes:
        """The hash of a block of hashes."""
        return self.leaf(b"".join(hashes))

    def levels(self, leaves: Sequence[bytes]) -> list[list[bytes]]:
        """Every level, from the leaves up to the root alone; none for an empty file."""
        found = [list(leaves)] if leaves else []
        while found and len(found[-1]) > 1:
            below = found[-1]
            found.append([self.block(below[i : i + self.arity]) for i in range(0, len(below), self.arity)])
        return found

    def root(self, leaves: Sequence[bytes]) -> bytes:
        """The root over all leaves; zeros for an empty file."""
        levels = self.levels(leaves)
        return levels[-1][0] if levels else bytes(self.hash.length)

    def digest(self, root: bytes) -> bytes:
        """What fs-verity calls the file's digest: the hash of its descriptor, without a salt."""
        number = HASHES[self.hash.number]
        return self.hash.digest(
            _DESCRIPTOR.pack(1, number, self.shape.unit_log2, 0, 0, self.shape.size, root, b"", b"")
        )

    def prove(self, node: NodeSource, first: int, end: int) -> list[bytes]:
        """The proof of units [first, end) under the root: the walk of range proofs, with k children a node."""
        self._check_range(first, end)
        proof: list[bytes] = []
        self._prove(node, first, end, self.height, 0, proof)
        return proof

    def _prove(self, node: NodeSource, first: int, end: int, level: int, index: int, proof: list[bytes]) -> None:
        low, high = self._units(level, index)
        if high <= first or end <= low:
            proof.append(node(level, index))
        elif level:
            for child in self._children(level, index):
                self._prove(node, first, end, level - 1, child, proof)

    def fold(self, first: int, leaves: Sequence[bytes], proof: Sequence[bytes]) -> bytes:
        """The root over the leaves of units from `first` on and their proof.

        Raises `ValueError` where the proof has not exactly the length that the range asks for.
        """
        self._check_range(first, first + len(leaves))
        rest = iter(proof)
        try:
            found = self._fold(first, leaves, self.height, 0, rest)
        except StopIteration:
            raise ValueError("a proof that is too short") from None
        if next(rest, None) is not None:
            raise ValueError("a proof that is too long")
        return found

    def _fold(self, first: int, leaves: Sequence[bytes], level: int, index: int, rest: Iterable[bytes]) -> bytes:
        low, high = self._units(level, index)
        if high <= first or first + len(leaves) <= low:
            return next(iter(rest))
        if not level:
            return leaves[index - first]
        return self.block([self._fold(first, leaves, level - 1, child, rest) for child in self._children(level, index)])

    def _units(self, level: int, index: int) -> tuple[int, int]:
        span = self.arity**level
        return index * span, min((index + 1) * span, self.shape.units)

    def _children(self, level: int, index: int) -> range:
        span = self.arity ** (level - 1)
        width = (self.shape.units - 1) // span + 1
        return range(index * self.arity, min((index + 1) * self.arity, width))

    def _check_range(self, first: int, end: int) -> None:
        if not 0 <= first < end <= self.shape.units:
            raise ValueError(f"units [{first}, {end}) of {self.shape.units}")
