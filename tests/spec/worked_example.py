# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The worked example of File Integrity Metadata, computed from the draft's text alone.

It shares no code with the project: hashlib, struct, a few lines of DER, and Ed25519 from a library. `blocks()`
gives the hex blocks of the draft's appendix, by their names there. Run as a program it prints them.
"""

from __future__ import annotations

import hashlib
import struct

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

CONTENT = bytes(j % 251 for j in range(10_000))
UNIT_LOG2 = 12
VOLUME = bytes(range(16))
LABEL = b"example"
PATH = b"usr/share/doc/integrity/worked/README.md"
GENERATION = 1_793_491_200_000_000
ISSUED = 1_793_491_200
NOT_AFTER = 2**63 - 1
MTIME = 1_793_490_000, 500_000_000
SECRET = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
"""RFC 8032 section 7.1, test 1."""
NOT_BEFORE, CERTIFICATE_NOT_AFTER = "260101000000Z", "351231235959Z"
NOW = 1_795_500_000
"""A time at which the certificate is valid and the statement has been issued: 2026-11-24."""


# XDR (RFC 4506), as pairs of bytes and what they are


def uint(value: int) -> bytes:
    return struct.pack(">I", value)


def uhyper(value: int) -> bytes:
    return struct.pack(">Q", value)


def opaque(data: bytes) -> bytes:
    return uint(len(data)) + data + bytes(-len(data) % 4)


Parts = list[tuple[bytes, str]]


def joined(parts: Parts) -> bytes:
    return b"".join(data for data, _ in parts)


# The tree (RFC 9162 section 2.1.1), by its recursive definition


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def units() -> list[bytes]:
    return [CONTENT[i : i + (1 << UNIT_LOG2)] for i in range(0, len(CONTENT), 1 << UNIT_LOG2)]


def leaves() -> list[bytes]:
    return [sha256(b"\0" + unit) for unit in units()]


def top(values: list[bytes]) -> bytes:
    if len(values) == 1:
        return values[0]
    split = 1
    while split * 2 < len(values):
        split *= 2
    return sha256(b"\1" + top(values[:split]) + top(values[split:]))


# The certificate: version 3, self-signed, keyUsage digitalSignature


def der(tag: int, *contents: bytes) -> bytes:
    body = b"".join(contents)
    if len(body) < 128:
        return bytes([tag, len(body)]) + body
    size = (len(body).bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + len(body).to_bytes(size, "big") + body


def certificate() -> bytes:
    key = Ed25519PrivateKey.from_private_bytes(SECRET)
    ed25519 = der(0x30, der(0x06, bytes([43, 101, 112])))  # 1.3.101.112
    common_name = der(0x30, der(0x06, bytes([0x55, 4, 3])), der(0x0C, b"example"))
    name = der(0x30, der(0x31, common_name))
    validity = der(0x30, der(0x17, NOT_BEFORE.encode()), der(0x17, CERTIFICATE_NOT_AFTER.encode()))
    public = der(0x30, ed25519, der(0x03, b"\0" + key.public_key().public_bytes_raw()))
    usage = der(0x30, der(0x06, bytes([0x55, 29, 15])), der(0x01, b"\xff"), der(0x04, der(0x03, b"\x07\x80")))
    version = der(0xA0, der(0x02, b"\2"))
    serial = der(0x02, b"\1")
    to_be_signed = der(0x30, version, serial, ed25519, name, validity, name, public, der(0xA3, der(0x30, usage)))
    return der(0x30, to_be_signed, ed25519, der(0x03, b"\0" + key.sign(to_be_signed)))


# Statement, signature, record


def beginning_parts(kind: str, number: int) -> Parts:
    return [
        (uint(0x4E465356), 'magic "NFSV"'),
        (uint(1), "format"),
        (uint(1), "hash: SHA-256"),
        (uint(number), f"kind: {kind}"),
    ]


def naming_parts() -> Parts:
    return [(VOLUME, "volume"), (opaque(LABEL), 'label "example"')]


def when_parts() -> Parts:
    return [(uhyper(GENERATION), "generation"), (uhyper(ISSUED), "issued"), (uhyper(NOT_AFTER), "not_after: none")]


def contents_parts() -> Parts:
    return [
        (uhyper(MTIME[0]), "mtime: seconds"),
        (uint(MTIME[1]), "mtime: nanoseconds"),
        (uint(1), "tree: type"),
        (uint(UNIT_LOG2), "tree: unit_log2"),
        (uhyper(len(CONTENT)), "tree: size"),
        (opaque(top(leaves())), "tree: root"),
    ]


def statement_parts() -> Parts:
    return [
        *beginning_parts("file", 2),
        *naming_parts(),
        (opaque(PATH), "path"),
        *when_parts(),
        (uint(0), "executable: FALSE"),
        *contents_parts(),
        (uint(0), "extensions: none"),
    ]


def statement() -> bytes:
    return joined(statement_parts())


# The same file in a volume: the directory docs, with it and a link to it


DIRECTORY, NAME, LINK = b"docs", b"README.md", b"latest"
ABSENT = b"docs/a"


def content_parts() -> Parts:
    return [*beginning_parts("content", 1), *contents_parts(), (uint(0), "extensions: none")]


def content() -> bytes:
    return joined(content_parts())


def entry_parts() -> list[Parts]:
    """In their order."""
    return [
        [(opaque(b""), "parent: the root"), (opaque(DIRECTORY), "name"), (uint(3), "type: DIRECTORY")],
        [
            (opaque(DIRECTORY), "parent"),
            (opaque(NAME), "name"),
            (uint(1), "type: FILE"),
            (uint(0), "executable: FALSE"),
            (opaque(sha256(content())), "content"),
        ],
        [(opaque(DIRECTORY), "parent"), (opaque(LINK), "name"), (uint(2), "type: LINK"), (opaque(NAME), "target")],
    ]


def entries() -> list[bytes]:
    return [joined(parts) for parts in entry_parts()]


def entry_leaves() -> list[bytes]:
    return [sha256(b"\0" + entry) for entry in entries()]


def head_parts() -> Parts:
    return [
        *beginning_parts("volume", 3),
        *naming_parts(),
        *when_parts(),
        (uhyper(len(entries())), "entries"),
        (opaque(top(entry_leaves())), "root"),
        (uint(0), "extensions: none"),
    ]


def head() -> bytes:
    return joined(head_parts())


def range_parts(first: int, end: int, proof: list[bytes]) -> Parts:
    return [
        (uhyper(first), "first"),
        (uint(end - first), f"entries: {['none', 'one', 'two'][end - first]}"),
        *(part for parts in entry_parts()[first:end] for part in parts),
        (opaque(b"".join(proof)), "proof"),
    ]


def membership_parts() -> Parts:
    leaf = entry_leaves()
    return [
        (uint(1), "head: SHA-256"),
        (opaque(sha256(head())), "head: digest"),
        *range_parts(1, 2, [leaf[0], leaf[2]]),
    ]


def member_parts() -> Parts:
    """What follows the statement of kind content in the record."""
    return [
        (uint(1), "attestations: one"),
        (uint(2), "type: MEMBERSHIP"),
        (uint(len(joined(membership_parts()))), "body: length"),
        *membership_parts(),
    ]


def member() -> bytes:
    return opaque(content()) + joined(member_parts())


def absence_parts() -> Parts:
    return range_parts(1, 3, [entry_leaves()[0]])


def head_record() -> bytes:
    body = joined(fingerprint_parts()) + uint(0x0807) + opaque(signature(head()))
    return opaque(head()) + uint(1) + uint(1) + opaque(body)


def fingerprint_parts() -> Parts:
    return [
        (uint(1), "signer: SHA-256"),
        (opaque(sha256(certificate())), "signer: digest"),
    ]


def signed_parts(of: bytes) -> Parts:
    return [
        (b" " * 64, "64 spaces"),
        (b"File Integrity Metadata, statement, format 1", "label"),
        (b"\0", "zero"),
        *fingerprint_parts(),
        (uint(0x0807), "scheme: Ed25519"),
        (uint(len(of)), "statement: length"),
    ]


def signed(of: bytes) -> bytes:
    return joined(signed_parts(of)) + of


def signature(of: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(SECRET).sign(signed(of))


def body_parts() -> Parts:
    return [
        *fingerprint_parts(),
        (uint(0x0807), "scheme: Ed25519"),
        (opaque(signature(statement())), "value"),
    ]


def before_statement_parts() -> Parts:
    return [(uint(len(statement())), "statement: length")]


def after_statement_parts() -> Parts:
    return [
        (uint(1), "attestations: one"),
        (uint(1), "type: SIGNATURE"),
        (uint(len(joined(body_parts()))), "body: length"),
        *body_parts(),
    ]


def record() -> bytes:
    return joined(before_statement_parts()) + statement() + joined(after_statement_parts())


# As printed


def rows(data: bytes, comment: str = "") -> list[str]:
    """Sixteen bytes a line, in groups of four; the comment beside the first."""
    lines = []
    for start in range(0, len(data), 16):
        line = data[start : start + 16]
        groups = " ".join(line[i : i + 4].hex() for i in range(0, len(line), 4))
        lines.append(f"{groups:<38}{comment}".rstrip())
        comment = ""
    return lines


def as_above(of: bytes) -> str:
    return f"{f'({len(of)} bytes, as above)':<38}statement"


def annotated(parts: Parts) -> list[str]:
    return [line for data, comment in parts for line in rows(data, comment)]


def blocks() -> dict[str, str]:
    leaf = leaves()
    pair = sha256(b"\1" + leaf[0] + leaf[1])
    lines = {
        "example-key": rows(SECRET),
        "example-content": [*rows(CONTENT[:16], "bytes 0 to 15"), *rows(sha256(CONTENT), "SHA-256 of all")],
        "example-tree": [
            *rows(leaf[0], "(0, 0): bytes [0, 4096)"),
            *rows(leaf[1], "(0, 1): bytes [4096, 8192)"),
            *rows(leaf[2], "(0, 2): bytes [8192, 10000)"),
            *rows(pair, "(1, 0)"),
            *rows(top(leaf), "(2, 0): the root"),
        ],
        "example-statement": annotated(statement_parts()),
        "example-tag": rows(sha256(statement()), "SHA-256 of the statement"),
        "example-certificate": rows(certificate()),
        "example-fingerprint": rows(sha256(certificate()), "SHA-256 of the certificate"),
        "example-signed": [*annotated(signed_parts(statement())), as_above(statement())],
        "example-signature": rows(signature(statement())),
        "example-record": [
            *annotated(before_statement_parts()),
            as_above(statement()),
            *annotated(after_statement_parts()),
        ],
        "example-proof": [*rows(leaf[0], "(0, 0)"), *rows(leaf[2], "(0, 2), which is (1, 1)")],
    } | volume_lines()
    return {name: "\n".join(block) for name, block in lines.items()}


def volume_lines() -> dict[str, list[str]]:
    leaf = entry_leaves()
    return {
        "example-contents": annotated(content_parts()),
        "example-contents-tag": rows(sha256(content()), "SHA-256 of the statement"),
        "example-entries": annotated([part for parts in entry_parts() for part in parts]),
        "example-entry-tree": [
            *rows(leaf[0], "(0, 0): docs"),
            *rows(leaf[1], "(0, 1): docs/README.md"),
            *rows(leaf[2], "(0, 2): docs/latest"),
            *rows(sha256(b"\1" + leaf[0] + leaf[1]), "(1, 0)"),
            *rows(top(leaf), "(2, 0): the root"),
        ],
        "example-head": annotated(head_parts()),
        "example-head-tag": rows(sha256(head()), "SHA-256 of the head"),
        "example-head-signature": rows(signature(head())),
        "example-member": [
            *annotated([(uint(len(content())), "statement: length")]),
            as_above(content()),
            *annotated(member_parts()),
        ],
        "example-absence": annotated(absence_parts()),
    }


if __name__ == "__main__":
    for name, block in blocks().items():
        print(f"{name}\n{block}\n")
    print(f"statement {len(statement())}, signed {len(signed(statement()))}, record {len(record())}, path {len(PATH)}")
