# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The data of a reply, sent from where it is: from the file to the socket, without a copy in this process."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from nfsverity_proto import messages as m
from nfsverity_proto.slices import slice_log2, slice_span
from nfsverity_proto.tree import Shape
from nfsverity_store.hashing import next_data, next_hole

PROBE = 2**17
"""Bytes between two looks at whether storage has something in memory: what Linux reads ahead, by default."""
CHUNK = 2**18
"""Bytes that are read at a time where they have to go through this process."""
Piece = tuple[int, int]
"""Offset and length, in bytes."""


class FileData:
    """Pieces of an open file, which it owns: close it."""

    def __init__(self, fd: int, pieces: Sequence[Piece]) -> None:
        self.fd = fd
        self.pieces = pieces
        self._length = sum(length for _, length in pieces)

    def __len__(self) -> int:
        return self._length

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def holes_and_pieces(fd: int, shape: Shape, first: int, count: int) -> tuple[tuple[m.Hole, ...], list[Piece]]:
    """The whole slices of [first, first + count) that are not stored (fip-hole), and the bytes between them."""
    log2 = slice_log2(shape)
    start, stop = slice_span(shape, first, first + count)
    holes: list[m.Hole] = []
    pieces: list[Piece] = []
    at = start
    hole_at = next_hole(fd, start, stop)
    while hole_at < stop and len(holes) < m.HOLES_MAX:
        data_at = next_data(fd, hole_at, stop)
        low = (hole_at - start + (1 << log2) - 1) >> log2
        high = count if data_at >= stop else (data_at - start) >> log2
        if low < high:
            holes.append(m.Hole(low, high - low))
            if start + (low << log2) > at:
                pieces.append((at, start + (low << log2) - at))
            at = min(start + (high << log2), stop)
        if data_at >= stop:
            break
        hole_at = next_hole(fd, data_at, stop)
    if at < stop:
        pieces.append((at, stop - at))
    return tuple(holes), pieces


def is_in_memory(fd: int, offset: int, length: int) -> bool:
    """Whether reading this would not wait for storage, as far as the system tells."""
    try:
        probe = [memoryview(bytearray(1))]
        for at in (*range(offset, offset + length, PROBE), offset + length - 1):
            os.preadv(fd, probe, at, os.RWF_NOWAIT)
    except (AttributeError, OSError):  # EAGAIN: it would wait. EOPNOTSUPP, or no such flag: nobody knows
        return False
    return True


def read_now(fd: int, pieces: Sequence[Piece]) -> bytearray | None:
    """The pieces in one buffer; None where that would wait for storage, or the file has become shorter."""
    data = bytearray(sum(length for _, length in pieces))
    filled = 0
    try:
        for offset, length in pieces:
            if os.preadv(fd, [memoryview(data)[filled : filled + length]], offset, os.RWF_NOWAIT) != length:
                return None
            filled += length
    except (AttributeError, OSError):
        return None
    return data


def bring_in(fd: int, offset: int, length: int) -> None:
    """Have storage read this into memory; to be called in a thread."""
    buffer = memoryview(bytearray(min(CHUNK, length)))
    end = offset + length
    while offset < end:
        count = os.preadv(fd, [buffer[: end - offset]], offset)
        if not count:
            return
        offset += count


def cannot_send(error: OSError) -> bool:
    """Whether this error of sendfile(2) is that it does not do it for such a file."""
    return error.errno in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
