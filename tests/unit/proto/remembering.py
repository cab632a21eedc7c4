# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A verifier that keeps marks, and what is revoked, in memory: as a client does it on its disk."""

from __future__ import annotations

from collections.abc import Sequence

from nfsverity_proto.errors import VerificationError
from nfsverity_proto.marks import Mark, MarkKey, to_raise
from nfsverity_proto.revocation import NOTHING_REVOKED
from nfsverity_proto.statement import Kind
from nfsverity_proto.trust import TrustEntry
from nfsverity_proto.verification import Verified, accept_revocation, verify_record, verify_revocation
from nfsverity_proto.verifier import Expected, Verifier


class Remembering:
    def __init__(self, trust: Sequence[TrustEntry], expected: Expected, now: int) -> None:
        self.trust, self.expected, self.now = trust, expected, now
        self.revoked = NOTHING_REVOKED
        self.marks: dict[MarkKey, Mark] = {}

    def under(self, anchor: bytes, volume: bytes, kind: Kind, path: bytes) -> dict[bytes, Mark]:
        return {
            at.key: mark
            for at, mark in self.marks.items()
            if (at.anchor, at.volume, at.kind, at.path) == (anchor, volume, kind, path)
        }

    def _raise(self, verified: Verified) -> None:
        for at, mark in to_raise(verified).items():
            self.marks[at] = max(mark, self.marks.get(at, mark), key=lambda mark: mark.generation)

    def _verifier(self) -> Verifier:
        return Verifier(self.trust, {}, self.now, marks=self, revoked=self.revoked)

    def revoke(self, record: bytes) -> str:
        verifier = self._verifier()
        try:
            verify_revocation(record, self.expected, verifier)
            verdict = "verified"
        except VerificationError as error:
            verdict = error.verdict
        if verdict in ("verified", "record-expired"):
            found = accept_revocation(record, self.expected, verifier)
            self._raise(found)
            self.revoked = self.revoked.after(found.revocation, [one.certificate.key_id() for one in found.signers])
        return verdict

    def verify(self, record: bytes) -> str:
        try:
            found = verify_record(record, self.expected, self._verifier())
        except VerificationError as error:
            return error.verdict
        self._raise(found)
        return "verified"
