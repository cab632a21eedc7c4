# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The certificates that vectors name (RFC 5280), by name. Their times are fixed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from . import keys
from .der import bits, boolean, integer, item, octets, oid, sequence, set_of, time
from .keys import Key

NOT_BEFORE, NOT_AFTER = 1_767_225_600, 2_082_758_399
"""2026-01-01T00:00:00Z and 2035-12-31T23:59:59Z, as in the worked example."""
DOCUMENT_SIGNING, CODE_SIGNING = "1.3.6.1.5.5.7.3.36", "1.3.6.1.5.5.7.3.3"
CLIENT_AUTH, ANY_PURPOSE = "1.3.6.1.5.5.7.3.2", "2.5.29.37.0"
COMMON_NAME, ORGANIZATION, COUNTRY = "2.5.4.3", "2.5.4.10", "2.5.4.6"

UTF8_STRING, PRINTABLE_STRING, TELETEX_STRING, IA5_STRING, BMP_STRING = 0x0C, 0x13, 0x14, 0x16, 0x1E

Name = tuple[tuple[str, str], ...]


def common_name(text: str) -> Name:
    return ((COMMON_NAME, text),)


def name_der(name: Name, string: int = UTF8_STRING) -> bytes:
    """`string`: the tag of the values; those of two bytes a character are BMPStrings."""
    coding = "utf-16-be" if string == BMP_STRING else "utf-8"
    return sequence(*(set_of(sequence(oid(type), item(string, value.encode(coding)))) for type, value in name))


def extension(dotted: str, value: bytes, critical: bool) -> bytes:
    return sequence(oid(dotted), *([boolean(True)] if critical else []), octets(value))


DIGITAL_SIGNATURE = (b"\x80", 7)
KEY_ENCIPHERMENT = (b"\x20", 5)
CERT_SIGN = (b"\x06", 1)
"""keyCertSign and cRLSign: bits, and how many at the end are unused (RFC 5280 section 4.2.1.3)."""


def certificate(
    key: Key,
    subject: Name,
    issuer: Key,
    issuer_name: Name | None = None,
    *,
    not_before: int = NOT_BEFORE,
    not_after: int = NOT_AFTER,
    usage: tuple[bytes, int] | None = DIGITAL_SIGNATURE,
    purposes: Sequence[str] | None = None,
    ca: bool | None = None,
    path_length: int | None = None,
    serial: int | None = None,
    unknown_critical: bool = False,
    padding: bytes = b"",
    string: int = UTF8_STRING,
    times: tuple[bytes, bytes] | None = None,
) -> bytes:
    """The DER. `ca`: basicConstraints, None for none; with it come the key identifiers that chains need.

    `string` is the type of the subject's values, `times` replaces the validity.
    """
    extensions = []
    if ca is not None:
        constraints = [boolean(True)] if ca else []
        if path_length is not None:
            constraints.append(integer(path_length))
        extensions.append(extension("2.5.29.19", sequence(*constraints), True))
        extensions.append(extension("2.5.29.14", octets(_key_id(key)), False))
        extensions.append(extension("2.5.29.35", sequence(item(0x80, _key_id(issuer))), False))
    if usage is not None:
        extensions.append(extension("2.5.29.15", bits(*usage), True))
    if purposes is not None:
        extensions.append(extension("2.5.29.37", sequence(*map(oid, purposes)), False))
    if unknown_critical:
        extensions.append(extension("1.3.6.1.4.1.32473.1", b"\5\0", True))  # RFC 5612: an example's number
    if padding:
        extensions.append(extension("1.3.6.1.4.1.32473.2", octets(padding), False))
    if serial is None:
        serial = int.from_bytes(hashlib.sha256(key.spki + name_der(subject)).digest()[:8], "big") >> 1 | 1 << 62
    to_be_signed = sequence(
        item(0xA0, integer(2)),
        integer(serial),
        issuer.algorithm,
        name_der(subject if issuer_name is None else issuer_name, UTF8_STRING if issuer_name else string),
        sequence(*times) if times is not None else sequence(time(not_before), time(not_after)),
        name_der(subject, string),
        key.spki,
        *([item(0xA3, sequence(*extensions))] if extensions else []),
    )
    return sequence(to_be_signed, issuer.algorithm, bits(issuer.sign_certificate(to_be_signed)))


def _key_id(key: Key) -> bytes:
    return hashlib.sha256(key.spki).digest()[:20]


@dataclass(frozen=True)
class Signer:
    """A key and the certificate that names it."""

    name: str
    key: Key
    der: bytes
    chain: tuple[str, ...] = ()
    """The names of certificates between it and a CA."""

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.der).digest()


CATALOGUE: dict[str, bytes] = {}
"""Every certificate that a vector names: certificates.json."""


def listed(name: str, der: bytes) -> str:
    if CATALOGUE.setdefault(name, der) != der:
        raise ValueError(f"two certificates are named {name}")
    return name


def self_signed(name: str, key: Key, **more: object) -> Signer:
    der = certificate(key, common_name(name), key, **more)  # type: ignore[arg-type]
    listed(name, der)
    return Signer(name, key, der)


@cache
def pinned(scheme: int, name: str = "") -> Signer:
    """A signer whose certificate is self-signed, one for each scheme and name."""
    label = f"{keys.NAMES[scheme]}{name and '-' + name}"
    if scheme == keys.ED25519:
        key = keys.ed25519(label)
    elif scheme in keys.ML_DSA:
        key = keys.ml_dsa(scheme, label)
    elif scheme == keys.RSA_PSS:
        key = keys.rsa(f"rsa-{name or '2048'}")
    else:
        key = keys.ecdsa(scheme, label)
    return self_signed(label, key)


@cache
def example() -> Signer:
    """The one of the worked example: serial number 1, keyUsage and nothing else."""
    return self_signed("example", keys.ed25519("example"), serial=1)


@cache
def authority(name: str, scheme: int = keys.ECDSA_P256) -> Signer:
    """A CA with a certificate of its own."""
    key = keys.rsa("rsa-2048-b") if scheme == keys.RSA_PSS else keys.ecdsa(scheme, name)
    return self_signed(name, key, ca=True, usage=CERT_SIGN)


def issued(name: str, key: Key, by: Signer, issuer_name: Name | None = None, **more: object) -> Signer:
    """A signer below a CA, with documentSigning unless told otherwise."""
    options: dict[str, object] = {"ca": False, "purposes": (DOCUMENT_SIGNING,), "subject": common_name(name)} | more
    subject = options.pop("subject")
    der = certificate(key, subject, by.key, common_name(by.name) if issuer_name is None else issuer_name, **options)  # type: ignore[arg-type]
    listed(name, der)
    return Signer(name, key, der, chain=by.chain)


def intermediate(name: str, by: Signer, scheme: int = keys.ECDSA_P256, **more: object) -> Signer:
    """A CA below a CA. Its `chain` is itself, then what is above it and below the first."""
    options: dict[str, object] = {"ca": True, "usage": CERT_SIGN} | more
    key = keys.ecdsa(scheme, name)
    der = certificate(key, common_name(name), by.key, common_name(by.name), **options)  # type: ignore[arg-type]
    listed(name, der)
    return Signer(name, key, der, chain=(name, *by.chain))
