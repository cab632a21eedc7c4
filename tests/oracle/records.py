# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Statements, attestations and records, field by field. Any field may be wrong; nothing is put in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import merkle
from .xdr import array, fixed, hyper, opaque, uhyper, uint

CONTENT, FILE, VOLUME, REVOCATION = 1, 2, 3, 4
PUBLIC_KEY, VERSION = 1, 2
SIGNATURE, MEMBERSHIP = 1, 2


CONTENT_BYTES = bytes(j % 251 for j in range(10_000))
"""The file of the draft's worked example: three units of 4,096 bytes, the last one short."""


@dataclass
class Statement:
    """Of any kind; each field is at first that of the draft's worked example."""

    magic: int = 0x4E465356
    format: int = 1
    hash: int = 1
    kind: int = FILE
    volume: bytes = bytes(range(16))
    label: bytes = b"example"
    path: bytes = b"usr/share/doc/integrity/worked/README.md"
    generation: int = 1_793_491_200_000_000
    issued: int = 1_793_491_200
    not_after: int = 2**63 - 1
    executable: int = 0
    seconds: int = 1_793_490_000
    nseconds: int = 500_000_000
    tree_type: int = 1
    unit_log2: int = 12
    size: int = len(CONTENT_BYTES)
    root: bytes = merkle.tree_hash(merkle.SHA256, merkle.cut(CONTENT_BYTES, 4096))
    extensions: Sequence[tuple[int, int, bytes]] = ()
    """Number, critical, value."""
    entries: int = 6
    """Of a head, whose root is `root`."""
    items: Sequence[tuple[int, int, bytes]] = ()
    """Of a revocation: what, hash, digest."""

    def content(self) -> bytes:
        tree = uint(self.tree_type) + uint(self.unit_log2) + uhyper(self.size) + opaque(self.root)
        return hyper(self.seconds) + uint(self.nseconds) + tree

    def claim(self) -> bytes:
        when = uhyper(self.generation) + hyper(self.issued) + hyper(self.not_after)
        if self.kind == REVOCATION:
            items = array(uint(what) + uint(hash) + opaque(digest) for what, hash, digest in self.items)
            return fixed(self.volume) + opaque(self.label) + when + items
        if self.kind == VOLUME:
            return fixed(self.volume) + opaque(self.label) + when + uhyper(self.entries) + opaque(self.root)
        if self.kind != FILE:
            return self.content()
        name = fixed(self.volume) + opaque(self.label) + opaque(self.path)
        return name + when + uint(self.executable) + self.content()

    def encode(self) -> bytes:
        head = uint(self.magic) + uint(self.format) + uint(self.hash) + uint(self.kind)
        extensions = array(uint(number) + uint(critical) + opaque(value) for number, critical, value in self.extensions)
        return head + self.claim() + extensions


def fingerprint(hash: int, digest: bytes) -> bytes:
    return uint(hash) + opaque(digest)


def signature(hash: int, digest: bytes, scheme: int, value: bytes) -> bytes:
    """The body of an attestation of type 1."""
    return fingerprint(hash, digest) + uint(scheme) + opaque(value)


def signed_bytes(hash: int, digest: bytes, scheme: int, statement: bytes) -> bytes:
    label = b"File Integrity Metadata, statement, format 1"
    return b" " * 64 + label + b"\0" + fingerprint(hash, digest) + uint(scheme) + opaque(statement)


def record(statement: bytes, attestations: Sequence[tuple[int, bytes]]) -> bytes:
    return opaque(statement) + array(uint(type) + opaque(body) for type, body in attestations)
