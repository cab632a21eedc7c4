# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Range proofs: every range of small trees under every node, and each fault of some of them (fim-proof)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from oracle import merkle

from .form import Long, Vector
from .trees import HASHES, NAMES, levels, zero_top

RULES = ("fim-proof-1", "fim-proof-2", "fim-proof-3", "fim-proof-7", "fip-proof-1", "fip-proof-5", "fip-client-10")
ALTERED = ("fim-proof-3", "fim-proof-7", "fip-client-10")


def unit(index: int) -> bytes:
    return index.to_bytes(8, "big")


def judge(hash: int, n: int, a: int, b: int, level: int, units: Sequence[bytes], proof: bytes, value: bytes) -> str:
    """What a verifier says: range, length, mismatch or ok, by the walk of the draft."""
    digest = HASHES[hash]
    length = len(digest(b""))
    if not (a < b <= n and level <= merkle.height(n)) or a >> level != (b - 1) >> level:
        return "range"
    if len(units) != b - a or len(proof) != length * due(n, a, b, level):
        return "length"
    hashes = merkle.cut(proof, length)
    return "ok" if merkle.fold(digest, n, a, units, level, hashes) == value else "mismatch"


def due(n: int, a: int, b: int, level: int) -> int:
    """The number of hashes, by the walk."""
    low = (a >> level) << level

    def walk(low: int, high: int) -> int:
        if high <= a or b <= low:
            return 1
        if high - low == 1:
            return 0
        k = merkle.split(high - low)
        return walk(low, low + k) + walk(low + k, high)

    return walk(low, min(low + (1 << level), n))


def base_vector(hash: int, n: int, a: int, b: int, level: int) -> Vector:
    digest = HASHES[hash]
    units = [unit(i) for i in range(n)]
    return Vector(
        f"proof-{NAMES[hash]}-{n}-{a}-{b}-{level}",
        f"units [{a}, {b}) of {n} under node ({level}, {a >> level})",
        RULES,
        {
            "hash": hash,
            "n": Long(n),
            "first": Long(a),
            "end": Long(b),
            "level": level,
            "units": units[a:b],
            "proof": b"".join(merkle.range_proof(digest, units, a, b, level)),
            "value": merkle.node(digest, units, level, a >> level),
        },
    )


def ranges(n: int) -> Iterator[tuple[int, int, int]]:
    for level in range(merkle.height(n) + 1):
        for low in range(0, n, 1 << level):
            for a in range(low, min(low + (1 << level), n)):
                for b in range(a + 1, min(low + (1 << level), n) + 1):
                    yield a, b, level


FAULTY = {
    (5, 2, 3, 3),
    (7, 2, 5, 3),
    (7, 0, 1, 3),
    (7, 6, 7, 3),
    (8, 3, 4, 3),
    (8, 2, 4, 2),
    (11, 4, 9, 4),
    (11, 8, 10, 2),
}
"""n, a, b, level of the proofs that are given every fault."""


def build() -> Iterator[Vector]:
    for n in range(1, 12):
        for a, b, level in ranges(n):
            vector = base_vector(1, n, a, b, level)
            yield vector
            if (n, a, b, level) in FAULTY:
                yield from faults(vector)
            elif (a + b + level) % 3 == 0 and n > 2:
                yield from _two_faults(vector)
    for hash in HASHES:
        if hash != 1:
            for n, a, b, level in (
                (1, 0, 1, 0),
                (3, 2, 3, 2),
                (7, 2, 5, 3),
                (8, 3, 4, 3),
                (13, 0, 13, 4),
                (13, 5, 6, 3),
            ):
                vector = base_vector(hash, n, a, b, level)
                yield vector
                yield from _two_faults(vector)
                yield _fault(
                    vector,
                    "other-length",
                    "hashes of another digest's length",
                    ("fim-proof-4",),
                    proof=b"\1" * (1 + len(HASHES[hash](b""))),
                )
    yield from _large()
    yield from _sparse()
    yield from _overflowing()


def _fault(base: Vector, id: str, about: str, clauses: Sequence[str], **changed: Any) -> Vector:
    """A fault whose outcome the walk tells. A proof may verify under another n: that is why the size is signed."""
    has = base.input | changed
    outcome = judge(
        has["hash"],
        has["n"].value,
        has["first"].value,
        has["end"].value,
        has["level"],
        has["units"],
        has["proof"],
        has["value"],
    )
    valid = outcome == "ok"
    still_valid = {"n": "verifies-under-another-size", "level": "another-name"}
    flags = [still_valid[name] for name in changed] if valid else []
    return base.fault(id, about, outcome, clauses, valid=valid, flags=flags, **changed)


def faults(base: Vector) -> Iterator[Vector]:
    hash, proof = base.input["hash"], base.input["proof"]
    length = len(HASHES[hash](b""))
    hashes = merkle.cut(proof, length)
    n, a, b, level = base.input["n"].value, base.input["first"].value, base.input["end"].value, base.input["level"]
    number, fixed = ("fim-proof-4", "fip-proof-5"), ("fim-proof-6",)
    yield _fault(base, "short", "the last hash is missing", number, proof=proof[:-length])
    yield _fault(base, "headless", "the first hash is missing", number, proof=proof[length:])
    yield _fault(base, "none", "no hash at all", number, proof=b"")
    yield _fault(base, "long", "a hash too many", number, proof=proof + hashes[0])
    yield _fault(base, "long-front", "a hash too many, in front", number, proof=hashes[0] + proof)
    yield _fault(base, "byte-short", "a byte is missing", number, proof=proof[:-1])
    yield _fault(base, "byte-long", "a byte too many", number, proof=proof + b"\0")
    for at, one in enumerate(hashes):
        for where, name in ((0, "first"), (length - 1, "last")):
            altered = bytearray(one)
            altered[where] ^= 1
            changed = b"".join([*hashes[:at], bytes(altered), *hashes[at + 1 :]])
            yield _fault(
                base,
                f"hash-{at}-{name}",
                f"hash {at} with its {name} byte altered",
                ALTERED,
                proof=changed,
            )
        if at:
            swapped = [*hashes[: at - 1], one, hashes[at - 1], *hashes[at + 1 :]]
            yield _fault(
                base,
                f"swapped-{at}",
                f"hashes {at - 1} and {at} swapped",
                ("fim-proof-3", "fip-proof-1"),
                proof=b"".join(swapped),
            )
    if len(hashes) > 2:
        yield _fault(
            base,
            "reversed",
            "from the leaves up instead of left to right",
            ("fim-proof-3", "fip-proof-1"),
            proof=b"".join(hashes[::-1]),
        )
    units = base.input["units"]
    yield _fault(
        base,
        "unit",
        "a bit of a unit altered",
        ("fim-proof-5",),
        units=[*units[:-1], units[-1][:-1] + bytes([units[-1][-1] ^ 1])],
    )
    yield _fault(base, "unit-cut", "a unit cut by a byte", ("fim-proof-5",), units=[*units[:-1], units[-1][:-1]])
    yield _fault(base, "unit-missing", "a unit is missing", ("fim-proof-5",), units=units[:-1])
    yield _fault(base, "unit-more", "a unit too many", ("fim-proof-5",), units=[*units, unit(b)])
    if len(units) > 1:
        yield _fault(
            base,
            "units-swapped",
            "the first two units swapped",
            ("fim-proof-5",),
            units=[units[1], units[0], *units[2:]],
        )
    for name, value in (("value-first", 0), ("value-last", length - 1)):
        altered = bytearray(base.input["value"])
        altered[value] ^= 0x80
        yield _fault(base, name, "the expected value differs in one bit", ("fim-proof-7",), value=bytes(altered))
    yield _fault(base, "value-empty", "an expected value of no bytes", ("fim-proof-7",), value=b"")
    yield _fault(base, "value-cut", "an expected value cut by a byte", ("fim-proof-7",), value=base.input["value"][:-1])
    for name, more in (("later", 1), ("earlier", -1)):
        if a + more >= 0:
            yield _fault(
                base,
                name,
                "read as the proof of units next to it",
                ("fim-proof-2",),
                first=Long(a + more),
                end=Long(b + more),
            )
    for other in (n - 1, n + 1, 2 * n):
        yield _fault(base, f"of-{other}", f"read as a proof in a tree of {other} units", fixed, n=Long(other))
    yield _fault(base, "empty", "a range of no units", ("fim-proof-1",), end=Long(a))
    yield _fault(base, "backwards", "a range that ends before it begins", ("fim-proof-1",), first=Long(b), end=Long(a))
    yield _fault(base, "beyond", "a range that ends after the last unit", ("fim-proof-1",), end=Long(n + 1))
    yield _fault(base, "far-beyond", "a range that ends at 2^64 - 1", ("fim-proof-1",), end=Long(2**64 - 1))
    yield _fault(base, "above", "a level above the height", ("fim-proof-2",), level=merkle.height(n) + 1)
    yield _fault(base, "far-above", "level 64", ("fim-proof-2",), level=64)
    for other in range(merkle.height(n) + 1):
        if other != level:
            yield _fault(
                base, f"level-{other}", f"read as a proof under a node of level {other}", ("fim-proof-2",), level=other
            )


def _two_faults(base: Vector) -> Iterator[Vector]:
    proof, units = base.input["proof"], base.input["units"]
    length = len(HASHES[base.input["hash"]](b""))
    yield _fault(base, "long", "a hash too many", ("fim-proof-4",), proof=proof + base.input["value"])
    if proof:
        yield _fault(
            base,
            "altered",
            "a bit of the proof altered",
            ALTERED,
            proof=proof[:-1] + bytes([proof[-1] ^ 1]),
        )
        yield _fault(base, "short", "the first hash is missing", ("fim-proof-4",), proof=proof[length:])
    else:
        yield _fault(
            base, "unit", "a bit of a unit altered", ("fim-proof-5",), units=[*units[:-1], b"\xff" + units[-1][1:]]
        )


def _large() -> Iterator[Vector]:
    """Ranges of trees around powers of two, from levels that are computed once."""
    for n in (127, 128, 129, 1000, 4095, 4096, 4097):
        rows = levels(HASHES[1], [HASHES[1](b"\0" + unit(i)) for i in range(n)])
        height = merkle.height(n)
        for a, b, level in (
            (0, 1, height),
            (n - 1, n, height),
            (n // 2, n // 2 + 1, height),
            (n // 2 - 1, n // 2 + 1, height),
            (0, 3, 2),
            (n - 2, n - 1, height),
        ):
            hashes = b"".join(rows[h][i] for h, i in _emitted(n, a, b, level))
            vector = Vector(
                f"proof-sha256-{n}-{a}-{b}-{level}",
                f"units [{a}, {b}) of {n} under node ({level}, {a >> level})",
                RULES,
                {
                    "hash": 1, "n": Long(n), "first": Long(a), "end": Long(b), "level": level,
                    "units": [unit(i) for i in range(a, b)], "proof": hashes, "value": rows[level][a >> level],
                },
            )  # fmt: skip
            yield vector
            if hashes:
                yield _fault(vector, "short", "the last hash is missing", ("fim-proof-4",), proof=hashes[:-32])
                yield _fault(
                    vector,
                    "altered",
                    "a bit of the proof altered",
                    ("fim-proof-7",),
                    proof=hashes[:-1] + bytes([hashes[-1] ^ 1]),
                )


def _emitted(n: int, a: int, b: int, level: int) -> Iterator[tuple[int, int]]:
    """Level and index of each hash of a proof, by the walk; the level is the least that covers the units."""

    def walk(low: int, high: int) -> Iterator[tuple[int, int]]:
        if high <= a or b <= low:
            h = merkle.height(high - low)
            yield h, low >> h
        elif high - low > 1:
            k = merkle.split(high - low)
            yield from walk(low, low + k)
            yield from walk(low + k, high)

    low = (a >> level) << level
    yield from walk(low, min(low + (1 << level), n))


def _sparse() -> Iterator[Vector]:
    """Proofs in files of zeros that are as large as files can be: all arithmetic needs 64 bits."""
    digest = HASHES[1]
    for size, unit_log2 in ((2**63 - 1, 12), (2**63 - 1, 16), (2**45, 12), (2**45 + 1, 12)):
        length = 1 << unit_log2
        n = (size >> unit_log2) + (1 if size & (length - 1) else 0)
        height = merkle.height(n)
        for a in (0, n // 2, n - 2, n - 1):
            hashes = b"".join(_zero_value(size, unit_log2, h, i) for h, i in _emitted(n, a, a + 1, height))
            vector = Vector(
                f"proof-zeros-{unit_log2}-{size}-{a}",
                f"unit {a} of {n} of a file of {size} zero bytes",
                (*RULES, "fim-tree-4", "fim-hole-1", "fip-hole-5"),
                {
                    "hash": 1,
                    "n": Long(n),
                    "first": Long(a),
                    "end": Long(a + 1),
                    "level": height,
                    "units": [bytes(min(length, size - a * length))],
                    "proof": hashes,
                    "value": zero_top(digest, size, unit_log2),
                },
            )
            yield vector
            yield _fault(vector, "short", "the last hash is missing", ("fim-proof-4",), proof=hashes[:-32])
            yield _fault(
                vector,
                "not-zero",
                "a hole that is none",
                ("fim-hole-1", "fip-hole-5"),
                units=[vector.input["units"][0][:-1] + b"\1"],
            )
            if a == n - 1 and size & (length - 1):
                yield _fault(
                    vector, "whole", "the short unit padded with zeros", ("fim-hole-2",), units=[bytes(length)]
                )
            if a == n - 2 and size & (length - 1):
                full = digest(b"\0" + bytes(length))
                yield _fault(
                    vector,
                    "zero-value",
                    "the value of a whole unit of zeros for the short one",
                    ("fim-hole-2",),
                    proof=hashes[:-32] + full,
                )


def _zero_value(size: int, unit_log2: int, level: int, index: int) -> bytes:
    """A node of a file of zeros is the root of a smaller one."""
    start, end = index << level + unit_log2, (index + 1) << level + unit_log2
    return zero_top(HASHES[1], min(end, size) - start, unit_log2)


def _overflowing() -> Iterator[Vector]:
    base = base_vector(1, 8, 0, 8, 3)
    for name, first, end in (("wraps", 2**64 - 1, 1), ("high", 2**63, 2**63 + 1), ("all-ones", 2**64 - 1, 2**64 - 1)):
        yield _fault(
            base, name, "numbers whose sum or difference overflows", ("fim-proof-1",), first=Long(first), end=Long(end)
        )
