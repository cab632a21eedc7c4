# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Records, decoded without a look into the statement: attestations, bounds and order (fim-rec, fim-dec)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from oracle import records, volumes
from oracle.xdr import opaque, uint

from .certificates import example
from .form import Vector
from .sample import statement

DEC = ("fim-dec-1",)
BOUND = ("fim-dec-1", "fim-dec-3")
ORDER = ("fim-rec-2", "fim-dec-1")
Attestation = tuple[int, bytes]


def attestation() -> Attestation:
    data, signer = statement().encode(), example()
    value = signer.key.sign(records.signed_bytes(1, signer.digest, signer.key.scheme, data))
    return records.SIGNATURE, records.signature(1, signer.digest, signer.key.scheme, value)


def record_vector(
    id: str, about: str, data: bytes, attestations: Sequence[Attestation], clauses: Sequence[str] = DEC
) -> Vector:
    output = {"statement": data, "attestations": [{"type": type, "body": body} for type, body in attestations]}
    return Vector(f"record-{id}", about, clauses, {"bytes": records.record(data, attestations)}, output=output)


def build() -> Iterator[Vector]:
    data, first = statement().encode(), attestation()
    base = record_vector("example", "the record of the worked example", data, [first], ("fim-rec-1", "fim-dec-1"))
    yield base
    whole = base.input["bytes"]

    def bad(slug: str, about: str, bytes: bytes, clauses: Sequence[str] = DEC) -> Vector:
        return base.fault(slug, about, "malformed", clauses, bytes=bytes)

    for length in (0, 1, 3, 4, 5, 100, 187, 188, 190, 192, 196, 200, 248, len(whole) - 4, len(whole) - 1):
        yield bad(f"cut-to-{length}", f"the first {length} bytes", whole[:length], BOUND)
    for slug, more in (("zero", b"\0"), ("word", bytes(4)), ("itself", whole)):
        yield bad(f"then-{slug}", f"{len(more)} more bytes", whole + more)
    yield bad("no-attestation", "no attestation", opaque(data) + uint(0), ("fim-rec-1", "fim-dec-1"))
    yield bad("no-count", "no attestation, and no count of them", opaque(data), ("fim-rec-1", "fim-dec-1"))
    for count in (0, 2, 8, 9, 2**31, 2**32 - 1):
        yield bad(
            f"announces-{count}",
            f"{count} attestations announced, one there",
            opaque(data) + uint(count) + records.record(data, [first])[len(opaque(data)) + 4 :],
            BOUND,
        )
    for length in (8193, 65536, 2**31, 2**32 - 1):
        yield bad(
            f"statement-length-{length}", f"a statement that announces {length} bytes", uint(length) + whole[4:], BOUND
        )
    yield bad(
        "statement-8193", "a statement of 8,193 bytes", records.record(data + bytes(8193 - len(data)), [first]), BOUND
    )
    for at in range(8):
        changed = bytearray(whole)
        body_end = len(whole)
        changed[body_end - 64 - 4 + (at % 4)] ^= 0x40 << (at // 4)
        yield bad(f"value-length-{at}", "the length of the signature altered", bytes(changed), BOUND)

    yield from _signatures(base, data)
    yield from _others(base, data, first)
    yield from _memberships(base, data, first)
    yield from _sizes(data, first)


def _signatures(base: Vector, data: bytes) -> Iterator[Vector]:
    """The body of type 1 is decoded with the record (fim-dec-4)."""
    signer = example()
    scheme = signer.key.scheme
    rules = ("fim-dec-1", "fim-dec-4")

    def one(body: bytes) -> bytes:
        return records.record(data, [(1, body)])

    good = records.signature(1, signer.digest, scheme, b"\1" * 64)
    for slug, body in (
        ("value-empty", records.signature(1, signer.digest, scheme, b"")),
        ("value-1", records.signature(1, signer.digest, scheme, b"x")),
        ("value-8192", records.signature(1, signer.digest, scheme, b"\1" * 8192)),
        ("scheme-0", records.signature(1, signer.digest, 0, b"\1" * 64)),
        ("scheme-max", records.signature(1, signer.digest, 2**32 - 1, b"\1" * 64)),
        ("hash-0-digest-0", records.signature(0, b"", scheme, b"\1")),
        ("hash-2-digest-15", records.signature(2, b"\1" * 15, scheme, b"\1")),
        ("hash-7", records.signature(7, b"\1" * 48, scheme, b"\1")),
        ("hash-8", records.signature(8, b"\1" * 64, scheme, b"\1")),
        ("hash-10", records.signature(10, b"\1" * 32, scheme, b"\1")),
        ("hash-11", records.signature(11, b"\1" * 48, scheme, b"\1")),
        ("hash-12", records.signature(12, b"\1" * 64, scheme, b"\1")),
        ("hash-65536", records.signature(0x10000, b"\1" * 32, scheme, b"\1")),
        ("hash-max-digest-64", records.signature(2**32 - 1, b"\1" * 64, scheme, b"\1")),
    ):
        yield record_vector(f"signature-{slug}", f"a signature that can be decoded: {slug}", data, [(1, body)], rules)
    for slug, about, body in (
        ("empty", "a body of no bytes", b""),
        ("cut", "cut by four bytes", good[:-4]),
        ("cut-1", "cut by a byte", good[:-1]),
        ("more", "four more bytes", good + bytes(4)),
        ("more-1", "one more byte", good + b"\0"),
        ("value-8193", "a value of 8,193 bytes", records.signature(1, signer.digest, scheme, b"\1" * 8193)),
        ("value-announced", "a value that announces 2^32 - 1 bytes", good[:-68] + uint(2**32 - 1) + good[-64:]),
        ("padding", "padding that is not zero", records.signature(1, signer.digest, scheme, b"\1")[:-1] + b"\1"),
        ("digest-65", "a digest of 65 bytes", records.signature(0, b"\1" * 65, scheme, b"\1")),
        ("hash-1-digest-0", "no digest under SHA-256", records.signature(1, b"", scheme, b"\1")),
        ("hash-1-digest-31", "a digest of 31 bytes under SHA-256", records.signature(1, b"\1" * 31, scheme, b"\1")),
        ("hash-1-digest-33", "a digest of 33 bytes under SHA-256", records.signature(1, b"\1" * 33, scheme, b"\1")),
        ("hash-1-digest-64", "a digest of 64 bytes under SHA-256", records.signature(1, b"\1" * 64, scheme, b"\1")),
        ("hash-7-digest-32", "a digest of 32 bytes under SHA-384", records.signature(7, b"\1" * 32, scheme, b"\1")),
        ("hash-8-digest-48", "a digest of 48 bytes under SHA-512", records.signature(8, b"\1" * 48, scheme, b"\1")),
        ("hash-10-digest-64", "a digest of 64 bytes under SHA3-256", records.signature(10, b"\1" * 64, scheme, b"\1")),
        ("hash-11-digest-32", "a digest of 32 bytes under SHA3-384", records.signature(11, b"\1" * 32, scheme, b"\1")),
        ("hash-12-digest-32", "a digest of 32 bytes under SHA3-512", records.signature(12, b"\1" * 32, scheme, b"\1")),
        (
            "hash-65536-digest-64",
            "a digest of 64 bytes under BLAKE3",
            records.signature(0x10000, b"\1" * 64, scheme, b"\1"),
        ),
    ):
        yield base.fault(f"signature-{slug}", about, "malformed", rules, bytes=one(body))


def _others(base: Vector, data: bytes, first: Attestation) -> Iterator[Vector]:
    """Types that are not known, and the order."""
    body = first[1]
    unknown = ("fim-rec-5", "fim-dec-1")
    for slug, items in (
        ("type-0", [(0, b"")]),
        ("type-7", [(7, b"anything")]),
        ("type-3", [(3, b"\xff" * 5)]),
        ("type-max", [(2**32 - 1, body)]),
        ("type-0-first", [(0, b"\1\2\3"), first]),
        ("type-7-last", [first, (7, b"")]),
        ("type-7-like-1", [first, (7, body)]),
        ("type-7-cut", [first, (7, body[:-4])]),
    ):
        yield record_vector(slug, f"an attestation of a type that is not known: {slug}", data, items, unknown)
    for slug, items in (
        ("by-type", [first, (3, b"\0"), (4, b"\0"), (2**32 - 1, b"\0")]),
        (
            "by-body",
            [(5, b""), (5, b"\0"), (5, b"\0\0"), (5, b"\0\1"), (5, b"\1"), (5, b"\x7f"), (5, b"\x80"), (5, b"\xff")],
        ),
        ("type-before-body", [(5, b"\xff"), (6, b"\0")]),
        ("unsigned-types", [(2**31 - 1, b""), (2**31, b"")]),
        ("prefix", [(5, b"abc"), (5, b"abcd")]),
    ):
        yield record_vector(f"order-{slug}", f"attestations in order: {slug}", data, items, ORDER)
    two = record_vector("two", "two attestations", data, [(5, b"a"), (5, b"b")], ORDER)
    yield two
    for slug, about, items in (
        ("swapped", "swapped", [(5, b"b"), (5, b"a")]),
        ("same", "the first one twice", [(5, b"a"), (5, b"a")]),
        ("types-fall", "types that fall", [(6, b"a"), (5, b"b")]),
        ("shorter-later", "the shorter body later", [(5, b"aa"), (5, b"a")]),
        ("signed-bytes", "bodies compared as if bytes had a sign", [(5, b"\x80"), (5, b"\x7f")]),
        ("signed-types", "types compared as if they had a sign", [(2**31, b""), (2**31 - 1, b"")]),
        ("little-endian", "types compared by their last byte", [(0x0100, b""), (0x0001, b"")]),
        ("third", "only the third out of order", [(5, b"b"), (6, b"a"), (5, b"c")]),
        ("by-length", "bodies compared by length first", [(5, b"b"), (5, b"aa")]),
    ):
        yield two.fault(slug, about, "malformed", ORDER, bytes=records.record(data, items))
    yield base.fault("twice", "the attestation twice", "malformed", ORDER, bytes=records.record(data, [first, first]))
    yield base.fault(
        "type-0-last",
        "a type below that of the signature after it",
        "malformed",
        ORDER,
        bytes=records.record(data, [first, (0, b"")]),
    )
    padded = record_vector("padded", "a body with three bytes of padding", data, [(9, b"x")], DEC)
    yield padded
    yield padded.fault(
        "not-zero", "padding that is not zero", "malformed", DEC, bytes=padded.input["bytes"][:-1] + b"\1"
    )
    yield padded.fault("missing", "without its padding", "malformed", BOUND, bytes=padded.input["bytes"][:-3])


def _memberships(base: Vector, data: bytes, first: Attestation) -> Iterator[Vector]:
    """The body of type 2 is decoded with the record, too."""
    rules = ("fim-rec-9", "fim-dec-1", "fim-dec-4")
    file = volumes.Entry(b"bin", b"tool", volumes.FILE, 1, b"\1" * 32)
    body = volumes.membership(1, b"\2" * 32, 5, [file], b"\3" * 64)
    for slug, items in (
        ("alone", [(2, body)]),
        ("beside", [first, (2, body)]),
        ("first", [(2, body), (3, b"")]),
        ("link", [(2, volumes.membership(1, b"\2" * 32, 0, [volumes.Entry(b"", b"l", volumes.LINK, 0, b"t")], b""))]),
        (
            "directory",
            [(2, volumes.membership(99, b"", 2**64 - 1, [volumes.Entry(b"", b"d", volumes.DIRECTORY)], b""))],
        ),
        ("any-digest", [(2, volumes.membership(1, b"\2" * 32, 0, [replace(file, content=b"x")], b"odd"))]),
    ):
        yield record_vector(f"member-{slug}", f"a membership: {slug}", data, items, rules)
    good = record_vector("member", "a membership", data, [(2, body)], rules)
    yield good
    for slug, about, bad in (
        ("twice", "two memberships", [(2, body), (2, body + b"")]),
        ("other", "another one beside it", sorted([(2, body), (2, volumes.membership(1, b"\4" * 32, 5, [file], b""))])),
        ("empty", "a body of no bytes", [(2, b"")]),
        ("cut", "cut by four bytes", [(2, body[:-4])]),
        ("more", "four more bytes", [(2, body + bytes(4))]),
        ("signature", "the body of a signature", [(2, first[1])]),
        ("none", "without an entry", [(2, volumes.membership(1, b"\2" * 32, 5, [], b"\3" * 64))]),
        ("two-entries", "of two entries", [(2, volumes.membership(1, b"\2" * 32, 5, [file, file], b"\3" * 64))]),
        ("digest", "a digest of the head of 31 bytes", [(2, volumes.membership(1, bytes(31), 5, [file], b""))]),
        (
            "name",
            "an entry whose name is none",
            [(2, volumes.membership(1, bytes(32), 5, [replace(file, name=b"..")], b""))],
        ),
        (
            "parent",
            "an entry whose parent is none",
            [(2, volumes.membership(1, bytes(32), 5, [replace(file, parent=b"/")], b""))],
        ),
        ("bool", "executable is 2", [(2, volumes.membership(1, bytes(32), 5, [replace(file, executable=2)], b""))]),
        ("type", "an entry of type 4", [(2, volumes.membership(1, bytes(32), 5, [replace(file, type=4)], b""))]),
        ("proof", "a proof of 8,193 bytes", [(2, volumes.membership(1, bytes(32), 5, [file], bytes(8193)))]),
    ):
        yield good.fault(slug, about, "malformed", rules, bytes=records.record(data, bad))


def _sizes(data: bytes, first: Attestation) -> Iterator[Vector]:
    eight = [(n, bytes([n])) for n in range(3, 11)]
    full = record_vector("eight", "eight attestations", data, eight, BOUND)
    yield full
    yield full.fault("nine", "nine attestations", "malformed", BOUND, bytes=records.record(data, [*eight, (11, b"x")]))
    long = record_vector("body-61440", "a body of 61,440 bytes", data, [(3, b"\2" * 61440)], BOUND)
    yield long
    yield long.fault(
        "61441", "a body of 61,441 bytes", "malformed", BOUND, bytes=records.record(data, [(3, b"\2" * 61441)])
    )
    for length in (61441, 65536, 2**32 - 1):
        yield long.fault(
            f"announces-{length}",
            f"a body that announces {length} bytes",
            "malformed",
            BOUND,
            bytes=opaque(data) + uint(1) + uint(3) + uint(length) + b"\2" * 61440,
        )
    head = len(records.record(data, [(3, b""), (4, b"\3" * 61440)]))
    whole = record_vector(
        "65536",
        "a record of 65,536 bytes",
        data,
        [(3, b"\2" * (65536 - head)), (4, b"\3" * 61440)],
        ("fim-dec-1", "fim-dec-2"),
    )
    yield whole
    yield whole.fault(
        "65540",
        "a record of 65,540 bytes",
        "malformed",
        ("fim-dec-1", "fim-dec-2"),
        bytes=records.record(data, [(3, b"\2" * (65536 - head + 1)), (4, b"\3" * 61440)]),
    )
    yield whole.fault(
        "then-a-byte",
        "65,536 bytes, and one more",
        "malformed",
        ("fim-dec-1", "fim-dec-2"),
        bytes=whole.input["bytes"] + b"\0",
    )
    statement_8192 = record_vector(
        "statement-8192", "a statement of 8,192 bytes, whatever is in it", b"\4" * 8192, [first], BOUND
    )
    yield statement_8192
    yield statement_8192.fault(
        "8193", "a statement of 8,193 bytes", "malformed", BOUND, bytes=records.record(b"\4" * 8193, [first])
    )
    yield record_vector("statement-0", "a statement of no bytes: not looked into here", b"", [first], ("fim-dec-4",))
