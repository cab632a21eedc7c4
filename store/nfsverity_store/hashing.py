# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""From a file's bytes to its tree, in bounded memory, leaving out what is not stored (holes).

A tree is made from runs: aligned subtrees of 2^10 units, independent of each other.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator, Iterable, Sequence

from nfsverity_proto.hashes import Hash
from nfsverity_proto.tree import Shape, parents, root, zero_node

from .nodes import Nodes

RUN_LOG2 = 10
"""A run is one node of this level."""
BUFFER = 2**18
"""Bytes of one read: they stay in the processor's cache until they are hashed."""
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
    read_scattered(fd, [buffer], offset)


def read_scattered(fd: int, buffers: Sequence[memoryview], offset: int) -> None:
    """Fill all the buffers, one after the other. Raises `ChangedSize` at the end of the file."""
    left = list(buffers)
    while left:
        count = os.preadv(fd, left, offset)
        if count == 0:
            raise ChangedSize("the file became shorter while it was read")
        offset += count
        while left and count >= len(left[0]):
            count -= len(left.pop(0))
        if count:
            left[0] = left[0][count:]


class _Units:
    """Memory for some neighbouring units, each behind the byte 0x00 that makes it a leaf (RFC 9162 section 2.1.1).

    So a leaf is hashed in one go, without a copy: BLAKE3 keeps its full width, small units cost one call less.
    Of units larger than the buffer there is a piece at a time.
    """

    def __init__(self, shape: Shape, hash: Hash, most: int) -> None:
        self._unit = shape.unit_size
        self._digest = hash.digest
        self._new = hash.new
        self.count = max(1, min(BUFFER // self._unit, -(-most // self._unit)))
        step = min(self._unit, most, BUFFER) + 1
        memory = memoryview(bytearray(self.count * step))
        self._leaves = [memory[i : i + step] for i in range(0, len(memory), step)]
        self._contents = [leaf[1:] for leaf in self._leaves]

    def read(self, fd: int, offset: int, length: int) -> list[bytes]:
        """The leaf hashes of the units in `length` bytes from `offset` on. Raises `ChangedSize`."""
        if self._unit > BUFFER:
            return [self._large(fd, offset, length)]
        digest = self._digest
        whole, rest = divmod(length, self._unit)
        if rest:
            short = self._leaves[whole][: rest + 1]
            read_scattered(fd, [*self._contents[:whole], short[1:]], offset)
            return [*map(digest, self._leaves[:whole]), digest(short)]
        read_scattered(fd, self._contents[:whole], offset)
        return [digest(leaf) for leaf in self._leaves[:whole]]

    def _large(self, fd: int, offset: int, length: int) -> bytes:
        piece = self._contents[0]
        state = self._new(b"\0")
        for at in range(0, length, len(piece)):
            part = piece[: length - at]
            read_into(fd, part, offset + at)
            state.update(part)
        found: bytes = state.digest()
        return found


def leaves(fd: int, shape: Shape, hash: Hash, first: int, end: int, progress: Progress | None = None) -> list[bytes]:
    """The leaf hashes of units [first, end)."""
    start, stop = shape.unit_span(first, end)
    units = _Units(shape, hash, stop - start)
    found: list[bytes] = []
    offset, hole_at = start, start
    while offset < stop:
        if offset >= hole_at:
            data_at = next_data(fd, offset, stop)
            skipped = (data_at - offset) >> shape.unit_log2
            if skipped:
                found += [zero_node(hash, shape.unit_log2, 0)] * skipped
                offset += skipped << shape.unit_log2
                if progress is not None:
                    progress(skipped << shape.unit_log2)
                continue
            hole_at = next_hole(fd, data_at, stop)
        length = min(units.count << shape.unit_log2, stop - offset)
        found += units.read(fd, offset, length)
        offset += length
        if progress is not None:
            progress(length)
    return found


SMALL_MAX = 2**18
"""Bytes up to which a file of one unit is read at once."""


def is_small(shape: Shape) -> bool:
    return shape.size <= min(shape.unit_size, SMALL_MAX)


def small_root(fd: int, shape: Shape, hash: Hash) -> bytes:
    """The root of a file that `is_small`. Raises `ChangedSize`, for one that became longer, too."""
    data = os.read(fd, shape.size + 1)
    if len(data) != shape.size:
        raise ChangedSize("the file got another size while it was read")
    return hash.digest(b"\0" + data if data else b"")


Run = list[bytes] | None
"""The leaves of one run; None for a run of whole units of zeros."""


def run_units(shape: Shape, index: int) -> tuple[int, int]:
    """The units [first, end) of a run."""
    return index << RUN_LOG2, min((index + 1) << RUN_LOG2, shape.units)


def is_hole(fd: int, shape: Shape, index: int) -> bool:
    """Whether a run is whole, and nothing of it is stored."""
    start, stop = shape.unit_span(*run_units(shape, index))
    return stop - start == shape.unit_size << RUN_LOG2 and next_data(fd, start, stop) >= stop


def hash_run(fd: int, shape: Shape, hash: Hash, index: int, progress: Progress | None = None) -> Run:
    """The leaves of run `index`, without reading what is a hole."""
    if is_hole(fd, shape, index):
        if progress is not None:
            progress(shape.unit_size << RUN_LOG2)
        return None
    return leaves(fd, shape, hash, *run_units(shape, index), progress)


def hash_runs(
    fd: int, shape: Shape, hash: Hash, progress: Progress | None = None, first: int = 0, end: int | None = None
) -> Generator[Run, None, None]:
    """The runs [first, end) of a file, in order; all of them by default."""
    for index in range(first, shape.width(RUN_LOG2) if end is None else end):
        yield hash_run(fd, shape, hash, index, progress)


def put_run(nodes: Nodes, index: int, run: Run, top_level: int) -> bytes:
    """Put the nodes of a run, up to the one above it all, which is returned; of a hole, the latter only."""
    level_nodes = [zero_node(nodes.hash, nodes.shape.unit_log2, top_level)] if run is None else run
    for level in range(top_level):
        first = index << (RUN_LOG2 - level)
        if run is None:
            nodes.clear(level, first, 1 << (RUN_LOG2 - level))
        else:
            nodes.put(level, first, level_nodes)
            level_nodes = parents(nodes.hash, level_nodes)
    nodes.put(top_level, index << (RUN_LOG2 - top_level), level_nodes)
    return level_nodes[0]


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
