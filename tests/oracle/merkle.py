# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""RFC 9162 section 2.1, and range proofs by one walk in order, as they are defined."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

import blake3

Digest = Callable[[bytes], bytes]

HASHES: dict[int, tuple[str, Digest]] = {
    1: ("sha256", lambda data: hashlib.sha256(data).digest()),
    7: ("sha384", lambda data: hashlib.sha384(data).digest()),
    8: ("sha512", lambda data: hashlib.sha512(data).digest()),
    10: ("sha3-256", lambda data: hashlib.sha3_256(data).digest()),
    0x10000: ("blake3", lambda data: blake3.blake3(data).digest()),
}
"""By number: name and function."""
SHA256 = HASHES[1][1]


def cut(data: bytes, unit: int) -> list[bytes]:
    return [data[at : at + unit] for at in range(0, len(data), unit)]


def split(n: int) -> int:
    """The largest power of two smaller than n."""
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def tree_hash(digest: Digest, units: Sequence[bytes]) -> bytes:
    """MTH(D[n]), RFC 9162 section 2.1.1."""
    if not units:
        return digest(b"")
    if len(units) == 1:
        return digest(b"\x00" + units[0])
    k = split(len(units))
    return digest(b"\x01" + tree_hash(digest, units[:k]) + tree_hash(digest, units[k:]))


def inclusion_path(digest: Digest, m: int, units: Sequence[bytes]) -> list[tuple[bool, bytes]]:
    """PATH(m, D[n]), RFC 9162 section 2.1.3.1: from the leaf up; with each hash, whether it is to the left."""
    if len(units) == 1:
        return []
    k = split(len(units))
    if m < k:
        return [*inclusion_path(digest, m, units[:k]), (False, tree_hash(digest, units[k:]))]
    return [*inclusion_path(digest, m - k, units[k:]), (True, tree_hash(digest, units[:k]))]


def node(digest: Digest, units: Sequence[bytes], level: int, index: int) -> bytes:
    """Node (level, index): over units [index·2^level, min((index + 1)·2^level, n))."""
    return tree_hash(digest, units[index << level : (index + 1) << level])


def range_proof(digest: Digest, units: Sequence[bytes], a: int, b: int, level: int) -> list[bytes]:
    """What the walk over the node of `level` above units [a, b) emits."""
    low = (a >> level) << level
    return list(_walk(digest, units, a, b, low, min(low + (1 << level), len(units))))


def _walk(digest: Digest, units: Sequence[bytes], a: int, b: int, low: int, high: int) -> Iterator[bytes]:
    if high <= a or b <= low:
        yield tree_hash(digest, units[low:high])
    elif high - low > 1:
        k = split(high - low)
        yield from _walk(digest, units, a, b, low, low + k)
        yield from _walk(digest, units, a, b, low + k, high)


def fold(digest: Digest, n: int, a: int, units: Sequence[bytes], level: int, proof: Sequence[bytes]) -> bytes:
    """The node of `level` above units [a, a + len(units)) of n, by the same walk; every hash is used."""
    b, low, hashes = a + len(units), (a >> level) << level, iter(proof)

    def walk(low: int, high: int) -> bytes:
        if high <= a or b <= low:
            return next(hashes)
        if high - low == 1:
            return digest(b"\x00" + units[low - a])
        k = split(high - low)
        left = walk(low, low + k)
        return digest(b"\x01" + left + walk(low + k, high))

    top = walk(low, min(low + (1 << level), n))
    assert next(hashes, None) is None
    return top


def height(n: int) -> int:
    """The level of the root: the least h with 2^h ≥ n; 0 for no units."""
    h = 0
    while 1 << h < n:
        h += 1
    return h
