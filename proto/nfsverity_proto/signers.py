# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Who vouches for a statement: steps 6 to 10 of the verification, for each attestation alone (fim, "Verification")."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from .certificate import DER_MAX, Certificate, check_chain, check_leaf, parse_certificate
from .errors import (
    BadCertificate,
    IsRevoked,
    Malformed,
    NoCertificate,
    OutOfScope,
    RefusedAlgorithm,
    TooFewSigners,
    Unsupported,
    Untrusted,
    VerificationError,
)
from .hashes import HASH_NUMBERS, hash_by_number
from .record import SIGNATURE, Fingerprint, Record, Signature, signature_of, signed_bytes
from .revocation import Revoked
from .signature import Scheme, check_key, check_signature, scheme_by_number
from .statement import Content, Statement
from .trust import TrustEntry
from .verifier import Certificates, Expected, Verifier


@dataclass(frozen=True, slots=True)
class Signer:
    """A signer whose signature verified, and the entries by which it is believed: one or more."""

    certificate: Certificate
    entries: tuple[TrustEntry, ...]
    scheme: int

    @property
    def entry(self) -> TrustEntry:
        return self.entries[0]


def signers_to_fetch(record: Record, trust: Sequence[TrustEntry]) -> list[Fingerprint]:
    """The signers whose certificates no pin provides, in the record's order."""
    wanted: list[Fingerprint] = []
    for attestation in record.attestations:
        if attestation.type == SIGNATURE:
            signer = signature_of(attestation).signer
            if signer not in wanted and signer.hash in HASH_NUMBERS and not any(entry.pins(signer) for entry in trust):
                wanted.append(signer)
    return wanted


def check_attestations(
    record: Record, statement: Statement, expected: Expected, verifier: Verifier
) -> tuple[Signer, ...]:
    """Steps 6 to 9, for each attestation alone: the signers of those that pass, at least one."""
    revoked = verifier.revoked.of(statement.identified.volume)
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
