# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Keys, certificates and signatures, made with the cryptography library alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa

from . import records

DOCUMENT_SIGNING = "1.3.6.1.5.5.7.3.36"
CODE_SIGNING = "1.3.6.1.5.5.7.3.3"
NOT_BEFORE, NOT_AFTER = 1_767_225_600, 2_082_758_399
"""When the certificates here are valid, unless told otherwise; as in the draft's worked example."""
NOW = 1_795_500_000
SECRET = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
"""The key of the worked example: RFC 8032 section 7.1, test 1."""

KEYS: dict[int, Callable[[], Any]] = {
    0x0807: ed25519.Ed25519PrivateKey.generate,
    0x0403: lambda: ec.generate_private_key(ec.SECP256R1()),
    0x0503: lambda: ec.generate_private_key(ec.SECP384R1()),
    0x0804: lambda: rsa.generate_private_key(65537, 2048),
    0x0904: mldsa.MLDSA44PrivateKey.generate,
    0x0905: mldsa.MLDSA65PrivateKey.generate,
    0x0906: mldsa.MLDSA87PrivateKey.generate,
}
"""By signature scheme."""
ED25519, ECDSA_P256, ECDSA_P384, RSA_PSS = 0x0807, 0x0403, 0x0503, 0x0804


@cache
def key(scheme: int, name: str = "") -> Any:
    """A private key, the same one for the same arguments."""
    if (scheme, name) == (ED25519, "example"):
        return ed25519.Ed25519PrivateKey.from_private_bytes(SECRET)
    return KEYS[scheme]()


def name_of(*attributes: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])


def common_name(name: str) -> x509.Name:
    return name_of((x509.NameOID.COMMON_NAME, name))


def certificate(
    public_key: Any,
    subject: x509.Name,
    issuer_key: Any,
    issuer: x509.Name | None = None,
    *,
    not_before: int = NOT_BEFORE,
    not_after: int = NOT_AFTER,
    ca: bool = False,
    signs: bool | None = None,
    signs_certificates: bool | None = None,
    purposes: Sequence[str] | None = (DOCUMENT_SIGNING,),
    ca_purposes: Sequence[str] | None = None,
) -> bytes:
    """The DER of a certificate.

    `signs` and `signs_certificates`: digitalSignature and keyCertSign of keyUsage; with neither given, a CA has
    the second one, and others have no keyUsage at all.
    """
    if signs is None and signs_certificates is None and ca:
        signs_certificates = True
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(not_before, UTC))
        .not_valid_after(datetime.fromtimestamp(not_after, UTC))
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if signs is not None or signs_certificates is not None:
        neither = not signs and not signs_certificates
        usage = x509.KeyUsage(
            digital_signature=bool(signs),
            content_commitment=False,
            key_encipherment=neither,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=bool(signs_certificates),
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = builder.add_extension(usage, critical=True)
    purposes = ca_purposes if ca else purposes
    if purposes is not None:
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([x509.ObjectIdentifier(purpose) for purpose in purposes]), critical=False
        )
    hashed = isinstance(issuer_key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    signed = builder.sign(issuer_key, hashes.SHA256() if hashed else None)
    return signed.public_bytes(serialization.Encoding.DER)


def sign(private_key: Any, message: bytes, salt_length: int = 32) -> bytes:
    value: bytes
    match private_key:
        case ec.EllipticCurvePrivateKey():
            digest = hashes.SHA384() if private_key.curve.name == "secp384r1" else hashes.SHA256()
            value = private_key.sign(message, ec.ECDSA(digest))
        case rsa.RSAPrivateKey():
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), salt_length)
            value = private_key.sign(message, pss, hashes.SHA256())
        case _:
            value = private_key.sign(message)
    return value


@dataclass(frozen=True)
class Signer:
    """A key, its scheme, and the certificate that names it."""

    key: Any
    scheme: int
    der: bytes

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.der).digest()

    def attestation(
        self, statement: bytes, *, scheme: int | None = None, value: bytes | None = None
    ) -> tuple[int, bytes]:
        """An attestation of a statement's bytes. `scheme` and `value` replace what would be right."""
        scheme = self.scheme if scheme is None else scheme
        message = records.signed_bytes(1, self.digest, scheme, statement)
        value = sign(self.key, message) if value is None else value
        return records.SIGNATURE, records.signature(1, self.digest, scheme, value)


@cache
def signer(scheme: int = ED25519, name: str = "example") -> Signer:
    """A signer with a self-signed certificate, the same one for the same arguments."""
    private = key(scheme, name)
    return Signer(private, scheme, certificate(private.public_key(), common_name(name), private, signs=True))


def signed(statement: records.Statement | bytes, *by: Signer) -> bytes:
    """A record of a statement, signed (by `signer()` where nobody is named), its attestations in order."""
    data = statement if isinstance(statement, bytes) else statement.encode()
    return records.record(data, sorted(one.attestation(data) for one in by or (signer(),)))
