# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The four ways to get the hashes that units are verified with (fip, "The Four Presentations").

Bytes and verdicts are the same in all of them. Each function takes a `Caller`, which does the calls.
"""

from __future__ import annotations

import hmac
from collections.abc import Coroutine, Iterator, Sequence
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from nfsverity_proto import messages as m
from nfsverity_proto.errors import MalformedMessage, Mismatch, NfsVerityError
from nfsverity_proto.proof import proof_length, split_hashes
from nfsverity_proto.slices import check_holes, slice_log2, slice_span, slices_of_units
from nfsverity_proto.tree import AHEAD_NODES, Shape, levels, root

from .connection import Held, Traffic
from .nodes import Anchor
from .pipeline import both, in_order
from .unit_cache import CachedUnits
from .version import FailedUnits, Span, UnitsFailed, Version, span_leaves, verify_span

Ok = TypeVar("Ok")
SPAN = 2**20
"""Bytes of units that are read and verified together; every server grants as many (fip-limits-1)."""
LONG_SPAN = 2**21
"""The same in a long read from a server that grants as many: fewer calls, and still not out of the cache."""
WINDOW = 4
"""Spans under way at once."""
TREE_HASHES = 4096
"""Hashes of one call to TREE; every server grants as many (fip-limits-1)."""
RECONSTRUCT_UNITS = 2**18
"""Units of the largest file that is reconstructed: 16 GiB at 64 KiB a unit."""


class Presentation(StrEnum):
    """How the hashes come."""

    AHEAD = "ahead"
    ON_DEMAND = "on-demand"
    INLINE = "inline"
    RECONSTRUCT = "reconstruct"


class TooLarge(NfsVerityError):
    """The file is too large to be reconstructed."""


class GrantsLess(NfsVerityError):
    """The server grants less data in one reply than was to be asked for: the connection is not the one it was."""


class TreeFailed(Mismatch):
    """Hashes of a whole level, as received, do not fold to the root."""


class Caller(Protocol):
    """What makes calls; `Session` is one."""

    traffic: Traffic

    async def call(self, procedure: m.Procedure[Any, Ok], arguments: Any) -> Ok: ...

    async def call_holding(self, procedure: m.Procedure[Any, Ok], arguments: Any, *, data: int = 0) -> Held[Ok]: ...


def spans(shape: Shape, first: int, end: int, most: int = SPAN) -> Iterator[tuple[int, int]]:
    """Units [first, end) cut at multiples of `most` bytes, a power of two, so that each cut is under one low node."""
    per_span = max(1, most >> shape.unit_log2)
    while first < end:
        stop = min(first - first % per_span + per_span, end)
        yield first, stop
        first = stop


def window(shape: Shape) -> int:
    """Spans that are under way at once: fewer where each is one large unit."""
    return WINDOW if shape.unit_size <= SPAN else 2


async def read_verified(
    caller: Caller, version: Version, first: int, end: int, presentation: Presentation, *, fresh: bool = False
) -> Span:
    """Units [first, end), at most `LONG_SPAN` bytes or one unit, verified under the lowest nodes that are known.

    `fresh`: as the server has them, and not from a cache of units.
    Raises `GrantsLess` where `end - first` units are more than `SPAN`; `UnitsFailed`, `StatusError`, `PeerError`.
    """
    anchors = version.nodes.anchors(first, end)
    due = _due(version, anchors)
    if version.cached is not None and any(due):
        await version.cached.load(first, end)
        cold, anchors = sum(due), version.nodes.anchors(first, end)
        due = _due(version, anchors)
        version.cached.saved(cold - sum(due))
    if version.units is not None and not fresh:
        kept = await _kept(caller, version, version.units, first, end, anchors, due)
        if kept is not None:
            return kept
    if presentation is Presentation.INLINE and len(anchors) == 1 and due[0]:
        span, proof = await _receive(caller, version, first, end, anchors[0].level, due[0])
        proofs = [proof]
    elif any(due):
        (span, _), proofs = await both(
            _receive(caller, version, first, end, None, 0), _prove_all(caller, version, anchors, due)
        )
    else:
        span, _ = await _receive(caller, version, first, end, None, 0)
        proofs = [[] for _ in anchors]
    verify_span(version, span, span_leaves(version, span), anchors, proofs)
    if version.units is not None:
        await version.units.put(first, end, span.pieces)
    return span


async def _kept(
    caller: Caller, version: Version, units: CachedUnits, first: int, end: int, anchors: Sequence[Anchor],
    due: Sequence[int],
) -> Span | None:  # fmt: skip
    """Units [first, end) of the cache, verified; None where they are not there, or are not what was signed.

    Whether it is they that are wrong or the proof of the server cannot be told: both are asked for again (fim-cache-8).
    """
    counts = version.counts
    data = await units.get(first, end)
    if data is None:
        counts.data_misses += 1
        return None
    proofs = await _prove_all(caller, version, anchors, due) if any(due) else [[] for _ in anchors]
    span = Span(first, end, version.shape.unit_span(first, end)[0], len(data), [data])
    try:
        verify_span(version, span, span_leaves(version, span), anchors, proofs)
    except UnitsFailed:
        counts.data_dropped += 1
        await units.drop(first, end)
        return None
    counts.data_hits += 1
    counts.data_bytes_saved += len(data)
    return span


def _due(version: Version, anchors: Sequence[Anchor]) -> list[int]:
    """The number of hashes in the proof under each anchor."""
    units = version.shape.units
    return [proof_length(units, anchor.first, anchor.end, anchor.level) for anchor in anchors]


async def _prove_all(
    caller: Caller, version: Version, anchors: Sequence[Anchor], due: Sequence[int]
) -> list[list[bytes]]:
    jobs = (prove(caller, version, anchor, count) for anchor, count in zip(anchors, due, strict=True))
    return [proof async for proof in in_order(jobs, WINDOW)]


async def prove(caller: Caller, version: Version, anchor: Anchor, due: int) -> list[bytes]:
    """The proof of an anchor's units, `due` hashes long: proof input, no more."""
    if not due:
        return []
    count = anchor.end - anchor.first
    arguments = m.ProofArgs(version.handle, version.tag, anchor.level, anchor.first, count)
    ok = await caller.call(m.PROOF, arguments)
    return received_proof(caller, version, ok.proof, due)


def received_proof(caller: Caller, version: Version, proof: bytes, due: int) -> list[bytes]:
    """The hashes of a proof. Raises `MalformedMessage` where there are not as many as are due."""
    if len(proof) != due * version.hash.length:
        raise MalformedMessage(
            f"a proof of {len(proof)} bytes where {due} hashes of {version.hash.length} bytes are due"
        )
    caller.traffic.hashes += due
    return split_hashes(proof, version.hash.length)


async def _receive(
    caller: Caller, version: Version, first: int, end: int, level: int | None, due: int
) -> tuple[Span, list[bytes]]:
    """The data of units [first, end), with the proof under the node of `level` where that is given."""
    slice_first, slice_end = slices_of_units(version.shape, first, end)
    whole = end - first > 1  # a proof is that of one READ: only a single unit comes in several
    step = slice_end - slice_first if whole else max(1, SPAN >> slice_log2(version.shape))
    start, stop = version.shape.unit_span(first, end)
    span = Span(first, end, start, stop - start, [])
    proof: list[bytes] = []
    jobs = (
        caller.call_holding(
            m.READ,
            m.ReadArgs(
                version.handle, version.tag, at, min(step, slice_end - at), level if at == slice_first else None
            ),
            data=min(step, slice_end - at) << slice_log2(version.shape),
        )
        for at in range(slice_first, slice_end, step)
    )
    at = slice_first
    async for held in _each(jobs, slice_end - slice_first <= step):
        count = min(step, slice_end - at)
        proof += received_proof(caller, version, held.ok.proof, due if at == slice_first else 0)
        span.pieces += pieces(version.shape, at, at + count, held.ok)
        span.holders.append(held)
        caller.traffic.data += len(held.ok.data)
        at += count
    return span, proof


async def _each(jobs: Iterator[Coroutine[Any, Any, Held[m.ReadOk]]], single: bool) -> Any:
    if single:  # as nearly always: no task is needed
        yield await next(jobs)
    else:
        async for held in in_order(jobs, WINDOW):
            yield held


def pieces(shape: Shape, first: int, end: int, ok: m.ReadOk) -> list[memoryview | int]:
    """Data and zeros of slices [first, end), in order. Raises `MalformedMessage` (fip-read-8)."""
    data = memoryview(ok.data)
    try:
        check_holes(ok.holes, end - first)
    except ValueError as error:
        raise MalformedMessage(f"a reply to READ has {error}") from error
    found: list[memoryview | int] = []
    at, taken = first, 0
    for hole in ok.holes:
        if first + hole.first > at:
            start, stop = slice_span(shape, at, first + hole.first)
            found.append(data[taken : taken + stop - start])
            taken += stop - start
        at = first + hole.first + hole.count
        start, stop = slice_span(shape, first + hole.first, at)
        found.append(stop - start)
    if at < end:
        start, stop = slice_span(shape, at, end)
        found.append(data[taken : taken + stop - start])
        taken += stop - start
    if taken != len(data):
        raise MalformedMessage(f"a reply to READ has {len(data)} bytes of data where {taken} are due")
    return found


async def prepare(caller: Caller, version: Version, presentation: Presentation) -> None:
    """What a presentation does once for a version, before its first read.

    Raises `TreeFailed`, `UnitsFailed`, `TooLarge`, `StatusError`, `PeerError`.
    """
    if version.shape.units < 2:
        return
    if presentation is Presentation.AHEAD:
        level = version.shape.lowest_level(AHEAD_NODES)
        hashes = await _whole_level(caller, version, level)
        expected, found = version.verified.content.tree.root, root(version.hash, hashes)
        if not hmac.compare_digest(expected, found):
            raise TreeFailed(
                "the hashes that the server gave do not lead to the signed root",
                expected=expected.hex(),
                found=found.hex(),
            )
        _keep_level(version, level, hashes)
    elif presentation is Presentation.RECONSTRUCT:
        _keep_level(version, 0, await _reconstruct(caller, version))


def _keep_level(version: Version, level: int, hashes: Sequence[bytes]) -> None:
    """A whole level, which folds to the root."""
    version.nodes.set_level(level, hashes)
    if version.cached is not None:
        version.cached.save_level(level, list(levels(version.hash, hashes)))


async def _whole_level(caller: Caller, version: Version, level: int) -> list[bytes]:
    """All nodes of a level: those that the cache has, and the others from the server."""
    width = saved = version.shape.width(level)
    if version.cached is None:
        return await tree_level(caller, version, level, 0, width)
    hashes = await version.cached.load_level(level)
    gaps = [at for at in range(0, width, TREE_HASHES) if None in hashes[at : at + TREE_HASHES]]
    for at in gaps:
        end = min(at + TREE_HASHES, width)
        hashes[at:end] = await tree_level(caller, version, level, at, end - at)
        saved -= end - at
    version.cached.saved(saved)
    return [value for value in hashes if value is not None]


async def tree_level(caller: Caller, version: Version, level: int, first: int, count: int) -> list[bytes]:
    """Nodes [first, first + count) of a level, as the server gives them: proof input, no more."""
    jobs = (
        _tree_part(caller, version, level, at, min(TREE_HASHES, first + count - at))
        for at in range(first, first + count, TREE_HASHES)
    )
    hashes: list[bytes] = []
    async for part in in_order(jobs, WINDOW):
        hashes += part
    return hashes


async def _tree_part(caller: Caller, version: Version, level: int, first: int, count: int) -> list[bytes]:
    held = await caller.call_holding(m.TREE, m.TreeArgs(version.handle, version.tag, level, first, count))
    if len(held.ok.hashes) != count * version.hash.length:
        raise MalformedMessage(f"a reply to TREE has {len(held.ok.hashes)} bytes where {count} hashes are due")
    caller.traffic.hashes += count
    hashes = split_hashes(memoryview(held.ok.hashes), version.hash.length)
    held.release()
    return hashes


async def _reconstruct(caller: Caller, version: Version) -> list[bytes]:
    """Every leaf, made from the whole content (fip-client-19)."""
    shape = version.shape
    if shape.units > RECONSTRUCT_UNITS:
        raise TooLarge(
            f"{shape.size} bytes in {shape.units} units are too many to reconstruct (at most {RECONSTRUCT_UNITS});"
            " use another presentation"
        )
    if version.cached is not None:
        known = await version.cached.load_level(0)
        if None not in known:
            return [leaf for leaf in known if leaf is not None]
    jobs = (_receive(caller, version, first, end, None, 0) for first, end in spans(shape, 0, shape.units))
    leaves: list[bytes] = []
    async for span, _ in in_order(jobs, window(shape)):
        leaves += span_leaves(version, span)
        span.release()
    expected, found = version.verified.content.tree.root, root(version.hash, leaves)
    if not hmac.compare_digest(expected, found):
        raise UnitsFailed(version, [FailedUnits(Anchor(0, shape.units, shape.height, expected), leaves, found)])
    return leaves
