# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What is revoked (fim, "Revocation"): keys and versions that verification does not accept any more.

Pure: the caller keeps what was accepted, on durable storage, and gives it to the next verification.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from .hashes import hash_by_number
from .statement import NO_END, PUBLIC_KEY, VERSION, Item, Revocation, Tag


@dataclass(frozen=True, slots=True)
class Accepted:
    """What is kept of a revocation that was accepted."""

    generation: int
    not_after: int
    items: frozenset[Item]


@dataclass(frozen=True)
class Revoked:
    """The keys and versions that are revoked for one volume. As `Revocations`, it holds for all of them."""

    items: frozenset[Item] = frozenset()
    """Of all revocations that were ever accepted, and of the user's own list."""
    latest: Mapping[bytes, Accepted] = field(default_factory=dict)
    """By the SubjectPublicKeyInfo of each signer: the latest revocation that was accepted from it."""

    def of(self, volume: bytes) -> Revoked:
        return self

    @cached_property
    def _hashes(self) -> frozenset[int]:
        return frozenset(item.hash for item in self.items if item.what == PUBLIC_KEY)

    def key(self, spki: bytes) -> bool:
        """Whether a public key is revoked. Raises as `hash_by_number` does, for items that cannot be compared."""
        return any(Item(PUBLIC_KEY, hash, hash_by_number(hash).digest(spki)) in self.items for hash in self._hashes)

    def tag(self, tag: Tag) -> bool:
        """Whether a version is revoked."""
        return Item(VERSION, tag.hash, tag.digest) in self.items

    @property
    def not_after(self) -> int:
        """Until when the latest revocation holds that has a signer who is not revoked (fim-rev-12)."""
        latest = max(self.counting(), key=lambda accepted: accepted.generation, default=None)
        return NO_END if latest is None else latest.not_after

    def counting(self) -> Iterable[Accepted]:
        """The accepted revocations of keys that are not revoked (fim-rev-8)."""
        return (accepted for key, accepted in self.latest.items() if not self.key(key))

    def joined(self, items: Iterable[Item]) -> Revoked:
        """With more items, as those of the user's own list."""
        return Revoked(self.items | frozenset(items), self.latest)

    def after(self, revocation: Revocation, keys: Iterable[bytes]) -> Revoked:
        """What is revoked once a revocation was accepted that these keys signed. Nothing is ever taken out."""
        when, items = revocation.when, frozenset(revocation.items)
        accepted = Accepted(when.generation, when.not_after, items)
        return Revoked(self.items | items, {**self.latest, **dict.fromkeys(keys, accepted)})


class Revocations(Protocol):
    """Where verification finds what is revoked."""

    def of(self, volume: bytes) -> Revoked:
        """For a volume, with what the user revoked for all of them."""


NOTHING_REVOKED = Revoked()


def key_item(spki: bytes, hash: int) -> Item:
    """The item that revokes a public key, given as the DER of its SubjectPublicKeyInfo (fim-rev-3)."""
    return Item(PUBLIC_KEY, hash, hash_by_number(hash).digest(spki))


def version_item(tag: Tag) -> Item:
    """The item that revokes a version."""
    return Item(VERSION, tag.hash, tag.digest)
