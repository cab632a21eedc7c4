# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Tree type 2, the tree of fs-verity without a salt: roots, and proofs under the root (fim-fsv)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from oracle import merkle

from .form import Long, Vector, counting
from .trees import HASHES, NAMES

RULES = ("fim-fsv-3", "fim-fsv-4")
FSVERITY_NUMBERS = {1: 1, 8: 2}


class BlockTree:
    """As the draft's pseudocode has it."""

    def __init__(self, hash: int, unit_log2: int, data: bytes) -> None:
        self.digest, self.hash, self.unit_log2, self.size = HASHES[hash], hash, unit_log2, len(data)
        self.unit = 1 << unit_log2
        self.k = self.unit // len(self.digest(b""))
        self.rows = [[self.padded(unit) for unit in merkle.cut(data, self.unit)]]
        while len(self.rows[-1]) > 1:
            below = self.rows[-1]
            self.rows.append([self.padded(b"".join(below[i : i + self.k])) for i in range(0, len(below), self.k)])

    def padded(self, data: bytes) -> bytes:
        return self.digest(data + bytes(self.unit - len(data)))

    @property
    def n(self) -> int:
        return len(self.rows[0])

    @property
    def root(self) -> bytes:
        return self.rows[-1][0] if self.n else bytes(len(self.digest(b"")))

    def file_digest(self) -> bytes:
        head = struct.pack("<BBBBIQ", 1, FSVERITY_NUMBERS[self.hash], self.unit_log2, 0, 0, self.size)
        return self.digest((head + self.root).ljust(256, b"\0"))

    def prove(self, a: int, b: int) -> list[bytes]:
        def walk(h: int, i: int) -> Iterator[bytes]:
            span = self.k**h
            if min((i + 1) * span, self.n) <= a or b <= i * span:
                yield self.rows[h][i]
            elif h:
                for child in range(i * self.k, min((i + 1) * self.k, len(self.rows[h - 1]))):
                    yield from walk(h - 1, child)

        return list(walk(len(self.rows) - 1, 0))


def build() -> Iterator[Vector]:
    for hash, unit_log2 in ((1, 12), (8, 12), (1, 16), (8, 16)):
        unit = 1 << unit_log2
        k = unit // (64 if hash == 8 else 32)
        sizes = [0, 1, 100, unit - 1, unit, unit + 1, 2 * unit, 3 * unit - 7]
        if unit_log2 == 12:
            sizes += [k * unit - 1, k * unit, k * unit + 1, (k + 1) * unit, 2 * k * unit + 5]
        for size in sizes:
            yield _root(hash, unit_log2, size)
    for size in (0, 5000, 8192, 129 * 4096):
        yield from _claims(size)
    for hash, size, a, b in (
        (1, 5000, 0, 1),
        (1, 20000, 2, 4),
        (1, 20000, 4, 5),
        (1, 130 * 4096 - 9, 0, 1),
        (1, 130 * 4096 - 9, 127, 129),
        (1, 130 * 4096 - 9, 129, 130),
        (8, 70 * 4096, 63, 65),
        (8, 70 * 4096, 0, 70),
    ):
        yield from _proofs(hash, size, a, b)


def _root(hash: int, unit_log2: int, size: int) -> Vector:
    tree = BlockTree(hash, unit_log2, counting(size))
    return Vector(
        f"blocks-{NAMES[hash]}-{unit_log2}-{size}",
        f"counting content of {size} bytes, {tree.n} units of 2^{unit_log2} bytes, in a tree of type 2",
        RULES if not size else ("fim-fsv-2", "fim-fsv-3"),
        {"of": "file", "hash": hash, "unit_log2": unit_log2, "size": Long(size)},
        output={
            "units": Long(tree.n),
            "height": len(tree.rows) - 1,
            "root": tree.root,
            "fsverity_digest": tree.file_digest(),
        },
        flags=["needs-tree-2"],
    )


def _claims(size: int) -> Iterator[Vector]:
    data = counting(size)
    tree = BlockTree(1, 12, data)
    given = {"of": "claim", "hash": 1, "unit_log2": 12, "size": Long(size), "root": tree.root}
    base = Vector(f"blocks-claim-{size}", f"the right root of {size} bytes", RULES, given, flags=["needs-tree-2"])
    yield base
    units = merkle.cut(data, 4096)
    other = {
        "type-1": ("the root of tree type 1", merkle.tree_hash(merkle.SHA256, units)),
        "digest": ("the digest of the file instead of the root", tree.file_digest()),
    }
    if not size:
        other["nothing"] = ("H of nothing", merkle.SHA256(b""))
        other["block"] = ("a block of zeros", merkle.SHA256(bytes(4096)))
    else:
        unpadded = [merkle.SHA256(unit) for unit in units]
        other["unpadded"] = ("the last unit not padded", _top(tree, unpadded))
        other["prefixed"] = (
            "units with 0x00 in front",
            _top(tree, [merkle.SHA256(b"\0" + unit.ljust(4096, b"\0")) for unit in units]),
        )
        if len(units) == 1 or size == 8192:
            other["short-block"] = ("the block of hashes not padded", merkle.SHA256(b"".join(tree.rows[0])))
    for slug, (about, root) in other.items():
        if root != tree.root:
            clauses = ("fim-fsv-4",) if not size else ("fim-fsv-3",)
            yield base.fault(slug, about, "mismatch", clauses, flags=["needs-tree-2"], root=root)


def _top(tree: BlockTree, row: Sequence[bytes]) -> bytes:
    while len(row) > 1:
        row = [tree.padded(b"".join(row[i : i + tree.k])) for i in range(0, len(row), tree.k)]
    return row[0]


def _proofs(hash: int, size: int, a: int, b: int) -> Iterator[Vector]:
    data = counting(size)
    tree = BlockTree(hash, 12, data)
    proof, length = b"".join(tree.prove(a, b)), len(tree.root)
    given = {
        "of": "proof",
        "hash": hash,
        "unit_log2": 12,
        "size": Long(size),
        "first": Long(a),
        "content": data[a * 4096 : b * 4096],
        "proof": proof,
        "root": tree.root,
    }
    rules, flags = ("fim-fsv-3", "fim-proof-4"), ["needs-tree-2"]
    base = Vector(
        f"blocks-proof-{NAMES[hash]}-{size}-{a}-{b}", f"units [{a}, {b}) of {tree.n}", rules, given, flags=flags
    )
    yield base
    content = base.input["content"]
    yield base.fault(
        "content",
        "a bit of the content altered",
        "mismatch",
        flags=flags,
        content=content[:-1] + bytes([content[-1] ^ 1]),
    )
    yield base.fault("long", "a hash too many", "length", flags=flags, proof=proof + tree.root)
    if proof:
        yield base.fault("short", "a hash is missing", "length", flags=flags, proof=proof[length:])
        yield base.fault(
            "altered", "a bit of the proof altered", "mismatch", flags=flags, proof=proof[:-1] + bytes([proof[-1] ^ 1])
        )
    if len(content) % 4096:
        yield base.fault(
            "padded",
            "the short unit with the zeros that pad it: the same leaf, and another size",
            "mismatch",
            ("fim-proof-9",),
            flags=flags,
            content=content + bytes(-len(content) % 4096),
        )
