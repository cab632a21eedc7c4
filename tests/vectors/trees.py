# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Trees: leaves, nodes, roots, levels, names of nodes, and trees of zeros (fim-tree, fim-hole)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache

from oracle import merkle

from .form import Long, Vector, counting

Digest = Callable[[bytes], bytes]
HASHES = {number: digest for number, (_, digest) in merkle.HASHES.items()}
NAMES = {number: name for number, (name, _) in merkle.HASHES.items()}
ROOT = ("fim-tree-1", "fim-tree-2", "fim-tree-4", "fim-hash-4")


@cache
def digest_of(number: int) -> Digest:
    return HASHES[number]


@cache
def counting_leaf(number: int, unit_log2: int, start: int, length: int) -> bytes:
    return HASHES[number](b"\0" + counting(length, start))


def counting_leaves(number: int, size: int, unit_log2: int) -> list[bytes]:
    """The leaf values of a file whose byte j is j mod 251."""
    unit = 1 << unit_log2
    return [counting_leaf(number, unit_log2, start % 251, min(unit, size - start)) for start in range(0, size, unit)]


def top(digest: Digest, leaves: Sequence[bytes]) -> bytes:
    """The root over leaf values, as the draft defines it; level by level, which is the same and does not recurse."""
    if not leaves:
        return digest(b"")
    row = list(leaves)
    while len(row) > 1:
        row = above(digest, row)
    return row[0]


def above(digest: Digest, row: Sequence[bytes]) -> list[bytes]:
    pairs = [digest(b"\1" + row[i] + row[i + 1]) for i in range(0, len(row) - 1, 2)]
    return pairs + ([row[-1]] if len(row) % 2 else [])


def levels(digest: Digest, leaves: Sequence[bytes]) -> list[list[bytes]]:
    rows = [list(leaves)]
    while len(rows[-1]) > 1:
        rows.append(above(digest, rows[-1]))
    return rows


def zero_top(digest: Digest, size: int, unit_log2: int) -> bytes:
    """The root of a file of zeros, from one zero subtree per level and the short unit at the end."""
    unit = 1 << unit_log2
    whole, rest = size >> unit_log2, size & (unit - 1)
    n = whole + (1 if rest else 0)
    if not n:
        return digest(b"")
    full = digest(b"\0" + bytes(unit))
    last = digest(b"\0" + bytes(rest)) if rest else full
    width = n
    while width > 1:  # all nodes of a level are alike but the last
        if width % 2 == 0:
            last = digest(b"\1" + full + last)
        full = digest(b"\1" + full + full)
        width = (width + 1) // 2
    return last


def build() -> Iterator[Vector]:
    yield from _leaves()
    yield from _nodes()
    yield from _roots()
    yield from _numbered()
    yield from _levels()
    yield from _names()
    yield from _zeros()
    yield from _wrong()


def _leaves() -> Iterator[Vector]:
    for number in HASHES:
        for length in (1, 63, 64, 4095, 4096, 65536):
            vector = Vector(
                f"leaf-{NAMES[number]}-{length}",
                f"the leaf of a unit of {length} bytes under {NAMES[number]}",
                ("fim-tree-1", "fim-hash-4"),
                {"of": "leaf", "hash": number, "unit": counting(length, 7)},
                output={"value": digest_of(number)(b"\0" + counting(length, 7))},
            )
            yield vector
        vector = Vector(
            f"leaf-{NAMES[number]}-zeros",
            f"the leaf of 4,096 zero bytes under {NAMES[number]}",
            ("fim-tree-1",),
            {"of": "leaf", "hash": number, "unit": bytes(4096)},
            output={"value": digest_of(number)(b"\0" + bytes(4096))},
        )
        yield vector


def _nodes() -> Iterator[Vector]:
    for number in HASHES:
        digest = digest_of(number)
        left, right = digest(b"\0left"), digest(b"\0right")
        for name, pair in (("two", (left, right)), ("swapped", (right, left)), ("same", (left, left))):
            yield Vector(
                f"node-{NAMES[number]}-{name}",
                f"a node over two values under {NAMES[number]}",
                ("fim-tree-2",),
                {"of": "node", "hash": number, "left": pair[0], "right": pair[1]},
                output={"value": digest(b"\1" + pair[0] + pair[1])},
            )


def root_vector(number: int, size: int, unit_log2: int = 12) -> Vector:
    n = -(-size >> unit_log2)
    clauses = ("fim-tree-3", "fim-hash-4") if not size else ROOT
    return Vector(
        f"root-{NAMES[number]}-{unit_log2}-{size}",
        f"counting content of {size} bytes, {n} units of 2^{unit_log2} bytes",
        clauses,
        {"of": "file", "hash": number, "unit_log2": unit_log2, "size": Long(size)},
        output={
            "units": Long(n),
            "height": merkle.height(n),
            "root": top(digest_of(number), counting_leaves(number, size, unit_log2)),
        },
    )


def _roots() -> Iterator[Vector]:
    for number in HASHES:
        for n in range(131):  # the last unit is whole, one byte long, or one byte short, in turn
            short = (0, 4095, 1)[n % 3] if n else 0
            yield root_vector(number, (n << 12) - short)
        for size in (1, 65535, 65536, 65537, 200_000):
            yield root_vector(number, size, 16)
    for n in (1, 2, 3, 63, 64, 65, 127, 128, 129):
        for size in ((n << 12) - 4095, n << 12):
            vector = root_vector(1, size)
            if size != (n << 12) - ((0, 4095, 1)[n % 3]):
                yield vector
    for unit_log2 in range(13, 25):
        if unit_log2 != 16:
            yield root_vector(1, (1 << unit_log2) + 1, unit_log2)
            yield root_vector(1, (1 << unit_log2) - 1, unit_log2)


def _numbered() -> Iterator[Vector]:
    digest = digest_of(1)
    counts = sorted({(1 << k) + d for k in range(8, 21) for d in (-1, 0, 1)})
    tops = _running_tops(digest, counts)
    for n in counts:
        yield Vector(
            f"root-numbered-{n}",
            f"{n} leaves, each H(0x00 || its index in eight bytes)",
            ("fim-tree-2", "fim-tree-4"),
            {"of": "numbered", "hash": 1, "leaves": n},
            output={"height": merkle.height(n), "root": tops[n]},
        )


def _running_tops(digest: Digest, counts: Sequence[int]) -> dict[int, bytes]:
    """Roots of growing trees: a stack of whole subtrees, folded from the right (RFC 9162 section 2.1.2)."""
    stack: list[tuple[int, bytes]] = []
    found: dict[int, bytes] = {}
    wanted = set(counts)
    sha256 = hashlib.sha256
    for index in range(max(counts)):
        size, value = 1, sha256(b"\0" + index.to_bytes(8, "big")).digest()
        while stack and stack[-1][0] == size:
            value = sha256(b"\1" + stack.pop()[1] + value).digest()
            size *= 2
        stack.append((size, value))
        if index + 1 in wanted:
            *lower, (_, value) = stack
            for _, left in reversed(lower):
                value = digest(b"\1" + left + value)
            found[index + 1] = value
    return found


def _levels() -> Iterator[Vector]:
    for n in (*range(1, 18), 31, 32, 33):
        size = (n << 12) - 5
        rows = levels(digest_of(1), counting_leaves(1, size, 12))
        yield Vector(
            f"levels-{n}",
            f"every node of a tree of {n} units under each of its names",
            ("fim-tree-2", "fim-tree-5", "fip-tree-2"),
            {"of": "levels", "hash": 1, "unit_log2": 12, "size": Long(size)},
            output={"levels": rows},
        )


def _names() -> Iterator[Vector]:
    def vector(n: int, level: int, index: int) -> Vector:
        h, i = level, index
        while h and (2 * i + 1) << (h - 1) >= n:
            h, i = h - 1, 2 * i
        return Vector(
            f"name-{n}-{level}-{index}",
            f"node ({level}, {index}) of {n} units",
            ("fim-tree-5", "fim-tree-6"),
            {"of": "name", "units": Long(n), "level": level, "index": Long(index)},
            output={
                "first": Long(index << level),
                "end": Long(min((index + 1) << level, n)),
                "canonical": {"level": h, "index": Long(i)},
            },
        )

    largest = (2**63 - 1 >> 12) + 1
    for n, level, index in (
        (1, 0, 0), (2, 1, 0), (3, 1, 1), (3, 2, 0), (5, 1, 2), (5, 2, 1), (5, 3, 0), (6, 2, 1), (7, 1, 3), (7, 2, 1),
        (9, 3, 1), (9, 2, 2), (9, 1, 4), (11, 2, 2), (13, 2, 3), (17, 4, 1), (33, 5, 1), (129, 7, 1),
        (largest, 51, 0), (largest, 0, largest - 1), (largest - 1, 50, 1), (largest - 1, 1, (largest - 2) // 2),
    ):  # fmt: skip
        base = vector(n, level, index)
        yield base
        height, width = merkle.height(n), -(-n >> level)
        yield base.fault(
            "level", "a level above the height", "invalid", ("fim-tree-6",), level=height + 1, index=Long(0)
        )
        yield base.fault(
            "index", "an index not below the width of the level", "invalid", ("fim-tree-6",), index=Long(width)
        )


def _zeros() -> Iterator[Vector]:
    for number in HASHES:
        for size, unit_log2 in ((4096, 12), (8192, 12), (12289, 12), (2**20 - 1, 16), (2**40, 16), (2**63 - 1, 12)):
            yield zeros(number, size, unit_log2)
    for unit_log2 in range(12, 25):
        for size in (2**63 - 1, 2**62 + 1, 3 << unit_log2):
            vector = zeros(1, size, unit_log2)
            if (size, unit_log2) != (2**63 - 1, 12):
                yield vector


def zeros(number: int, size: int, unit_log2: int) -> Vector:
    n = (size >> unit_log2) + (1 if size & ((1 << unit_log2) - 1) else 0)
    return Vector(
        f"zeros-{NAMES[number]}-{unit_log2}-{size}",
        f"a file of {size} zero bytes in units of 2^{unit_log2}: only the last unit, if short, has to be hashed alone",
        ("fim-hole-1", "fim-hole-2", "fim-tree-4"),
        {"of": "zeros", "hash": number, "unit_log2": unit_log2, "size": Long(size)},
        output={"units": Long(n), "height": merkle.height(n), "root": zero_top(digest_of(number), size, unit_log2)},
    )


def _wrong() -> Iterator[Vector]:
    """Roots of other constructions. The claim is checked against the content; undone, it is the right root."""
    for size, unit_log2 in (
        (0, 12),
        (1, 12),
        (4096, 12),
        (4097, 12),
        (12288, 12),
        (20000, 12),
        (28672, 12),
        (70000, 16),
    ):
        leaves = counting_leaves(1, size, unit_log2)
        digest = digest_of(1)
        right = top(digest, leaves)
        base = Vector(
            f"claim-{unit_log2}-{size}",
            f"the right root of {size} bytes of counting content",
            ("fim-tree-1", "fim-tree-2", "fim-tree-3"),
            {"of": "claim", "hash": 1, "unit_log2": unit_log2, "size": Long(size), "root": right},
        )
        yield base
        for name, about, clauses, root in _constructions(size, unit_log2):
            if root != right:
                yield base.fault(name, about, "mismatch", clauses, root=root)


def _constructions(size: int, unit_log2: int) -> Iterator[tuple[str, str, tuple[str, ...], bytes]]:
    digest = digest_of(1)
    data, unit = counting(size), 1 << unit_log2
    units = merkle.cut(data, unit)

    def tree(leaves: Sequence[bytes], node: Digest) -> bytes:
        if len(leaves) == 1:
            return leaves[0]
        k = merkle.split(len(leaves))
        return node(tree(leaves[:k], node) + tree(leaves[k:], node))

    def prefixed(value: bytes) -> bytes:
        return digest(b"\1" + value)

    def duplicated(row: list[bytes]) -> bytes:
        while len(row) > 1:
            if len(row) % 2:
                row = [*row, row[-1]]
            row = [prefixed(row[i] + row[i + 1]) for i in range(0, len(row), 2)]
        return row[0]

    def halved(row: Sequence[bytes]) -> bytes:
        if len(row) == 1:
            return row[0]
        half = len(row) // 2
        return prefixed(halved(row[:half]) + halved(row[half:]))

    leaf_rule, node_rule, empty_rule = ("fim-tree-1",), ("fim-tree-2",), ("fim-tree-3",)
    if not units:
        yield "zeros", "zero bytes for the root of an empty file", empty_rule, bytes(32)
        yield "leaf-of-nothing", "the leaf of an empty unit for the root of an empty file", empty_rule, digest(b"\0")
        yield "node-of-nothing", "a node of nothing for the root of an empty file", empty_rule, digest(b"\1")
        return
    leaves = [digest(b"\0" + one) for one in units]
    padded = [digest(b"\0" + one.ljust(unit, b"\0")) for one in units]
    yield "no-leaf-prefix", "leaves without 0x00", leaf_rule, tree([digest(one) for one in units], prefixed)
    yield "leaf-prefix-1", "leaves with 0x01", leaf_rule, tree([digest(b"\1" + one) for one in units], prefixed)
    yield "padded", "the last unit padded with zeros", leaf_rule, tree(padded, prefixed)
    yield "empty-unit", "one more unit, which is empty", leaf_rule, tree([*leaves, digest(b"\0")], prefixed)
    yield "whole", "the digest of the whole content", leaf_rule, digest(data)
    yield "no-node-prefix", "nodes without 0x01", node_rule, tree(leaves, digest)
    yield "node-prefix-0", "nodes with 0x00", node_rule, tree(leaves, lambda value: digest(b"\0" + value))
    yield "right-left", "nodes with their halves swapped", node_rule, tree(leaves[::-1], prefixed)
    yield (
        "duplicated",
        "a last node without a partner is paired with itself",
        (*node_rule, "fip-tree-2"),
        duplicated(leaves),
    )
    yield "halved", "the split at half of the units", node_rule, halved(leaves)
    yield (
        "one-short",
        "the last unit left out",
        ("fim-tree-4",),
        tree(leaves[:-1], prefixed) if units[1:] else digest(b""),
    )
    yield "sha-512-cut", "SHA-512 cut to 32 bytes", ("fim-hash-4",), _cut_root(units)


def _cut_root(units: Sequence[bytes]) -> bytes:
    return merkle.tree_hash(lambda data: hashlib.sha512(data).digest()[:32], units)
