# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Statements, attestations and records, field by field. Any field may be wrong; nothing is put in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .xdr import array, fixed, hyper, opaque, uhyper, uint

CONTENT, FILE, VOLUME, REVOCATION = 1, 2, 3, 4
SIGNATURE, MEMBERSHIP = 1, 2


@dataclass
class Statement:
    """A statement of kind file with every field at something that verifies, or of kind content."""

    magic: int = 0x4E465356
    format: int = 1
    hash: int = 1
    kind: int = FILE
    volume: bytes = bytes(range(16))
    label: bytes = b"library"
    path: bytes = b"docs/read me.txt"
    generation: int = 1_790_000_000_000_000
    issued: int = 1_790_000_000
    not_after: int = 2**63 - 1
    executable: int = 0
    seconds: int = 1_789_000_000
    nseconds: int = 123_456_789
    tree_type: int = 1
    unit_log2: int = 16
    size: int = 100_000
    root: bytes = b"\x52" * 32
    extensions: Sequence[tuple[int, int, bytes]] = ()
    """Number, critical, value."""

    def content(self) -> bytes:
        tree = uint(self.tree_type) + uint(self.unit_log2) + uhyper(self.size) + opaque(self.root)
        return hyper(self.seconds) + uint(self.nseconds) + tree

    def claim(self) -> bytes:
        if self.kind != FILE:
            return self.content()
        when = uhyper(self.generation) + hyper(self.issued) + hyper(self.not_after)
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
