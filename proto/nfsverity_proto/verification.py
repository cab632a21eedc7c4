# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The verification algorithm, steps 0 to 12, in the draft's order (fim, "Verification").

Fail-closed: a record is verified only if every step passed, and each step has its own error. Step 13, the
units, is `proof.fold` against the root that comes out of here; `client` does it for every read.

Pure: the time, the certificates, the marks and what is revoked come in as arguments. `signers_to_fetch` says which
certificates could be of use; whoever does the I/O gets them, from anywhere: they are believed only by their digest.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from .certificate import DER_MAX, Certificate, check_chain, check_leaf, parse_certificate
from .errors import (
    BadCertificate,
    Equivocation,
    IsRevoked,
    IssuedInFuture,
    Malformed,
    NoCertificate,
    OutOfScope,
    RecordExpired,
    RefusedAlgorithm,
    Rollback,
    TooFewSigners,
    UnknownExtension,
    Unsigned,
    Unsupported,
    Untrusted,
    VerificationError,
    WrongKind,
    WrongPath,
    WrongVolume,
)
from .hashes import HASH_NUMBERS, hash_by_number
from .marks import NO_MARKS, Mark, Marks
from .record import SIGNATURE, Fingerprint, Record, Signature, decode_record, signature_of, signed_bytes
from .revocation import NOTHING_REVOKED, Revocations, Revoked
from .signature import SCHEME_NUMBERS, Scheme, check_key, check_signature, scheme_by_number
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
from .tree import RFC9162, UNIT_LOG2_MAX, UNIT_LOG2_MIN
from .trust import TrustEntry
from .xdr import Buffer

SKEW = 300
"""Seconds by which a statement may have been issued after the verifier's now."""

Certificates = Mapping[Fingerprint, Sequence[bytes]]
"""By signer: the DER of its certificate, then of certificates that may lead to a CA."""


@dataclass(frozen=True, slots=True)
class Algorithms:
    """What the client accepts, of what is implemented."""

    hashes: frozenset[int] = frozenset(HASH_NUMBERS)
    schemes: frozenset[int] = frozenset(SCHEME_NUMBERS)
    unit_log2s: frozenset[int] = frozenset(range(UNIT_LOG2_MIN, UNIT_LOG2_MAX + 1))


ALL_ALGORITHMS = Algorithms()


@dataclass(frozen=True, slots=True)
class Expected:
    """What the client asked for. It never comes from the server."""

    path: bytes
    volumes: frozenset[bytes] | None
    """The volume IDs that will do; None before the first use of a server."""
    url: str | None = None
    """For the scope of trust entries; None for local files."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """What the client brings: whom it believes, what it knows and accepts. It never comes from the server."""

    trust: Sequence[TrustEntry]
    certificates: Certificates
    now: int
    """In Unix seconds, and never before what was accepted shows (`marks.effective_now`)."""
    algorithms: Algorithms = ALL_ALGORITHMS
    marks: Marks = NO_MARKS
    """By default, nothing was accepted before."""
    revoked: Revocations = NOTHING_REVOKED


@dataclass(frozen=True, slots=True)
class Signer:
    """A signer whose signature verified, and the entries by which it is believed: one or more."""

    certificate: Certificate
    entries: tuple[TrustEntry, ...]
    scheme: int

    @property
    def entry(self) -> TrustEntry:
        return self.entries[0]


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
        return _identified(self.statement) if self.member is None else self.member

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


def signers_to_fetch(record: Record, trust: Sequence[TrustEntry]) -> list[Fingerprint]:
    """The signers whose certificates no pin provides, in the record's order."""
    wanted: list[Fingerprint] = []
    for attestation in record.attestations:
        if attestation.type == SIGNATURE:
            signer = signature_of(attestation).signer
            if signer not in wanted and signer.hash in HASH_NUMBERS and not any(entry.pins(signer) for entry in trust):
                wanted.append(signer)
    return wanted


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


def _identified(statement: Statement) -> File | Volume | Revocation:
    """A claim that has a volume and a generation."""
    if isinstance(statement.claim, Content):
        raise ValueError("content has no identity")
    return statement.claim


def check_identity(statement: Statement, expected: Expected) -> None:
    """Step 3: the volume, then the path of a file, are the client's."""
    claim = _identified(statement)
    if expected.volumes is not None and claim.volume not in expected.volumes:
        raise WrongVolume(
            "the record is of another volume",
            expected=" or ".join(sorted(volume.hex() for volume in expected.volumes)),
            found=claim.volume.hex(),
        )
    if isinstance(claim, File) and claim.path != expected.path:
        raise WrongPath("the record is of another path", expected=_text(expected.path), found=_text(claim.path))


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


def check_attestations(
    record: Record, statement: Statement, expected: Expected, verifier: Verifier
) -> tuple[Signer, ...]:
    """Steps 6 to 9, for each attestation alone: the signers of those that pass, at least one."""
    revoked = verifier.revoked.of(_identified(statement).volume)
    signers: list[Signer] = []
    furthest: tuple[int, VerificationError] | None = None
    for attestation in record.attestations:
        progress = _Progress()
        try:
            if attestation.type != SIGNATURE:
                raise Unsupported(f"attestation type {attestation.type} is not known here")
            signature = signature_of(attestation)
            scheme = scheme_by_number(signature.scheme)
            hash_by_number(signature.signer.hash)
            if signature.scheme not in verifier.algorithms.schemes:
                raise RefusedAlgorithm(f"signature scheme {scheme.name} is not accepted")
            progress.step = 7
            entries = _entries_in_scope(signature, statement, expected, verifier.trust, verifier.certificates)
            progress.step = 8
            believed, certificate = _judge_certificate(signature.signer, scheme, entries, verifier, revoked)
            progress.step = 9
            message = signed_bytes(signature.signer, signature.scheme, record.statement)
            check_signature(scheme, certificate.public_key, signature.value, message)
            signers.append(Signer(certificate, believed, signature.scheme))
        except VerificationError as error:
            if furthest is None or progress.step > furthest[0]:
                furthest = progress.step, error
    if not signers:
        raise furthest[1] if furthest is not None else Malformed("a record without attestations")
    return tuple(signers)


@dataclass(slots=True)
class _Progress:
    """How far one attestation got."""

    step: int = 6


def _entries_in_scope(
    signature: Signature,
    statement: Statement,
    expected: Expected,
    trust: Sequence[TrustEntry],
    certificates: Certificates,
) -> list[TrustEntry]:
    """Step 7: the pins of the signer, or where there are none all CAs; those that may speak for what was asked."""
    candidates = [entry for entry in trust if entry.pins(signature.signer)] or [entry for entry in trust if entry.ca]
    if not candidates:
        raise Untrusted(_signer_text(signature.signer, certificates))
    volume = _volume_of(statement)
    in_scope = [
        entry
        for entry in candidates
        if entry.covers(volume, expected.url) and _allows(entry, signature.scheme) and (entry.ca or _pin_fits(entry))
    ]
    if not in_scope:
        raise OutOfScope(_scope_text(candidates[0], volume))
    return in_scope


def _pin_fits(entry: TrustEntry) -> bool:
    """Whether a pin has no subject, or its own. What cannot be decoded has none, and fails at step 8."""
    try:
        return entry.subject is None or entry.subject_fits(entry.certificate)
    except BadCertificate:
        return True


def _judge_certificate(
    signer: Fingerprint,
    scheme: Scheme,
    entries: Sequence[TrustEntry],
    verifier: Verifier,
    revoked: Revoked,
) -> tuple[tuple[TrustEntry, ...], Certificate]:
    """Step 8: the certificate, its key, time and usage; under a CA the path to it, and then the subject.

    Gives the entries that are left of those in scope: the pins, or each CA that a path leads to.
    """
    if not entries[0].ca:  # the pin is the certificate, and its digest was compared
        certificate = entries[0].certificate
        _check_key(scheme, certificate, revoked)
        check_leaf(certificate, verifier.now, in_chain=False)
        return tuple(entries), certificate
    certificate, intermediates = _fetched(signer, verifier.certificates)
    _check_key(scheme, certificate, revoked)
    check_leaf(certificate, verifier.now, in_chain=True)
    believed: list[TrustEntry] = []
    problem: VerificationError | None = None
    for entry in entries:
        try:
            check_chain(certificate, intermediates, entry.certificate, verifier.now)
        except BadCertificate as error:
            problem = problem or error
            continue
        if entry.subject_fits(certificate):
            believed.append(entry)
            continue
        problem = OutOfScope("the CA is trusted for another subject", expected=entry.subject, found=certificate.subject)
    if not believed:
        raise problem or BadCertificate("no trusted CA leads to the signer's certificate")
    return tuple(believed), certificate


def _check_key(scheme: Scheme, certificate: Certificate, revoked: Revoked) -> None:
    """Letters c and d of step 8: the key is one for the scheme, and is not revoked."""
    check_key(scheme, certificate.public_key)
    if revoked.key(certificate.key_id()):
        raise IsRevoked(f'the key of "{certificate.subject}", fingerprint {certificate.fingerprint}, is revoked')


def _volume_of(statement: Statement) -> bytes | None:
    return None if isinstance(statement.claim, Content) else statement.claim.volume


def _allows(entry: TrustEntry, scheme: int) -> bool:
    return not entry.schemes or scheme in entry.schemes


def _fetched(signer: Fingerprint, certificates: Certificates) -> tuple[Certificate, Sequence[bytes]]:
    chain = certificates.get(signer)
    if not chain:
        raise NoCertificate(f"no certificate with fingerprint {signer} could be had")
    if len(chain[0]) > DER_MAX:  # before it is hashed
        raise BadCertificate(f"a certificate of {len(chain[0])} bytes; {DER_MAX} are allowed")
    if not hmac.compare_digest(hash_by_number(signer.hash).digest(chain[0]), signer.digest):
        raise BadCertificate(f"the certificate given for {signer} is another one")
    return parse_certificate(chain[0]), chain[1:]


def _signer_text(signer: Fingerprint, certificates: Certificates) -> str:
    try:
        return (
            f'signed by "{_fetched(signer, certificates)[0].subject}", fingerprint {signer}, whom no trust entry knows'
        )
    except VerificationError:
        return f"signed by the certificate with fingerprint {signer}, which no trust entry knows"


def _scope_text(entry: TrustEntry, volume: bytes | None) -> str:
    what = f"volume {volume.hex()}" if volume is not None else "this content"
    try:
        who = f'"{entry.certificate.subject}"'
    except BadCertificate:
        who = "the signer"
    return f"{who} is not trusted for {what} at this place, or not with this scheme"


def check_signers(
    signers: Sequence[Signer], statement: Statement, expected: Expected, trust: Sequence[TrustEntry]
) -> None:
    """Step 10: as many distinct public keys as each entry asks for that covers volume and place."""
    volume = _volume_of(statement)
    needed = max((entry.signers for entry in trust if entry.covers(volume, expected.url)), default=1)
    found = len({signer.certificate.key_id() for signer in signers})
    if found < needed:
        raise TooFewSigners("too few trusted signers", expected=str(needed), found=str(found))


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
    when = _identified(statement).when
    if now > when.not_after:
        raise RecordExpired(
            "the statement has expired", expected=f"not after {_time(when.not_after)}", found=_time(now)
        )


def check_issued(statement: Statement, now: int) -> None:
    """The first half of step 12."""
    when = _identified(statement).when
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


def _text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
