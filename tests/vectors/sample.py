# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The worked example of File Integrity Metadata, in parts that can be replaced one by one."""

from __future__ import annotations

from typing import Any

from oracle import records

from .form import Long, counting
from .trees import counting_leaves, digest_of, top

CONTENT_SIZE, UNIT_LOG2 = 10_000, 12
CONTENT = counting(CONTENT_SIZE)
VOLUME = bytes(range(16))
LABEL = b"example"
PATH = b"usr/share/doc/integrity/worked/README.md"
GENERATION, ISSUED, NO_END = 1_793_491_200_000_000, 1_793_491_200, 2**63 - 1
MTIME = 1_793_490_000, 500_000_000
NOW = 1_795_500_000
"""A time at which the certificate is valid and the statement has been issued: 2026-11-24T06:00:00Z."""


def root_of(hash: int, size: int = CONTENT_SIZE, unit_log2: int = UNIT_LOG2) -> bytes:
    """The root of counting content."""
    return top(digest_of(hash), counting_leaves(hash, size, unit_log2))


def statement(**changed: Any) -> records.Statement:
    fields: dict[str, Any] = {
        "volume": VOLUME,
        "label": LABEL,
        "path": PATH,
        "generation": GENERATION,
        "issued": ISSUED,
        "not_after": NO_END,
        "seconds": MTIME[0],
        "nseconds": MTIME[1],
        "unit_log2": UNIT_LOG2,
        "size": CONTENT_SIZE,
        "root": root_of(1),
    }
    return records.Statement(**(fields | changed))


def revocation(**changed: Any) -> records.Statement:
    """Of the same volume and generation; of nothing, unless items are given."""
    return statement(**({"kind": records.REVOCATION} | changed))


def head(**changed: Any) -> records.Statement:
    """Of the same volume and generation."""
    return statement(**({"kind": records.VOLUME} | changed))


def fields(of: records.Statement) -> dict[str, Any]:
    """What a decoder finds in a statement."""
    content = {
        "mtime": {"seconds": Long(of.seconds), "nseconds": of.nseconds},
        "tree": {"type": of.tree_type, "unit_log2": of.unit_log2, "size": Long(of.size), "root": of.root},
    }
    found: dict[str, Any] = {"hash": of.hash, "kind": of.kind}
    if of.kind == records.FILE:
        when = {"generation": Long(of.generation), "issued": Long(of.issued), "not_after": Long(of.not_after)}
        found["file"] = {
            "volume": of.volume, "label": of.label, "path": of.path, "when": when, "executable": bool(of.executable),
            "content": content,
        }  # fmt: skip
    elif of.kind == records.REVOCATION:
        when = {"generation": Long(of.generation), "issued": Long(of.issued), "not_after": Long(of.not_after)}
        items = [{"what": what, "hash": hash, "digest": digest} for what, hash, digest in of.items]
        found["revocation"] = {"volume": of.volume, "label": of.label, "when": when, "items": items}
    elif of.kind == records.VOLUME:
        when = {"generation": Long(of.generation), "issued": Long(of.issued), "not_after": Long(of.not_after)}
        found["volume"] = {
            "volume": of.volume, "label": of.label, "when": when, "entries": Long(of.entries), "root": of.root,
        }  # fmt: skip
    else:
        found["content"] = content
    found["extensions"] = [
        {"number": number, "critical": bool(critical), "value": value} for number, critical, value in of.extensions
    ]
    return found
