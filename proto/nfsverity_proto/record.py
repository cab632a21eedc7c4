# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Records and attestations: a statement, and who vouches for it (fim, "Record", "Attestations")."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

from .errors import Malformed
from .hashes import SHA256, digest_length, hash_by_number
from .membership import Membership, decode_membership, encode_membership
from .statement import HASH
from .xdr import Array, Buffer, Codec, Opaque, Structure, UInt, XdrError

RECORD_MAX = 65536
ATTESTATIONS_MAX = 8
SIGNATURE, MEMBERSHIP = 1, 2
"""Attestation types."""

_CONTEXT = b"\x20" * 64 + b"File Integrity Metadata, statement, format 1\x00"
"""What precedes the signed structure (fim-signed-1); 64 spaces as in RFC 8446 section 4.4.3."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Names a certificate: hash number, and digest of its DER under it."""

    hash: int
    digest: bytes

    def __post_init__(self) -> None:
        length = digest_length(self.hash)
        if length is not None and len(self.digest) != length:
            raise ValueError(f"a fingerprint of {len(self.digest)} bytes where its hash has {length}")

    def __str__(self) -> str:
        return self.digest.hex()


@dataclass(frozen=True, slots=True)
class Signature:
    """The body of an attestation of type SIGNATURE."""

    signer: Fingerprint
    scheme: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Attestation:
    type: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """A statement's bytes as they were signed, and one to eight attestations."""

    statement: bytes
    attestations: tuple[Attestation, ...]

    def __post_init__(self) -> None:
        keys = [(a.type, a.body) for a in self.attestations]
        if any(low >= high for low, high in itertools.pairwise(keys)):
            raise ValueError("attestations that are not in ascending order")
        if sum(type == MEMBERSHIP for type, _ in keys) > 1:
            raise ValueError("more than one membership")


@dataclass(frozen=True, slots=True)
class _Signed:
    signer: Fingerprint
    scheme: int
    statement: bytes


FINGERPRINT = Structure(Fingerprint, hash=UInt, digest=HASH)
_SIGNED: Codec[_Signed] = Codec(Structure(_Signed, signer=FINGERPRINT, scheme=UInt, statement=Opaque(8192)))
_SIGNATURE: Codec[Signature] = Codec(Structure(Signature, signer=FINGERPRINT, scheme=UInt, value=Opaque(8192)))
_RECORD: Codec[Record] = Codec(
    Structure(
        Record,
        statement=Opaque(8192),
        attestations=Array(Structure(Attestation, type=UInt, body=Opaque(61440)), ATTESTATIONS_MAX, 1),
    )
)


def fingerprint_of(der: bytes, hash: int = SHA256) -> Fingerprint:
    """The fingerprint of a certificate's DER."""
    return Fingerprint(hash, hash_by_number(hash).digest(der))


def signed_bytes(signer: Fingerprint, scheme: int, statement: bytes) -> bytes:
    """What a signer signs (fim-signed-1)."""
    return _CONTEXT + _SIGNED.encode(_Signed(signer, scheme, statement))


def signature_attestation(signature: Signature) -> Attestation:
    return Attestation(SIGNATURE, _SIGNATURE.encode(signature))


@lru_cache(maxsize=ATTESTATIONS_MAX)  # each of a record's is decoded in step 1, and used in step 6
def signature_of(attestation: Attestation) -> Signature:
    """The signature that an attestation of type SIGNATURE holds. Raises `Malformed`."""
    try:
        return _SIGNATURE.decode(attestation.body)
    except ValueError as error:
        raise Malformed(f"a signature cannot be decoded: {error}") from error


def membership_attestation(membership: Membership) -> Attestation:
    return Attestation(MEMBERSHIP, encode_membership(membership))


@lru_cache(maxsize=1)  # decoded in step 1, used in step 3
def membership_of(attestation: Attestation) -> Membership:
    """The membership that an attestation of type MEMBERSHIP holds. Raises `Malformed`."""
    try:
        return decode_membership(attestation.body)
    except ValueError as error:
        raise Malformed(f"a membership cannot be decoded: {error}") from error


def encode_record(statement: bytes, attestations: list[Attestation]) -> bytes:
    """The record of some attestations, put in order. Raises `ValueError` past the bounds."""
    data = _RECORD.encode(Record(statement, tuple(sorted(attestations, key=lambda a: (a.type, a.body)))))
    if len(data) > RECORD_MAX:
        raise ValueError(f"a record of {len(data)} bytes; {RECORD_MAX} are allowed")
    return data


def decode_record(data: Buffer) -> Record:
    """The first part of step 1. The size is checked before anything else. Raises `Malformed`."""
    try:
        if len(data) > RECORD_MAX:
            raise XdrError(f"{len(data)} bytes; {RECORD_MAX} are allowed")
        record = _RECORD.decode(data)
    except ValueError as error:
        raise Malformed(f"the record cannot be decoded: {error}") from error
    for attestation in record.attestations:
        if attestation.type == SIGNATURE:
            signature_of(attestation)
        elif attestation.type == MEMBERSHIP:
            membership_of(attestation)
    return record
