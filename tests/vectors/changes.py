# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The rows of "What Each Change Ends In", each at the bounds of its values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from oracle import merkle, records
from oracle.xdr import opaque, uint

from . import certificates, keys, sample
from .case import ACCEPTED, STEPS, Attestation, Case, entry, example_case, needs, signed_by
from .form import Long, Vector, counting
from .sample import root_of, statement
from .trees import HASHES

Change = tuple[str, str, Case]
"""The rest of the id, what was done, the case."""


def build(rows: Sequence[dict[str, str]]) -> Iterator[Vector]:
    """`rows`: the table, as spec/verdicts.json has it. A row without cases here is an error."""
    case = example_case()
    base = case.vector(
        "example",
        "the worked example: the base of all changes",
        (
            "fim-ver-4",
            "fim-ver-1",
            "fim-ver-8",
            "fim-signed-1",
            "fim-proof-9",
            "fim-kind-2",
            "fim-dec-5",
            "fim-policy-6",
            "fim-rest-2",
        ),
    )
    yield base
    made = Changes(case)
    for row in rows:
        name = row["id"].removeprefix("change-").replace("-", "_")
        changes: Callable[[], Iterator[Change]] = getattr(made, name)
        for slug, about, changed in changes():
            yield vector_of(base, row, slug, about, changed)


def vector_of(base: Vector, row: dict[str, str], slug: str, about: str, changed: Case) -> Vector:
    verdict = row["verdict"]
    step = STEPS.get(verdict, STEP_OF_ROW.get(row["id"]))
    if verdict != "verified" and step is None:
        raise ValueError(f"no step is known for {row['id']}")
    clauses = CLAUSES.get(row["id"], CLAUSES.get(verdict, ("fim-ver-4",)))
    flags = ["re-signed"] if "re-signed" in row["change"] else []
    flags += NEEDS.get((row["field"], slug), [])
    id = row["id"].removeprefix("change-")
    return base.fault(
        f"{id}-{slug}",
        about,
        verdict,
        clauses,
        step=step,
        flags=flags,
        change=row["id"],
        valid=verdict == "verified",
        **changed.input(),
    )


STEP_OF_ROW = {
    "change-format": 1,
    "change-hash-truncated": 5,
    "change-hash-unknown": 5,
    "change-tree-type": 5,
    "change-signed-tree-type": 5,
    "change-attestation-type": 6,
    "change-signer-hash-truncated": 6,
    "change-signer-hash-unknown": 6,
    "change-scheme-unknown": 6,
    "change-trust-volumes": 7,
    "change-trust-prefixes": 7,
    "change-trust-subject": 7,
    "change-trust-schemes": 7,
    "change-revoked-key": 8,
    "change-revoked-version": 11,
    "change-accepted-hashes": 5,
    "change-accepted-units": 5,
    "change-accepted-schemes": 6,
}

CLAUSES: dict[str, tuple[str, ...]] = {
    "malformed": ("fim-dec-1",),
    "change-record-long": ("fim-dec-1", "fim-dec-2"),
    "change-record-none": ("fim-ver-4", "fim-rec-1"),
    "change-attestations-none": ("fim-rec-1", "fim-dec-1"),
    "change-attestations-order": ("fim-rec-2", "fim-dec-1"),
    "change-attestations-twice": ("fim-rec-2", "fim-dec-1"),
    "change-attestations-added": ("fim-rec-3", "fim-rec-5", "fim-ver-5"),
    "change-attestations-before": ("fim-rec-3", "fim-rec-5", "fim-ver-5"),
    "change-signed-certificate": ("fim-cert-5",),
    "change-attestation-type": ("fim-rec-3", "fim-rec-5", "fim-ver-6"),
    "change-extension-order": ("fim-ext-1", "fim-dec-1"),
    "change-extension-critical": ("fim-ver-4",),
    "change-signed-extension": ("fim-ext-2", "fim-ext-3"),
    "change-signed-extension-critical": ("fim-ext-2", "fim-ext-3", "fim-ver-4"),
    "change-format": ("fim-dec-5", "fim-fmt-2"),
    "change-kind-other": ("fim-kind-1", "fim-kind-2"),
    "change-signed-kind": ("fim-kind-1",),
    "change-revoked-key": ("fim-rev-3",),
    "change-revoked-other": ("fim-rev-3",),
    "change-revoked-expired": ("fim-rev-12",),
    "wrong-volume": ("fim-ver-4", "fim-ver-1"),
    "wrong-path": ("fim-path-5", "fim-ver-4", "fim-ver-1", "fim-rest-2"),
    "change-path-none": ("fim-path-2", "fim-path-3", "fim-path-4", "fim-dec-1"),
    "change-label-none": ("fim-path-2", "fim-path-8", "fim-dec-1"),
    "change-signed-label": ("fim-st-6",),
    "change-generation-none": ("fim-gen-3", "fim-dec-1"),
    "change-hash-truncated": ("fim-hash-3",),
    "change-signer-hash-truncated": ("fim-hash-3",),
    "change-signer-digest": ("fim-rec-8", "fim-rec-7"),
    "change-signer-hash-same-length": ("fim-rec-7", "fim-rec-8"),
    "change-scheme-other": ("fim-sig-3", "fim-signed-2"),
    "bad-signature": ("fim-signed-1", "fim-st-1"),
    "change-value": ("fim-sig-6", "fim-signed-1"),
    "mismatch": ("fim-proof-9", "fim-proof-7"),
    "change-proof": ("fim-proof-7",),
    "not-yet-valid": ("fim-cert-4",),
    "expired": ("fim-cert-4",),
    "change-trust-signers": ("fim-trust-7",),
    "change-trust-prefixes": ("fim-trust-4",),
    "change-trust-subject": ("fim-trust-6",),
    "change-trust-pin": ("fim-rec-8",),
    "change-accepted-hashes": ("fim-policy-6",),
    "change-accepted-units": ("fim-policy-6",),
    "change-accepted-schemes": ("fim-policy-6",),
}
"""By row, or by verdict."""

NEEDS = {
    (field, number): [f"needs-hash-{name}"]
    for field in ("statement.hash", "signature.signer.hash")
    for number, name in (("10", "sha3-256"), ("65536", "blake3"))
} | {("signature.scheme", str(scheme)): needs(scheme) for scheme in ACCEPTED["schemes"]}
"""By field and value: what a verifier has to implement for the verdict to be that of the row."""

HIGH = 2**32 - 1


class Changes:
    """One method per row."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.good = case.statement
        self.whole = case.encoded() or b""
        self.one = case.attestations[0]
        if not isinstance(self.one, Attestation):
            raise TypeError
        self.body = self.one.body(self.good)

    # how changes are made

    def data(self, statement: bytes) -> Case:
        """Another statement under the signature of the right one."""
        return replace(self.case, statement=statement, signed=self.good)

    def field(self, **changed: Any) -> Case:
        return self.data(statement(**changed).encode())

    def signed(self, **changed: Any) -> Case:
        return replace(self.case, statement=statement(**changed).encode())

    def attestation(self, **changed: Any) -> Case:
        return replace(self.case, attestations=(replace(self.one, **changed),))  # type: ignore[type-var]

    def record(self, record: bytes) -> Case:
        return replace(self.case, record=record)

    def trusting(self, **changed: Any) -> Case:
        return replace(self.case, trust=(entry("example", **changed),))

    def values(self, name: str, values: Sequence[int], words: str = "") -> Iterator[Change]:
        for value in values:
            yield _slug(value), f"{words or name} {value}", self.field(**{name: value})

    def signed_values(self, name: str, values: Sequence[int]) -> Iterator[Change]:
        for value in values:
            yield _slug(value), f"{name} {value}, and signed", self.signed(**{name: value})

    # rows, in the order of the table

    def record_none(self) -> Iterator[Change]:
        yield "all", "no record", replace(self.case, absent=True)

    def record_long(self) -> Iterator[Change]:
        for length in (65537, 65540, 70000):
            yield str(length), f"extended to {length} bytes", self.record(self.whole + bytes(length - len(self.whole)))

    def record_cut(self) -> Iterator[Change]:
        for length in (0, 1, 4, 187, 188, 191, 192, 200, len(self.whole) - 4, len(self.whole) - 1):
            yield f"to-{length}", f"cut to {length} bytes", self.record(self.whole[:length])

    def record_extended(self) -> Iterator[Change]:
        for slug, more in (
            ("zero", b"\0"),
            ("word", bytes(4)),
            ("itself", self.whole),
            ("to-65536", bytes(65536 - len(self.whole))),
        ):
            yield slug, f"extended by {len(more)} bytes", self.record(self.whole + more)

    def statement_cut(self) -> Iterator[Change]:
        for length in (0, 4, 12, 15, 16, 17, 100, len(self.good) - 4, len(self.good) - 1):
            yield f"to-{length}", f"cut to {length} bytes", self.data(self.good[:length])

    def statement_extended(self) -> Iterator[Change]:
        for length in (1, 4, 1000, 8192 - len(self.good)):
            yield f"by-{length}", f"extended by {length} bytes", self.data(self.good + bytes(length))

    def statement_long(self) -> Iterator[Change]:
        for length in (8193, 8196, 20000):
            yield f"to-{length}", f"extended to {length} bytes", self.data(self.good + bytes(length - len(self.good)))

    def magic(self) -> Iterator[Change]:
        return self.values("magic", (0, 0x4E465357, 0x5653464E, HIGH))

    def format(self) -> Iterator[Change]:
        return self.values("format", (0, 2, 0x01000000, HIGH))

    def hash_truncated(self) -> Iterator[Change]:
        return self.values("hash", (2, 3, 4, 5, 6))

    def hash_length(self) -> Iterator[Change]:
        return self.values("hash", (7, 8, 11, 12))

    def hash_same_length(self) -> Iterator[Change]:
        return self.values("hash", (10, 65536))

    def hash_unknown(self) -> Iterator[Change]:
        return self.values("hash", (0, 9, 13, 32, 63, 65535, 65537, HIGH))

    def kind_other(self) -> Iterator[Change]:
        for kind in (1, 3, 4):
            changed = self.good[:12] + uint(kind) + self.good[16:]
            yield str(kind), f"kind {kind}, the rest as it was", self.data(changed)

    def kind_none(self) -> Iterator[Change]:
        for kind in (0, 5, 0x02000000, HIGH):
            changed = self.good[:12] + uint(kind) + self.good[16:]
            yield str(kind), f"kind {kind}", self.data(changed)

    def volume(self) -> Iterator[Change]:
        for slug, value in self._volumes():
            yield slug, "another volume ID", self.field(volume=value)

    @staticmethod
    def _volumes() -> Iterator[tuple[str, bytes]]:
        yield "zeros", bytes(16)
        yield "first-bit", b"\x80" + sample.VOLUME[1:]
        yield "last-bit", sample.VOLUME[:-1] + b"\x0e"
        yield "reversed", sample.VOLUME[::-1]

    _labels = (("1", b"x"), ("255", b"n" * 255), ("case", b"Example"), ("not-utf-8", b"\xff\xfe"))
    _paths = (
        ("case", sample.PATH.replace(b"README", b"readme")),
        ("shorter", sample.PATH[:-1]),
        ("longer", sample.PATH + b"x"),
        ("below", sample.PATH + b"/x"),
        ("above", b"usr"),
        ("1", b"x"),
        ("other-name", b"usr/share/doc/integrity/worked/README.mD"),
        ("4095", b"/".join([b"p" * 255] * 15 + [b"q" * 127, b"r" * 127])),
        ("not-utf-8", sample.PATH[:-2] + b"\xe9d"),
    )
    _not_names = (
        ("empty", b""),
        ("dot", b"."),
        ("dot-dot", b".."),
        ("slash", b"a/b"),
        ("nul", b"a\0b"),
        ("256", b"n" * 256),
    )

    def label(self) -> Iterator[Change]:
        for slug, value in self._labels:
            yield slug, "another label", self.field(label=value)

    def label_none(self) -> Iterator[Change]:
        for slug, value in self._not_names:
            yield slug, f"a label that is not a name: {slug}", self.field(label=value)

    def label_padding(self) -> Iterator[Change]:
        at = 16 + 16 + 4 + len(sample.LABEL)
        for value in (1, 128, 255):
            changed = bytearray(self.good)
            changed[at] = value
            yield str(value), f"a padding byte of {value}", self.data(bytes(changed))

    def path(self) -> Iterator[Change]:
        for slug, value in self._paths:
            yield slug, "another path", self.field(path=value)

    def path_none(self) -> Iterator[Change]:
        for slug, value in (
            ("empty", b""),
            ("slash-start", b"/" + sample.PATH),
            ("slash-end", sample.PATH + b"/"),
            ("slashes", b"usr//share"),
            ("dot", b"usr/./share"),
            ("dot-dot", b"usr/../share"),
            ("nul", b"usr/sh\0re"),
            ("name-256", b"n" * 256),
            ("deep-257", b"/".join([b"d"] * 257)),
            ("4096", b"/".join([b"p" * 255] * 15 + [b"q" * 127, b"r" * 128])),
        ):
            yield slug, f"no path of a file: {slug}", self.field(path=value)

    def generation(self) -> Iterator[Change]:
        return self.values("generation", (0, sample.GENERATION - 1, sample.GENERATION + 1, 2**63, 2**64 - 2))

    def generation_none(self) -> Iterator[Change]:
        return self.values("generation", (2**64 - 1,))

    def issued(self) -> Iterator[Change]:
        return self.values("issued", (-(2**63), -1, 0, sample.ISSUED + 1, sample.NOW + 301, 2**63 - 1))

    def not_after(self) -> Iterator[Change]:
        return self.values("not_after", (-(2**63), 0, sample.NOW - 1, sample.NOW, 2**63 - 2))

    def executable(self) -> Iterator[Change]:
        return self.values("executable", (1,))

    def executable_none(self) -> Iterator[Change]:
        return self.values("executable", (2, 0x01000000, HIGH))

    def mtime_seconds(self) -> Iterator[Change]:
        return self.values("seconds", (-(2**63), -1, 0, sample.MTIME[0] + 1, 2**63 - 1))

    def mtime_nseconds(self) -> Iterator[Change]:
        return self.values("nseconds", (0, 500_000_001, 999_999_999))

    def mtime_nseconds_none(self) -> Iterator[Change]:
        return self.values("nseconds", (1_000_000_000, 2**31, HIGH))

    def tree_type(self) -> Iterator[Change]:
        return self.values("tree_type", (0, 3, 0x01000000, HIGH))

    def unit(self) -> Iterator[Change]:
        return self.values("unit_log2", (13, 16, 24))

    def unit_none(self) -> Iterator[Change]:
        return self.values("unit_log2", (0, 11, 25, 0x0C000000, HIGH))

    def size(self) -> Iterator[Change]:
        return self.values("size", (0, 9999, 10001, 12288, 2**32 + 10000, 2**63 - 1))

    def size_none(self) -> Iterator[Change]:
        return self.values("size", (2**63, 2**63 + 10000, 2**64 - 1))

    def _roots(self) -> Iterator[tuple[str, bytes]]:
        right = root_of(1)
        yield "first-bit", bytes([right[0] ^ 0x80]) + right[1:]
        yield "last-bit", right[:-1] + bytes([right[-1] ^ 1])
        yield "zeros", bytes(32)

    def root(self) -> Iterator[Change]:
        for slug, value in self._roots():
            yield slug, "another root", self.field(root=value)

    def root_length(self) -> Iterator[Change]:
        for length in (0, 1, 31, 33, 48, 64):
            yield str(length), f"a root of {length} bytes", self.field(root=(root_of(1) * 2)[:length])

    def extension_added(self) -> Iterator[Change]:
        for slug, item in (("0", (0, 0, b"")), ("notes", (1, 0, b"n" * 32)), ("max", (HIGH, 0, b"x" * 1024))):
            yield slug, "an extension that is not critical", self.field(extensions=[item])

    def extension_critical(self) -> Iterator[Change]:
        for slug, item in (("0", (0, 1, b"")), ("notes", (1, 1, b"n" * 32)), ("max", (HIGH, 1, b"x" * 1024))):
            yield slug, "a critical extension", self.field(extensions=[item])

    def extension_bool(self) -> Iterator[Change]:
        for value in (2, HIGH):
            yield str(value), f"an extension with critical {value}", self.field(extensions=[(1, value, b"")])

    def extension_order(self) -> Iterator[Change]:
        for slug, numbers in (("same", (5, 5)), ("lower", (5, 4)), ("far-lower", (HIGH, 0))):
            yield slug, "two extensions out of order", self.field(extensions=[(n, 0, b"") for n in numbers])

    def extension_many(self) -> Iterator[Change]:
        yield "17", "17 extensions", self.field(extensions=[(n, 0, b"") for n in range(17)])

    def extension_long(self) -> Iterator[Change]:
        for length in (1025, 4096):
            yield str(length), f"an extension of {length} bytes", self.field(extensions=[(1, 0, b"\1" * length)])

    def attestations_none(self) -> Iterator[Change]:
        yield "all", "no attestation", replace(self.case, attestations=())

    def attestations_many(self) -> Iterator[Change]:
        more = tuple((n, b"") for n in range(3, 11))
        yield "9", "nine attestations", replace(self.case, attestations=(self.one, *more))

    def attestations_twice(self) -> Iterator[Change]:
        yield "all", "the attestation twice", replace(self.case, attestations=(self.one, self.one))

    def attestations_order(self) -> Iterator[Change]:
        for type in (3, HIGH):
            yield str(type), f"one of type {type} before it", replace(self.case, attestations=((type, b"x"), self.one))

    def attestations_added(self) -> Iterator[Change]:
        for type in (3, 4, HIGH):
            yield str(type), f"one of type {type} after it", replace(self.case, attestations=(self.one, (type, b"x")))
        yield (
            "7",
            "seven of types that are not known after it",
            replace(self.case, attestations=(self.one, *((n, b"") for n in range(3, 10)))),
        )

    def attestations_before(self) -> Iterator[Change]:
        for slug, body in (("empty", b""), ("some", b"\1\2\3"), ("like-1", self.body)):
            yield slug, f"one of type 0 before it: {slug}", replace(self.case, attestations=((0, body), self.one))

    def attestation_type(self) -> Iterator[Change]:
        for type in (0, 3, 4, HIGH):
            yield str(type), f"type {type}", self.attestation(type=type)

    def attestation_member(self) -> Iterator[Change]:
        yield "2", "type 2, with the body of a signature", self.attestation(type=2)

    def attestation_cut(self) -> Iterator[Change]:
        for length in (1, 4, 68, len(self.body)):
            yield f"by-{length}", f"its body cut by {length} bytes", self.attestation(cut=length)

    def attestation_extended(self) -> Iterator[Change]:
        for length in (1, 4, 1000):
            yield f"by-{length}", f"its body extended by {length} bytes", self.attestation(more=bytes(length))

    def attestation_long(self) -> Iterator[Change]:
        yield (
            "61441",
            "of type 2, with 61,441 bytes",
            replace(self.case, attestations=((3, self.body + bytes(61441 - len(self.body))),)),
        )

    def signer_hash_truncated(self) -> Iterator[Change]:
        return self._signer_hashes((2, 3, 4, 5, 6))

    def _signer_hashes(self, numbers: Sequence[int]) -> Iterator[Change]:
        """The number alone: digest and signature stay."""
        signed = self.body[self.body.index(opaque(self.one.signer.digest)) :]  # type: ignore[union-attr]
        for number in numbers:
            yield str(number), f"the number {number}", replace(self.case, attestations=((1, uint(number) + signed),))

    def signer_hash_length(self) -> Iterator[Change]:
        return self._signer_hashes((7, 8, 11, 12))

    def signer_hash_same_length(self) -> Iterator[Change]:
        return self._signer_hashes((10, 65536))

    def signer_hash_unknown(self) -> Iterator[Change]:
        return self._signer_hashes((0, 9, 13, 65535, 65537, HIGH))

    def signer_digest(self) -> Iterator[Change]:
        right = certificates.example().digest
        for slug, value in (
            ("first-bit", bytes([right[0] ^ 0x80]) + right[1:]),
            ("last-bit", right[:-1] + bytes([right[-1] ^ 1])),
            ("zeros", bytes(32)),
        ):
            yield slug, "another digest", self.attestation(digest=value)

    def signer_digest_length(self) -> Iterator[Change]:
        right = certificates.example().digest
        for length in (0, 31, 33, 64):
            yield str(length), f"a digest of {length} bytes", self.attestation(digest=(right * 2)[:length])

    def scheme_other(self) -> Iterator[Change]:
        for scheme in ACCEPTED["schemes"]:
            if scheme != keys.ED25519:
                yield str(scheme), f"scheme {scheme:#06x}", self.attestation(scheme=scheme)

    def scheme_unknown(self) -> Iterator[Change]:
        for scheme in (0, 0x0401, 0x0603, 0x0805, 0x0808, 0x0809, 0x0903, 0x0907, 0x07080000, HIGH):
            yield str(scheme), f"scheme {scheme:#06x}", self.attestation(scheme=scheme)

    def value(self) -> Iterator[Change]:
        right = self._value()
        for slug, value in (
            ("first-bit", bytes([right[0] ^ 0x80]) + right[1:]),
            ("r-last-bit", right[:31] + bytes([right[31] ^ 1]) + right[32:]),
            ("s-first-bit", right[:32] + bytes([right[32] ^ 1]) + right[33:]),
            ("last-bit", right[:-1] + bytes([right[-1] ^ 0x80])),
            ("empty", b""),
            ("63", right[:63]),
            ("65", right + b"\0"),
            ("zeros", bytes(64)),
            ("8192", bytes(8192)),
        ):
            yield slug, "another value", self.attestation(value=value)

    def _value(self) -> bytes:
        return self.body[-64:]

    def value_long(self) -> Iterator[Change]:
        for length in (8193, 10000):
            yield str(length), f"a value of {length} bytes", self.attestation(value=bytes(length))

    def content_byte(self) -> Iterator[Change]:
        for at in (0, 4095, 4096, 8192, 9999):
            changed = bytearray(sample.CONTENT)
            changed[at] ^= 1 << (at % 8)
            yield f"at-{at}", f"a bit of byte {at}", replace(self.case, content=bytes(changed))

    def content_cut(self) -> Iterator[Change]:
        for length in (0, 1, 4096, 8192, 9999):
            yield f"to-{length}", f"cut to {length} bytes", replace(self.case, content=sample.CONTENT[:length])

    def content_extended(self) -> Iterator[Change]:
        for slug, more in (
            ("zero", b"\0"),
            ("unit", bytes(12288 - 10000)),
            ("on", counting(1, 10000)),
            ("itself", sample.CONTENT),
        ):
            yield slug, f"extended by {len(more)} bytes", replace(self.case, content=sample.CONTENT + more)

    def proof(self) -> Iterator[Change]:
        units = merkle.cut(sample.CONTENT, 4096)
        for first, count in ((0, 1), (1, 1), (2, 1), (0, 2), (1, 2)):
            proof = merkle.range_proof(merkle.SHA256, units, first, first + count, 2)
            content = b"".join(units[first : first + count])
            for index in range(len(proof)):
                changed = list(proof)
                changed[index] = changed[index][:-1] + bytes([changed[index][-1] ^ 1])
                read = {"first": Long(first), "count": Long(count), "proof": b"".join(changed)}
                yield (
                    f"{first}-{count}-{index}",
                    f"hash {index} of the proof of units [{first}, {first + count})",
                    replace(self.case, content=content, read=read),
                )

    def signed_hash(self) -> Iterator[Change]:
        return self.signed_values("hash", (10, 65536))

    def signed_kind(self) -> Iterator[Change]:
        yield "1", "of kind content, and signed", self.signed(kind=records.CONTENT)

    def signed_volume(self) -> Iterator[Change]:
        for slug, value in self._volumes():
            yield slug, "another volume ID, and signed", self.signed(volume=value)

    def signed_label(self) -> Iterator[Change]:
        for slug, value in self._labels:
            yield slug, "another label, and signed", self.signed(label=value)

    def signed_path(self) -> Iterator[Change]:
        for slug, value in self._paths:
            yield slug, "another path, and signed", self.signed(path=value)

    def signed_generation(self) -> Iterator[Change]:
        return self.signed_values("generation", (0, 2**63, 2**64 - 2))

    def signed_issued(self) -> Iterator[Change]:
        return self.signed_values("issued", (-(2**63), 0, sample.NOW, sample.NOW + 300))

    def signed_issued_late(self) -> Iterator[Change]:
        return self.signed_values("issued", (sample.NOW + 301, 2**63 - 1))

    def signed_not_after(self) -> Iterator[Change]:
        return self.signed_values("not_after", (sample.NOW, sample.NOW + 1, 2**63 - 2))

    def signed_not_after_passed(self) -> Iterator[Change]:
        return self.signed_values("not_after", (-(2**63), 0, sample.NOW - 1))

    def signed_executable(self) -> Iterator[Change]:
        return self.signed_values("executable", (1,))

    def signed_mtime_seconds(self) -> Iterator[Change]:
        return self.signed_values("seconds", (-(2**63), 0, 2**63 - 1))

    def signed_mtime_nseconds(self) -> Iterator[Change]:
        return self.signed_values("nseconds", (0, 999_999_999))

    def signed_tree_type(self) -> Iterator[Change]:
        return self.signed_values("tree_type", (0, 3, HIGH))

    def signed_unit(self) -> Iterator[Change]:
        return self.signed_values("unit_log2", (13, 16, 24))

    def signed_size(self) -> Iterator[Change]:
        return self.signed_values("size", (0, 1, 9999, 10001, 12288, 2**63 - 1))

    def signed_root(self) -> Iterator[Change]:
        for slug, value in self._roots():
            yield slug, "another root, and signed", self.signed(root=value)

    def signed_extension(self) -> Iterator[Change]:
        for slug, items in (("0", [(0, 0, b"")]), ("max", [(HIGH, 0, b"x")]), ("16", [(n, 0, b"") for n in range(16)])):
            yield slug, "extensions that are not critical, and signed", self.signed(extensions=items)

    def signed_extension_critical(self) -> Iterator[Change]:
        for slug, items in (("0", [(0, 1, b"")]), ("max", [(HIGH, 1, b"x")]), ("second", [(1, 0, b""), (2, 1, b"")])):
            yield slug, "a critical extension, and signed", self.signed(extensions=items)

    def signed_certificate(self) -> Iterator[Change]:
        other = certificates.self_signed("example-usage-none", keys.ed25519("example"), usage=None)
        yield "usage", "a certificate without keyUsage", replace(signed_by(other), content=self.case.content)

    def expected_volume(self) -> Iterator[Change]:
        for slug, value in self._volumes():
            yield slug, "another volume is expected", replace(self.case, volumes=(value,))
        yield "two", "two other volumes are expected", replace(self.case, volumes=(bytes(16), b"\xff" * 16))

    def expected_volume_any(self) -> Iterator[Change]:
        yield "first-use", "any volume is expected: a first use", replace(self.case, volumes=None)

    def expected_path(self) -> Iterator[Change]:
        for slug, value in self._paths:
            yield slug, "another path is expected", replace(self.case, path=value)

    def trust_none(self) -> Iterator[Change]:
        yield "all", "no trust entry", replace(self.case, trust=())

    def trust_pin(self) -> Iterator[Change]:
        again = certificates.self_signed("example-again", keys.ed25519("example"), serial=2)
        for name, about in (
            (certificates.pinned(keys.ED25519).name, "another signer"),
            (again.name, "another certificate of the same key"),
        ):
            yield name, f"pinned is {about}", replace(self.case, trust=(entry(name),))

    def trust_sort(self) -> Iterator[Change]:
        subject = [{"type": certificates.COMMON_NAME, "value": "example"}]
        yield "ca", "the certificate as that of a CA", self.trusting(ca=True, subject=subject, volumes=[sample.VOLUME])

    def trust_volumes(self) -> Iterator[Change]:
        for slug, value in self._volumes():
            yield slug, "an entry for another volume", self.trusting(volumes=[value])

    def trust_prefixes(self) -> Iterator[Change]:
        yield "one", "an entry for a URL, where the place has none", self.trusting(prefixes=["nfsv://host:7447/"])

    def trust_subject(self) -> Iterator[Change]:
        yield (
            "other",
            "an entry for another subject",
            self.trusting(subject=[{"type": certificates.COMMON_NAME, "value": "other"}]),
        )

    def trust_schemes(self) -> Iterator[Change]:
        for scheme in ACCEPTED["schemes"]:
            if scheme != keys.ED25519:
                yield str(scheme), f"an entry for scheme {scheme:#06x} only", self.trusting(schemes=[scheme])

    def trust_signers(self) -> Iterator[Change]:
        for count in (2, 3, 8, HIGH):
            yield str(count), f"an entry that asks for {count} signers", self.trusting(signers=count)

    def accepted_hashes(self) -> Iterator[Change]:
        yield "sha256", "SHA-256 is not accepted", self._accepting(hashes=[n for n in ACCEPTED["hashes"] if n != 1])

    def accepted_units(self) -> Iterator[Change]:
        yield "4096", "units of 4,096 bytes are not accepted", self._accepting(unit_log2s=list(range(13, 25)))

    def accepted_schemes(self) -> Iterator[Change]:
        yield (
            "ed25519",
            "Ed25519 is not accepted",
            self._accepting(schemes=[n for n in ACCEPTED["schemes"] if n != keys.ED25519]),
        )

    def _accepting(self, **changed: Any) -> Case:
        return replace(self.case, accepted=ACCEPTED | changed)

    def _revoked(self, item: tuple[int, int, bytes]) -> Case:
        what, hash, digest = item
        return replace(self.case, revoked={"items": [{"what": what, "hash": hash, "digest": digest}], "accepted": []})

    def revoked_key(self) -> Iterator[Change]:
        for hash in (1, 7, 8, 10):
            digest = HASHES[hash](certificates.example().key.spki)
            yield str(hash), f"its digest under hash {hash}", self._revoked((records.PUBLIC_KEY, hash, digest))

    def revoked_version(self) -> Iterator[Change]:
        yield "tag", "the tag", self._revoked((records.VERSION, 1, HASHES[1](self.case.statement)))

    def revoked_other(self) -> Iterator[Change]:
        key, tag = HASHES[1](certificates.example().key.spki), HASHES[1](self.case.statement)
        yield "key", "another key", self._revoked((records.PUBLIC_KEY, 1, key[:-1] + bytes([key[-1] ^ 1])))
        yield "tag", "another tag", self._revoked((records.VERSION, 1, tag[:-1] + bytes([tag[-1] ^ 1])))
        yield "tag-hash", "the digest of the tag, and another hash", self._revoked((records.VERSION, 10, tag))

    def revoked_expired(self) -> Iterator[Change]:
        for not_after in (-(2**63), 0, sample.NOW - 1):
            accepted = {
                "signer": "example", "generation": Long(1), "not_after": Long(not_after), "items": [],
            }  # fmt: skip
            changed = replace(self.case, revoked={"items": [], "accepted": [accepted]})
            yield _slug(not_after), f"its not_after is {not_after}", changed

    def now_early(self) -> Iterator[Change]:
        for now in (0, sample.NOW // 2, certificates.NOT_BEFORE - 1):
            yield str(now), f"now is {now}", replace(self.case, now=now)

    def now_before_issued(self) -> Iterator[Change]:
        for now in (certificates.NOT_BEFORE, sample.ISSUED - 301):
            yield str(now), f"now is {now}", replace(self.case, now=now)

    def now_late(self) -> Iterator[Change]:
        for now in (certificates.NOT_AFTER + 1, 253_402_300_799):
            yield str(now), f"now is {now}", replace(self.case, now=now)


def _slug(value: int) -> str:
    return re.sub("^-", "minus-", str(value))
