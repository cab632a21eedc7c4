# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""One verification, in parts that can be replaced one by one: who signed what, and what the verifier brings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from oracle import records

from . import keys, sample
from .certificates import Signer, example
from .form import Long, Vector
from .trees import HASHES


@dataclass(frozen=True)
class Attestation:
    """A signature by `signer`, right unless something is replaced."""

    signer: Signer
    hash: int = 1
    scheme: int | None = None
    digest: bytes | None = None
    value: bytes | None = None
    """Replaces the signature."""
    type: int = records.SIGNATURE
    cut: int = 0
    """Bytes taken from the end of the body."""
    more: bytes = b""
    """Bytes added to the end of the body."""
    signed_digest: bytes | None = None
    signed_scheme: int | None = None
    """What stands in the signed bytes, if it is not what stands in the body."""

    def body(self, signed: bytes) -> bytes:
        digest = HASHES[self.hash](self.signer.der) if self.hash in HASHES else HASHES[1](self.signer.der)
        shown = digest if self.digest is None else self.digest
        scheme = self.signer.key.scheme if self.scheme is None else self.scheme
        value = self.value
        if value is None:
            # What is replaced in the body was not signed, and what is replaced in the signed bytes is not shown.
            over = records.signed_bytes(
                self.hash if self.hash in HASHES else 1,
                digest if self.signed_digest is None else self.signed_digest,
                self.signer.key.scheme if self.signed_scheme is None else self.signed_scheme,
                signed,
            )
            value = signature(self.signer, over)
        body = records.signature(self.hash, shown, scheme, value) + self.more
        return body[: len(body) - self.cut]


@cache
def signature(signer: Signer, message: bytes) -> bytes:
    return signer.key.sign(message)


Entry = dict[str, Any]


def entry(anchor: str, **more: Any) -> Entry:
    """A trust entry: a pin without limits unless told otherwise."""
    found: Entry = {
        "anchor": anchor,
        "ca": False,
        "subject": None,
        "volumes": [],
        "prefixes": [],
        "schemes": [],
        "signers": 1,
    }
    unknown = more.keys() - found.keys()
    if unknown:
        raise ValueError(f"a trust entry has no {unknown}")
    return found | more


ACCEPTED: dict[str, Any] = {
    "hashes": [1, 7, 8, 10, 65536],
    "schemes": [0x0403, 0x0503, 0x0804, 0x0807, 0x0904, 0x0905, 0x0906],
    "unit_log2s": list(range(12, 25)),
}


NOTHING_REVOKED: dict[str, Any] = {"items": [], "accepted": []}


@dataclass(frozen=True)
class Case:
    statement: bytes
    attestations: tuple[Attestation | tuple[int, bytes], ...]
    signed: bytes | None = None
    """The statement that was signed, if another; None: this one."""
    record: bytes | None = None
    """Replaces the record that follows from the above."""
    absent: bool = False
    now: int = sample.NOW
    path: bytes = sample.PATH
    volumes: tuple[bytes, ...] | None = (sample.VOLUME,)
    url: str | None = None
    trust: tuple[Entry, ...] = ()
    certificates: tuple[dict[str, Any], ...] = ()
    accepted: dict[str, Any] | None = None
    marks: tuple[dict[str, Any], ...] = ()
    revoked: dict[str, Any] = field(default_factory=lambda: NOTHING_REVOKED)
    wanted: int = records.FILE
    content: bytes | None = None
    read: dict[str, Any] | None = None

    def encoded(self) -> bytes | None:
        if self.absent:
            return None
        if self.record is not None:
            return self.record
        signed = self.statement if self.signed is None else self.signed
        bodies = [(one.type, one.body(signed)) if isinstance(one, Attestation) else one for one in self.attestations]
        return records.record(self.statement, bodies)

    def input(self) -> dict[str, Any]:
        return {
            "wanted": self.wanted,
            "record": self.encoded(),
            "now": Long(self.now),
            "path": self.path,
            "volumes": None if self.volumes is None else list(self.volumes),
            "url": self.url,
            "trust": list(self.trust),
            "certificates": list(self.certificates),
            "accepted": self.accepted,
            "marks": list(self.marks),
            "revoked": self.revoked,
            "content": self.content,
            "read": self.read,
        }

    def vector(self, id: str, about: str, clauses: Sequence[str], flags: Sequence[str] = (), **more: Any) -> Vector:
        return Vector(id, about, clauses, self.input(), "verified", True, flags=flags, **more)

    def ordered(self) -> Case:
        """With its attestations in the order of the draft."""
        signed = self.statement if self.signed is None else self.signed

        def place(one: Attestation | tuple[int, bytes]) -> tuple[int, bytes]:
            return (one.type, one.body(signed)) if isinstance(one, Attestation) else one

        return replace(self, attestations=tuple(sorted(self.attestations, key=place)))


def certificates_for(signer: Signer, *others: str, hash: int = 1) -> dict[str, Any]:
    """What a provider gives for a fingerprint: the certificate, and those that may lead to a CA."""
    return {"hash": hash, "digest": HASHES[hash](signer.der), "given": [signer.name, *others]}


def example_case(**changed: Any) -> Case:
    """The base of the table of changes: the worked example, and its signer pinned."""
    signer = example()
    parts: dict[str, Any] = {
        "statement": sample.statement().encode(),
        "attestations": (Attestation(signer),),
        "trust": (entry(signer.name),),
        "content": sample.CONTENT,
    }
    return Case(**(parts | changed))


STEPS = {
    "unsigned": 0,
    "malformed": 1,
    "wrong-kind": 2,
    "wrong-volume": 3,
    "wrong-path": 3,
    "unknown-extension": 4,
    "untrusted": 7,
    "no-certificate": 8,
    "bad-certificate": 8,
    "not-yet-valid": 8,
    "expired": 8,
    "wrong-usage": 8,
    "bad-signature": 9,
    "too-few-signers": 10,
    "rollback": 11,
    "equivocation": 11,
    "issued-in-future": 12,
    "record-expired": 12,
    "mismatch": 13,
}
"""Of the verdicts that have one step only."""

SCHEMES = (keys.ED25519, keys.ECDSA_P256, keys.ECDSA_P384, keys.RSA_PSS, *keys.ML_DSA)
HOST = "nfsv://host.example:7447"


def fault(
    base: Vector,
    id: str,
    about: str,
    verdict: str,
    step: int | None,
    case: Case,
    clauses: Sequence[str],
    flags: Sequence[str] = (),
    output: dict[str, Any] | None = None,
) -> Vector:
    step = STEPS.get(verdict) if step is None else step
    valid = verdict == "verified"
    return base.fault(
        id,
        about,
        verdict,
        clauses,
        step=None if valid else step,
        valid=valid,
        flags=flags,
        output=output,
        **case.input(),
    )


def signed_by(*signers: Signer, **changed: Any) -> Case:
    """The worked example, signed by others, each pinned."""
    parts: dict[str, Any] = {
        "attestations": tuple(Attestation(one) for one in signers),
        "trust": tuple(entry(one.name) for one in signers),
    }
    return example_case(**(parts | changed)).ordered()


def needs(scheme: int) -> list[str]:
    return [f"needs-scheme-{keys.NAMES[scheme]}"] if scheme not in (keys.ED25519, keys.ECDSA_P256) else []
