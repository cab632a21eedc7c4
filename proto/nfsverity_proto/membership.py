# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The body of an attestation of type MEMBERSHIP: that a volume has a content under a path (fim, "Members")."""

from __future__ import annotations

from dataclasses import dataclass

from .entry import Entry
from .entry_range import ENTRY_RANGE, EntryRange
from .statement import TAG, Tag
from .xdr import Buffer, Codec, Structure


@dataclass(frozen=True, slots=True)
class Membership:
    """The head by its tag, and a range of exactly one entry."""

    head: Tag
    range: EntryRange

    def __post_init__(self) -> None:
        if len(self.range.entries) != 1:
            raise ValueError(f"a membership of {len(self.range.entries)} entries")

    @property
    def entry(self) -> Entry:
        return self.range.entries[0]


_MEMBERSHIP: Codec[Membership] = Codec(Structure(Membership, head=TAG, range=ENTRY_RANGE))


def encode_membership(membership: Membership) -> bytes:
    return _MEMBERSHIP.encode(membership)


def decode_membership(data: Buffer) -> Membership:
    """Raises `XdrError`."""
    return _MEMBERSHIP.decode(data)
