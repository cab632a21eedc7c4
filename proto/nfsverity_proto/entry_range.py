# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Neighbouring entries with their proof: that a name is in a volume, that it is not, or what a directory has.

All three are one object, a range of entries under the volume's root (fim, "Ranges of Entries").
"""

from __future__ import annotations

import hmac
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .entry import ENTRY, Entry, FileNode, Key, encode_entry
from .errors import Malformed, Mismatch
from .hashes import Hash
from .proof import fold, fold_unit, prove, split_hashes
from .statement import Volume
from .tree import NodeSource, height, root
from .xdr import Array, Opaque, Structure, UHyper

RANGE_ENTRIES_MAX = 1024
PROOF_MAX = 8192
"""Bytes: 128 hashes of 64, twice the greatest height."""


@dataclass(frozen=True, slots=True)
class EntryRange:
    """Entries [first, first + len(entries)) of a volume, and the range proof under its root, hashes end to end."""

    first: int
    entries: tuple[Entry, ...]
    proof: bytes


ENTRY_RANGE = Structure(EntryRange, first=UHyper, entries=Array(ENTRY, RANGE_ENTRIES_MAX), proof=Opaque(PROOF_MAX))


def verify_range(volume: Volume, hash: Hash, found: EntryRange) -> None:
    """That a range is of this volume, whose head has been verified.

    Raises `ValueError` where it is none or its proof has not the length that is due, before anything is hashed
    (fim-proof-4); `Mismatch` where it does not fold to the root; `Malformed` where the publisher signed entries
    that are out of order (fim-vol-2).
    """
    count = len(found.entries)
    if not count:
        if found.first or found.proof or volume.entries:
            raise ValueError("a range without entries, of a volume that has some")
        top = root(hash, ())
    else:
        if found.first + count > volume.entries:
            raise ValueError(f"entries [{found.first}, {found.first + count}) of {volume.entries}")
        leaves = [hash.digest(b"\0" + encode_entry(entry)) for entry in found.entries]
        if count == 1:
            top = fold_unit(hash, volume.entries, found.first, leaves[0], found.proof)
        else:
            proof = split_hashes(found.proof, hash.length)
            top = fold(hash, volume.entries, found.first, leaves, height(volume.entries), proof).top
    if not hmac.compare_digest(top, volume.root):
        raise Mismatch("entries that are not of the volume", expected=volume.root.hex(), found=top.hex())
    keys = [entry.key for entry in found.entries] if count > 1 else ()
    for low, high in itertools.pairwise(keys):
        if low >= high:
            raise Malformed("the volume has entries that are not in ascending order")
    for entry in found.entries:
        if isinstance(entry.node, FileNode) and len(entry.node.content) != hash.length:
            raise Malformed(f"the volume has an entry whose content is named by no {hash.name} hash")


def entry_at(volume: Volume, found: EntryRange, key: Key) -> Entry | None:
    """The entry at `key`, or None where the range, verified before, shows that there is none.

    Raises `ValueError` where it shows neither: both neighbours have to be in it (fim-range-3).
    """
    for at, entry in enumerate(found.entries):
        if entry.key == key:
            return entry
        if entry.key > key:
            if at or not found.first:
                return None
            raise ValueError("a range that begins behind what was asked for")
    if found.first + len(found.entries) != volume.entries:
        raise ValueError("a range that ends before what was asked for")
    return None


def children(volume: Volume, found: EntryRange, parent: bytes, after: bytes) -> tuple[Sequence[Entry], bool]:
    """The entries of a directory behind the name `after` (empty: all), as far as the range, verified before, has them.

    And whether those are the last. Raises `ValueError` where some could be missing before the first (fim-range-4).
    """
    low = parent.replace(b"/", b"\0"), after
    if found.first and found.entries[0].key > low:
        raise ValueError("a range that begins behind what was asked for")
    behind = [entry for entry in found.entries if entry.key > low]
    below = list(itertools.takewhile(lambda entry: entry.parent == parent, behind))
    is_last = len(below) < len(behind) or found.first + len(found.entries) == volume.entries
    return below, is_last


def prove_range(volume: Volume, node: NodeSource, entry: Callable[[int], Entry], first: int, end: int) -> EntryRange:
    """The range of entries [first, end) of a volume, from its nodes and entries."""
    if first == end == volume.entries == 0:
        return EntryRange(0, (), b"")
    proof = prove(node, volume.entries, first, end, height(volume.entries))
    return EntryRange(first, tuple(entry(index) for index in range(first, end)), b"".join(proof))
