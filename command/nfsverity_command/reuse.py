# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What of an older copy at the destination need not be fetched again.

Nothing of it is believed: it is data from anywhere (fim-diff-3). It is taken into the new file, as it is, and hashed
there; of what has not the signed hash, the units are fetched. So it may change while it is read, be damaged, or be
something else: that costs traffic. A file that is already all that was signed stays where it is.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nfsverity._hashed import HashedTree, beside, hash_file
from nfsverity_client.delta import differing_spans
from nfsverity_client.reader import Reader, Replaced
from nfsverity_proto.hashes import hash_by_number
from nfsverity_proto.path import split_path
from nfsverity_proto.verification import Verified
from nfsverity_store.content import open_below, open_file
from nfsverity_store.hashing import ChangedSize
from nfsverity_store.index import Seen

from .new_file import NewFile, mode_of
from .progress import Meter


@dataclass(frozen=True, slots=True)
class Transfer:
    """Where the bytes of one file came from."""

    fetched: int
    """In units that the server was asked for."""
    reused: int
    """That were here."""
    unchanged: bool = False
    """The file stayed as it was."""


@contextlib.contextmanager
def old_file(destination: Path) -> Iterator[int | None]:
    """A descriptor of what is at `destination`, where that is a regular file that can be read."""

    def opening() -> int:
        above = os.open(destination.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return open_file(os.fsencode(destination.name), above)
        finally:
            os.close(above)

    with _opened(opening) as fd:
        yield fd


@contextlib.contextmanager
def old_file_below(destination: Path, path: bytes) -> Iterator[int | None]:
    """The same for a file below a directory: no link is followed."""
    with _opened(lambda: open_below(destination, split_path(path))) as fd:
        yield fd


@contextlib.contextmanager
def _opened(opening: Callable[[], int]) -> Iterator[int | None]:
    fd: int | None = None
    with contextlib.suppress(OSError):  # whatever is there then is not reused
        fd = opening()
    try:
        yield fd
    finally:
        if fd is not None:
            os.close(fd)


async def stays(reader: Reader, old: int, shows: Meter, *, durably: bool) -> bool:
    """Whether the old file is all that was signed, and this user's alone: then it may stay.

    Pins the reader where it is. `durably`: it is synced. Raises `OSError`.
    """
    if not await is_as_signed(old, reader.verified, shows):
        return False
    if durably:
        os.fsync(old)
    reader.pin()
    return True


async def is_as_signed(old: int, verified: Verified, shows: Meter) -> bool:
    """Whether an open file is just as it was signed, in mode and time too, and this user's alone. Raises `OSError`."""
    signed = verified.file
    tree, hash = signed.content.tree, hash_by_number(verified.statement.hash)
    before = os.fstat(old)
    if (before.st_size, before.st_mtime_ns) != (tree.size, signed.content.mtime.to_ns()) or (
        stat.S_IMODE(before.st_mode) != mode_of(signed.executable)
        or before.st_uid != os.geteuid()
        or before.st_nlink != 1
    ):
        return False

    def hashed(progress: Callable[[int], None]) -> HashedTree:
        return hash_file(old, tree.shape, hash, progress)

    try:
        found = await beside(tree.size, hashed, shows.add)
    except ChangedSize:
        return False
    return found.root == tree.root and Seen.of(os.fstat(old)) == Seen.of(before)


async def update(reader: Reader, old: Sequence[int], file: NewFile, shows: Meter) -> Transfer:
    """The version that the reader has open, in `file`: from old ones what is in them, and the rest fetched.

    Raises what a reader does; `OSError`.
    """
    while True:
        version = reader.version
        shape = version.shape

        def taken(progress: Callable[[int], None]) -> HashedTree:
            file.begin_as(old, shape.size, lambda _: progress(0))  # noqa: B023 - it has ended before the next turn
            return hash_file(file.fd, shape, version.hash, progress)  # noqa: B023

        tree = await beside(shape.size, taken, shows.add)
        fetched = 0
        try:
            async with contextlib.aclosing(differing_spans(reader, version, tree)) as spans:
                async for span in spans:
                    at = span.start
                    for part in span.cut(at, at + span.length):
                        file.put(at, part)
                        at += len(part)
                    fetched += span.length
        except Replaced:
            continue
        return Transfer(fetched, shape.size - fetched)
