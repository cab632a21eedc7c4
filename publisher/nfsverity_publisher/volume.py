# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Publishing a volume: go through its directories, put the tree over all entries together, sign its head.

As with stand-alone records, nothing that a head file names is ever changed. What is in a directory that is as it was
is taken from the publication before: its rows within the index, and the leaves that these make, once all of them have
folded to a head that one of the keys signed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

from nfsverity_proto.entry import EntryType
from nfsverity_proto.entry_range import verify_range
from nfsverity_proto.errors import NfsVerityError, VerificationError
from nfsverity_proto.hashes import SHA256, hash_by_number
from nfsverity_proto.record import SIGNATURE, Record, decode_record, encode_record, signature_of
from nfsverity_proto.statement import NO_END, Kind, Statement, Volume, When, decode_statement, encode_statement
from nfsverity_proto.tree import UNIT_LOG2_DEFAULT
from nfsverity_store.layout import DIRECTORY, TREES, Head, NotPublished
from nfsverity_store.revocation import PublishedRevocation
from nfsverity_store.volume_index import VolumeIndex
from nfsverity_store.volume_nodes import levels, root_of, write_nodes
from nfsverity_store.volume_view import VolumeView

from .content import Before, Hasher, signed_by
from .directory import Altered, Directories, Found, Progress, Terms, Told, leaves_of
from .keys import SigningKey
from .lock import PublicationError, locked
from .private import PrivateKeys
from .revocation import check_keys as check_revoked
from .transaction import (
    Form,
    Options,
    Report,
    abandon,
    check_keys,
    check_single,
    clean,
    form_of,
    identity,
    previous_head,
    put_head,
    remove_trees,
)
from .volume_workers import Plan, go_through

NOT_SIGNED = "what was published before is not by any of these keys"


@dataclass(frozen=True, slots=True)
class _Before:
    """The publication before: where its parts are, and its head."""

    index: Path
    nodes: Path
    hash: int
    record: Record
    volume: Volume

    def leaves(self, found: Mapping[bytes, Found]) -> dict[bytes, bytes]:
        """Of every directory that is not empty, in their order, end to end: the leaves of what the index has of it.

        Those of the directories in `found` are what was read there; the others' rows are read now. Raises `Altered`.
        """
        hash = hash_by_number(self.hash)
        with closing(VolumeIndex(self.index)) as index:
            rows = index.directory_rows()
            return {
                path: found[path].before if path in found else leaves_of(hash, path, rows(path))
                for path in index.directories()
            }


def _before(directory: Path, head: Head | None) -> _Before | None:
    """None where there is none, or one of another form. Raises `StoreError` for what is damaged."""
    if head is None or head.nodes is None:
        return None
    with closing(VolumeIndex(directory / head.index)) as index:
        data, _ = index.head()
        try:
            record = decode_record(data)
            statement = decode_statement(record.statement, Kind.VOLUME)
            claim = statement.claim
        except VerificationError as error:
            raise PublicationError(f"{index.path} has a head that cannot be read: {error}") from error
        if not isinstance(claim, Volume):
            raise PublicationError(f"{index.path} has a head of another kind")
        return _Before(index.path, directory / head.nodes, statement.hash, record, claim)


def publish_volume(
    root: Path,
    below: Sequence[bytes],
    keys: Sequence[SigningKey],
    options: Options,
    progress: Progress | None = None,
    private: Sequence[Path] = (),
    waiting: Callable[[], None] | None = None,
) -> Report:
    """Sign what is at `below` (paths in the tree) as part of the tree's volume, and publish it, all at once.

    `private` are the key files: a tree that holds one of them is refused. Raises `PublicationError`,
    `StoreError`, `OSError`; then nothing is published.
    """
    check_keys(root, keys, private)
    check_single(root, below, options)
    with PrivateKeys(private) as secret, locked(root / DIRECTORY, options.wait, waiting):
        return _VolumePublication(root, below, keys, options, progress, secret).run(below)


def renew(
    root: Path,
    keys: Sequence[SigningKey],
    options: Options,
    private: Sequence[Path] = (),
    waiting: Callable[[], None] | None = None,
) -> Report:
    """Sign the head of a volume anew, with other times and the same root: no file is looked at.

    Of `options`, `not_after` and `wait` count. One of the keys must have signed the present head. Raises
    `PublicationError`, `StoreError`, `OSError`; then nothing is published.
    """
    check_keys(root, keys, private)
    present = previous_head(root)
    if present is None:
        raise NotPublished(f"{root} is not a published tree: sign it first")
    if form_of(present) is not Form.VOLUME:
        raise PublicationError(f"{root} has no head to renew: it is no volume")
    with locked(root / DIRECTORY, options.wait, waiting):
        return _VolumePublication(root, [b""], keys, options, None, PrivateKeys(())).renew()


class _VolumePublication:
    """The state of one `publish_volume`."""

    def __init__(
        self,
        root: Path,
        below: Sequence[bytes],
        keys: Sequence[SigningKey],
        options: Options,
        progress: Progress | None,
        private: PrivateKeys,
    ) -> None:
        self.root = root
        self.options = options
        self.directory = root / DIRECTORY
        self.keys = keys
        self.progress = progress
        self.private = private
        self.previous = previous_head(root)
        self.before = _before(self.directory, self.previous)
        self.now = time.time_ns()
        due = identity(root, self.previous, options, Form.VOLUME, below)
        generation = max(due.generation + 1, self.now // 1000)
        self.when = When(generation, self.now // 1_000_000_000, options.not_after)
        name = f"{self.when.generation}-{os.urandom(4).hex()}"
        self.head = Head(due.volume, due.label, generation, f"index-{name}", f"nodes-{name}")
        number = options.hash or (SHA256 if self.before is None else self.before.hash)
        self.hash = hash_by_number(number)
        self.terms = Terms(number, options.unit_log2, UNIT_LOG2_DEFAULT, options.rehash, jobs=options.jobs)
        self.leaves: dict[bytes, bytes] = {}
        """By directory: what can be taken over from the publication before, once it is verified."""
        self.levels: list[bytes] = []
        """The tree over them."""
        self.report = Report(root, due.volume, due.label, due.generation)
        self.ended_before: int | None = None
        if self.before is not None and self.before.volume.when.not_after != options.not_after == NO_END:
            self.ended_before = self.report.ended_before = self.before.volume.when.not_after
        self.told: Told | None = None
        self.made: list[Path] = []
        self.new: list[Path] = []
        self.hasher: Hasher | None = None
        """Of this process: it knows what it has made of a directory that is not done."""

    def run(self, below: Sequence[bytes]) -> Report:
        check_revoked(PublishedRevocation(self.root), self.head.volume, self.keys)
        clean(self.directory, self.previous)
        self._take_over(below)
        if self.options.is_partial or self.options.replacement is not None:
            (path,) = below
            self.told = Told(
                path, self._own(path), self.options.changed, self.options.appended, self.options.replacement
            )
        try:
            try:
                found = self._find(below)
            except Altered as error:
                if list(below) != [b""]:
                    raise PublicationError(f"{self.root}: {error}: sign all of the tree") from error
                self._forget(str(error))
                found = self._find(below)
            if self.before is not None and all(one.same for one in found.values()) and self._says_the_same():
                self._count(self.before.index)
            else:
                self._publish(found)
            if list(below) != [b""]:  # only some of the directories were gone through
                files = self.report.entries - self.report.links - self.report.directories
                self.report.unchanged = max(files - self.report.signed - len(self.report.failed), 0)
        except BaseException:
            halfway = [] if self.hasher is None else self.hasher.new
            abandon(self.root, self.head, [*self.new, *halfway])
            raise
        finally:
            if self.told is not None:
                self.told.close()
        return self.report

    def _take_over(self, below: Sequence[bytes]) -> None:
        """Find out whether the publication before can be signed again without a look at the files."""
        if self.before is None:
            return
        if not signed_by(self.before.record, self.keys):
            if list(below) != [b""]:
                raise PublicationError(f"{self.root}: {NOT_SIGNED}: sign all of the tree")
            self._forget(NOT_SIGNED)
            return
        if self.before.hash != self.hash.number and list(below) != [b""]:
            raise PublicationError(f"{self.root}: another hash is for all of the tree: sign all of it")
        self.terms = replace(self.terms, known_hash=self.before.hash)

    def _forget(self, why: str) -> None:
        """Nothing of the publication before is used, nor of what was found when it was."""
        self.before = None
        self.terms = replace(self.terms, known_hash=None)
        self.leaves, self.levels = {}, []
        self.report = Report(self.root, self.report.volume, self.report.label, self.report.generation)
        self.report.ended_before = self.ended_before
        self.report.whole.append((b"", why))

    def _find(self, below: Sequence[bytes]) -> dict[bytes, Found]:
        """What is in the tree, and that what is known of it was signed by one of the keys.

        Whoever can write to the metadata can have put something else there. So the rows that are used again make
        leaves, and nothing is done with what was found before those of all rows have folded to the head (fim-st-3).
        Raises `Altered`.
        """
        found = {one.path: one for one in self._go_through(below)}
        if self.before is not None:
            hash = hash_by_number(self.before.hash)
            self.leaves = self.before.leaves(found)
            every = b"".join(self.leaves.values())
            claim = self.before.volume
            if len(every) != claim.entries * hash.length:
                raise Altered("what was published before was altered")
            self.levels = levels(hash, every)
            if root_of(hash, self.levels) != claim.root:
                raise Altered("what was published before was altered")
        return found

    def renew(self) -> Report:
        """The present head again, with other times."""
        if self.previous is None or self.before is None:
            raise PublicationError(f"{self.root} has no head to renew: it is no volume")
        check_revoked(PublishedRevocation(self.root), self.head.volume, self.keys)
        volume = self.before.volume
        if not signed_by(self.before.record, self.keys):
            raise PublicationError(f"{self.root}: none of the keys has signed the head that is to be renewed")
        if (volume.volume, volume.label, volume.when.generation) != (
            self.previous.volume,
            self.previous.label,
            self.previous.generation,
        ):
            raise PublicationError(f"{self.root}: the head is not of this tree")
        clean(self.directory, self.previous)
        target = self.directory / self.head.index
        try:
            shutil.copyfile(self.before.index, target)
            try:
                os.link(self.before.nodes, self._nodes)
            except OSError:  # a file system without hard links
                shutil.copyfile(self.before.nodes, self._nodes)
            with closing(VolumeIndex(target, writable=True)) as index:
                index.begin()
                self._put_certificates(index)
                self._put_head(index, volume.entries, volume.root)
                index.commit()
            put_head(self.root, self.head, [target, self._nodes])
        except BaseException:
            abandon(self.root, self.head, ())
            raise
        self.report.generation = self.head.generation
        self._count(target)
        self.report.unchanged = self.report.entries - self.report.links - self.report.directories
        return self.report

    def _own(self, path: bytes) -> Before | None:
        """What a file held when it was signed, if the present head has it and one of the keys signed that head."""
        if self.before is None or not signed_by(self.before.record, self.keys) or self.previous is None:
            return None
        try:
            with closing(VolumeView(self.root, self.previous)) as view:
                found = view.at(path)
                if found is None or not found.is_file or view.volume != self.before.volume:
                    return None
                verify_range(view.volume, view.hash, view.range([found]))
                return Before(view.hash.number, found.tree, view.kept_tree(found))
        except (NfsVerityError, ValueError):
            return None

    def _count(self, path: Path) -> None:
        with closing(VolumeIndex(path)) as index:
            counts = index.counts()
        self.report.entries = sum(counts.values())
        self.report.links = counts.get(EntryType.LINK, 0)
        self.report.directories = counts.get(EntryType.DIRECTORY, 0)

    def _go_through(self, below: Sequence[bytes]) -> Iterable[Found]:
        plan: Plan = {}
        for path in below:
            names = path.split(b"/") if path else []
            for depth, name in enumerate(names):
                wanted = plan.setdefault(b"/".join(names[:depth]), set())
                if wanted is not None:
                    wanted.add(name)
            if not names:
                plan[b""] = None
        previous = None if self.before is None else self.before.index
        directories = Directories(self.root, previous, self.terms, self.private, progress=self.progress, told=self.told)
        self.hasher = directories.hasher
        for one in go_through(directories, plan):
            self._take(one)
            yield one

    def _take(self, one: Found) -> None:
        report = self.report
        report.signed += one.signed
        report.unchanged += one.unchanged
        report.removed += one.removed
        report.bytes_hashed += sum(size for _, size in one.hashed)
        report.skipped += one.skipped
        report.failed += one.failed
        report.changes += one.changes
        report.whole += one.whole
        self.made += one.made
        self.new += one.new

    def _says_the_same(self) -> bool:
        """Whether a head that would be made now says what the present one does, times apart."""
        if self.before is None or self.previous is None:
            return False
        claim = self.before.volume
        signers = sorted(key.certificate.fingerprint.digest for key in self.keys)
        signatures = [signature_of(found) for found in self.before.record.attestations if found.type == SIGNATURE]
        signed = sorted(signature.signer.digest for signature in signatures)
        wanted = (self.head.volume, self.head.label, self.when.not_after, self.hash.number, signers)
        return (claim.volume, claim.label, claim.when.not_after, self.before.hash, signed) == wanted

    # putting it together

    def _publish(self, found: dict[bytes, Found]) -> None:
        target = self.directory / self.head.index
        if self.before is not None:
            shutil.copyfile(self.before.index, target)
        index = VolumeIndex(target, writable=True)
        try:
            if self.before is None:
                index.create()
            index.begin()
            places, removed = self._places(found)
            self._put_rows(index, found, places, removed)
            entries, root = self._put_nodes(found, places)
            self._put_certificates(index)
            self._put_head(index, entries, root)
            index.commit()
            used = index.kept_trees()
        finally:
            index.close()
        trees = self.directory / TREES
        moving = None if self.told is None else self.told.moving
        put_head(self.root, self.head, [*self.made, trees, target, self._nodes], moving)
        self.report.generation = self.head.generation
        self._count(target)
        remove_trees(self.directory, used, self.previous)

    def _put_certificates(self, index: VolumeIndex) -> None:
        for key in self.keys:
            for der in (key.certificate.der, *key.issuers):
                index.put_certificate(hashlib.sha256(der).digest(), der)

    def _put_head(self, index: VolumeIndex, entries: int, root: bytes) -> None:
        claim = Volume(self.head.volume, self.head.label, self.when, entries, root)
        statement = encode_statement(Statement(self.hash.number, claim))
        index.put_head(encode_record(statement, [key.sign(statement) for key in self.keys]), self.hash.number)

    @property
    def _nodes(self) -> Path:
        return self.directory / (self.head.nodes or "")

    def _places(self, found: dict[bytes, Found]) -> tuple[dict[bytes, tuple[int, int]], list[bytes]]:
        """Every directory that has entries, in order: the position of its first, and how many. And those gone."""
        old = self._counts()
        places: dict[bytes, tuple[int, int]] = {}
        alive: set[bytes] = set()
        removed: list[bytes] = []
        at = 0
        for path in sorted(old.keys() | found.keys(), key=lambda path: path.replace(b"/", b"\0")):
            parent, _, name = path.rpartition(b"/")
            above = found.get(parent) if path else None
            if path and (parent not in alive or (above is not None and not above.same and name not in above.below)):
                removed.append(path)
                continue
            alive.add(path)
            one = found.get(path)
            count = old.get(path, 0) if one is None or one.same else len(one.rows)
            if count:
                places[path] = at, count
            elif path in old:
                removed.append(path)
            at += count
        return places, removed

    def _counts(self) -> dict[bytes, int]:
        """By directory, how many entries the publication before has in it."""
        if self.before is None:
            return {}
        length = hash_by_number(self.before.hash).length
        return {path: len(leaves) // length for path, leaves in self.leaves.items()}

    def _put_rows(
        self, index: VolumeIndex, found: dict[bytes, Found], places: dict[bytes, tuple[int, int]], removed: list[bytes]
    ) -> None:
        old = dict(zip(self.leaves, accumulate(self._counts().values(), initial=0), strict=False))
        for path in removed:
            if path not in found:
                self.report.removed += index.count_files(path)
            index.remove_all_in(path)
        moved: list[tuple[bytes, bytes, int]] = []
        """Runs of neighbouring directories whose rows stay: the first, the last, and by how much they move."""
        open_run = False
        for path, (first, _) in places.items():
            one = found.get(path)
            if one is not None and not one.same:
                index.remove_all_in(path)
                index.put(path, first, one.rows)
                index.put_trees(one.trees)
                open_run = False
                continue
            by = first - old[path]
            if open_run and moved[-1][2] == by:
                moved[-1] = moved[-1][0], path, by
            else:
                moved.append((path, path, by))
            open_run = True
        for low, high, by in moved:
            if by:
                index.move(low, high, by)

    def _put_nodes(self, found: dict[bytes, Found], places: dict[bytes, tuple[int, int]]) -> tuple[int, bytes]:
        """The number of entries, and the root."""
        leaves: list[bytes] = []
        is_same_hash = self.terms.known_hash == self.hash.number
        for path in places:
            one = found.get(path)
            if one is not None and not one.same:
                leaves.append(one.leaves)
            elif is_same_hash:
                leaves.append(self.leaves[path])
            else:
                raise PublicationError("another hash needs all of the tree to be signed")
        every = b"".join(leaves)
        made = levels(self.hash, every, self.levels if is_same_hash else ())
        write_nodes(self._nodes, made)
        return len(every) // self.hash.length, root_of(self.hash, made)
