# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The verification algorithm, steps 0 to 12, in the draft's order (fim, "Verification").

Fail-closed: a record is verified only if every step passed, and each step has its own error. Step 13, the
units, is `proof.fold` against the root that comes out of here; `client` does it for every read. Step 11
(generation against a durable mark) is a place: this module keeps no state.

Pure: the time and the certificates come in as arguments. `signers_to_fetch` says which certificates could
be of use; whoever does the I/O gets them, from anywhere, since they are believed only by their digest.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .certificate import DER_MAX, Certificate, check_chain, check_leaf, parse_certificate
from .errors import (
    BadCertificate,
    IssuedInFuture,
    Malformed,
    NoCertificate,
    OutOfScope,
    RecordExpired,
    RefusedAlgorithm,
    TooFewSigners,
    UnknownExtension,
    Unsigned,
    Unsupported,
    Untrusted,
    VerificationError,
    WrongPath,
    WrongVolume,
)
from .hashes import HASH_NUMBERS, hash_by_number
from .record import SIGNATURE, Fingerprint, Record, Signature, decode_record, signature_of, signed_bytes
from .signature import SCHEME_NUMBERS, Scheme, check_key, check_signature, scheme_by_number
from .statement import Content, File, Kind, Statement, Tag, decode_statement, tag_of
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
class Signer:
    """A signer whose signature verified, and the entry by which it is believed."""

    certificate: Certificate
    entry: TrustEntry
    scheme: int


@dataclass(frozen=True, slots=True)
class Verified:
    """A record of which every step passed."""

    data: bytes = field(repr=False)
    record: Record = field(repr=False)
    statement: Statement
    tag: Tag
    signers: tuple[Signer, ...]

    @property
    def file(self) -> File:
        claim = self.statement.claim
        if not isinstance(claim, File):
            raise ValueError("this statement is not about a file")
        return claim

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


def verify_record(
    data: Buffer | None,
    expected: Expected,
    trust: Sequence[TrustEntry],
    certificates: Certificates,
    now: int,
    algorithms: Algorithms = ALL_ALGORITHMS,
) -> Verified:
    """Steps 0 to 12 for the record of a file. `now` is in Unix seconds.

    Raises the `VerificationError` of the first step that fails; of several attestations that fail, the
    error of the one that got furthest, and of equals the first.
    """
    if data is None:  # step 0
        raise Unsigned("there is no record")
    data = bytes(data)
    record = decode_record(data)  # step 1
    statement = decode_statement(record.statement, Kind.FILE)  # steps 1 and 2
    check_identity(statement, expected)  # step 3
    check_extensions(statement)  # step 4
    check_algorithms(statement, algorithms)  # step 5
    signers = check_attestations(record, statement, expected, trust, certificates, now, algorithms)  # 6 to 9
    check_signers(signers, statement, expected, trust)  # step 10
    check_validity(statement, now)  # step 12
    return Verified(data, record, statement, tag_of(record.statement, statement.hash), signers)


def check_identity(statement: Statement, expected: Expected) -> None:
    """Step 3: the volume, then the path, are the client's."""
    claim = statement.claim
    if not isinstance(claim, File):
        raise ValueError("only files have an identity")
    if expected.volumes is not None and claim.volume not in expected.volumes:
        raise WrongVolume(
            "the record is of another volume",
            expected=" or ".join(sorted(volume.hex() for volume in expected.volumes)),
            found=claim.volume.hex(),
        )
    if claim.path != expected.path:
        raise WrongPath("the record is of another path", expected=_text(expected.path), found=_text(claim.path))


def check_extensions(statement: Statement) -> None:
    """Step 4: none is defined yet, so every critical one is unknown."""
    for extension in statement.extensions:
        if extension.critical:
            raise UnknownExtension(f"critical extension {extension.number} is not known here")


def check_algorithms(statement: Statement, algorithms: Algorithms) -> None:
    """Step 5: hash, tree type and unit size are known and accepted."""
    hash_by_number(statement.hash)
    if statement.hash not in algorithms.hashes:
        raise RefusedAlgorithm(f"hash {hash_by_number(statement.hash).name} is not accepted")
    claim = statement.claim
    tree = (claim.content if isinstance(claim, File) else claim).tree
    if tree.type != RFC9162:
        raise Unsupported(f"tree type {tree.type} is not known here")
    if tree.unit_log2 not in algorithms.unit_log2s:
        raise RefusedAlgorithm(f"units of {1 << tree.unit_log2} bytes are not accepted")


def check_attestations(
    record: Record,
    statement: Statement,
    expected: Expected,
    trust: Sequence[TrustEntry],
    certificates: Certificates,
    now: int,
    algorithms: Algorithms,
) -> tuple[Signer, ...]:
    """Steps 6 to 9, for each attestation alone: the signers of those that pass, at least one."""
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
            if signature.scheme not in algorithms.schemes:
                raise RefusedAlgorithm(f"signature scheme {scheme.name} is not accepted")
            progress.step = 7
            entries = _entries_in_scope(signature, statement, expected, trust, certificates)
            progress.step = 8
            entry, certificate = _judge_certificate(signature.signer, scheme, entries, certificates, now)
            progress.step = 9
            message = signed_bytes(signature.signer, signature.scheme, record.statement)
            check_signature(scheme, certificate.public_key, signature.value, message)
            signers.append(Signer(certificate, entry, signature.scheme))
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
    signer: Fingerprint, scheme: Scheme, entries: Sequence[TrustEntry], certificates: Certificates, now: int
) -> tuple[TrustEntry, Certificate]:
    """Step 8: the certificate, its key, time and usage; under a CA the path to it, and then the subject."""
    if not entries[0].ca:  # the pin is the certificate, and its digest was compared
        certificate = entries[0].certificate
        check_key(scheme, certificate.public_key)
        check_leaf(certificate, now, in_chain=False)
        return entries[0], certificate
    certificate, intermediates = _fetched(signer, certificates)
    check_key(scheme, certificate.public_key)
    check_leaf(certificate, now, in_chain=True)
    problem: VerificationError | None = None
    for entry in entries:
        try:
            check_chain(certificate, intermediates, entry.certificate, now)
        except BadCertificate as error:
            problem = problem or error
            continue
        if entry.subject_fits(certificate):
            return entry, certificate
        problem = OutOfScope("the CA is trusted for another subject", expected=entry.subject, found=certificate.subject)
    raise problem or BadCertificate("no trusted CA leads to the signer's certificate")


def _volume_of(statement: Statement) -> bytes | None:
    return statement.claim.volume if isinstance(statement.claim, File) else None


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


def check_validity(statement: Statement, now: int) -> None:
    """Step 12: issued and not-after, by the verifier's clock."""
    claim = statement.claim
    if not isinstance(claim, File):
        return
    when = claim.when
    if when.issued > now + SKEW:
        raise IssuedInFuture(
            "the statement was issued after now", expected=f"at most {now + SKEW}", found=str(when.issued)
        )
    if now > when.not_after:
        raise RecordExpired("the statement has expired", expected=f"not after {when.not_after}", found=str(now))


def _text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
