# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The worked example of File Integrity Metadata, each value from the one before it."""

from __future__ import annotations

from collections.abc import Iterator

from oracle import merkle, records

from . import sample
from .certificates import example
from .form import Vector


def build() -> Iterator[Vector]:
    units = merkle.cut(sample.CONTENT, 4096)
    leaves = [merkle.SHA256(b"\0" + unit) for unit in units]
    pair = merkle.SHA256(b"\1" + leaves[0] + leaves[1])
    root = merkle.SHA256(b"\1" + pair + leaves[2])
    statement, signer = sample.statement().encode(), example()
    signed = records.signed_bytes(1, signer.digest, 0x0807, statement)
    value = signer.key.sign(signed)
    body = records.signature(1, signer.digest, 0x0807, value)
    proof = b"".join(merkle.range_proof(merkle.SHA256, units, 1, 2, 2))
    for slug, about, clause, data, given in (
        ("content", "the content, and its SHA-256", "fim-tree-1", merkle.SHA256(sample.CONTENT), sample.CONTENT),
        ("leaf-0", "the leaf of unit 0", "fim-tree-1", leaves[0], units[0]),
        ("leaf-1", "the leaf of unit 1", "fim-tree-1", leaves[1], units[1]),
        ("leaf-2", "the leaf of unit 2, which is short", "fim-tree-1", leaves[2], units[2]),
        ("node-1-0", "node (1, 0)", "fim-tree-2", pair, leaves[0] + leaves[1]),
        ("root", "node (2, 0), the root", "fim-tree-2", root, pair + leaves[2]),
        ("statement", "the statement; its tag", "fim-tag-1", merkle.SHA256(statement), statement),
        ("certificate", "the certificate; its fingerprint", "fim-rec-7", signer.digest, signer.der),
        ("signed", "what is signed; the signature", "fim-signed-1", value, signed),
        ("record", "the attestation's body; the record", "fim-rec-1", records.record(statement, [(1, body)]), body),
        ("proof", "the content of unit 1; its proof", "fim-proof-3", proof, units[1]),
    ):  # fmt: skip
        yield Vector(f"example-{slug}", about, (clause,), {"step": slug, "from": given}, output={"gives": data})
