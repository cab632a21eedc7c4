# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The hash algorithms, by their registry numbers (fim, "Hash algorithms")."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from .errors import RefusedAlgorithm, Unsupported
from .xdr import Buffer

TRUNCATED = frozenset(range(2, 7))
"""Truncated SHA-256 in the Named Information registry: they MUST be refused (fim-hash-3)."""

_LEAF, _NODE = b"\x00", b"\x01"


@dataclass(frozen=True, slots=True, eq=False)
class Hash:
    """One hash algorithm, and RFC 9162 2.1.1's two ways to use it."""

    number: int
    name: str
    length: int
    """Bytes of a digest."""
    new: Callable[..., Any] = field(repr=False)
    _leaf_prefix: Any = field(repr=False)

    def digest(self, data: Buffer) -> bytes:
        result: bytes = self.new(data).digest()
        return result

    def leaf(self, unit: Buffer) -> bytes:
        """H(0x00 ‖ unit). The prefix is hashed once and the state copied, so that the unit is not."""
        state = self._leaf_prefix.copy()
        state.update(unit)
        result: bytes = state.digest()
        return result

    def leaf_of(self, parts: Iterable[Buffer]) -> bytes:
        """H(0x00 ‖ unit) of a unit that lies in several places."""
        state = self._leaf_prefix.copy()
        for part in parts:
            state.update(part)
        result: bytes = state.digest()
        return result

    def node(self, left: bytes, right: bytes) -> bytes:
        """H(0x01 ‖ left ‖ right)."""
        result: bytes = self.new(_NODE + left + right).digest()
        return result


def _make(number: int, name: str, length: int, new: Callable[..., Any]) -> Hash:
    return Hash(number, name, length, new, new(_LEAF))


def _blake3() -> Hash:
    from blake3 import blake3

    return _make(BLAKE3, "blake3", 32, blake3)


BLAKE3 = 0x10000
_MAKERS: dict[int, Callable[[], Hash]] = {
    1: lambda: _make(1, "sha256", 32, hashlib.sha256),
    7: lambda: _make(7, "sha384", 48, hashlib.sha384),
    8: lambda: _make(8, "sha512", 64, hashlib.sha512),
    10: lambda: _make(10, "sha3-256", 32, hashlib.sha3_256),
    BLAKE3: _blake3,
}
_NUMBERS = {"sha256": 1, "sha384": 7, "sha512": 8, "sha3-256": 10, "blake3": BLAKE3}
_LENGTHS = {1: 32, 7: 48, 8: 64, 10: 32, 11: 48, 12: 64, BLAKE3: 32}

SHA256 = 1
HASH_NAMES = tuple(_NUMBERS)
HASH_NUMBERS = tuple(_MAKERS)


@cache
def _known(number: int) -> Hash | None:
    maker = _MAKERS.get(number)
    return None if maker is None else maker()


def hash_by_number(number: int) -> Hash:
    """The algorithm of a registry number.

    Raises `RefusedAlgorithm` for the truncated ones, `Unsupported` for any other that is not known.
    """
    found = _known(number)
    if found is not None:
        return found
    if number in TRUNCATED:
        raise RefusedAlgorithm(f"hash number {number} is truncated and must not be used")
    raise Unsupported(f"hash number {number} is not known here")


def hash_by_name(name: str) -> Hash:
    """The algorithm of a name as the command line has it. Raises `ValueError`."""
    try:
        return hash_by_number(_NUMBERS[name])
    except KeyError:
        raise ValueError(f"no hash is named {name!r}; there are {', '.join(_NUMBERS)}") from None


def digest_length(number: int) -> int | None:
    """Bytes of a digest, or None where the number does not tell."""
    return _LENGTHS.get(number)
