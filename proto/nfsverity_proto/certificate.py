# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Signers' certificates: what a leaf must say, and chains to a CA (fim, "Certificates").

What is judged of a signer's certificate is read here; the library builds and checks chains (RFC 5280 section 6).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from . import der
from .errors import BadCertificate, Expired, NotYetValid, WrongUsage
from .record import Fingerprint, fingerprint_of

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.x509 import verification

DER_MAX = 16384
CHAIN_MAX = 8
"""Certificates that are ever looked at for one signer, itself included (fim-cert-13)."""
DOCUMENT_SIGNING, ANY_PURPOSE = "1.3.6.1.5.5.7.3.36", "2.5.29.37.0"
"""id-kp-documentSigning (RFC 9336), and anyExtendedKeyUsage (RFC 5280 section 4.2.1.12)."""

_PEM = re.compile(rb"-----BEGIN (?P<label>(X509 )?CERTIFICATE)-----(?P<lines>[^-]*)-----END (?P=label)-----")
_PEM_BEGIN = re.compile(rb"-----BEGIN (X509 )?CERTIFICATE-----")
"""RFC 7468 section 5; whatever else stands in the text is passed over. No line of base64 has a "-"."""
_KEY_USAGE, _EXTENDED_KEY_USAGE = "2.5.29.15", "2.5.29.37"
_VERSION_3 = bytes.fromhex("a003020102")
_ISSUER_ID, _SUBJECT_ID, _EXTENSIONS = 0x81, 0x82, 0xA3
"""The tags of the optional fields of a TBSCertificate (RFC 5280 section 4.1)."""
_TEXTS = {der.UTF8_STRING: "utf-8", der.PRINTABLE_STRING: "ascii", der.IA5_STRING: "ascii"}
"""The types of value that a trust entry can name, and how they are encoded (fim-trust-6)."""
_SHORT_NAMES = {
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
}
"""RFC 4514 section 3."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """Of a subject: its type, in numbers and dots, and its value, as bytes and as text where it is one."""

    type: str
    value: bytes = field(repr=False)
    text: str | None

    def __str__(self) -> str:
        value = "#" + self.value.hex() if self.text is None else _escaped(self.text)
        return f"{_SHORT_NAMES.get(self.type, self.type)}={value}"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is judged of an X.509 certificate. Times are Unix seconds."""

    der: bytes = field(repr=False)
    fingerprint: Fingerprint
    """Under SHA-256, for people and for keys of tables."""
    attributes: frozenset[Attribute] = field(repr=False)
    """Of the subject."""
    subject: str
    """RFC 4514."""
    not_before: int
    not_after: int
    signs: bool
    """keyUsage has digitalSignature."""
    purposes: frozenset[str] | None
    """The OIDs of extKeyUsage; None where it is absent."""
    spki: bytes = field(repr=False)
    """The DER of the public key."""

    @property
    def public_key(self) -> Any:
        """Raises `BadCertificate`."""
        return load_public_key(self.spki)

    @property
    def x509(self) -> x509.Certificate:
        """For what is not judged here. Raises `BadCertificate`."""
        return _load(self.der)

    def key_id(self) -> bytes:
        """Two signers are distinct when these are (fim-trust-8)."""
        return self.spki


def certificates_in(pem: bytes) -> list[bytes]:
    """The DER of those in a text, one at least. Raises `ValueError`; whether they can be decoded is not looked at."""
    found = [base64.b64decode(b"".join(one["lines"].split()), validate=True) for one in _PEM.finditer(pem)]
    if len(found) != len(_PEM_BEGIN.findall(pem)):
        raise ValueError("it is cut short")
    if not found:
        raise ValueError("it has none")
    return found


@lru_cache(maxsize=256)
def parse_certificate(data: bytes) -> Certificate:
    """Raises `BadCertificate` for what cannot be decoded by the draft's rules, which are no library's (fim-cert-3)."""
    if len(data) > DER_MAX:
        raise BadCertificate(f"a certificate of {len(data)} bytes; {DER_MAX} are allowed")
    try:
        return _parse(data)
    except ValueError as error:
        raise BadCertificate(f"the certificate cannot be decoded: {error}") from error


def _parse(data: bytes) -> Certificate:
    whole = der.Reader(der.only(data, der.SEQUENCE))
    fields = der.Reader(whole.read(der.SEQUENCE))
    whole.read(der.SEQUENCE)
    whole.read(der.BIT_STRING)  # the issuer's signature
    whole.end()
    if fields.read_whole(_VERSION_3[0]) != _VERSION_3:
        raise ValueError("it is not of version 3")
    fields.read(der.INTEGER)  # serial number
    fields.read(der.SEQUENCE)  # the issuer's algorithm
    fields.read(der.SEQUENCE)  # the issuer
    validity = der.Reader(fields.read(der.SEQUENCE))
    not_before, not_after = der.time(validity), der.time(validity)
    validity.end()
    names = _parse_names(der.Reader(fields.read(der.SEQUENCE)))
    spki = fields.read_whole(der.SEQUENCE)
    for tag in (_ISSUER_ID, _SUBJECT_ID):
        if fields.tag == tag:
            fields.read(tag)
    extensions = _parse_extensions(fields.read(_EXTENSIONS)) if fields else {}
    fields.end()
    usage, purposes = extensions.get(_KEY_USAGE), extensions.get(_EXTENDED_KEY_USAGE)
    return Certificate(
        der=data,
        fingerprint=fingerprint_of(data),
        attributes=frozenset(attribute for name in names for attribute in name),
        subject=",".join("+".join(map(str, name)) for name in reversed(names)),
        not_before=not_before,
        not_after=not_after,
        signs=usage is not None and _parse_usage(usage),
        purposes=None if purposes is None else _parse_purposes(purposes),
        spki=spki,
    )


def _parse_names(reader: der.Reader) -> list[list[Attribute]]:
    """Relative distinguished names; most have one attribute."""
    names: list[list[Attribute]] = []
    while reader:
        name: list[Attribute] = []
        attributes = der.Reader(reader.read(der.SET))
        while attributes or not name:
            fields = der.Reader(attributes.read(der.SEQUENCE))
            type = der.object_identifier(fields.read(der.OBJECT_IDENTIFIER))
            tag = fields.tag
            value = fields.read()
            fields.end()
            name.append(Attribute(type, value, _text(tag, value)))
        names.append(name)
    return names


def _text(tag: int | None, value: bytes) -> str | None:
    try:
        return value.decode(_TEXTS[tag]) if tag in _TEXTS else None
    except UnicodeDecodeError:
        return None


def _parse_extensions(data: bytes) -> dict[str, bytes]:
    """The values of the extensions; whether they are critical makes no difference here (fim-cert-9)."""
    extensions: dict[str, bytes] = {}
    reader = der.Reader(der.only(data, der.SEQUENCE))
    while reader or not extensions:
        fields = der.Reader(reader.read(der.SEQUENCE))
        type = der.object_identifier(fields.read(der.OBJECT_IDENTIFIER))
        if fields.tag == der.BOOLEAN and fields.read(der.BOOLEAN) != b"\xff":
            raise ValueError("a BOOLEAN that is not TRUE where it is not left out")
        if type in extensions:
            raise ValueError(f"the extension {type} twice")
        extensions[type] = fields.read(der.OCTET_STRING)
        fields.end()
    return extensions


def _parse_usage(data: bytes) -> bool:
    """Whether keyUsage has digitalSignature, its first bit."""
    bits = der.named_bits(der.only(data, der.BIT_STRING))
    return bool(bits) and bits[0] & 0x80 != 0


def _parse_purposes(data: bytes) -> frozenset[str]:
    purposes: set[str] = set()
    reader = der.Reader(der.only(data, der.SEQUENCE))
    while reader or not purposes:
        purposes.add(der.object_identifier(reader.read(der.OBJECT_IDENTIFIER)))
    return frozenset(purposes)


def _escaped(text: str) -> str:
    """RFC 4514 section 2.4. Control characters are escaped too: the text is shown to people, on one line."""
    escaped = "".join(_escape(c) for c in text)
    if escaped.startswith(("#", " ")):
        escaped = "\\" + escaped
    return escaped[:-1] + "\\ " if escaped.endswith(" ") and text != " " else escaped


def _escape(char: str) -> str:
    return f"\\{ord(char):02X}" if char < " " or char == "\x7f" else f"\\{char}" if char in '"+,;<>\\' else char


@lru_cache(maxsize=256)
def load_public_key(spki: bytes) -> Any:
    """The key, where it is in the one encoding that it has (fim-sig-13). Raises `BadCertificate`."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

    try:
        key = load_der_public_key(spki)
        encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadCertificate(f"the certificate's key cannot be decoded: {error}") from error
    if encoded != spki:
        raise BadCertificate("the certificate's key is not in its one encoding")
    return key


@lru_cache(maxsize=256)
def _load(data: bytes) -> x509.Certificate:
    from cryptography import x509

    try:
        certificate = x509.load_der_x509_certificate(data)
        if certificate.serial_number <= 0:  # RFC 5280 section 4.1.2.2
            raise ValueError("a serial number that is not positive")
    except (ValueError, x509.InvalidVersion, Warning) as error:  # Warning: where a program turns them into errors
        raise BadCertificate(f"the certificate cannot be decoded: {error}") from error
    return certificate


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


def check_chain(leaf: Certificate, given: Sequence[bytes], anchor: Certificate, now: int) -> None:
    """That `leaf` leads to `anchor` (RFC 5280 section 6), now. Raises `BadCertificate`.

    `given` are certificates that may lie in between. Those that cannot be decoded are passed over. How many
    signatures are checked in search of a path is bounded by the library (fim-cert-17).
    """
    from cryptography.x509 import verification

    if leaf.der == anchor.der:  # fim-cert-16
        raise BadCertificate("the signer's certificate is that of the CA itself")
    parsed = []
    for data in given[: CHAIN_MAX - 1]:
        try:
            parsed.append(parse_certificate(data).x509)
        except BadCertificate:
            continue
    policy = (
        verification.PolicyBuilder()
        .store(verification.Store([anchor.x509]))
        .time(datetime.fromtimestamp(now, UTC).replace(tzinfo=None))
        .extension_policies(ca_policy=_ca_policy(), ee_policy=verification.ExtensionPolicy.permit_all())
        .build_client_verifier()
    )
    try:
        policy.verify(leaf.x509, parsed)
    except verification.VerificationError as error:
        raise BadCertificate(f"the signer's certificate does not lead to the trusted CA: {error}") from error


@lru_cache(maxsize=1)
def _ca_policy() -> verification.ExtensionPolicy:
    """The library's, but for the extended key usage: it would ask for that of a TLS client (fim-cert-15)."""
    from cryptography import x509
    from cryptography.x509 import verification

    def check(_policy: object, _certificate: object, usage: x509.ExtendedKeyUsage | None) -> None:
        if usage is not None and not {DOCUMENT_SIGNING, ANY_PURPOSE} & {one.dotted_string for one in usage}:
            raise ValueError("a CA for other purposes than documentSigning")

    return verification.ExtensionPolicy.webpki_defaults_ca().may_be_present(
        x509.ExtendedKeyUsage, verification.Criticality.AGNOSTIC, check
    )


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
