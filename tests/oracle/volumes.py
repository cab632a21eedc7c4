# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Volumes as the draft defines them: entries, their order by comparing name by name, ranges by the plain walk."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from . import merkle
from .xdr import array, fixed, hyper, opaque, uhyper, uint

FILE, LINK, DIRECTORY = 1, 2, 3


@dataclass(frozen=True)
class Entry:
    """`content` is the digest of a file, or the target of a link."""

    parent: bytes
    name: bytes
    type: int
    executable: int = 0
    content: bytes = b""

    def encode(self) -> bytes:
        head = opaque(self.parent) + opaque(self.name) + uint(self.type)
        if self.type == FILE:
            return head + uint(self.executable) + opaque(self.content)
        return head + opaque(self.content) if self.type == LINK else head

    @property
    def path(self) -> bytes:
        return self.parent + b"/" + self.name if self.parent else self.name


def compare(a: Entry, b: Entry) -> int:
    """Negative, zero, positive: as a is before, at or behind b. Byte by byte, the shorter first."""
    for left, right in ((a.parent, b.parent), (a.name, b.name)):
        for x, y in zip(left, right, strict=False):
            p, q = (0 if x == ord("/") else x), (0 if y == ord("/") else y)
            if p != q:
                return p - q
        if len(left) != len(right):
            return len(left) - len(right)
    return 0


def ordered(entries: Sequence[Entry]) -> list[Entry]:
    return sorted(entries, key=functools.cmp_to_key(compare))


def root(digest: merkle.Digest, entries: Sequence[Entry]) -> bytes:
    return merkle.tree_hash(digest, [entry.encode() for entry in entries])


def range_of(digest: merkle.Digest, entries: Sequence[Entry], first: int, end: int) -> bytes:
    """A fim_range of entries [first, end)."""
    units = [entry.encode() for entry in entries]
    proof = merkle.range_proof(digest, units, first, end, merkle.height(len(units))) if end > first else []
    return uhyper(first) + array(units[first:end]) + opaque(b"".join(proof))


def membership(hash: int, digest: bytes, first: int, entries: Sequence[Entry], proof: bytes) -> bytes:
    """The body of an attestation of type 2, as it is given."""
    return uint(hash) + opaque(digest) + given_range(first, entries, proof)


def given_range(first: int, entries: Sequence[Entry], proof: bytes) -> bytes:
    return uhyper(first) + array(entry.encode() for entry in entries) + opaque(proof)


def exported(record: bytes, head: bytes) -> bytes:
    return opaque(record) + opaque(head)


def volume(
    id: bytes, label: bytes, when: tuple[int, int, int], entries: int, root: bytes, hash: int = 1, kind: int = 3
) -> bytes:
    """A statement of kind volume. `when`: generation, issued, not after."""
    generation, issued, not_after = when
    head = uint(0x4E465356) + uint(1) + uint(hash) + uint(kind)
    times = uhyper(generation) + hyper(issued) + hyper(not_after)
    return head + fixed(id) + opaque(label) + times + uhyper(entries) + opaque(root) + array([])
