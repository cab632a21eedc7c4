# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A file of a volume that travels alone, with the head of its volume (fim, "Exported Members")."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import Malformed, Unsigned
from .member import verify_member
from .record import RECORD_MAX
from .statement import MAGIC
from .verification import Verified, check_revoked, verify_head
from .verifier import Expected, Verifier
from .xdr import Buffer, Codec, Opaque, Structure, XdrError

EXPORTED_MAX = 2 * (4 + RECORD_MAX)
"""Bytes: both records with their lengths, which need no padding at that bound."""

_MAGIC = MAGIC.to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class Exported:
    """The record of a member, and that of the head that its membership names. Both as they were received."""

    record: bytes
    head: bytes


_EXPORTED: Codec[Exported] = Codec(Structure(Exported, record=Opaque(RECORD_MAX), head=Opaque(RECORD_MAX)))


def encode_exported(exported: Exported) -> bytes:
    return _EXPORTED.encode(exported)


def decode_exported(data: Buffer) -> Exported:
    """Raises `Malformed`."""
    try:
        if len(data) > EXPORTED_MAX:
            raise XdrError(f"{len(data)} bytes; {EXPORTED_MAX} are allowed")
        return _EXPORTED.decode(data)
    except ValueError as error:
        raise Malformed(f"what was exported cannot be decoded: {error}") from error


def is_exported(data: Buffer) -> bool:
    """Whether a file that is a record or a fim_exported is the second one (fim-export-3).

    Behind the first length a record has the magic, and a fim_exported a length, which is far below it.
    """
    return bytes(data[4:8]) != _MAGIC


def verify_exported(data: Buffer | None, expected: Expected, verifier: Verifier) -> tuple[Verified, Verified]:
    """The head, then the member at `expected.path` (fim-export-2). Raises as `verify_head` and `verify_member` do.

    Marks are raised with the head alone, which comes first of the two.
    """
    if data is None:
        raise Unsigned("there is no record")
    exported = decode_exported(data)
    head = verify_head(exported.head, expected, verifier)
    member = verify_member(exported.record, expected.path, head, verifier.algorithms)
    check_revoked(member, verifier.revoked.of(head.volume))
    return head, member
