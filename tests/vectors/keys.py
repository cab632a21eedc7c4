# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Test keys, by name: a scheme of File Integrity Metadata, a public key in DER, and how it signs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from . import arithmetic, inputs
from .der import bits, integer, null, oid, sequence

ED25519, ECDSA_P256, ECDSA_P384, RSA_PSS = 0x0807, 0x0403, 0x0503, 0x0804
ML_DSA = {0x0904: 44, 0x0905: 65, 0x0906: 87}
NAMES = {ED25519: "ed25519", ECDSA_P256: "ecdsa-p256", ECDSA_P384: "ecdsa-p384", RSA_PSS: "rsa-pss"} | {
    number: f"ml-dsa-{parameters}" for number, parameters in ML_DSA.items()
}
SALT = bytes(range(32))
EXAMPLE_SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
"""RFC 8032 section 7.1, test 1."""


@dataclass(frozen=True)
class Key:
    scheme: int
    spki: bytes
    """SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7)."""
    sign: Callable[[bytes], bytes]
    """As File Integrity Metadata asks."""
    algorithm: bytes
    """AlgorithmIdentifier of the signatures that the key puts on certificates."""
    sign_certificate: Callable[[bytes], bytes]


def ecdsa_der(r: int, s: int) -> bytes:
    return sequence(integer(r), integer(s))


@cache
def ed25519(name: str) -> Key:
    return ed25519_of(EXAMPLE_SEED if name == "example" else _secret(name))


def ed25519_of(seed: bytes) -> Key:
    algorithm = sequence(oid("1.3.101.112"))

    def sign(message: bytes) -> bytes:
        return arithmetic.ed25519_sign(seed, message)

    return Key(ED25519, sequence(algorithm, bits(arithmetic.ed25519_public(seed))), sign, algorithm, sign)


@cache
def ecdsa(scheme: int, name: str) -> Key:
    curve, curve_oid, signature_oid = {
        ECDSA_P256: (arithmetic.P256, "1.2.840.10045.3.1.7", "1.2.840.10045.4.3.2"),
        ECDSA_P384: (arithmetic.P384, "1.3.132.0.34", "1.2.840.10045.4.3.3"),
    }[scheme]
    secret = int.from_bytes(_secret(name), "big") % (curve.n - 1) + 1
    spki = sequence(sequence(oid("1.2.840.10045.2.1"), oid(curve_oid)), bits(arithmetic.ecdsa_public(curve, secret)))

    def sign(message: bytes) -> bytes:
        return ecdsa_der(*arithmetic.ecdsa_sign(curve, secret, message))

    return Key(scheme, spki, sign, sequence(oid(signature_oid)), sign)


def ecdsa_under(name: str, hash: Callable[[bytes], Any], dotted: str) -> Key:
    """The key on P-256 of a name, signing certificates with another hash."""
    key = ecdsa(ECDSA_P256, name)
    secret = int.from_bytes(_secret(name), "big") % (arithmetic.P256.n - 1) + 1

    def sign(message: bytes) -> bytes:
        return ecdsa_der(*arithmetic.ecdsa_sign_digest(arithmetic.P256, secret, hash(message).digest()))

    return replace(key, algorithm=sequence(oid(dotted)), sign_certificate=sign)


@cache
def rsa(name: str) -> Key:
    key = inputs.rsa(name)
    spki = sequence(sequence(oid("1.2.840.113549.1.1.1"), null()), bits(sequence(integer(key.n), integer(key.e))))
    return Key(
        RSA_PSS,
        spki,
        lambda message: arithmetic.pss_sign(key, message, SALT),
        sequence(oid("1.2.840.113549.1.1.11"), null()),
        lambda message: arithmetic.pkcs1_sign(key, message),
    )


@cache
def ml_dsa(scheme: int, name: str) -> Key:
    parameters = ML_DSA[scheme]
    algorithm = sequence(oid(f"2.16.840.1.101.3.4.3.{17 + list(ML_DSA).index(scheme)}"))

    def sign(message: bytes) -> bytes:
        return inputs.ml_dsa_sign(parameters, name, message)

    return Key(scheme, sequence(algorithm, bits(inputs.ml_dsa_public(parameters, name))), sign, algorithm, sign)


def _secret(name: str) -> bytes:
    return hashlib.sha256(b"nfs-verity test key " + name.encode()).digest()
