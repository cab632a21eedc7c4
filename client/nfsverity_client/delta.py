# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A served version beside another copy of the file: its tree, and those of its units that the copy has not."""

from __future__ import annotations

import contextlib
import hmac
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from functools import partial

from nfsverity_proto.proof import Run
from nfsverity_proto.tree import Shape

from .diff import Node, TreeSource, differing_units, fold_group, group_of, runs_of
from .pipeline import batches, in_order
from .presentation import TreeFailed, tree_level
from .reader import Reader, Replaced
from .version import Span, Version, check_empty

CALLS = 8
"""Ranges of hashes that are asked for at once."""
RANGES = 256
"""Ranges of units that are looked for before their data is asked for."""


class ServedTree:
    """The tree of the version that a reader has open: a `TreeSource`.

    Raises what a `Reader` does; `Replaced` where the reader goes over to a newer version.
    """

    def __init__(self, reader: Reader, version: Version) -> None:
        """Raises `Mismatch` for an empty file that has not the root of one."""
        if version.shape.units == 0:
            check_empty(version)
        self.reader = reader
        self.version = version
        self.type: int = version.verified.content.tree.type
        self.shape: Shape = version.shape
        self.hash = version.hash
        self.root: bytes = version.verified.content.tree.root
        self.hashes = 0
        """How many hashes were asked for."""

    async def below(self, level: int, nodes: Sequence[Node], step: int) -> Sequence[Sequence[bytes]]:
        return await self.reader.attempt(self.version, partial(self._below, level, nodes, step))

    async def _below(self, level: int, nodes: Sequence[Node], step: int) -> list[Sequence[bytes]]:
        lower = level - step
        groups = [group_of(self.shape, level, node.index, step) for node in nodes]
        wanted = deque(runs_of(groups))
        jobs = (tree_level(self.reader.session, self.version, lower, at, end - at) for at, end in tuple(wanted))
        found: list[Sequence[bytes]] = []
        async with contextlib.aclosing(in_order(jobs, CALLS)) as runs:
            low = high = 0
            hashes: Sequence[bytes] = ()
            for node, (first, end) in zip(nodes, groups, strict=True):
                if end > high:
                    low, high = wanted.popleft()
                    hashes = await anext(runs)
                    self.hashes += high - low
                part = hashes[first - low : end - low]
                self._fold(lower, first, part, node.value)
                found.append(part)
        return found

    def _fold(self, level: int, first: int, group: Sequence[bytes], expected: bytes) -> None:
        """Raises `TreeFailed`. What was met helps to read units below it (fip-client-18)."""
        rows = fold_group(self.hash, group)
        top = rows[-1][0]
        if not hmac.compare_digest(top, expected):
            raise TreeFailed(
                "the hashes that the server gave do not lead to the signed root",
                expected=expected.hex(),
                found=top.hex(),
            )
        self.version.nodes.add([Run(at, first >> (at - level), row) for at, row in enumerate(rows, level)])


async def differing_spans(reader: Reader, version: Version, copy: TreeSource) -> AsyncGenerator[Span, None]:
    """The units of a version that a copy of its size has not, verified, in order.

    `version` is what the reader has open. Whatever the copy is, with these units in place it is that version:
    all others have the leaf hashes that were signed. Each span is valid until the next one is asked for.
    Raises as `ServedTree`.
    """
    if copy.shape != version.shape:
        raise ValueError("the copy has not the shape of the version")
    served = ServedTree(reader, version)
    async with contextlib.aclosing(differing_units(served, copy)) as found:
        async for some in batches(found, RANGES):
            async with contextlib.aclosing(reader.read_spans(version, some)) as spans:
                async for span in spans:
                    yield span
    if reader.version is not version:
        raise Replaced
    reader.pin()
