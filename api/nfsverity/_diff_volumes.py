# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What differs between two volumes, or a directory of each: from their heads, their entries and the files' statements.

Equal roots are equal volumes. Else both lists of entries, which are in one order, are gone through beside each other
(fim-diff-5); the tree of a file is asked for where ranges are wanted of it and its content differs.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from nfsverity_client import diff as trees
from nfsverity_client.diff import Incomparable, Range
from nfsverity_client.pipeline import batches, in_order
from nfsverity_proto.entry import EntryType, FileNode, LinkNode, type_of
from nfsverity_proto.errors import NfsVerityError, Stale
from nfsverity_proto.statement import VERSION
from nfsverity_proto.verification import Verified

from ._difference import FileDifference, Found, State, Version, Volume, state_of

FILES_AT_ONCE = 16
"""Files that are asked for at the same time."""
FILES = 256
"""Entries that are gone through before those are asked for of which more has to be known."""
Pair = tuple[Found | None, Found | None]


async def compare_volumes(
    a: Volume, b: Volume, *, with_ranges: bool, every: bool
) -> AsyncGenerator[FileDifference, None]:
    """Each entry of either, in the order of volumes: first what is in a directory, then what is below it.

    Without `every`, nothing is said where all is the same by the heads alone. Raises as `Volume.entries`.
    """
    if not every and await _same_volumes(a, b):
        return
    async with contextlib.aclosing(_pairs(a, b)) as pairs:
        async for some in batches(pairs, FILES):
            known = [_settled(pair, with_ranges) for pair in some]
            jobs = (_asked(a, b, pair, with_ranges) for pair, found in zip(some, known, strict=True) if found is None)
            async with contextlib.aclosing(in_order(jobs, FILES_AT_ONCE)) as answers:
                for found in known:
                    yield await anext(answers) if found is None else found


async def _same_volumes(a: Volume, b: Volume) -> bool:
    """Whether the heads alone say that all is the same (fim-diff-4)."""
    one, other = await a.head(), await b.head()
    if one is None or other is None or not (await a.covers_all() and await b.covers_all()):
        return False
    if any(item.what == VERSION for item in a.revoked | b.revoked):
        return False  # of a version that is revoked nothing is said (fim-diff-1)
    return (one.statement.hash, one.head.entries, one.head.root) == (
        other.statement.hash,
        other.head.entries,
        other.head.root,
    )


async def _pairs(a: Volume, b: Volume) -> AsyncGenerator[Pair, None]:
    """What is at one place in both; what has another type there is a pair of its own."""
    async with contextlib.aclosing(a.entries()) as of_a, contextlib.aclosing(b.entries()) as of_b:
        one, other = await anext(of_a, None), await anext(of_b, None)
        while one is not None or other is not None:
            if other is None or (one is not None and one.key < other.key):
                yield one, None
                one = await anext(of_a, None)
            elif one is None or other.key < one.key:
                yield None, other
                other = await anext(of_b, None)
            else:
                if type(one.node) is type(other.node):
                    yield one, other
                else:
                    yield one, None
                    yield None, other
                one, other = await anext(of_a, None), await anext(of_b, None)


def _settled(pair: Pair, with_ranges: bool) -> FileDifference | None:
    """What the entries and statements say; None where a file has to be asked for."""
    one, other = pair
    there = one or other
    if there is None:
        raise ValueError("a pair of nothing")
    if not isinstance(there.node, FileNode):
        return _of_node(one, other, there)
    error = next((found.error for found in pair if found is not None and found.error is not None), None)
    if error is not None:
        return FileDifference(there.path, State.FAILED, _verified(one), _verified(other), None, error)
    if any(found is not None and found.verified is None for found in pair):
        return None
    a, b = _verified(one), _verified(other)
    if a is None or b is None:
        return FileDifference(there.path, State.ADDED if one is None else State.REMOVED, a, b)
    try:
        state = state_of(a, b)
    except NfsVerityError as problem:
        return FileDifference(there.path, State.FAILED, a, b, None, problem)
    if with_ranges and state is State.CHANGED:
        return None
    return FileDifference(there.path, state, a, b, () if with_ranges and state is not State.INCOMPARABLE else None)


def _of_node(one: Found | None, other: Found | None, there: Found) -> FileDifference:
    a, b = (None if found is None else found.head for found in (one, other))
    targets = _target(one), _target(other)
    if a is None or b is None:
        state = State.ADDED if a is None else State.REMOVED
    else:
        state = State.SAME if targets[0] == targets[1] else State.CHANGED
    return FileDifference(there.path, state, a, b, type=EntryType(type_of(there.node)), targets=targets)


def _target(found: Found | None) -> bytes | None:
    return found.node.target if found is not None and isinstance(found.node, LinkNode) else None


def _verified(found: Found | None) -> Verified | None:
    return None if found is None else found.verified


async def _asked(a: Volume, b: Volume, pair: Pair, with_ranges: bool) -> FileDifference:
    """A file of which not all that is needed came with its entry."""
    one, other = pair
    path = (one or other).path  # type: ignore[union-attr]
    versions: list[Version | None] = [None, None]
    try:
        for at, (volume, found) in enumerate(((a, one), (b, other))):
            if found is not None:
                versions[at] = await _version(volume, found)
        first, second = versions
        if first is None or second is None:
            state = State.ADDED if first is None else State.REMOVED
            return FileDifference(path, state, record_of(first), record_of(second))
        return await compared(path, first, second, with_ranges)
    except (NfsVerityError, OSError) as error:
        return FileDifference(path, State.FAILED, record_of(versions[0]), record_of(versions[1]), None, error)


async def _version(volume: Volume, found: Found) -> Version:
    """Raises `Stale` where the volume has another one by now."""
    version = await volume.version(found.path)
    node = found.node
    if isinstance(node, FileNode) and version.verified.tag.digest != node.content:
        raise Stale("the volume changed while it was compared", where=version.url)
    return version


async def compared(path: bytes, one: Version, other: Version, with_ranges: bool) -> FileDifference:
    """Two versions of a file. Raises what their trees raise."""
    state = state_of(one.verified, other.verified)
    found: tuple[Range, ...] | None = None
    if with_ranges and state is not State.INCOMPARABLE:
        with contextlib.suppress(Incomparable):
            found = tuple([part async for part in trees.ranges(one.tree, other.tree)])
    return FileDifference(path, state, one.verified, other.verified, found)


def record_of(version: Version | None) -> Verified | None:
    return None if version is None else version.verified
