# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What a verifier that remembers says to one statement after the other: steps 8, 11 and 12, from its whole history.

Nothing is summed up: each question is answered from the list of all that was accepted. One volume, and one path.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

Key = str
Item = tuple[str, str]
"""("key", which) or ("version", which)."""


@dataclass(frozen=True)
class Version:
    """A statement: its name, who signed it, and when it is claimed. `items` are None for a file."""

    name: str
    signers: frozenset[Key]
    generation: int
    issued: int
    not_after: int
    items: frozenset[Item] | None = None


@dataclass
class Reader:
    """One who pins all keys, keeps marks, and has one clock."""

    now: int
    history: list[tuple[Version, frozenset[Key]]] = field(default_factory=list)
    """All that was accepted, and the signers that were believed then."""

    def judge(self, version: Version) -> str:
        believed = frozenset(key for key in version.signers if ("key", key) not in self.revoked())
        verdict = self._verdict(version, believed)
        if verdict == "verified" or (verdict == "record-expired" and version.items is not None):
            self.history.append((version, believed))
        return verdict

    def revoked(self) -> set[Item]:
        return {item for version, _ in self.history for item in version.items or ()}

    def _verdict(self, version: Version, believed: frozenset[Key]) -> str:
        if not believed:
            return "revoked"
        if ("version", version.name) in self.revoked():
            return "revoked"
        revoked = self.revoked() | (version.items or frozenset())
        is_file = version.items is None
        earlier = list(self._counting(revoked, is_file))
        if any(version.generation < other.generation for other in earlier):
            return "rollback"
        if any(version.generation == other.generation and version.name != other.name for other in earlier):
            return "equivocation"
        for last in self._latest(revoked):
            if not is_file and not (last.items or frozenset()) <= (version.items or frozenset()):
                return "rollback"
        if version.issued > self.now + 300:
            return "issued-in-future"
        limits = [version.not_after]
        if is_file and (latest := list(self._latest(revoked))):
            limits.append(max(latest, key=lambda last: last.generation).not_after)
        return "record-expired" if self.now > min(limits) else "verified"

    def _counting(self, revoked: set[Item] | frozenset[Item], is_file: bool) -> Iterator[Version]:
        """What was accepted of the same kind from a key that is not revoked."""
        for version, believed in self.history:
            if (version.items is None) == is_file and any(("key", key) not in revoked for key in believed):
                yield version

    def _latest(self, revoked: set[Item] | frozenset[Item]) -> Iterator[Version]:
        """The last revocation of each key that is not revoked."""
        for key in sorted({key for _, believed in self.history for key in believed}):
            last = [version for version, believed in self.history if key in believed and version.items is not None]
            if last and ("key", key) not in revoked:
                yield last[-1]
