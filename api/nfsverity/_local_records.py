# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The records of published trees on this machine, judged as a reader over the network does it: steps 0 to 12."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nfsverity_client.gates import Rules, narrowed
from nfsverity_client.marks import Judged, MarkStore, Seen, judged
from nfsverity_client.revocations import RevocationStore, accepted
from nfsverity_client.state import State
from nfsverity_client.trust_store import Bindings
from nfsverity_proto.entry import Entry, kind_of
from nfsverity_proto.errors import (
    Absent,
    Unsigned,
    VerificationError,
    WrongKind,
    WrongVolume,
)
from nfsverity_proto.hashes import HASH_NUMBERS, hash_by_number
from nfsverity_proto.marks import NO_MARKS
from nfsverity_proto.member import check_head, verify_listed, verify_member
from nfsverity_proto.path import split_path
from nfsverity_proto.record import SIGNATURE, Fingerprint, decode_record, signature_of
from nfsverity_proto.revocation import Revocations, Revoked
from nfsverity_proto.statement import Item
from nfsverity_proto.trust import TrustEntry, expected_volumes
from nfsverity_proto.verification import (
    Verified,
    accept_revocation,
    check_freshness,
    check_revoked,
    verify_head,
    verify_record,
)
from nfsverity_proto.verifier import ALL_ALGORITHMS, Certificates, Expected, Verifier
from nfsverity_store.index import ROOT_ID, IndexEntry
from nfsverity_store.layout import Head, read_head
from nfsverity_store.published import Published, open_published
from nfsverity_store.revocation import PublishedRevocation
from nfsverity_store.volume_index import VolumeEntry
from nfsverity_store.volume_view import VolumeView

from ._local_place import file_url, url_path
from ._local_volume import follow, look_up

Announce = Callable[[str, bytes], None]
"""Told the URL of a tree, and the volume that it is bound to from now on."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry of a volume that folds to its head, and the row that it was made of."""

    view: VolumeView
    head: Verified
    entry: Entry
    row: VolumeEntry


@dataclass(slots=True)
class LocalRecords:
    """The records of one published tree, judged by what this user believes. `StoreError`: its metadata is damaged.

    The expected volume is `volumes`; else what the trust entries say; else what the tree was bound to at its
    first use, which `bindings` keeps. Without `bindings` none is made; without `state` no marks are kept.
    """

    root: Path
    """Absolute, without links."""
    trust: Sequence[TrustEntry]
    volumes: frozenset[bytes] | None = None
    bindings: Bindings | None = None
    announce: Announce | None = None
    now: int | None = None
    """Unix seconds, for all files; by the clock where it is None."""
    state: State | None = None
    revoked: frozenset[Item] = frozenset()
    """Keys and versions that the user revoked."""
    refused: Callable[[VerificationError], None] | None = None
    """Told the verdict of a revocation in the tree that is not accepted; all goes on without it (fim-rev-9)."""
    head: Head = field(init=False)
    index: Published = field(init=False)
    _certificates: list[bytes] = field(init=False)
    _head: Judged | None = field(init=False, default=None)
    """Of the volume that is published now, once it was verified."""
    _older: list[Published] = field(init=False, default_factory=list)
    """Publications that something may still be gone through from."""
    _marks: MarkStore | None = field(init=False, default=None)
    _revocations: RevocationStore | None = field(init=False, default=None)
    _published: PublishedRevocation = field(init=False)
    _url: str | None = field(init=False, default=None)
    """Of the root, with a slash."""
    _offered: bytes | None = field(init=False, default=None)
    """The last revocation in the tree that was judged."""
    _stands: tuple[int, Revoked] = field(init=False)
    _stands_until: float = field(init=False, default=0.0)
    """By `time.monotonic`."""

    def __post_init__(self) -> None:
        self._published = PublishedRevocation(self.root)
        if self.state is not None:
            self._marks, self._revocations = MarkStore(self.state), RevocationStore(self.state, self.revoked)
        if self.volumes is None:
            self.volumes = expected_volumes(self.trust, self.url)
        if self.volumes is None and self.bindings is not None:
            bound = self.bindings.get(self.url)
            self.volumes = None if bound is None else frozenset({bound})
        self._open()

    def _open(self) -> None:
        self.head, self.index = open_published(self.root)
        self._head, self._stands_until = None, 0.0
        try:
            self._certificates = self.index.certificates()
        except BaseException:
            self.index.close()
            raise

    def close(self) -> None:
        for index in (*self._older, self.index):
            index.close()

    @property
    def url(self) -> str:
        """What names this tree in bindings and trust entries."""
        return file_url(os.fsencode(self.root))

    def url_of(self, path: bytes) -> str:
        if self._url is None:
            self._url = file_url(os.path.join(os.fsencode(self.root), b""))
        return self._url + url_path(path)

    def expected(self, path: bytes) -> Expected:
        return Expected(path, self.volumes, self.url_of(path))

    def certificates(self, record: bytes) -> Certificates:
        """The certificates that the tree itself carries for a record's signers. Raises `Malformed`."""
        return certificates_among(record, self._certificates)

    def refresh(self) -> bool:
        """Turn to a newer publication where there is one; whether there was."""
        if read_head(self.root) == self.head:
            return False
        previous = self.index
        self._open()
        self._older.append(previous)
        return True

    def follow(self, path: bytes) -> bytes:
        """Where a path of a volume leads to by the links that are signed; a path of another tree as it is.

        Raises `VerificationError`: `Absent` and `LinkOutside` too.
        """
        if not path or not isinstance(self.index, VolumeView):
            return path
        try:
            return follow(self.index, self.volume_head().verified, path)[0]
        except VerificationError as error:
            error.where = self.url_of(path)
            raise

    def entry(self, path: bytes) -> IndexEntry | None:
        try:
            split_path(path)
        except ValueError:  # deeper or longer than what can have a record
            return None
        return self.index.by_path(path) if path else self.index.by_id(ROOT_ID)

    def lacks_record(self, problem: Exception | None) -> bool:
        """Whether a file has no record; in a volume that had a head, that has to be proved (fim-policy-12)."""
        if isinstance(problem, Absent):
            return True
        had_head = self._marks is not None and self._marks.has_head(self.volumes or (), self.trust, self.url)
        return isinstance(problem, Unsigned) and not had_head

    def verify_record(self, path: bytes, entry: IndexEntry | None, rules: Rules = ()) -> Verified:
        """Steps 0 to 12. Binds the tree at its first use; the marks are durable when this returns.

        Raises `VerificationError`, `StateError`.
        """
        judged = self.judge(path, entry, rules)
        if self._marks is not None and judged.raised is not None:
            self._marks.flush()
            judged.raised.check()
        return judged.verified

    def judge(self, path: bytes, entry: IndexEntry | None, rules: Rules) -> Judged:
        """Steps 0 to 12. Binds the tree at its first use. Raises `VerificationError`, `StateError`."""
        if isinstance(self.index, VolumeView):
            return self.judge_member(path, entry, rules)
        if entry is None or entry.record is None:
            raise Unsigned("there is no record for it in the published tree")
        return self._judged(verify_record, entry.record, self.expected(path), rules)

    def _judged(
        self,
        verify: Callable[[bytes, Expected, Verifier], Verified],
        record: bytes,
        expected: Expected,
        rules: Rules = (),
    ) -> Judged:
        self._learn_revoked(expected)
        algorithms, allowed = narrowed(rules, ALL_ALGORITHMS, expected)
        revoked: Revocations = self._revocations or Revoked(self.revoked)
        seen = Seen(NO_MARKS if self._marks is None else self._marks)
        try:
            with contextlib.nullcontext() if self.state is None else self.state.snapshot():
                verifier = Verifier(self.trust, self.certificates(record), self._now(), algorithms, seen, revoked)
                verified = verify(record, allowed, verifier)
                for gate, rule in rules:
                    rule.check(verified, gate, verifier.now)
        except VerificationError as error:
            if self._marks is not None:
                self._marks.explain(error, record, self.url_of)
            raise
        self._bind(verified)
        if self._marks is None:
            return Judged(verified)
        return judged(self._marks, verified, expected, self.trust, seen, revoked)

    def volume_head(self) -> Judged:
        """The head of the volume, verified once. Raises `VerificationError`, `StateError`."""
        if self._head is not None:
            return self._head
        if not isinstance(self.index, VolumeView):
            raise WrongKind("the tree is no volume any more", expected="a volume", found="a record for each file")
        self._head = self._judged(verify_head, self.index.record, Expected(b"", self.volumes, self.url))
        return self._head

    def judge_listed(self, listed: Listed) -> Verified:
        """Steps 0 to 12 for a file whose entry was verified. Raises `VerificationError`, `StateError`."""
        return self.judge_member(listed.entry.path, listed, ()).verified

    def judge_member(self, path: bytes, found: IndexEntry | Listed | None, rules: Rules) -> Judged:
        """A file of the volume, under its head. Raises `VerificationError`, `StateError`."""
        head = self.volume_head()
        now, revoked = self._standing(head.verified)
        algorithms, allowed = narrowed(rules, ALL_ALGORITHMS, self.expected(path))
        if isinstance(found, Listed):
            statement = found.row.statement(hash_by_number(head.verified.statement.hash))
            verified = verify_listed(statement, found.entry, head.verified, algorithms)
        elif found is not None and found.record is not None:
            verified = verify_member(found.record, path, head.verified, algorithms)
        else:
            raise self._without_member(path, head.verified)
        check_head(head.verified, allowed, self.trust, now, algorithms)
        check_revoked(verified, revoked)
        check_freshness(revoked, now)
        for gate, rule in rules:
            rule.check(verified, gate, now)
        return Judged(verified, head.raised, head.seen_before)

    def _standing(self, head: Verified) -> tuple[int, Revoked]:
        """The time, and what is revoked of the volume: times are in seconds, so it is looked for once in one."""
        if time.monotonic() >= self._stands_until:
            self._learn_revoked(self.expected(b""))
            of_all: Revocations = self._revocations or Revoked(self.revoked)
            self._stands = self._now(), of_all.of(head.volume)
            self._stands_until = time.monotonic() + 1
        return self._stands

    def _without_member(self, path: bytes, head: Verified) -> VerificationError:
        """Why there is no file in the volume. Raises `VerificationError`."""
        view = self.index
        try:
            found = look_up(view, head, path) if isinstance(view, VolumeView) and path else None
        except ValueError:  # deeper or longer than what a volume can have
            found = None
        if found is None:
            return Absent("the volume has nothing of this name")
        return WrongKind("the volume has something else there", expected="a file", found=kind_of(found[0]))

    def _learn_revoked(self, expected: Expected) -> None:
        """Keep what a revocation in the tree revokes, durably, before anything is judged (fim-rev-15).

        Raises `StateError`, `StoreError`, `OSError`.
        """
        if self._marks is None or self._revocations is None:
            return
        record = self._published.record(self.head.volume)
        if record is None or record == self._offered:
            return
        self._offered = record
        if self._revocations.accepted(record):
            return
        try:
            certificates = certificates_among(record, self._published.certificates())
            verifier = Verifier(self.trust, certificates, self._now(), ALL_ALGORITHMS, self._marks, self._revocations)
            verified = accept_revocation(record, expected, verifier)
            raised = accepted(self._marks, self._revocations, verified, expected, self.trust)
            self._marks.flush()
            raised.check()
        except VerificationError as error:
            error.where = f"{self.url}: the revocation in the tree"
            if self.refused is not None:
                self.refused(error)  # fim-rev-9

    def _now(self) -> int:
        if self.now is not None:
            return self.now
        return int(time.time()) if self._marks is None else self._marks.now()

    def _bind(self, verified: Verified) -> None:
        if self.volumes is None and self.bindings is not None:
            volume = verified.volume
            bound = self.bindings.bind(self.url, volume)
            self.volumes = frozenset({bound})
            if bound != volume:
                raise WrongVolume("the record is of another volume", expected=bound.hex(), found=volume.hex())
            if self.announce is not None:
                self.announce(self.url, volume)


def certificates_among(record: bytes, known: Sequence[bytes]) -> Certificates:
    """Those of a record's signers, each before all others. Raises `Malformed`."""
    found: dict[Fingerprint, list[bytes]] = {}
    for attestation in decode_record(record).attestations:
        if attestation.type == SIGNATURE:
            signer = signature_of(attestation).signer
            if signer.hash not in HASH_NUMBERS:
                continue
            for der in known:
                if hash_by_number(signer.hash).digest(der) == signer.digest:
                    found[signer] = [der, *(other for other in known if other != der)]
    return found
