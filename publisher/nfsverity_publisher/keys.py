# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Signing keys and the certificates that name them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from nfsverity_proto.certificate import Certificate, certificates_in, parse_certificate
from nfsverity_proto.errors import BadCertificate, BadSignature
from nfsverity_proto.record import Attestation, Signature, signature_attestation, signed_bytes
from nfsverity_proto.signature import Scheme, check_signature, pss_padding, scheme_for_key

from .lock import PublicationError

_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"


class SigningProblem(PublicationError):
    """A signer has not given a signature that verifies."""


class SigningKey:
    """A private key with the certificate that it signs for."""

    def __init__(self, private_key: Any, certificate: Certificate, issuers: Sequence[bytes] = ()) -> None:
        if private_key is not None and _spki(private_key.public_key()) != certificate.key_id():
            raise ValueError(f'the key is not the one of the certificate "{certificate.subject}"')
        self._key = private_key
        self.certificate = certificate
        self.issuers = tuple(issuers)
        """DER of further certificates, which may lead from this one to a CA: they are published with it."""
        self.scheme: Scheme = scheme_for_key(certificate.public_key)
        self._external: tuple[Callable[[bytes], bytes], str] | None = None
        self._kept: object = None

    @classmethod
    def external(
        cls, sign: Callable[[bytes], bytes], name: str, certificate: Certificate, issuers: Sequence[bytes] = ()
    ) -> SigningKey:
        """A key that is elsewhere. `sign` gives the signature of a message, by the scheme of the certificate's key."""
        key = cls(None, certificate, issuers)
        key._external = sign, name
        return key

    def keep(self, session: object) -> None:
        """What must live as long as the key."""
        self._kept = session

    def sign(self, statement: bytes) -> Attestation:
        """Vouch for a statement's bytes."""
        signer = self.certificate.fingerprint
        message = signed_bytes(signer, self.scheme.number, statement)
        return signature_attestation(Signature(signer, self.scheme.number, self._value(message)))

    def check(self, signature: Signature, statement: bytes) -> None:
        """Raises `BadSignature` unless this key made the signature of a statement's bytes."""
        message = signed_bytes(signature.signer, self.scheme.number, statement)
        check_signature(self.scheme, self.certificate.public_key, signature.value, message)

    def _value(self, message: bytes) -> bytes:
        if self._external is not None:
            return self._external_value(*self._external, message)
        key: Any = self._key
        value: bytes
        if isinstance(key, rsa.RSAPrivateKey):
            value = key.sign(message, pss_padding(), hashes.SHA256())
        elif isinstance(key, ec.EllipticCurvePrivateKey):
            digest = hashes.SHA384() if isinstance(key.curve, ec.SECP384R1) else hashes.SHA256()
            value = key.sign(message, ec.ECDSA(digest))
        else:
            value = key.sign(message)
        return value

    def _external_value(self, sign: Callable[[bytes], bytes], name: str, message: bytes) -> bytes:
        value = sign(message)
        try:
            check_signature(self.scheme, self.certificate.public_key, value, message)
        except BadSignature as error:
            raise SigningProblem(
                f"{name} gave {len(value)} bytes that are no signature by the key of"
                f' "{self.certificate.subject}" with scheme {self.scheme.name}'
            ) from error
        return value


def _spki(public_key: Any) -> bytes:
    data: bytes = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return data


def load_signing_key(key_file: Path, certificate_file: Path) -> SigningKey:
    """The key, with its certificate, which comes first in its file, and those behind it (its issuers).

    Raises `OSError`, and `ValueError` that says which of the two files is not what it should be.
    """
    try:
        data = key_file.read_bytes()
        key = serialization.load_pem_private_key(data, None)
    except (ValueError, TypeError) as error:
        why = "it holds a certificate" if _CERTIFICATE in data else error
        raise ValueError(f"{key_file} is not a private key in PEM without a password: {why}") from error
    certificate, issuers = load_certificates(certificate_file)
    try:
        return SigningKey(key, certificate, issuers)
    except ValueError as error:
        raise ValueError(f"{key_file} and {certificate_file}: {error}") from error


def load_certificates(file: Path) -> tuple[Certificate, tuple[bytes, ...]]:
    """The certificate that comes first in a file, and the DER of those behind it. Raises `OSError`, `ValueError`."""
    try:
        data = file.read_bytes()
        if b"PRIVATE KEY-----" in data and _CERTIFICATE not in data:
            raise ValueError("it holds a private key")
        first, *issuers = certificates_in(data)
        return parse_certificate(first), tuple(issuers)
    except ValueError as error:
        raise ValueError(f"{file} is not a certificate in PEM: {error}") from error
    except BadCertificate as error:
        raise ValueError(f"{file}: {error}") from error
