# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""One version of a file as it was opened, and runs of its units that were received for it."""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from nfsverity_proto.errors import Mismatch
from nfsverity_proto.hashes import Hash, hash_by_number
from nfsverity_proto.proof import fold
from nfsverity_proto.statement import Tag
from nfsverity_proto.tree import Shape, root, zero_node

from .cached_nodes import SessionNodes
from .connection import Held
from .marks import Judged
from .nodes import Anchor, VerifiedNodes

_ZEROS = bytes(2**20)
"""What is delivered of holes, piece by piece."""


class Version:
    """A verified record with the handle it came from, and what has been verified under it since."""

    def __init__(self, handle: bytes, judged: Judged, nodes: SessionNodes | None = None) -> None:
        verified = judged.verified
        self.handle = handle
        self.verified = verified
        self.raised = judged.raised
        """What has to be settled before a byte of it is delivered; None where nothing (any more)."""
        self.seen_before = judged.seen_before
        self.shape: Shape = verified.content.tree.shape
        self.hash: Hash = hash_by_number(verified.statement.hash)
        nodes = SessionNodes() if nodes is None else nodes
        tree = verified.content.tree
        self.nodes = VerifiedNodes(self.shape, tree.root, nodes.memory)
        self.cached = nodes.cached(self.hash, tree.type, self.nodes, tree.root)
        self.units = nodes.cached_units(self.hash, tree.type, self.shape, tree.root)
        self.counts = nodes.counts

    def take(self, judged: Judged) -> None:
        """The same statement, under another record."""
        self.verified = judged.verified
        self.raised = self.raised or judged.raised

    @property
    def tag(self) -> Tag:
        return self.verified.tag

    @property
    def generation(self) -> int:
        return self.verified.file.when.generation


def check_empty(version: Version) -> None:
    """Step 13 for a file without units (fim-proof-8). Raises `Mismatch`."""
    expected, found = version.verified.content.tree.root, root(version.hash, ())
    if not hmac.compare_digest(expected, found):
        raise Mismatch("an empty file has another root", expected=expected.hex(), found=found.hex())


@dataclass(slots=True)
class Span:
    """Units [first, end) of a version, received, in order: pieces of data, and numbers of zero bytes."""

    first: int
    end: int
    start: int
    """The offset in the file of the first byte."""
    length: int
    pieces: list[memoryview | int]
    holders: list[Held[Any]] = field(default_factory=list)

    def cut(self, offset: int, stop: int) -> Iterator[memoryview]:
        """The bytes [offset, stop) of the file, as far as they are in here."""
        at = self.start
        for piece in self.pieces:
            length = piece if isinstance(piece, int) else len(piece)
            low, high = max(offset - at, 0), min(stop - at, length)
            at += length
            if low >= high:
                continue
            if not isinstance(piece, int):
                yield piece[low:high]
                continue
            left = high - low
            while left:
                count = min(left, len(_ZEROS))
                yield memoryview(_ZEROS)[:count]
                left -= count

    def release(self) -> None:
        """No view of it may be used after this."""
        self.pieces = []
        for held in self.holders:
            held.release()
        self.holders = []


@dataclass(frozen=True, slots=True)
class FailedUnits:
    """Units under an anchor that do not fold to it. Which of them, or whether the proof, is bad is open."""

    anchor: Anchor
    leaves: Sequence[bytes]
    """As the units hash that were received."""
    found: bytes
    """What they fold to."""


class UnitsFailed(Mismatch):
    """Units do not fold to the verified nodes above them."""

    def __init__(self, version: Version, parts: Sequence[FailedUnits]) -> None:
        first = parts[0]
        start, stop = version.shape.unit_span(first.anchor.first, first.anchor.end)
        super().__init__(
            f"bytes {start} to {stop - 1} are not what was signed",
            offset=start,
            length=stop - start,
            expected=first.anchor.value.hex(),
            found=first.found.hex(),
        )
        self.parts = parts


def span_leaves(version: Version, span: Span) -> list[bytes]:
    """The leaf hash of each unit of a span."""
    hash, unit = version.hash, version.shape.unit_size
    if span.end - span.first == 1 and span.pieces != [unit]:
        return [hash.leaf_of(span.cut(span.start, span.start + span.length))]
    leaves: list[bytes] = []
    for piece in span.pieces:  # each is whole units, but for the last unit of the file
        if isinstance(piece, int):
            whole, rest = divmod(piece, unit)
            leaves += [zero_node(hash, version.shape.unit_log2, 0)] * whole
            if rest:
                leaves.append(hash.leaf(bytes(rest)))
        else:
            leaves += [hash.leaf(piece[i : i + unit]) for i in range(0, len(piece), unit)]
    return leaves


def verify_span(
    version: Version, span: Span, leaves: Sequence[bytes], anchors: Sequence[Anchor], proofs: Sequence[Sequence[bytes]]
) -> None:
    """Step 13: fold the units, with a proof under each anchor; what was met is remembered (fip-client-17).

    Raises `UnitsFailed`; `ValueError` where a proof has not the length that is due.
    """
    failed: list[FailedUnits] = []
    for anchor, proof in zip(anchors, proofs, strict=True):
        part = leaves[anchor.first - span.first : anchor.end - span.first]
        folded = fold(version.hash, version.shape.units, anchor.first, part, anchor.level, proof)
        if hmac.compare_digest(folded.top, anchor.value):
            version.nodes.add(folded.runs)
            if version.cached is not None:
                version.cached.verified(anchor, folded.runs[0])
        else:
            failed.append(FailedUnits(anchor, part, folded.top))
    if failed:
        raise UnitsFailed(version, failed)
