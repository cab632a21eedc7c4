# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Marks: the latest version that was accepted from each signer (fim, "Marks").

Pure: the caller keeps them, and the time, on durable storage, and raises them before it delivers a byte (fim-mark-3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from .statement import Kind, Tag

if TYPE_CHECKING:
    from .verification import Verified


@dataclass(frozen=True, slots=True)
class Mark:
    generation: int
    tag: Tag


@dataclass(frozen=True, slots=True)
class MarkKey:
    """What a mark is kept under (fim-mark-7)."""

    anchor: bytes
    """The DER of the certificate of a trust entry."""
    volume: bytes
    kind: Kind
    path: bytes
    """Empty for a revocation."""
    key: bytes
    """The DER of the signer's public key."""


class Marks(Protocol):
    """Where verification finds the marks."""

    def under(self, anchor: bytes, volume: bytes, kind: Kind, path: bytes) -> Mapping[bytes, Mark]:
        """By the signer's public key."""


class _NoMarks:
    def under(self, anchor: bytes, volume: bytes, kind: Kind, path: bytes) -> Mapping[bytes, Mark]:
        return {}


NO_MARKS: Marks = _NoMarks()


def to_raise(verified: Verified) -> dict[MarkKey, Mark]:
    """The marks that a version leaves: of each signer, for each entry by which it is believed (fim-mark-7).

    None for a member of a volume, for which the head has them.
    """
    if verified.member is not None:
        return {}
    mark = Mark(verified.when.generation, verified.tag)
    return {
        MarkKey(
            entry.anchor, verified.volume, verified.statement.kind, verified.path, signer.certificate.key_id()
        ): mark
        for signer in verified.signers
        for entry in signer.entries
    }


def effective_now(clock: int, kept: int) -> int:
    """The `now` of verification: never before a time that is known to have passed (fim-time-1)."""
    return max(clock, kept)


def time_to_keep(issued: int, now: int) -> int:
    """What an accepted statement shows of the time; never later than `now`, however late it was issued (fim-time-2)."""
    return min(issued, now)
