# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Signers' certificates: what a leaf must say, and chains to a CA (fim, "Certificates").

The library builds and checks chains (RFC 5280 section 6); the leaf's own extensions are judged here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .errors import BadCertificate, Expired, NotYetValid, WrongUsage
from .record import Fingerprint, fingerprint_of

if TYPE_CHECKING:
    from cryptography import x509

DER_MAX = 16384
CHAIN_MAX = 8
"""Certificates that are ever looked at for one signer, itself included."""
DOCUMENT_SIGNING = "1.3.6.1.5.5.7.3.36"
"""id-kp-documentSigning (RFC 9336)."""
_RSASSA_PSS = "1.2.840.113549.1.1.10"
"""id-RSASSA-PSS (RFC 4055); the keys of rsa_pss_rsae_sha256 are of rsaEncryption (fim-sig-3)."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is judged of an X.509 certificate. Times are Unix seconds."""

    der: bytes = field(repr=False)
    fingerprint: Fingerprint
    """Under SHA-256, for people and for keys of tables."""
    subject: str
    """RFC 4514."""
    not_before: int
    not_after: int
    public_key: Any = field(repr=False)
    signs: bool
    """keyUsage has digitalSignature."""
    purposes: frozenset[str] | None
    """The OIDs of extKeyUsage; None where it is absent."""
    spki: bytes = field(repr=False)
    """The DER of the public key."""
    x509: x509.Certificate = field(repr=False)

    def key_id(self) -> bytes:
        """Two signers are distinct when these are."""
        return self.spki


@lru_cache(maxsize=256)
def parse_certificate(der: bytes) -> Certificate:
    """Raises `BadCertificate`."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    if len(der) > DER_MAX:
        raise BadCertificate(f"a certificate of {len(der)} bytes; {DER_MAX} are allowed")
    try:
        certificate = x509.load_der_x509_certificate(der)
        if certificate.serial_number <= 0:  # RFC 5280 section 4.1.2.2
            raise ValueError("a serial number that is not positive")
        if certificate.public_key_algorithm_oid.dotted_string == _RSASSA_PSS:  # which the library takes for RSA
            raise ValueError("a key for RSASSA-PSS only; no scheme is for those")
        extensions = certificate.extensions
        public_key = certificate.public_key()
        subject = certificate.subject.rfc4514_string()
    except (
        ValueError,
        TypeError,  # for some names whose type and value do not fit
        Warning,  # where a program turns the library's into errors
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise BadCertificate(f"the certificate cannot be decoded: {error}") from error
    try:
        signs = extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    except x509.ExtensionNotFound:
        signs = False
    try:
        usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        purposes = frozenset(purpose.dotted_string for purpose in usage)
    except x509.ExtensionNotFound:
        purposes = None
    return Certificate(
        der=der,
        fingerprint=fingerprint_of(der),
        subject=subject,
        not_before=int(certificate.not_valid_before_utc.timestamp()),
        not_after=int(certificate.not_valid_after_utc.timestamp()),
        public_key=public_key,
        signs=signs,
        purposes=purposes,
        spki=public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        x509=certificate,
    )


def check_leaf(certificate: Certificate, now: int, *, in_chain: bool) -> None:
    """Time, then usage (fim-cert-4 to fim-cert-8). Raises `NotYetValid`, `Expired`, `WrongUsage`."""
    if now < certificate.not_before:
        raise NotYetValid(
            "the signer's certificate is not valid yet",
            expected=_day(certificate.not_before),
            found=_day(now),
        )
    if now > certificate.not_after:
        raise Expired("the signer's certificate has expired", expected=_day(certificate.not_after), found=_day(now))
    if not certificate.signs:
        raise WrongUsage("the signer's certificate has no keyUsage digitalSignature")
    if certificate.purposes is None:
        if in_chain:
            raise WrongUsage("the signer's certificate has no extended key usage documentSigning")
    elif DOCUMENT_SIGNING not in certificate.purposes:
        raise WrongUsage("the signer's certificate is for other purposes than documentSigning")


def check_chain(leaf: Certificate, intermediates: Sequence[bytes], anchor: Certificate, now: int) -> None:
    """That `leaf` leads to `anchor` (RFC 5280 section 6), now. Raises `BadCertificate`."""
    from cryptography.x509 import verification

    parsed = []
    for der in intermediates[: CHAIN_MAX - 1]:
        try:
            parsed.append(parse_certificate(der).x509)
        except BadCertificate:
            continue
    policy = (
        verification.PolicyBuilder()
        .store(verification.Store([anchor.x509]))
        .time(datetime.fromtimestamp(now, UTC).replace(tzinfo=None))
        .extension_policies(
            ca_policy=verification.ExtensionPolicy.webpki_defaults_ca(),
            ee_policy=verification.ExtensionPolicy.permit_all(),
        )
        .build_client_verifier()
    )
    try:
        policy.verify(leaf.x509, parsed)
    except verification.VerificationError as error:
        raise BadCertificate(f"the signer's certificate does not lead to the trusted CA: {error}") from error


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
