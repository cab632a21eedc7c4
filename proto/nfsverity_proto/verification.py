# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The verification algorithm, steps 0 to 12, in the draft's order (fim, "Verification").

Fail-closed: a record is verified only if every step passed, and each step has its own error. Step 13, the
units, is `proof.fold` against the root that comes out of here; `client` does it for every read.

Pure: the time, the certificates, the marks and what is revoked come in as arguments. `signers.signers_to_fetch` says
which certificates could be of use; whoever does the I/O gets them, from anywhere: they are believed only by their
digest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from .errors import (
    Equivocation,
    IsRevoked,
    IssuedInFuture,
    RecordExpired,
    RefusedAlgorithm,
    Rollback,
    UnknownExtension,
    Unsigned,
    Unsupported,
    WrongKind,
    WrongPath,
    WrongVolume,
)
from .hashes import hash_by_number
from .marks import Mark, Marks
from .path import shown_path
from .record import Record, decode_record
from .revocation import Revoked
from .signers import Signer, check_attestations, check_signers
from .statement import (
    PUBLIC_KEY,
    VERSION,
    Content,
    File,
    Kind,
    Revocation,
    Statement,
    Tag,
    Volume,
    When,
    decode_statement,
    tag_of,
)
from .tree import RFC9162
from .trust import TrustEntry
from .verifier import Algorithms, Expected, Verifier
from .xdr import Buffer

SKEW = 300
"""Seconds by which a statement may have been issued after the verifier's now."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A record of which every step passed."""

    data: bytes = field(repr=False)
    record: Record = field(repr=False)
    statement: Statement
    tag: Tag
    signers: tuple[Signer, ...]
    member: File | None = None
    """What head, entry and statement say together of a file of a volume (fim-member-2)."""
    head_tag: Tag | None = None
    """Of the head that vouches for a file of a volume."""

    @property
    def file(self) -> File:
        claim = self._identified
        if not isinstance(claim, File):
            raise ValueError("this statement is not about a file")
        return claim

    @property
    def head(self) -> Volume:
        claim = self.statement.claim
        if not isinstance(claim, Volume):
            raise ValueError("this statement is not about a volume")
        return claim

    @property
    def revocation(self) -> Revocation:
        claim = self.statement.claim
        if not isinstance(claim, Revocation):
            raise ValueError("this statement is not a revocation")
        return claim

    @property
    def _identified(self) -> File | Volume | Revocation:
        return self.statement.identified if self.member is None else self.member

    @property
    def volume(self) -> bytes:
        return self._identified.volume

    @property
    def path(self) -> bytes:
        """Empty for a head and a revocation, which are about the whole volume."""
        claim = self._identified
        return claim.path if isinstance(claim, File) else b""

    @property
    def label(self) -> bytes:
        return self._identified.label

    @property
    def when(self) -> When:
        return self._identified.when

    @property
    def content(self) -> Content:
        return self.file.content


def verify_record(data: Buffer | None, expected: Expected, verifier: Verifier) -> Verified:
    """Steps 0 to 12 for the record of a file.

    Raises the `VerificationError` of the first step that fails; of several attestations that fail, the
    error of the one that got furthest, and of equals the first.
    """
    return _version(Kind.FILE, data, expected, verifier)


def verify_head(data: Buffer | None, expected: Expected, verifier: Verifier) -> Verified:
    """Steps 0 to 12 for the head of a volume. `expected.path` is not used. Raises as `verify_record` does."""
    return _version(Kind.VOLUME, data, expected, verifier)


def _version(kind: Kind, data: Buffer | None, expected: Expected, verifier: Verifier) -> Verified:
    verified = _up_to_signers(kind, data, expected, verifier)
    revoked = verifier.revoked.of(verified.volume)
    check_version(verified, expected, verifier.trust, verifier.marks, revoked)  # step 11
    check_validity(verified.statement, verifier.now)  # step 12
    check_freshness(revoked, verifier.now)
    return verified


def accept_revocation(data: Buffer | None, expected: Expected, verifier: Verifier) -> Verified:
    """A revocation that counts: all of steps 0 to 12 but for its `not_after` (fim-rev-6). `expected.path` is not used.

    The caller keeps it (`Revoked.after`, `marks.to_raise`); what has expired counts for as long, and then lets no
    version pass (`check_freshness`). Raises as `verify_record` does.
    """
    verified = _up_to_signers(Kind.REVOCATION, data, expected, verifier)
    revoked = verifier.revoked.of(verified.volume)
    own = revoked.joined(verified.revocation.items)
    check_version(verified, expected, verifier.trust, verifier.marks, revoked, own)  # step 11
    check_successor(verified.revocation, own)
    check_issued(verified.statement, verifier.now)  # step 12
    return verified


def verify_revocation(data: Buffer | None, expected: Expected, verifier: Verifier) -> Verified:
    """Steps 0 to 12 for a revocation, whose verdict is that of `accept_revocation`, or that it has expired."""
    verified = accept_revocation(data, expected, verifier)
    check_validity(verified.statement, verifier.now)
    return verified


def _up_to_signers(kind: Kind, data: Buffer | None, expected: Expected, verifier: Verifier) -> Verified:
    """Steps 0 to 10, which are the same for each kind that has an identity."""
    if data is None:  # step 0
        raise Unsigned("there is no record")
    data = bytes(data)
    record = decode_record(data)  # step 1
    statement = decode_statement(record.statement, kind)  # steps 1 and 2
    check_identity(statement, expected)  # step 3
    check_extensions(statement)  # step 4
    check_algorithms(statement, verifier.algorithms)  # step 5
    signers = check_attestations(record, statement, expected, verifier)  # steps 6 to 9
    check_signers(signers, statement, expected, verifier.trust)  # step 10
    return Verified(data, record, statement, tag_of(record.statement, statement.hash), signers)


def check_identity(statement: Statement, expected: Expected) -> None:
    """Step 3: the volume, then the path of a file, are the client's."""
    claim = statement.identified
    if expected.volumes is not None and claim.volume not in expected.volumes:
        raise WrongVolume(
            "the record is of another volume",
            expected=" or ".join(sorted(volume.hex() for volume in expected.volumes)),
            found=claim.volume.hex(),
        )
    if isinstance(claim, File) and claim.path != expected.path:
        raise WrongPath(
            "the record is of another path", expected=shown_path(expected.path), found=shown_path(claim.path)
        )


def check_extensions(statement: Statement) -> None:
    """Step 4: none is defined yet, so every critical one is unknown."""
    for extension in statement.extensions:
        if extension.critical:
            raise UnknownExtension(f"critical extension {extension.number} is not known here")


def check_algorithms(statement: Statement, algorithms: Algorithms) -> None:
    """Step 5: hash, tree type and unit size are known and accepted; so is what each item of a revocation names."""
    hash_by_number(statement.hash)
    if statement.hash not in algorithms.hashes:
        raise RefusedAlgorithm(f"hash {hash_by_number(statement.hash).name} is not accepted")
    claim = statement.claim
    if isinstance(claim, Revocation):
        _check_items(claim)
        return
    if isinstance(claim, Volume):
        return
    tree = (claim.content if isinstance(claim, File) else claim).tree
    if tree.type != RFC9162:
        raise Unsupported(f"tree type {tree.type} is not known here")
    if tree.unit_log2 not in algorithms.unit_log2s:
        raise RefusedAlgorithm(f"units of {1 << tree.unit_log2} bytes are not accepted")


def _check_items(revocation: Revocation) -> None:
    """A key is compared under the hash of its item; the tag of a version was made with its own (fim-rev-4)."""
    for item in revocation.items:
        if item.what not in (PUBLIC_KEY, VERSION):
            raise Unsupported(f"a revocation of what has number {item.what}, which is not known here")
        if item.what == PUBLIC_KEY:
            hash_by_number(item.hash)


def check_version(
    verified: Verified,
    expected: Expected,
    trust: Sequence[TrustEntry],
    marks: Marks,
    revoked: Revoked,
    passing_over: Revoked | None = None,
) -> None:
    """Step 11: the version is not revoked, and not before a mark of a key that is not (fim-mark-6, fim-mark-8).

    The marks of keys are passed over that `passing_over` has: `revoked`, or also what the revocation itself revokes.
    """
    check_revoked(verified, revoked)
    if verified.statement.kind is Kind.FILE and _marks_of(
        Kind.VOLUME, b"", verified.volume, expected, trust, marks, revoked
    ):  # fim-head-2
        raise WrongKind("the volume has a head, and stand-alone records do not count", expected="volume", found="file")
    kind = verified.statement.kind
    found = _marks_of(kind, verified.path, verified.volume, expected, trust, marks, passing_over or revoked)
    generation = verified.when.generation
    highest = max((mark.generation for mark in found), default=generation)
    if generation < highest:
        raise Rollback(
            "an older version than one that was accepted before", expected=f"at least {highest}", found=str(generation)
        )
    for mark in found:
        if mark.generation == generation and mark.tag != verified.tag:
            raise Equivocation(
                "another version of the same generation", expected=str(mark.tag), found=str(verified.tag)
            )


def check_revoked(verified: Verified, revoked: Revoked) -> None:
    """The first part of step 11, which is all of it for a member: its tag is not one that is revoked."""
    if revoked.tag(verified.tag):
        error = IsRevoked(f"the version with tag {verified.tag} is revoked")
        error.advice = "ask the publisher for a newer version"
        raise error


def _marks_of(
    kind: Kind,
    path: bytes,
    volume: bytes,
    expected: Expected,
    trust: Sequence[TrustEntry],
    marks: Marks,
    revoked: Revoked,
) -> list[Mark]:
    """Those under all entries that cover volume and place, whether or not they believe a signer (fim-mark-6)."""
    anchors = dict.fromkeys(entry.anchor for entry in trust if entry.covers(volume, expected.url))
    return [
        mark
        for anchor in anchors
        for key, mark in marks.under(anchor, volume, kind, path).items()
        if not revoked.key(key)
    ]


def check_successor(revocation: Revocation, revoked: Revoked) -> None:
    """Step 11 for a revocation: it has all items of those before it, but of keys that are revoked (fim-rev-7)."""
    for accepted in revoked.counting():
        missing = accepted.items.difference(revocation.items)
        if missing:
            raise Rollback(
                "a revocation without what one before it revokes",
                expected=" and ".join(item.digest.hex() for item in sorted(missing)),
                found="a list without",
            )


def check_validity(statement: Statement, now: int) -> None:
    """Step 12: issued and not-after, by the verifier's clock."""
    check_issued(statement, now)
    when = statement.identified.when
    if now > when.not_after:
        raise RecordExpired(
            "the statement has expired", expected=f"not after {_time(when.not_after)}", found=_time(now)
        )


def check_issued(statement: Statement, now: int) -> None:
    """The first half of step 12."""
    when = statement.identified.when
    if when.issued > now + SKEW:
        raise IssuedInFuture(
            "the statement was issued after now", expected=f"at most {_time(now + SKEW)}", found=_time(when.issued)
        )


def check_freshness(revoked: Revoked, now: int) -> None:
    """The end of step 12, for a file: the latest revocation of its volume has not expired (fim-rev-12)."""
    if now > revoked.not_after:
        raise RecordExpired(
            "the latest revocation of the volume has expired",
            expected=f"not after {_time(revoked.not_after)}",
            found=_time(now),
        )


def _time(seconds: int) -> str:
    """RFC 3339 for Unix seconds, or the number where that has no date."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{seconds} seconds after 1970"
