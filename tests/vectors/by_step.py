# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Marks, reads, and which of two faults is told (fim-mark, fim-proof, fim-ver-4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

from oracle import merkle, records

from . import certificates, keys, sample
from .case import (
    ACCEPTED,
    HOST,
    Attestation,
    Case,
    entry,
    example_case,
    fault,
    signed_by,
)
from .certificates import example, pinned, self_signed
from .form import Long, Vector, counting
from .sample import root_of, statement


def build() -> Iterator[Vector]:
    yield from _marks()
    yield from _reads()
    yield from _orders()


def _marks() -> Iterator[Vector]:
    """A verifier that keeps no marks says verified to all of these."""
    case = example_case()
    plain = {"without_marks": "verified"}
    tag = {"hash": 1, "digest": merkle.SHA256(case.statement)}
    rule = ("fim-mark-7", "fim-ver-4")

    def mark(generation: int, changed_tag: dict[str, Any] | None = None, of: int = 0) -> dict[str, Any]:
        return {
            "entry": of,
            "volume": sample.VOLUME,
            "kind": records.FILE,
            "path": sample.PATH,
            "signer": (example() if of == 0 else pinned(keys.ED25519)).name,
            "generation": Long(generation),
            "tag": tag if changed_tag is None else changed_tag,
        }

    def marked(*marks: dict[str, Any]) -> Case:
        return replace(case, marks=marks)

    other_tag = {"hash": 1, "digest": bytes(32)}
    yield case.vector("mark-none", "no mark yet", rule, ["marks"], output=plain)
    yield marked(mark(sample.GENERATION - 1, other_tag)).vector(
        "mark-below", "a mark below", rule, ["marks"], output=plain
    )
    yield marked(mark(0, other_tag)).vector("mark-0", "a mark of 0", rule, ["marks"], output=plain)
    yield marked(mark(2**64 - 2, other_tag) | {"path": b"other"}).vector(
        "mark-path", "a mark of another path", rule, ["marks"], output=plain
    )
    yield marked(mark(2**64 - 2, other_tag) | {"volume": bytes(16)}).vector(
        "mark-volume", "a mark of another volume", rule, ["marks"], output=plain
    )
    base = marked(mark(sample.GENERATION)).vector(
        "mark", "a mark of this very version", (*rule, "fim-gen-4"), ["marks"], output=plain
    )
    yield base
    for slug, generation in (("next", sample.GENERATION + 1), ("far", 2**63), ("last", 2**64 - 2)):
        yield fault(
            base,
            f"rollback-{slug}",
            f"a mark of {generation}",
            "rollback",
            11,
            marked(mark(generation, other_tag)),
            rule,
            ["marks"],
            plain,
        )
    yield fault(
        base,
        "equivocation",
        "a mark of this generation with another digest",
        "equivocation",
        11,
        marked(mark(sample.GENERATION, other_tag)),
        (*rule, "fim-gen-4"),
        ["marks"],
        plain,
    )
    digest = merkle.SHA256(case.statement)
    yield fault(
        base,
        "equivocation-bit",
        "a mark of this generation, its digest other in one bit",
        "equivocation",
        11,
        marked(mark(sample.GENERATION, {"hash": 1, "digest": digest[:-1] + bytes([digest[-1] ^ 1])})),
        (*rule, "fim-tag-1", "fim-gen-4"),
        ["marks"],
        plain,
    )
    yield fault(
        base,
        "equivocation-hash",
        "a mark of this generation with the digest under another hash",
        "equivocation",
        11,
        marked(mark(sample.GENERATION, {"hash": 10, "digest": digest})),
        (*rule, "fim-tag-1", "fim-gen-4"),
        ["marks"],
        plain,
    )
    yield fault(
        base,
        "before-validity",
        "rollback, and the statement has ended: the generation is first",
        "rollback",
        11,
        replace(marked(mark(sample.GENERATION + 1, other_tag)), statement=statement(not_after=0).encode()),
        rule,
        ["marks", "several-faults", "re-signed"],
        {"without_marks": "record-expired"},
    )
    two = replace(signed_by(example(), pinned(keys.ED25519)), marks=(mark(sample.GENERATION - 1, other_tag, 1),))
    signed_twice = two.vector("mark-two", "a mark of the second signer's entry", rule, ["marks"], output=plain)
    yield signed_twice
    two = replace(two, marks=(mark(2**64 - 2, other_tag, 1),))
    yield fault(
        signed_twice,
        "rollback",
        "a mark of the second signer's entry, above",
        "rollback",
        11,
        two,
        rule,
        ["marks"],
        plain,
    )
    ended, second = marked(mark(2**64 - 2, other_tag, 1)), pinned(keys.ED25519).name
    elsewhere = replace(ended, trust=(*case.trust, entry(second, volumes=[bytes(16)]))).vector(
        "mark-elsewhere", "a mark of an entry that does not cover the file", ("fim-mark-6",), ["marks"], output=plain
    )
    yield elsewhere
    yield fault(
        elsewhere,
        "covers",
        "a mark of an entry that covers the file, and whose signer did not sign",
        "rollback",
        11,
        replace(ended, trust=(*case.trust, entry(second))),
        ("fim-mark-6",),
        ["marks"],
        plain,
    )
    same = marked(mark(sample.GENERATION, other_tag, 1))
    yield fault(
        elsewhere,
        "covers-same",
        "a mark of an entry that covers the file, and whose signer did not sign: this generation with another digest",
        "equivocation",
        11,
        replace(same, trust=(*case.trust, entry(second))),
        ("fim-mark-6",),
        ["marks"],
        plain,
    )
    all_covering = (*rule, "fim-mark-6")
    other = pinned(keys.ED25519).name
    case_with = replace(case, trust=(*case.trust, entry(other)))
    base = replace(case_with, marks=(mark(sample.GENERATION - 1, other_tag, 1),)).vector(
        "mark-entry", "a mark below, of an entry whose signer did not sign", all_covering, ["marks"], output=plain
    )
    yield base
    for slug, verdict, marks in (
        ("rollback", "rollback", (mark(sample.GENERATION + 1, other_tag, 1),)),
        ("equivocation", "equivocation", (mark(sample.GENERATION, other_tag, 1),)),
        ("both", "rollback", (mark(sample.GENERATION, other_tag), mark(sample.GENERATION + 1, other_tag, 1))),
    ):
        flags = ["marks", "several-faults"] if slug == "both" else ["marks"]
        about = f"marks of entries that cover the file, whoever signed: {slug}"
        yield fault(base, slug, about, verdict, 11, replace(case_with, marks=marks), all_covering, flags, plain)
    above = (mark(2**64 - 2, other_tag, 1),)
    for slug, limit in (("volume", {"volumes": [bytes(16)]}), ("place", {"prefixes": [f"{HOST}/"]})):
        apart = replace(case, trust=(*case.trust, entry(other, **limit)), marks=above)
        about = f"a mark above, of an entry that does not cover the {slug}"
        yield apart.vector(f"mark-other-{slug}", about, all_covering, ["marks"], output=plain)
    scheme = replace(case, trust=(*case.trust, entry(other, schemes=[keys.ECDSA_P256])), marks=above)
    about = "a mark above, of an entry that covers volume and place, for another scheme"
    yield fault(base, "scheme", about, "rollback", 11, scheme, all_covering, ["marks"], plain)


def _reads() -> Iterator[Vector]:
    case = example_case()
    units = merkle.cut(sample.CONTENT, 4096)
    rule = ("fim-proof-5", "fim-proof-6", "fim-ver-4")

    def read(first: int, count: int, **more: Any) -> Case:
        proof = b"".join(merkle.range_proof(merkle.SHA256, units, first, first + count, 2))
        return replace(
            case,
            content=b"".join(units[first : first + count]),
            read={"first": Long(first), "count": Long(count), "proof": proof},
            **more,
        )

    for first in range(3):
        for count in range(1, 4 - first):
            this = read(first, count)
            base = this.vector(
                f"read-{first}-{count}",
                f"units [{first}, {first + count}) of the worked example, with their proof",
                rule,
            )
            yield base
            content = this.content or b""
            changed = bytearray(content)
            changed[-1] ^= 1
            yield fault(
                base,
                "content",
                "the last bit of the content altered",
                "mismatch",
                13,
                replace(this, content=bytes(changed)),
                rule,
            )
            if first + count < 3:
                yield (
                    fault(
                        base,
                        "relocated",
                        "the next units instead",
                        "mismatch",
                        13,
                        replace(this, content=b"".join(units[first + 1 : first + count + 1])),
                        rule,
                    )
                    if first + count + 1 < 3
                    else fault(
                        base,
                        "relocated",
                        "the units before or after instead",
                        "mismatch",
                        13,
                        replace(
                            this, content=b"".join(reversed(units[:count])) if count > 1 else units[(first + 1) % 2]
                        ),
                        rule,
                    )
                )

    empty = replace(case, statement=statement(size=0, root=merkle.SHA256(b"")).encode(), content=b"")
    base = empty.vector("empty", "an empty file", ("fim-proof-8", "fim-tree-3"))
    yield base
    for slug, root in (
        ("zeros", bytes(32)),
        ("leaf", merkle.SHA256(b"\0")),
        ("node", merkle.SHA256(b"\1")),
        ("other", root_of(1)),
    ):
        yield fault(
            base,
            slug,
            f"another root signed for it: {slug}",
            "mismatch",
            13,
            replace(empty, statement=statement(size=0, root=root).encode()),
            ("fim-proof-8", "fim-tree-3"),
            ["re-signed"],
        )
    yield fault(base, "content", "a byte of content", "mismatch", 13, replace(empty, content=b"\0"), ("fim-proof-9",))
    for size in (1, 4095, 4096, 4097, 8192, 65536, 100_000):
        this = replace(case, statement=statement(size=size, root=root_of(1, size)).encode(), content=counting(size))
        base = this.vector(f"size-{size}", f"a file of {size} bytes", ("fim-proof-9", "fim-tree-1"))
        yield base
        yield fault(
            base, "shorter", "a byte less", "mismatch", 13, replace(this, content=counting(size - 1)), ("fim-proof-9",)
        )
        yield fault(
            base, "longer", "a byte more", "mismatch", 13, replace(this, content=counting(size + 1)), ("fim-proof-9",)
        )
        yield fault(
            base,
            "zero-more",
            "a zero byte more",
            "mismatch",
            13,
            replace(this, content=counting(size) + b"\0"),
            ("fim-proof-9",),
        )
    zeros = replace(
        case,
        statement=statement(size=20480, root=merkle.tree_hash(merkle.SHA256, [bytes(4096)] * 5)).encode(),
        content=bytes(20480),
    )
    base = zeros.vector("zeros", "a file of zero bytes", ("fim-hole-1", "fim-tree-2"))
    yield base
    yield fault(
        base,
        "one",
        "one byte is not zero",
        "mismatch",
        13,
        replace(zeros, content=bytes(20479) + b"\1"),
        ("fim-hole-1",),
    )
    yield fault(
        base,
        "longer",
        "a unit of zeros more",
        "mismatch",
        13,
        replace(zeros, content=bytes(24576)),
        ("fim-hole-1", "fim-proof-9"),
    )


def _orders() -> Iterator[Vector]:
    """Two faults at a time: the verdict is that of the earlier step (fim-ver-4)."""
    case = example_case()
    base = case.vector("order", "the worked example, for two faults at once", ("fim-ver-4",))
    yield base
    changes: list[tuple[str, str, int, dict[str, Any], dict[str, Any]]] = [
        # name, verdict, step, of the statement (which is signed then), of the rest
        ("format", "unsupported", 1, {"format": 2}, {}),
        ("kind", "wrong-kind", 2, {"kind": records.CONTENT}, {}),
        ("volume", "wrong-volume", 3, {}, {"volumes": (bytes(16),)}),
        ("path", "wrong-path", 3, {}, {"path": b"other"}),
        ("extension", "unknown-extension", 4, {"extensions": [(1, 1, b"")]}, {}),
        ("hash", "refused-algorithm", 5, {"hash": 2}, {}),
        ("tree", "unsupported", 5, {"tree_type": 9}, {}),
        ("unit", "refused-algorithm", 5, {}, {"accepted": ACCEPTED | {"unit_log2s": [16]}}),
        ("scheme", "unsupported", 6, {}, {"attestations": (Attestation(example(), scheme=0x0999),)}),
        ("trust", "untrusted", 7, {}, {"trust": (entry(pinned(keys.ED25519).name),)}),
        ("scope", "out-of-scope", 7, {}, {"trust": (entry("example", schemes=[keys.ECDSA_P256]),)}),
        ("time", "expired", 8, {}, {"now": certificates.NOT_AFTER + 1}),
        ("signature", "bad-signature", 9, {}, {"attestations": (Attestation(example(), value=bytes(64)),)}),
        ("signers", "too-few-signers", 10, {}, {"trust": (entry("example", signers=2),)}),
        ("issued", "issued-in-future", 12, {"issued": 2**62}, {}),
        ("ended", "record-expired", 12, {"not_after": 0}, {}),
        ("content", "mismatch", 13, {}, {"content": sample.CONTENT[:-1] + b"x"}),
    ]
    for first, second in combinations(changes, 2):
        if first[4].keys() & second[4].keys():
            continue
        fields = first[3] | second[3]
        parts = first[4] | second[4]
        if fields:
            parts["statement"] = statement(**fields).encode()
        changed = replace(case, **parts)
        flags = ["several-faults", *(["re-signed"] if fields else [])]
        yield fault(
            base,
            f"{first[0]}-{second[0]}",
            f"{first[1]} before {second[1]}",
            first[1],
            first[2],
            changed,
            ("fim-ver-4",),
            flags,
        )
    malformed = records.record(statement(format=2).encode(), [(1, b"")])
    yield fault(
        base,
        "body-format",
        "a signature that cannot be decoded, and another format",
        "malformed",
        1,
        replace(case, record=malformed),
        ("fim-dec-4",),
        ["several-faults"],
    )
    malformed = records.record(statement(kind=3).encode(), [])
    yield fault(
        base,
        "attestations-kind",
        "no attestation, and another kind",
        "malformed",
        1,
        replace(case, record=malformed),
        ("fim-dec-4",),
        ["several-faults"],
    )
    malformed = records.record(statement(magic=0, format=2).encode(), [(1, b"\1" * 7)])
    yield fault(
        base,
        "body-magic",
        "a signature that cannot be decoded, and another magic",
        "malformed",
        1,
        replace(case, record=malformed),
        ("fim-dec-4",),
        ["several-faults"],
    )
    late = replace(case, statement=statement(kind=records.CONTENT, nseconds=10**9).encode())
    yield fault(
        base,
        "kind-nseconds",
        "another kind, and nanoseconds that are malformed: the kind is first",
        "wrong-kind",
        2,
        late,
        ("fim-kind-2", "fim-dec-5"),
        ["several-faults", "re-signed"],
    )
    late = replace(case, statement=statement(nseconds=10**9, volume=bytes(16)).encode())
    yield fault(
        base,
        "nseconds-volume",
        "malformed nanoseconds, and another volume",
        "malformed",
        1,
        late,
        ("fim-ver-4",),
        ["several-faults", "re-signed"],
    )
    both = replace(case, volumes=(bytes(16),), path=b"other")
    yield fault(
        base,
        "volume-path-expected",
        "neither volume nor path is the expected one",
        "wrong-volume",
        3,
        both,
        ("fim-ver-4",),
        ["several-faults"],
    )
    yield fault(
        base,
        "unknown-hash-and-tree",
        "the hash is not known, nor is the tree",
        "unsupported",
        5,
        replace(case, statement=statement(hash=99, tree_type=9).encode()),
        ("fim-ver-4",),
        ["several-faults", "re-signed"],
    )
    code = self_signed("usage-code", keys.ed25519("usage"), purposes=(certificates.CODE_SIGNING,))
    yield fault(
        base,
        "time-usage",
        "a certificate that has ended, for another purpose",
        "expired",
        8,
        signed_by(code, now=certificates.NOT_AFTER + 1),
        ("fim-ver-4", "fim-cert-6"),
        ["several-faults", "re-signed"],
    )
    yield fault(
        base,
        "key-time",
        "a key for another scheme, in a certificate that has ended",
        "bad-certificate",
        8,
        replace(case, attestations=(Attestation(example(), scheme=keys.ECDSA_P256),), now=certificates.NOT_AFTER + 1),
        ("fim-ver-4", "fim-sig-3"),
        ["several-faults"],
    )
