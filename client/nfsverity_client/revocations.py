# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What is revoked, as this user knows it (fim, "Revocation").

    revoked.json  in the user's configuration directory: what the user revoked, for all volumes
    state.db      in the user's state directory: what revocations said that were accepted, each for its volume

What was accepted only grows: a revocation is judged by what those before it said (fim-rev-7), and nothing that a
server does or leaves out takes an item away again.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nfsverity_proto.errors import Malformed, VerificationError
from nfsverity_proto.hashes import hash_by_name, hash_by_number
from nfsverity_proto.marks import Marks, to_raise
from nfsverity_proto.record import decode_record
from nfsverity_proto.revocation import NOTHING_REVOKED, Accepted, Revoked
from nfsverity_proto.statement import PUBLIC_KEY, VERSION, Item, Kind, Revocation, decode_statement
from nfsverity_proto.trust import TrustEntry
from nfsverity_proto.verification import Verified, check_successor, check_version
from nfsverity_proto.verifier import Expected

from .marks import MarkStore, Raise, number_of, row_sum
from .state import State
from .trust_store import ListFile, TrustStoreError, config_directory, now_text, object_fields, text_field

WHAT_NAMES = {PUBLIC_KEY: "key", VERSION: "version"}


@dataclass(frozen=True, slots=True)
class ListedItem:
    """What the user revoked."""

    item: Item
    note: str
    """For people: the subject of the certificate, say."""
    added: str
    """When (RFC 3339, UTC)."""


class RevokedList:
    """The user's own list, which holds for all volumes. Raises `TrustStoreError` or `OSError`, never skips an item."""

    def __init__(self, directory: Path | None = None) -> None:
        self._file = ListFile((directory or config_directory()) / "revoked.json", "items")

    @property
    def path(self) -> Path:
        return self._file.path

    def items(self) -> frozenset[Item]:
        return frozenset(listed.item for listed in self.listed())

    def listed(self) -> list[ListedItem]:
        """In the order in which they were added."""
        found = []
        for number, value in enumerate(self._file.load(), 1):
            try:
                found.append(_listed_item(value))
            except ValueError as error:
                raise self._file.damaged(f"item {number}: {error}") from error
        return found

    def add(self, items: Iterable[tuple[Item, str]]) -> list[ListedItem]:
        """Those that were not there yet; they are there durably."""
        with self._file.locked():
            present = {listed.item for listed in self.listed()}
            new = {item: ListedItem(item, note, now_text()) for item, note in items if item not in present}
            if new:
                self._file.replace([*self._file.load(), *(_listed_value(listed) for listed in new.values())])
        return list(new.values())

    def remove(self, items: Iterable[Item]) -> list[ListedItem]:
        """Those that were there. Raises `TrustStoreError` where one was not."""
        gone = frozenset(items)
        with self._file.locked():
            present = self.listed()
            for item in sorted(gone - {listed.item for listed in present}):
                raise TrustStoreError(f"{self.path} has no {item_text(item)}")
            self._file.replace([_listed_value(listed) for listed in present if listed.item not in gone])
        return [listed for listed in present if listed.item in gone]


class RevocationStore:
    """All that is revoked for this user. It is what `nfsverity_proto.verification` takes as revocations.

    Everything raises `StateError`. Safe to use by many threads.
    """

    def __init__(self, state: State, own: frozenset[Item] = frozenset()) -> None:
        self.state = state
        self._own = own
        self._version: int | None = None
        self._known: dict[bytes, Revoked] = {}

    def of(self, volume: bytes) -> Revoked:
        """For a volume, with what the user revoked for all of them."""
        with self.state.reading() as connection:
            if connection is None:
                return Revoked(self._own) if self._own else NOTHING_REVOKED
            (version,) = connection.execute("PRAGMA data_version").fetchone()
            if version != self._version:  # somebody has changed something since
                self._version, self._known = version, {}
            if volume not in self._known:
                self._known[volume] = self._of(connection, volume)
            return self._known[volume]

    def _of(self, connection: sqlite3.Connection, volume: bytes) -> Revoked:
        items = frozenset(item for item, _ in self._items(connection, volume))
        rows = connection.execute(
            "SELECT value, record FROM revocation JOIN signer ON signer.id = signer WHERE volume = ?", (volume,)
        ).fetchall()
        latest = {key: self._accepted(record) for key, record in rows}
        return Revoked(items | self._own, latest) if items or latest or self._own else NOTHING_REVOKED

    def _items(self, connection: sqlite3.Connection, volume: bytes) -> list[tuple[Item, int]]:
        found = []
        text = "SELECT what, hash, digest, since, sum FROM revoked WHERE volume = ? ORDER BY what, hash, digest"
        for what, hash, digest, since, sum in connection.execute(text, (volume,)):
            if sum != row_sum(volume, what, hash, digest, since):
                raise self.state.damaged("a revoked item is not what was written")
            found.append((Item(what, hash, digest), since))
        return found

    def _accepted(self, record: bytes) -> Accepted:
        revocation = self._decoded(record)
        when = revocation.when
        return Accepted(when.generation, when.not_after, frozenset(revocation.items))

    def _decoded(self, record: bytes) -> Revocation:
        try:
            claim = decode_statement(decode_record(record).statement, Kind.REVOCATION).claim
        except Malformed as error:
            raise self.state.damaged("a revocation is not what was written") from error
        if not isinstance(claim, Revocation):
            raise self.state.damaged("what was kept as a revocation is none")
        return claim

    def known(self, volume: bytes) -> bytes | None:
        """The record of the latest revocation that was accepted for a volume."""
        with self.state.reading() as connection:
            if connection is None:
                return None
            rows = connection.execute("SELECT record FROM revocation WHERE volume = ?", (volume,)).fetchall()
        return max((row[0] for row in rows), key=lambda record: self._decoded(record).when.generation, default=None)

    def accepted(self, record: bytes) -> bool:
        """Whether a revocation with the statement of this record was accepted before: it is not judged again."""
        with self.state.reading() as connection:
            if connection is None:
                return False
            rows = connection.execute("SELECT record FROM revocation").fetchall()
        try:
            statement = decode_record(record).statement
        except Malformed:
            return False
        return any(decode_record(row[0]).statement == statement for row in rows)

    def keep(self, verified: Verified) -> Callable[[sqlite3.Connection], None]:
        """What is to be done in the change that raises the marks of a revocation."""
        revocation, keys = verified.revocation, [signer.certificate.key_id() for signer in verified.signers]

        def change(connection: sqlite3.Connection) -> None:
            now = int(time.time())
            for item in revocation.items:
                values = (revocation.volume, item.what, item.hash, item.digest, now)
                text = "INSERT INTO revoked VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
                connection.execute(text, (*values, row_sum(*values)))
            for key in keys:
                signer = number_of(connection, "signer", key, {})
                text = "INSERT OR REPLACE INTO revocation VALUES (?, ?, ?, ?)"
                connection.execute(text, (revocation.volume, signer, verified.data, now))

        return change

    def of_volume(self, volume: bytes) -> list[tuple[Item, int]]:
        """Every item that was accepted for a volume, and since when (Unix seconds)."""
        return self.all().get(volume, [])

    def all(self) -> dict[bytes, list[tuple[Item, int]]]:
        """Every item that was accepted, by volume, and since when (Unix seconds)."""
        with self.state.reading() as connection:
            if connection is None:
                return {}
            volumes = connection.execute("SELECT DISTINCT volume FROM revoked ORDER BY volume").fetchall()
            return {volume: self._items(connection, volume) for (volume,) in volumes}

    def drop(self, volume: bytes) -> int:
        """Forget all that was accepted as revoked for a volume; how many items. For the user to decide (fim-rev-10)."""
        with self.state.changing() as connection:
            gone = connection.execute("DELETE FROM revoked WHERE volume = ?", (volume,)).rowcount
            connection.execute("DELETE FROM revocation WHERE volume = ?", (volume,))
            connection.execute("DELETE FROM mark WHERE volume = ? AND kind = ?", (volume, int(Kind.REVOCATION)))
            return gone


def accepted(
    marks: MarkStore, revocations: RevocationStore, verified: Verified, expected: Expected, trust: Sequence[TrustEntry]
) -> Raise:
    """A revocation that `accept_revocation` let pass: what it raises and what it revokes waits for the next change."""

    def again(marks: Marks) -> None:
        known = revocations.of(verified.volume)
        own = known.joined(verified.revocation.items)
        check_version(verified, expected, trust, marks, known, own)
        check_successor(verified.revocation, own)

    return marks.soon(Raise(again, to_raise(verified), verified.when.issued, revocations.keep(verified)))


def item_text(item: Item) -> str:
    """As `nfsverity trust revoke` takes it."""
    name = WHAT_NAMES.get(item.what, str(item.what))
    return f"{name}:{_hash_name(item.hash)}:{item.digest.hex()}"


def parse_item(text: str) -> Item:
    """From `key:HASH:DIGEST` or `version:HASH:DIGEST`; SHA-256 where no hash is named. Raises `ValueError`."""
    parts = text.split(":")
    kinds = {name: what for what, name in WHAT_NAMES.items()}
    if len(parts) not in (2, 3) or parts[0] not in kinds:
        raise ValueError(f"{text!r} is not key:DIGEST or version:DIGEST (key:HASH:DIGEST where it is not SHA-256)")
    hash = hash_by_name(parts[1] if len(parts) == 3 else "sha256")
    try:
        return Item(kinds[parts[0]], hash.number, bytes.fromhex(parts[-1]))
    except ValueError:
        raise ValueError(f"{parts[-1]!r} is no digest of {hash.name}: {2 * hash.length} hexadecimal digits") from None


def _hash_name(number: int) -> str:
    """The number itself where it is not known: the tag of a version is compared without its hash."""
    try:
        return hash_by_number(number).name
    except VerificationError:
        return str(number)


_ITEM_FIELDS = {"what", "hash", "digest", "note", "added"}


def _listed_value(listed: ListedItem) -> Mapping[str, Any]:
    item = listed.item
    return {
        "what": WHAT_NAMES[item.what],
        "hash": _hash_name(item.hash),
        "digest": item.digest.hex(),
        "note": listed.note,
        "added": listed.added,
    }


def _listed_item(value: Any) -> ListedItem:
    """Raises `ValueError`."""
    fields = object_fields(value, _ITEM_FIELDS)
    what, hash, digest, note, added = (text_field(fields, name) for name in ("what", "hash", "digest", "note", "added"))
    return ListedItem(parse_item(f"{what}:{hash}:{digest}"), note, added)
