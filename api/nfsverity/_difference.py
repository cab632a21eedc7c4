# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What two trees are compared by, and what is said of each name in them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from nfsverity_client import diff as trees
from nfsverity_client.diff import Incomparable, Range, TreeSource
from nfsverity_proto.entry import EntryType, Key, Node
from nfsverity_proto.errors import Mismatch
from nfsverity_proto.hashes import Hash, hash_by_number
from nfsverity_proto.statement import Item
from nfsverity_proto.tree import Shape, root
from nfsverity_proto.verification import Verified


class State(StrEnum):
    """What became of one name."""

    SAME = "same"
    CHANGED = "changed"
    """The content of a file, or where a link leads."""
    MODE = "mode"
    """The same content; only one of the two is executable."""
    ADDED = "added"
    """Only B has it."""
    REMOVED = "removed"
    """Only A has it."""
    INCOMPARABLE = "incomparable"
    """Of one size, and signed with different hashes, unit sizes or trees: perhaps the same, perhaps not."""
    FAILED = "failed"
    """Something did not verify, or could not be asked for."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a file: its record, which verified, and its tree."""

    url: str
    verified: Verified
    tree: TreeSource


@dataclass(frozen=True, slots=True)
class FileDifference:
    """One file of two trees; of two volumes also one link or directory. What changed its type is removed, and added."""

    path: bytes
    """Below the directories that are compared."""
    state: State
    a: Verified | None
    """The version of a file; of a link or directory, the head of its volume. None where there is none."""
    b: Verified | None
    ranges: tuple[Range, ...] | None = None
    """Where they were asked for and can be told; empty where the content is the same."""
    error: Exception | None = None
    type: EntryType = EntryType.FILE
    targets: tuple[bytes | None, bytes | None] = (None, None)
    """Of a link, where it leads in A and in B."""

    @property
    def is_file(self) -> bool:
        return self.type is EntryType.FILE


@dataclass(frozen=True, slots=True)
class Found:
    """One entry of a volume that is compared, verified."""

    key: Key
    """Below the directory that is compared."""
    path: bytes
    node: Node
    head: Verified
    verified: Verified | None = None
    """Of a file. None where that is still to be asked for."""
    error: Exception | None = None
    """Why a file does not verify."""


class Volume(Protocol):
    """A directory of a volume, served or on this machine."""

    async def head(self) -> Verified | None:
        """The head, verified; None where it is no volume. Raises `VerificationError`, `StatusError`, `PeerError`."""

    async def covers_all(self) -> bool:
        """Whether this is the root of the volume."""

    def entries(self) -> AsyncGenerator[Found, None]:
        """All that is below the directory, in the order of the volume. Raises as `head`, also in the middle."""

    async def version(self, below: bytes) -> Version:
        """A file. Raises `VerificationError`, `StatusError`, `PeerError`, `StoreError`, `OSError`."""

    @property
    def revoked(self) -> frozenset[Item]:
        """What the user revoked."""


@dataclass(frozen=True, slots=True)
class SignedRoot:
    """What a statement says of a tree: a `Root`. Raises `Mismatch` for an empty file that has not the root of one."""

    type: int
    shape: Shape
    hash: Hash
    root: bytes

    def __post_init__(self) -> None:
        if self.shape.units == 0 and self.root != root(self.hash, ()):
            expected, found = self.root.hex(), root(self.hash, ()).hex()
            raise Mismatch("an empty file has another root", expected=expected, found=found)


def signed_root(verified: Verified) -> SignedRoot:
    """Raises `Mismatch`."""
    tree = verified.content.tree
    return SignedRoot(tree.type, tree.shape, hash_by_number(verified.statement.hash), tree.root)


def state_of(one: Verified, other: Verified) -> State:
    """Of two versions of a file, by what is signed. Raises `Mismatch`."""
    a, b = signed_root(one), signed_root(other)
    try:
        same = trees.same_content(a, b)
    except Incomparable:
        return State.INCOMPARABLE if a.shape.size == b.shape.size else State.CHANGED
    if not same:
        return State.CHANGED
    return State.SAME if one.file.executable == other.file.executable else State.MODE
