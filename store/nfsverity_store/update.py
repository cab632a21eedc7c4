# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A new tree from the one before, where it is known which units changed (fim, "Updating a Tree").

Units that changed are hashed, and the nodes above them; all others are taken over. What is taken over is
folded to the root that was signed before, so that a kept tree need not be trusted. The new root is made of the very
bytes that were folded, and of what was hashed: whoever can write to kept trees meanwhile damages one, and no more.
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence

from nfsverity_proto.hashes import Hash
from nfsverity_proto.proof import split_hashes
from nfsverity_proto.tree import NodeSource, Shape, height, parents, width

from .hashing import RUN_LOG2, Progress, Run, leaves, next_data, next_hole, put_run
from .nodes import FileStore, Nodes, Store

Units = tuple[int, int]
"""The units [first, end)."""
Bytes = tuple[int, int]
"""The bytes [offset, stop)."""
Known = dict[tuple[int, int], bytes]
"""The values of nodes by their names (level, index), none of them below another."""
NODES_AT_ONCE = 2**16
COPY = 2**20
"""Bytes of a kept tree that are copied at once, where the system cannot do it."""
_NO_COPY_FILE_RANGE = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ETXTBSY}


class NotTakenOver(Exception):
    """The tree before cannot be used; the text says why. All of the file must be hashed (fim-keep-4)."""


def merged(ranges: Iterable[Units]) -> list[Units]:
    """The same units in ranges that ascend and do not touch."""
    found: list[Units] = []
    for first, end in sorted(ranges):
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((first, end))
    return found


def changed_units(old: Shape, new: Shape, ranges: Iterable[Bytes]) -> list[Units]:
    """The units of the new tree that must be hashed where only the bytes in `ranges` changed.

    Where the size is another, so is all from the first unit on that is not whole in both; and at least the last
    unit, so that each node at the right edge is made anew (fim-keep-2).
    """
    found = [
        new.units_of(offset, min(stop, new.size)) for offset, stop in ranges if offset < stop and offset < new.size
    ]
    if new.size != old.size and new.units:
        found.append((min(min(old.size, new.size) >> new.unit_log2, new.units - 1), new.units))
    return merged(found)


def untouched(units: int, changed: Sequence[Units]) -> list[tuple[int, int]]:
    """The (level, index) of the largest subtrees that hold no changed unit, in order."""
    ends = [end for _, end in changed]
    found: list[tuple[int, int]] = []
    left = [(height(units), 0)] if units else []
    while left:
        level, index = left.pop()
        low, high = index << level, min((index + 1) << level, units)
        at = bisect_left(ends, low + 1)
        if at == len(changed) or changed[at][0] >= high:
            found.append((level, index))
        elif level and not (changed[at][0] <= low and high <= changed[at][1]):
            if 2 * index + 1 < width(units, level - 1):
                left.append((level - 1, 2 * index + 1))
            left.append((level - 1, 2 * index))
    return found


def fold_used(hash: Hash, units: int, node: NodeSource, used: Sequence[tuple[int, int]]) -> bytes:
    """The root of a tree, by way of the `used` nodes: it is the signed one only if each of these is right.

    They ascend, and none is below another. Other subtrees count as they lie.
    """
    starts = [index << level for level, index in used]
    wanted = set(used)

    def fold(level: int, index: int) -> bytes:
        at = bisect_left(starts, index << level)
        none_below = at == len(starts) or starts[at] >= (index + 1) << level
        if none_below or (level, index) in wanted:
            return node(level, index)
        left = fold(level - 1, 2 * index)
        if 2 * index + 1 >= width(units, level - 1):
            return left
        return hash.node(left, fold(level - 1, 2 * index + 1))

    return fold(height(units), 0)


def check_taken_over(
    fd: int, old: Nodes, root: bytes, new: Shape, ranges: Sequence[Bytes], progress: Progress
) -> tuple[int, Known]:
    """That what is taken over is what was signed, as far as that can be told without reading all of it.

    Its hashes are folded to `root` (fim-keep-1). Of the content, the first and the last unit are looked at, and of a
    file that grew what its last unit held, unless the `ranges` that changed have something of it (fim-keep-3). Returns
    how many bytes were hashed, and the hashes. Raises `NotTakenOver`, `OSError`.
    """
    hash, shape = old.hash, old.shape
    changed = changed_units(shape, new, ranges)
    gaps = list(_gaps(new.units, changed))
    if not gaps:
        raise ValueError("every unit changed, so there is nothing to take over")
    looked = {gaps[0][0], gaps[-1][1] - 1}
    short = shape.size & (shape.unit_size - 1)
    named = any(offset < shape.size and stop > shape.size - short for offset, stop in ranges)
    if shape.size < new.size and short and not named:
        looked.add(shape.units - 1)
    used = untouched(new.units, merged([*changed, *((unit, unit + 1) for unit in looked)]))
    used = sorted([*used, *((0, unit) for unit in looked)], key=lambda name: name[1] << name[0])
    read: Known = {}

    def once(level: int, index: int) -> bytes:
        read[level, index] = old.node(level, index)
        return read[level, index]

    try:
        right = fold_used(hash, shape.units, once, used) == root
    except OSError as error:
        raise NotTakenOver(f"its kept tree cannot be read: {error}") from error
    if not right:
        raise NotTakenOver("its kept tree is damaged")
    count = 0
    for unit in sorted(looked):
        start, stop = shape.unit_span(unit, unit + 1)
        if leaves(fd, shape, hash, unit, unit + 1, progress) != [read[0, unit]]:
            raise NotTakenOver(f"bytes {start} to {stop} changed too, and were not named")
        count += stop - start
    return count, {name: read[name] for name in used}


def _gaps(units: int, changed: Sequence[Units]) -> Iterator[Units]:
    """What is between the changed ranges."""
    at = 0
    for first, end in changed:
        if at < first:
            yield at, first
        at = end
    if at < units:
        yield at, units


def copy_nodes(source: Nodes, target: Nodes) -> None:
    """The nodes that both trees have names for, from one store to the other; holes stay holes."""
    if source.shape.units == target.shape.units:
        _copy(source.store, 0, target.store, 0, source.length)
        return
    for level in range(min(source.shape.height, target.shape.height) + 1):
        count = min(source.shape.width(level), target.shape.width(level))
        _copy(source.store, source.place(level), target.store, target.place(level), count * source.hash.length)


def _copy(source: Store, at: int, target: Store, to: int, length: int) -> None:
    if isinstance(source, FileStore) and isinstance(target, FileStore):
        end = at + length
        start = next_data(source.fd, at, end)
        while start < end:
            stop = next_hole(source.fd, start, end)
            _copy_stored(source, start, target, start - at + to, stop - start)
            start = next_data(source.fd, stop, end)
        return
    for done in range(0, length, COPY):
        target.write(to + done, source.read(at + done, min(COPY, length - done)))


def _copy_stored(source: FileStore, at: int, target: FileStore, to: int, length: int) -> None:
    """By the system, which may share the blocks (a reflink), or else by reading and writing."""
    done = 0
    if hasattr(os, "copy_file_range"):
        try:
            while done < length:
                count = os.copy_file_range(source.fd, target.fd, length - done, at + done, to + done)
                if count == 0:
                    break
                done += count
        except OSError as error:
            if error.errno not in _NO_COPY_FILE_RANGE:
                raise
    while done < length:
        data = source.read(at + done, min(COPY, length - done))
        if not data:
            raise OSError("a kept tree became shorter while it was copied")
        target.write(to + done, data)
        done += len(data)


def update(
    fd: int, nodes: Nodes, changed: Sequence[Units], taken: Known, runs: Callable[[int, int], Iterable[Run]],
    progress: Progress,
) -> bytes:  # fmt: skip
    """Hash the changed units and put their nodes, and those above, into `nodes`, which has the others; the new root.

    `taken` are the hashes that `check_taken_over` gave; `runs` gives the runs [first, end) of the file, each of which
    is whole or the last one. Nothing that is in `nodes` becomes part of the root.
    """
    known = dict(taken)
    shape, hash = nodes.shape, nodes.hash
    top_level = min(RUN_LOG2, shape.height)
    dirty: list[Units] = []
    for first, end in changed:
        low = -(-first >> RUN_LOG2)
        high = shape.width(RUN_LOG2) if end == shape.units else end >> RUN_LOG2
        if low >= high:
            parts = [(first, end)]
        else:
            for index, run in zip(range(low, high), runs(low, high), strict=True):
                known[top_level, index << (RUN_LOG2 - top_level)] = put_run(nodes, index, run, top_level)
            dirty.append((low, high))
            parts = [(first, low << RUN_LOG2), (high << RUN_LOG2, end)]
        for start, stop in parts:
            if start < stop:
                hashed = leaves(fd, shape, hash, start, stop, progress)
                known |= {(0, unit): leaf for unit, leaf in enumerate(hashed, start)}
                nodes.put(0, start, hashed)
                dirty += _raised(nodes, 0, top_level, [(start, stop)])
    _raised(nodes, top_level, shape.height, merged(dirty))
    return _root(hash, shape.units, known)


def _root(hash: Hash, units: int, known: Known) -> bytes:
    """The root of a tree of which these nodes are all that is needed."""

    def fold(level: int, index: int) -> bytes:
        value = known.get((level, index))
        if value is not None:
            return value
        left = fold(level - 1, 2 * index)
        if 2 * index + 1 >= width(units, level - 1):
            return left
        return hash.node(left, fold(level - 1, 2 * index + 1))

    return fold(height(units), 0)


def _raised(nodes: Nodes, level: int, to: int, ranges: list[Units]) -> list[Units]:
    """Make the nodes above some nodes of a level, up to another level; which of that level these are."""
    hash, shape = nodes.hash, nodes.shape
    for below in range(level, to):
        ranges = merged((first >> 1, ((end - 1) >> 1) + 1) for first, end in ranges)
        last = shape.width(below)
        for first, end in ranges:
            for start in range(first, end, NODES_AT_ONCE):
                stop = min(start + NODES_AT_ONCE, end)
                children = nodes.run(below, 2 * start, min(2 * stop, last) - 2 * start)
                nodes.put(below + 1, start, parents(hash, split_hashes(children, hash.length)))
    return ranges
