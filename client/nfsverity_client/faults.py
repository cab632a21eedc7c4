# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Which units are bad: told by leaf hashes that fold to the root, and by nothing else (fip-client-25)."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from nfsverity_proto.errors import Mismatch, PeerError, StatusError
from nfsverity_proto.proof import fold, proof_length

from .presentation import Caller, prove, tree_level
from .version import FailedUnits, UnitsFailed, Version


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
    faults = [fault for part in failed.parts for fault in await _faults_of(caller, version, part)]
    faults.sort(key=lambda fault: fault.offset is None)
    return faults[0] if faults[0].offset is None else LocatedMismatch(faults)


async def _faults_of(caller: Caller, version: Version, part: FailedUnits) -> list[Mismatch]:
    leaves = await _signed_leaves(caller, version, part)
    expected, found = part.anchor.value.hex(), part.found.hex()
    if leaves is None:
        message = "some of the content is not what was signed; the server has no hashes that tell which"
        return [Mismatch(message, expected=expected, found=found)]
    faults = [
        _fault(version, unit, signed, received)
        for unit, (signed, received) in enumerate(zip(leaves, part.leaves, strict=True), part.anchor.first)
        if not hmac.compare_digest(signed, received)
    ]
    if not faults:
        return [Mismatch("the proof that the server gave is not that of the content", expected=expected, found=found)]
    return faults


def _fault(version: Version, unit: int, expected: bytes, found: bytes) -> Mismatch:
    start, stop = version.shape.unit_span(unit, unit + 1)
    return Mismatch(
        f"bytes {start} to {stop - 1} are not what was signed",
        offset=start,
        length=stop - start,
        expected=expected.hex(),
        found=found.hex(),
    )


async def _signed_leaves(caller: Caller, version: Version, part: FailedUnits) -> list[bytes] | None:
    """The leaf hashes of the units that failed, folded to a verified node; None where the server has none."""
    anchor = part.anchor
    if anchor.level == 0:
        return [anchor.value]
    try:
        leaves = await tree_level(caller, version, 0, anchor.first, anchor.end - anchor.first)
        due = proof_length(version.shape.units, anchor.first, anchor.end, anchor.level)
        proof = await prove(caller, version, anchor, due)
    except (StatusError, PeerError):
        return None
    folded = fold(version.hash, version.shape.units, anchor.first, leaves, anchor.level, proof)
    return leaves if hmac.compare_digest(folded.top, anchor.value) else None
