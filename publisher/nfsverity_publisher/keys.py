# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Signing keys and the certificates that name them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa

from nfsverity_proto.certificate import DOCUMENT_SIGNING, Certificate, parse_certificate
from nfsverity_proto.errors import BadCertificate, BadSignature
from nfsverity_proto.record import Attestation, Signature, signature_attestation, signed_bytes
from nfsverity_proto.signature import Scheme, check_signature, pss_padding, scheme_for_key
from nfsverity_store.layout import naming

from .lock import PublicationError

_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_DESCRIPTORS = "/proc/self/fd"
_GENERATE: dict[str, Callable[[], Any]] = {
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ecdsa-p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ecdsa-p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "rsa-pss": lambda: rsa.generate_private_key(65537, 3072),
    "ml-dsa-44": mldsa.MLDSA44PrivateKey.generate,
    "ml-dsa-65": mldsa.MLDSA65PrivateKey.generate,
    "ml-dsa-87": mldsa.MLDSA87PrivateKey.generate,
}
ALGORITHMS = tuple(_GENERATE)


def _certificate_hash(key: Any) -> hashes.SHA256 | None:
    return hashes.SHA256() if isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) else None


def make_key(name: str, algorithm: str, days: int, now: datetime | None = None) -> tuple[bytes, bytes]:
    """A new private key (PKCS #8) and its self-signed certificate, both PEM. Raises `ValueError`."""
    if algorithm not in _GENERATE:
        raise ValueError(f"no algorithm is named {algorithm!r}; there are {', '.join(ALGORITHMS)}")
    key = _GENERATE[algorithm]()
    start = (now or datetime.now(UTC)).replace(microsecond=0)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - timedelta(minutes=5))
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.ObjectIdentifier(DOCUMENT_SIGNING)]), critical=False)
        .sign(key, _certificate_hash(key))
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, certificate.public_bytes(serialization.Encoding.PEM)


def write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a file that must not exist yet; where that fails, there is none. Raises `FileExistsError`, `OSError`.

    It gets its name when it is whole, where the system can do that; elsewhere a process that is killed leaves a part.
    """
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    unnamed = _unnamed(path.parent, mode)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode) if unnamed is None else unnamed
    try:
        with naming(path), os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            if unnamed is not None:
                _name(unnamed, path)
    except BaseException:
        if unnamed is None:
            path.unlink()
        raise


def _unnamed(directory: Path, mode: int) -> int | None:
    """A new file without a name, which can be given one; None where there is no such thing."""
    if not hasattr(os, "O_TMPFILE") or not os.path.isdir(_DESCRIPTORS):
        return None
    try:
        return os.open(directory, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, mode)
    except OSError:  # a file system without them, or whatever is wrong with the directory: the name will tell
        return None


def _name(fd: int, path: Path) -> None:
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # with a descriptor of the directory it follows the link that names the file
        os.link(f"{_DESCRIPTORS}/{fd}", path.name, dst_dir_fd=directory, follow_symlinks=True)
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
    finally:
        os.close(directory)


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
        chain = x509.load_pem_x509_certificates(data)
        der, *issuers = [certificate.public_bytes(serialization.Encoding.DER) for certificate in chain]
        return parse_certificate(der), tuple(issuers)
    except ValueError as error:
        raise ValueError(f"{file} is not a certificate in PEM: {error}") from error
    except BadCertificate as error:
        raise ValueError(f"{file}: {error}") from error
