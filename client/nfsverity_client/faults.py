# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Which units are bad: told by leaf hashes that fold to the root, and by nothing else (fip-client-25)."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from nfsverity_proto.errors import Mismatch, PeerError, StatusError
from nfsverity_proto.proof import fold, proof_length

from .presentation import Caller, prove, tree_level
from .version import UnitsFailed, Version


class LocatedMismatch(Mismatch):
    """Some units are bad, and these are they: the first one is in `offset` and `length`."""

    def __init__(self, faults: Sequence[Mismatch]) -> None:
        first = faults[0]
        super().__init__(
            first.message, offset=first.offset, length=first.length, expected=first.expected, found=first.found
        )
        self.faults = tuple(faults)


async def locate(caller: Caller, version: Version, failed: UnitsFailed) -> Mismatch:
    """The verdict for units that failed: with the bad ones where they can be told, else about the file alone."""
    leaves = await _signed_leaves(caller, version, failed)
    if leaves is None:
        return Mismatch(
            "some of the content is not what was signed; the server has no hashes that tell which",
            expected=failed.expected,
            found=failed.found,
        )
    faults = [
        _fault(version, unit, expected, found)
        for unit, (expected, found) in enumerate(zip(leaves, failed.leaves, strict=True), failed.first)
        if not hmac.compare_digest(expected, found)
    ]
    if not faults:
        return Mismatch(
            "the proof that the server gave is not that of the content", expected=failed.expected, found=failed.found
        )
    return LocatedMismatch(faults)


def _fault(version: Version, unit: int, expected: bytes, found: bytes) -> Mismatch:
    start, stop = version.shape.unit_span(unit, unit + 1)
    return Mismatch(
        f"bytes {start} to {stop - 1} are not what was signed",
        offset=start,
        length=stop - start,
        expected=expected.hex(),
        found=found.hex(),
    )


async def _signed_leaves(caller: Caller, version: Version, failed: UnitsFailed) -> list[bytes] | None:
    """The leaf hashes of the units that failed, folded to a verified node; None where the server has none."""
    if failed.end - failed.first == 1 and failed.anchor.level == 0:
        return [failed.anchor.value]
    try:
        leaves = await tree_level(caller, version, 0, failed.first, failed.end - failed.first)
        anchor = failed.anchor
        due = proof_length(version.shape.units, anchor.first, anchor.end, anchor.level)
        proof = await prove(caller, version, anchor, due)
    except (StatusError, PeerError):
        return None
    folded = fold(version.hash, version.shape.units, anchor.first, leaves, anchor.level, proof)
    if not hmac.compare_digest(folded.top, anchor.value):
        return None
    return leaves
