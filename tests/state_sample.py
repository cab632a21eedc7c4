# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Marks without records: what tests of the store raise, judged by the rule alone."""

from __future__ import annotations

import hashlib

from nfsverity_client.marks import MarkStore, Raise
from nfsverity_proto.errors import Equivocation, Rollback
from nfsverity_proto.marks import Mark, MarkKey, Marks
from nfsverity_proto.statement import Kind, Tag

ANCHOR, VOLUME, KEY = b"anchor of an entry", b"V" * 16, b"key of the signer"


def tag(text: str) -> Tag:
    return Tag(1, hashlib.sha256(text.encode()).digest())


def raising(path: bytes, generation: int, version: str = "", key: bytes = KEY, issued: int = 0) -> Raise:
    mark = Mark(generation, tag(version))

    def judge(marks: Marks) -> None:
        for found in marks.under(ANCHOR, VOLUME, Kind.FILE, path).values():
            if generation < found.generation:
                raise Rollback("older")
            if generation == found.generation and mark.tag != found.tag:
                raise Equivocation("another")

    return Raise(judge, {MarkKey(ANCHOR, VOLUME, Kind.FILE, path, key): mark}, issued)


def accept(marks: MarkStore, path: bytes, generation: int, version: str = "", key: bytes = KEY) -> None:
    """Raise a mark, durably. Raises what comes of it."""
    raised = marks.soon(raising(path, generation, version, key))
    marks.flush()
    raised.check()


def mark_of(marks: MarkStore, path: bytes, key: bytes = KEY) -> int | None:
    """The generation of a mark."""
    found = marks.under(ANCHOR, VOLUME, Kind.FILE, path)
    return found[key].generation if key in found else None
