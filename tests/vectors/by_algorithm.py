# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Verification under each algorithm, and what is signed (fim-sig, fim-hash, fim-unit, fim-signed)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from oracle import merkle, records
from oracle.xdr import opaque

from . import keys, sample
from .case import (
    ACCEPTED,
    SCHEMES,
    Attestation,
    Case,
    entry,
    example_case,
    fault,
    needs,
    signature,
    signed_by,
)
from .certificates import Signer, example, pinned, self_signed
from .form import Vector, counting
from .sample import root_of, statement
from .trees import HASHES, NAMES


def build() -> Iterator[Vector]:
    yield from _schemes()
    yield from _hashes()
    yield from _units()
    yield from _signed_bytes()


def _schemes() -> Iterator[Vector]:
    signers = [(pinned(scheme), scheme) for scheme in SCHEMES]
    signers += [(pinned(keys.RSA_PSS, size), keys.RSA_PSS) for size in ("3072", "4096")]
    for signer, scheme in signers:
        case, flags = signed_by(signer), needs(scheme)
        clauses = ["fim-sig-3", "fim-signed-1"]
        clauses += {
            keys.ED25519: ["fim-sig-1", "fim-sig-6"],
            keys.ECDSA_P256: ["fim-sig-1", "fim-sig-8"],
            keys.ECDSA_P384: ["fim-sig-8"],
        }.get(scheme, [])
        clauses += ["fim-sig-10", "fim-sig-11"] if scheme == keys.RSA_PSS else []
        clauses += ["fim-sig-12"] if scheme in keys.ML_DSA else []
        base = case.vector(f"scheme-{signer.name}", f"signed with {signer.name}", clauses, flags)
        yield base
        one = case.attestations[0]
        assert isinstance(one, Attestation)
        right = signature(signer, records.signed_bytes(1, signer.digest, scheme, case.statement))

        def valued(value: bytes, case: Case = case, one: Attestation = one) -> Case:
            return replace(case, attestations=(replace(one, value=value),))

        middle = len(right) // 2
        for slug, value in (
            ("first", bytes([right[0] ^ 1]) + right[1:]),
            ("middle", right[:middle] + bytes([right[middle] ^ 1]) + right[middle + 1 :]),
            ("last", right[:-1] + bytes([right[-1] ^ 1])),
            ("short", right[:-1]),
            ("long", right + b"\0"),
            ("empty", b""),
            ("zeros", bytes(len(right))),
        ):
            if scheme in keys.ML_DSA and slug in ("middle", "short", "zeros") and scheme != 0x0904:
                continue
            yield fault(
                base, f"value-{slug}", f"the signature: {slug}", "bad-signature", 9, valued(value), clauses[:2], flags
            )
        for other in SCHEMES:
            if other != scheme and signer.name in ("ecdsa-p256", "ed25519", "rsa-pss", "ml-dsa-65"):
                changed = replace(case, attestations=(replace(one, scheme=other, value=right),))
                yield fault(
                    base,
                    f"as-{other:04x}",
                    f"its scheme changed to {keys.NAMES[other]}",
                    "bad-certificate",
                    8,
                    changed,
                    ("fim-sig-3",),
                    sorted({*flags, *needs(other)}),
                )
    for name, clause, about in (
        ("1024", "fim-sig-10", "a modulus of 1,024 bits"), ("2040", "fim-sig-10", "a modulus of 2,040 bits"),
        ("4104", "fim-sig-10", "a modulus of 4,104 bits"), ("2048-e3", "fim-sig-10", "the public exponent 3"),
    ):  # fmt: skip
        base = next_base(f"rsa-for-{name}", pinned(keys.RSA_PSS))
        yield base
        yield fault(
            base,
            "key",
            about,
            "bad-certificate",
            8,
            signed_by(pinned(keys.RSA_PSS, name)),
            (clause, "fim-sig-3"),
            needs(keys.RSA_PSS),
        )


def next_base(id: str, signer: Signer) -> Vector:
    return signed_by(signer).vector(
        id, f"signed with {signer.name}, the base of one fault", ("fim-sig-3",), needs(signer.key.scheme)
    )


def _hashes() -> Iterator[Vector]:
    for number in HASHES:
        case = example_case(statement=statement(hash=number, root=root_of(number)).encode())
        needs = [] if number == 1 else [f"needs-hash-{NAMES[number]}"]
        known = "fim-hash-1" if number == 1 else "fim-hash-2"
        base = case.vector(
            f"hash-{NAMES[number]}",
            f"statement and tree under {NAMES[number]}",
            (known, "fim-hash-3", "fim-hash-4", "fim-tag-1"),
            needs,
        )
        base.output = {"tag": {"hash": number, "digest": HASHES[number](case.statement)}, "signers": ["example"]}
        yield base
        changed = bytearray(sample.CONTENT)
        changed[5000] ^= 4
        yield fault(
            base,
            "content",
            "a byte of the content changed",
            "mismatch",
            13,
            replace(case, content=bytes(changed)),
            ("fim-proof-7", known),
            needs,
        )
        refusing = ACCEPTED | {"hashes": [n for n in ACCEPTED["hashes"] if n != number]}
        yield fault(
            base,
            "refused",
            "and not accepted",
            "refused-algorithm",
            5,
            replace(case, accepted=refusing),
            ("fim-policy-6", "fim-ver-4", known),
            needs,
        )

        case = example_case(attestations=(Attestation(example(), hash=number),))
        base = case.vector(
            f"fingerprint-{NAMES[number]}",
            f"a signer named by the {NAMES[number]} of its certificate",
            ("fim-rec-6" if number == 1 else "fim-rec-7", "fim-rec-7", "fim-rec-8", "fim-hash-4"),
            needs,
        )
        yield base
        digest = HASHES[number](example().der)
        for slug, value in (
            ("first-bit", bytes([digest[0] ^ 0x80]) + digest[1:]),
            ("last-bit", digest[:-1] + bytes([digest[-1] ^ 1])),
        ):
            changed_case = replace(
                case, attestations=(Attestation(example(), hash=number, digest=value, signed_digest=value),)
            )
            yield fault(
                base,
                slug,
                "a bit of the digest changed, and signed so",
                "untrusted",
                7,
                changed_case,
                ("fim-rec-8",),
                [*needs, "re-signed"],
            )
        spki = HASHES[number](example().key.spki)
        changed_case = replace(
            case, attestations=(Attestation(example(), hash=number, digest=spki, signed_digest=spki),)
        )
        yield fault(
            base,
            "key",
            "the digest of the public key instead of the certificate",
            "untrusted",
            7,
            changed_case,
            ("fim-rec-7",),
            [*needs, "re-signed"],
        )
    for number in (2, 3, 4, 5, 6):
        root = merkle.SHA256(b"")[:16]
        case = example_case(statement=statement(hash=number, root=root).encode())
        base = example_case().vector(f"hash-for-{number}", "the base of a truncated hash", ("fim-hash-1",))
        yield base
        yield fault(
            base,
            "truncated",
            f"hash {number}, and signed so",
            "refused-algorithm",
            5,
            case,
            ("fim-hash-3",),
            ["re-signed"],
        )

    for number in (7, 10, 65536):  # tree type 2 is defined for SHA-256 and SHA-512 alone
        base = example_case().vector(f"tree-2-for-{NAMES[number]}", "the base of tree type 2", ("fim-ver-4",))
        yield base
        data = statement(hash=number, tree_type=2, root=bytes(len(HASHES[number](b"")))).encode()
        about = f"tree type 2 under {NAMES[number]}, and signed so"
        flags = ["re-signed", f"needs-hash-{NAMES[number]}"]
        yield fault(base, "tree", about, "unsupported", 5, replace(case, statement=data), ("fim-fsv-2",), flags)


def _units() -> Iterator[Vector]:
    for unit_log2 in range(12, 25):
        size = sample.CONTENT_SIZE if unit_log2 < 24 else (1 << 24) + 1
        content = counting(size)
        case = example_case(
            statement=statement(unit_log2=unit_log2, size=size, root=root_of(1, size, unit_log2)).encode(),
            content=content,
        )
        needs = [] if unit_log2 in (12, 16) else [f"needs-unit-{1 << unit_log2}"]
        base = case.vector(
            f"unit-{unit_log2}",
            f"units of {1 << unit_log2} bytes",
            ("fim-unit-1" if not needs else "fim-unit-2",),
            needs,
        )
        yield base
        accepted = ACCEPTED | {"unit_log2s": [n for n in ACCEPTED["unit_log2s"] if n != unit_log2]}
        yield fault(
            base,
            "refused",
            "and not accepted",
            "refused-algorithm",
            5,
            replace(case, accepted=accepted),
            ("fim-policy-6", "fim-unit-1" if not needs else "fim-unit-2"),
            needs,
        )
        if unit_log2 in (12, 16):
            other = statement(unit_log2=unit_log2, size=size, root=root_of(1, size, 28 - unit_log2)).encode()
            yield fault(
                base,
                "other",
                "the root of a tree of the other unit size, and signed",
                "mismatch",
                13,
                replace(case, statement=other),
                ("fim-proof-6", "fim-unit-1"),
                ["re-signed"],
            )


def _signed_bytes() -> Iterator[Vector]:
    case, signer = example_case(), example()
    base = case.vector(
        "signed-bytes",
        "the worked example, for faults of what was signed",
        ("fim-signed-1", "fim-signed-2", "fim-st-1"),
    )
    yield base
    data = case.statement
    right = records.signed_bytes(1, signer.digest, keys.ED25519, data)
    again = self_signed("example-again", keys.ed25519("example"), serial=2)
    label = b"File Integrity Metadata, statement, format 1"

    def signed(message: bytes) -> Case:
        return replace(case, attestations=(Attestation(signer, value=signature(signer, message)),))

    for slug, about, message, clause in (
        ("statement-alone", "the statement alone", data, "fim-signed-1"),
        ("digest", "the SHA-256 of the statement", merkle.SHA256(data), "fim-signed-1"),
        ("digest-of-all", "the SHA-256 of the signed bytes", merkle.SHA256(right), "fim-signed-1"),
        ("no-spaces", "no spaces", right[64:], "fim-signed-1"),
        ("63-spaces", "63 spaces", right[1:], "fim-signed-1"),
        ("no-label", "no label", b" " * 64 + b"\0" + right[109:], "fim-signed-1"),
        ("other-label", "the label of another format", right.replace(label, label[:-1] + b"2"), "fim-signed-1"),
        ("label-case", "the label in lower case", right.replace(label, label.lower()), "fim-signed-1"),
        ("no-zero", "no zero byte", right[:108] + right[109:], "fim-signed-1"),
        ("no-length", "the statement without its length", right[: -len(data) - 4] + data, "fim-signed-1"),
        ("no-signer", "no fingerprint", right[:109] + right[149:], "fim-signed-2"),
        ("no-scheme", "no scheme", right[:149] + right[153:], "fim-signed-2"),
        (
            "whole-record",
            "the record's first part with the count",
            b" " * 64 + label + b"\0" + opaque(data),
            "fim-signed-1",
        ),
        (
            "tls",
            "the context string of a TLS 1.3 server",
            b" " * 64 + b"TLS 1.3, server CertificateVerify\0" + merkle.SHA256(data),
            "fim-signed-1",
        ),
        (
            "other-signer",
            "the fingerprint of another certificate of the same key",
            records.signed_bytes(1, again.digest, keys.ED25519, data),
            "fim-signed-2",
        ),
        (
            "other-hash",
            "the fingerprint under another hash",
            records.signed_bytes(10, HASHES[10](signer.der), keys.ED25519, data),
            "fim-signed-2",
        ),
        (
            "other-scheme",
            "another scheme",
            records.signed_bytes(1, signer.digest, keys.ECDSA_P256, data),
            "fim-signed-2",
        ),
    ):
        yield fault(base, slug, f"signed was something else: {about}", "bad-signature", 9, signed(message), (clause,))
    yield fault(
        base,
        "other-key",
        "signed with another key",
        "bad-signature",
        9,
        replace(case, attestations=(Attestation(signer, value=signature(pinned(keys.ED25519), right)),)),
        ("fim-signed-1",),
    )
    moved = replace(
        case, attestations=(Attestation(again, value=signature(signer, right)),), trust=(entry(again.name),)
    )
    yield fault(
        base,
        "moved",
        "the signature moved to another certificate of the same key, which is trusted",
        "bad-signature",
        9,
        moved,
        ("fim-signed-2",),
    )
    for slug, at in (("label", 37), ("generation", 91), ("mtime", 127)):
        changed = bytearray(data)
        changed[at] ^= 1
        yield fault(
            base,
            f"{slug}-bit",
            f"a bit of the {slug} changed after signing",
            "bad-signature",
            9,
            replace(case, statement=bytes(changed), signed=data),
            ("fim-st-1",),
        )
