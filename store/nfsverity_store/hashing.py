# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""From a file's bytes to its tree, in bounded memory, leaving out what is not stored (holes)."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator

from nfsverity_proto.hashes import Hash
from nfsverity_proto.tree import Shape, parents, root, zero_node

from .nodes import Nodes

RUN_LOG2 = 10
"""A tree is made from runs of 2^RUN_LOG2 units: aligned, so each is one node of level RUN_LOG2."""
BUFFER = 2**20
Progress = Callable[[int], None]
"""Told how many more bytes are done."""


class ChangedSize(OSError):
    """The file ended before its size: it changed meanwhile."""


def next_data(fd: int, offset: int, size: int) -> int:
    """The first offset from `offset` on that may be other than zero; `size` where there is none."""
    try:
        return min(os.lseek(fd, offset, os.SEEK_DATA), size)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size
        return offset
    except AttributeError:  # no SEEK_DATA on this system
        return offset


def next_hole(fd: int, offset: int, size: int) -> int:
    """The first offset from `offset` on that is in a hole, or `size`."""
    try:
        return min(os.lseek(fd, offset, os.SEEK_HOLE), size)
    except (OSError, AttributeError):
        return size


def read_into(fd: int, buffer: memoryview, offset: int) -> None:
    """Fill the buffer. Raises `ChangedSize` at the end of the file."""
    filled = 0
    while filled < len(buffer):
        count = os.preadv(fd, [buffer[filled:]], offset + filled)
        if count == 0:
            raise ChangedSize("the file became shorter while it was read")
        filled += count


def leaves(fd: int, shape: Shape, hash: Hash, first: int, end: int, progress: Progress | None = None) -> list[bytes]:
    """The leaf hashes of units [first, end)."""
    unit = shape.unit_size
    start, stop = shape.unit_span(first, end)
    per_read = max(1, BUFFER // unit) * unit
    buffer = memoryview(bytearray(min(per_read, stop - start)))
    leaf = hash.leaf
    found: list[bytes] = []
    offset = start
    while offset < stop:
        data_at = next_data(fd, offset, stop)
        if data_at >= offset + unit:
            whole = (data_at - offset) >> shape.unit_log2
            found += [zero_node(hash, shape.unit_log2, 0)] * whole
            offset += whole << shape.unit_log2
            if progress is not None:
                progress(whole << shape.unit_log2)
            continue
        chunk = buffer[: min(per_read, stop - offset)]
        read_into(fd, chunk, offset)
        found += [leaf(chunk[i : i + unit]) for i in range(0, len(chunk), unit)]
        offset += len(chunk)
        if progress is not None:
            progress(len(chunk))
    return found


Run = list[bytes] | None
"""The leaves of one run; None for a run of whole units of zeros."""


def hash_run(fd: int, shape: Shape, hash: Hash, index: int, progress: Progress | None = None) -> Run:
    """The leaves of run `index`, without reading what is a hole."""
    first = index << RUN_LOG2
    end = min(first + (1 << RUN_LOG2), shape.units)
    start, stop = shape.unit_span(first, end)
    if stop - start == shape.unit_size << RUN_LOG2 and next_data(fd, start, stop) >= stop:
        if progress is not None:
            progress(stop - start)
        return None
    return leaves(fd, shape, hash, first, end, progress)


def hash_runs(fd: int, shape: Shape, hash: Hash, progress: Progress | None = None) -> Iterator[Run]:
    for index in range(shape.width(RUN_LOG2)):
        yield hash_run(fd, shape, hash, index, progress)


def build(shape: Shape, hash: Hash, runs: Iterable[Run], nodes: Nodes | None) -> bytes:
    """The root over all runs in order; every node goes to `nodes` where that is given."""
    tops: list[bytes] = []
    top_level = min(RUN_LOG2, shape.height)
    for index, run in enumerate(runs):
        if run is None:
            tops.append(zero_node(hash, shape.unit_log2, RUN_LOG2))
            continue
        level_nodes = run
        for level in range(top_level):
            if nodes is not None:
                nodes.put(level, index << (RUN_LOG2 - level), level_nodes)
            level_nodes = parents(hash, level_nodes)
        tops += level_nodes
    if nodes is None or not tops:
        return root(hash, tops)
    for level in range(top_level, shape.height + 1):
        nodes.put(level, 0, tops)
        tops = parents(hash, tops)
    return tops[0]
