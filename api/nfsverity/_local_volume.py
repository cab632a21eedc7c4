# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What a published volume on this machine has, proved from its own index and nodes by a head that was verified.

Neither is trusted: a range that does not fold to the signed root is never looked at.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from nfsverity_client.links import following
from nfsverity_proto.entry import DirectoryNode, Entry, FileNode, Key, LinkNode, key_of, key_of_path
from nfsverity_proto.entry_range import EntryRange, entry_at, verify_range
from nfsverity_proto.errors import Absent, Hidden, Mismatch, VerificationError
from nfsverity_proto.hashes import hash_by_number
from nfsverity_proto.path import shown_path
from nfsverity_proto.record import decode_record
from nfsverity_proto.statement import Kind, decode_statement
from nfsverity_proto.verification import Verified
from nfsverity_store.content import open_below
from nfsverity_store.volume_index import VolumeEntry
from nfsverity_store.volume_view import VolumeView

AT_ONCE = 512
"""Entries of one range."""
KINDS = {FileNode: "file", LinkNode: "symbolic link", DirectoryNode: "directory"}


def members(view: VolumeView, head: Verified, path: bytes) -> Iterator[tuple[Entry, VolumeEntry]]:
    """Every entry below a directory, in order, and that these are all (fim-range-4). Raises `VerificationError`."""
    low: Key = key_of(path, b"")
    inside = path.replace(b"/", b"\0")
    while True:
        found, rows = _range(view, head, low, AT_ONCE)
        is_last = found.first + len(found.entries) == head.head.entries
        if (found.first and found.entries[0].key >= low) or not (is_last or found.entries[-1].key > low):
            raise _damaged("there is a gap in its entries")
        for entry, row in zip(found.entries, rows, strict=True):
            if entry.key <= low:
                continue
            above = entry.key[0]
            if above != inside and inside and not above.startswith(inside + b"\0"):
                return
            low = entry.key
            yield entry, row
        if is_last:
            return


def look_up(view: VolumeView, head: Verified, path: bytes) -> tuple[Entry, VolumeEntry] | None:
    """The entry at a path; None where it is proved that there is none (fim-range-3). Raises `VerificationError`."""
    key = key_of_path(path)
    found, rows = _range(view, head, key, 2)
    try:
        entry = entry_at(head.head, found, key)
    except ValueError as error:
        raise _damaged(str(error)) from error
    return None if entry is None else (entry, rows[found.entries.index(entry)])


def unjudged(view: VolumeView) -> Verified:
    """The head as it is there, of which nothing was verified: for who reads under it only what it says."""
    record = decode_record(view.record)
    return Verified(view.record, record, decode_statement(record.statement, Kind.VOLUME), view.tag, ())


def follow(view: VolumeView, head: Verified, path: bytes, *, last: bool = True) -> tuple[bytes, Entry | None]:
    """Where a path leads to by the links that were signed, as `nfsverity_client.volume.follow` for what is served.

    Raises `Absent`, `LinkOutside`, and what `look_up` raises.
    """
    walk = following(path, last=last)
    with contextlib.closing(walk):
        try:
            here = next(walk)
            while True:
                found = look_up(view, head, here)
                here = walk.send(None if found is None else found[0])
        except StopIteration as end:
            leads: tuple[bytes, Entry | None] = end.value
            return leads


def _range(view: VolumeView, head: Verified, key: Key, most: int) -> tuple[EntryRange, list[VolumeEntry]]:
    rows = view.around(key, most)
    try:
        found = view.range(rows)
        verify_range(head.head, hash_by_number(head.statement.hash), found)
    except ValueError as error:
        raise _damaged(str(error)) from error
    except Mismatch as error:
        raise _damaged("its entries do not fold to the root that was signed") from error
    return found, rows


def _damaged(why: str) -> Mismatch:
    return Mismatch(f"the index of the volume is damaged: {why}", expected="what was signed", found="something else")


def node_error(root: Path, path: bytes, entry: Entry | None, kind: str | None) -> VerificationError | None:
    """What is wrong with a link or directory, or with what is there instead of one; None where it is as signed.

    `kind` is what is on the disk: None for nothing. Raises `OSError`.
    """
    if entry is None:
        return None if kind is None else Absent("the volume has nothing of this name", found=f"a {kind}")
    wanted = KINDS[type(entry.node)]
    if kind is None:
        return Hidden("it is missing, and the volume has it", expected=f"a {wanted}", found="nothing")
    if kind != wanted:
        return Mismatch(f"it is no {wanted}", expected=f"a {wanted}", found=f"a {kind}")
    if isinstance(entry.node, LinkNode):
        target = _target(root, path)
        if target != entry.node.target:
            return Mismatch(
                "the link leads elsewhere", expected=shown_path(entry.node.target), found=shown_path(target)
            )
    return None


def _target(root: Path, path: bytes) -> bytes:
    *above, name = path.split(b"/")
    at = open_below(root, above, directory=True)
    try:
        return os.readlink(name, dir_fd=at)
    finally:
        os.close(at)
