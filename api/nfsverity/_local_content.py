# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Step 13 for a whole file on this machine: which bytes of it are not what was signed, as far as that can be told.

Where the publisher's kept tree folds to the root that was signed, every range is found; else only the file is named.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nfsverity_proto.errors import Hidden, Mismatch, VerificationError
from nfsverity_proto.hashes import Hash, hash_by_number
from nfsverity_proto.proof import split_hashes
from nfsverity_proto.tree import Shape, root, zero_node
from nfsverity_proto.verification import Verified
from nfsverity_store.content import Descent, NotRegular
from nfsverity_store.hashing import RUN_LOG2, ChangedSize, hash_run, hash_runs, is_small, leaves, small_root
from nfsverity_store.kept import kept_tree
from nfsverity_store.nodes import Nodes


@dataclass(frozen=True, slots=True)
class BadRange:
    """Neighbouring bytes that are not what was signed."""

    offset: int
    length: int
    expected: bytes | None
    """The hash of the first unit as it was signed; None behind the signed end."""
    found: bytes | None
    """The hash of the first unit as it is; None where it is not whole."""


def check_content(
    base: Path,
    descent: Descent,
    path: bytes,
    verified: Verified,
    inline: Callable[[], bytes | None],
    progress: Callable[[int], None],
) -> tuple[VerificationError | None, list[BadRange]]:
    """What is wrong with a file of the tree at `base`. Raises `OSError` where it cannot be read.

    `descent` is one of the tree; what lies in a directory that it has open, and that was replaced since, is judged as
    it was. `inline` gives the kept tree that is in the index, and is called where something is wrong; `progress` is
    told how many more bytes were hashed.
    """
    tree = verified.content.tree
    shape, hash = tree.shape, hash_by_number(verified.statement.hash)
    try:
        fd = descent.file(path)
    except (FileNotFoundError, NotADirectoryError):
        if verified.member is not None:  # fim-member-3
            return Hidden("it is missing, and the volume has it", expected="a file", found="nothing"), []
        return _mismatch("there is no such file", f"{shape.size} bytes", "none"), []
    except NotRegular:
        return _mismatch("it is no regular file", "a file", "something else"), []
    except OSError as error:
        if stat.S_ISLNK(os.lstat(os.path.join(os.fsencode(base), path)).st_mode):
            return _mismatch("it is no regular file", "a file", "a symbolic link"), []
        raise error from None
    try:
        status = os.fstat(fd)
        size = status.st_size
        if size == shape.size:
            try:
                found = _root(fd, shape, hash, progress)
            except ChangedSize:
                size = os.fstat(fd).st_size
            else:
                if found == tree.root:
                    return _executable_error(verified, status), []
                bad = _bad_ranges(base, fd, verified, inline(), size)
                return _content_mismatch(bad, tree.root, found), bad
        bad = _bad_ranges(base, fd, verified, inline(), size)
        message = "the size is not what was signed"
        return _mismatch(message, f"{shape.size} bytes", f"{size} bytes"), bad
    finally:
        os.close(fd)


def _bad_ranges(base: Path, fd: int, verified: Verified, inline: bytes | None, size: int) -> list[BadRange]:
    tree = verified.content.tree
    hash = hash_by_number(verified.statement.hash)
    nodes = kept_tree(base, hash, tree, inline)
    try:
        return [] if nodes is None else list(_merged(_bad_units(fd, tree.shape, hash, tree.root, nodes, size)))
    except OSError:  # a kept tree that ends early, or content that is being changed: only the file is known
        return []


def _executable_error(verified: Verified, status: os.stat_result) -> Mismatch | None:
    """Of a file in a volume: whoever takes it from there gets the bit as it was signed."""
    executable = bool(status.st_mode & stat.S_IXUSR)
    if verified.member is None or verified.member.executable == executable:
        return None
    signed, found = ("executable" if one else "not executable" for one in (verified.member.executable, executable))
    return _mismatch("the executable bit is not what was signed", signed, found)


def _mismatch(message: str, expected: str, found: str) -> Mismatch:
    return Mismatch(message, expected=expected, found=found)


def _content_mismatch(bad: Sequence[BadRange], expected: bytes, found: bytes) -> Mismatch:
    """Located at the first bad range where there is one; else it has the roots."""
    if not bad:
        return _mismatch("the content is not what was signed", expected.hex(), found.hex())
    first = bad[0]
    more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
    return Mismatch(
        f"bytes {first.offset} to {first.offset + first.length - 1}{more} are not what was signed",
        offset=first.offset,
        length=first.length,
        expected=(first.expected or expected).hex(),
        found=(first.found or found).hex(),
    )


def _run_top(hash: Hash, shape: Shape, run: list[bytes] | None) -> bytes:
    return zero_node(hash, shape.unit_log2, RUN_LOG2) if run is None else root(hash, run)


def _root(fd: int, shape: Shape, hash: Hash, progress: Callable[[int], None]) -> bytes:
    if is_small(shape):
        found = small_root(fd, shape, hash)
        progress(shape.size)
        return found
    return root(hash, [_run_top(hash, shape, run) for run in hash_runs(fd, shape, hash, progress)])


def _bad_units(
    fd: int, shape: Shape, hash: Hash, signed: bytes, nodes: Nodes, size: int
) -> Iterator[tuple[int, int, bytes | None, bytes | None]]:
    """Bad ranges [start, stop) with their hashes, from the top down: what folds to `signed` judges the content.

    Ranges are single units; a run of units where the kept tree itself is damaged below; and what is missing
    at the end, or too much there.
    """
    level = min(RUN_LOG2, shape.height)
    tops = split_hashes(nodes.run(level, 0, shape.width(level)), hash.length)
    if root(hash, tops) != signed:
        return
    whole = shape.units if size >= shape.size else size >> shape.unit_log2
    for index, top in enumerate(tops):
        first, end = index << level, min((index + 1) << level, shape.units)
        if end <= whole:
            run = hash_run(fd, shape, hash, index)
            found_top = _run_top(hash, shape, run)
            if found_top == top:
                continue
            found = [zero_node(hash, shape.unit_log2, 0)] * (end - first) if run is None else run
        elif first < whole:
            found = leaves(fd, shape, hash, first, whole)
        else:
            break
        kept = split_hashes(nodes.run(0, first, end - first), hash.length)
        if root(hash, kept) != top:
            start, stop = shape.unit_span(first, first + len(found))
            yield start, stop, top, root(hash, found) if end <= whole else None
            continue
        for unit, (expected, leaf) in enumerate(zip(kept, found, strict=False), first):
            if expected != leaf:
                yield *shape.unit_span(unit, unit + 1), expected, leaf
    if whole < shape.units:
        yield whole << shape.unit_log2, shape.size, None, None
    if size > shape.size:
        yield shape.size, size, None, None


def _merged(units: Iterator[tuple[int, int, bytes | None, bytes | None]]) -> Iterator[BadRange]:
    """Neighbours as one range, with the hashes of the first."""
    start = stop = 0
    hashes: tuple[bytes | None, bytes | None] = None, None
    for first, end, expected, found in units:
        if start < stop and first == stop:
            stop = end
            continue
        if start < stop:
            yield BadRange(start, stop - start, *hashes)
        start, stop, hashes = first, end, (expected, found)
    if start < stop:
        yield BadRange(start, stop - start, *hashes)
