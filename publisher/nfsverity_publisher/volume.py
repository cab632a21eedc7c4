# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Publishing a volume: go through its directories, put the tree over all entries together, sign its head.

As with stand-alone records, nothing that a head file names is ever changed. What is in a directory that is as it was
is taken from the publication before: its rows within the index, and the leaves of the tree, once the notes of all of
it are those of a head that one of the keys signed.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from nfsverity_proto.entry import EntryType
from nfsverity_proto.entry_range import verify_range
from nfsverity_proto.errors import NfsVerityError
from nfsverity_proto.hashes import SHA256, hash_by_number
from nfsverity_proto.record import encode_record
from nfsverity_proto.statement import (
    NO_END,
    NOTES,
    Extension,
    Statement,
    Volume,
    When,
    encode_statement,
)
from nfsverity_proto.tree import UNIT_LOG2_DEFAULT
from nfsverity_store.layout import DIRECTORY, TREES, Head, NotPublished, StoreError, copy_part, file_digest
from nfsverity_store.revocation import PublishedRevocation
from nfsverity_store.volume_index import DirectoryNote, VolumeIndex
from nfsverity_store.volume_nodes import levels, root_of, write_nodes
from nfsverity_store.volume_view import VolumeView

from .content import Before, signed_by
from .directory import Directories, Progress
from .found import Found, Terms, Told
from .keys import SigningKey
from .lock import PublicationError, locked
from .notes import Altered, Notes, digest_of, first_of
from .private import PrivateKeys
from .replacement import Replacement
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
from .volume_before import volume_before
from .volume_workers import Plan, go_through

OF_OTHER = "what was published before is of another volume"
NOT_SIGNED = "what was published before is not by any of these keys"


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
        self.before = volume_before(self.directory, self.previous)
        if self.before is not None and self.previous is not None:
            self.before.check(self.previous)
        self.now = time.time_ns()
        due = identity(root, self.previous, options, Form.VOLUME, below)
        generation = max(due.generation + 1, self.now // 1000)
        self.when = When(generation, self.now // 1_000_000_000, options.not_after)
        name = f"{self.when.generation}-{os.urandom(4).hex()}"
        self.head = Head(due.volume, due.label, generation, f"index-{name}", f"nodes-{name}")
        number = options.hash or (SHA256 if self.before is None else self.before.hash)
        self.hash = hash_by_number(number)
        self.terms = Terms(number, options.unit_log2, UNIT_LOG2_DEFAULT, options.rehash, jobs=options.jobs)
        self.notes: Notes | None = None
        """What can be taken over from the publication before."""
        self.levels: list[bytes] = []
        """The tree over all of its entries."""
        self.index: VolumeIndex | None = None
        """The new one, once there is something to put in."""
        self.parts: list[Path] = []
        """Indexes of what several processes found."""
        self.report = Report(root, due.volume, due.label, due.generation)
        self.ended_before: int | None = None
        if self.before is not None and self.before.volume.when.not_after != options.not_after == NO_END:
            self.ended_before = self.report.ended_before = self.before.volume.when.not_after
        self.told: Told | None = None
        self.made: list[Path] = []

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
                self._read_before()
                found = self._go_through(below)
            except Altered as error:
                if list(below) != [b""]:
                    raise PublicationError(f"{self.root}: {error}: sign all of the tree") from error
                self._forget(str(error))
                found = self._go_through(below)
            if self.before is not None and all(one.same for one in found.values()) and self._says_the_same():
                self._count(self.before.index)
            else:
                self._publish(found)
            if list(below) != [b""]:  # only some of the directories were gone through
                files = self.report.entries - self.report.links - self.report.directories
                self.report.unchanged = max(files - self.report.signed - len(self.report.failed), 0)
        except BaseException:
            self._close()
            abandon(self.root, self.head, self.previous)
            raise
        finally:
            self._close()
            if self.told is not None:
                self.told.close()
        return self.report

    def _take_over(self, below: Sequence[bytes]) -> None:
        """Find out whether the publication before can be signed again without a look at the files."""
        if self.before is None:
            return
        of_other = self.before.volume.volume != self.head.volume
        why = OF_OTHER if of_other else None if signed_by(self.before.record, self.keys) else NOT_SIGNED
        if why is not None:
            if list(below) != [b""]:
                raise PublicationError(f"{self.root}: {why}: sign all of the tree")
            self._forget(why)
            return
        if self.before.hash != self.hash.number and list(below) != [b""]:
            raise PublicationError(f"{self.root}: another hash is for all of the tree: sign all of it")

    def _read_before(self) -> None:
        """Raises `Altered`."""
        if self.before is not None:
            self.notes, self.levels = self.before.read()

    def _forget(self, why: str) -> None:
        """Nothing of the publication before is used, nor of what was found when it was."""
        self._close()
        (self.directory / self.head.index).unlink(missing_ok=True)
        self.before = self.notes = None
        self.levels = []
        self.report = Report(self.root, self.report.volume, self.report.label, self.report.generation)
        self.report.ended_before = self.ended_before
        self.report.whole.append((b"", why))

    def renew(self) -> Report:
        """The present head again, with other times."""
        if self.previous is None or self.before is None:
            raise PublicationError(f"{self.root} has no head to renew: it is no volume")
        check_revoked(PublishedRevocation(self.root), self.head.volume, self.keys)
        volume = self.before.volume
        if not signed_by(self.before.record, self.keys):
            raise PublicationError(f"{self.root}: none of the keys has signed the head that is to be renewed")
        try:
            self._read_before()
        except Altered as error:
            raise PublicationError(f"{self.root}: {error}: sign all of the tree") from error
        clean(self.directory, self.previous)
        target = self.directory / self.head.index
        try:
            copy_part(self.before.index, target)
            try:
                os.link(self.before.nodes, self._nodes)
            except OSError:  # a file system without hard links
                copy_part(self.before.nodes, self._nodes)
            with closing(VolumeIndex(target, writable=True)) as index:
                index.begin()
                self._put_certificates(index)
                self._put_head(index, volume.entries, volume.root, self.before.extension)
                index.commit()
            self._put_in_place([target, self._nodes])
        except BaseException:
            abandon(self.root, self.head, self.previous)
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
        except (NfsVerityError, ValueError, TypeError, OverflowError, struct.error):  # whatever the index holds
            return None

    def _count(self, path: Path) -> None:
        with closing(VolumeIndex(path)) as index:
            counts = index.counts()
        self.report.entries = sum(counts.values())
        self.report.links = counts.get(EntryType.LINK, 0)
        self.report.directories = counts.get(EntryType.DIRECTORY, 0)

    def _go_through(self, below: Sequence[bytes]) -> dict[bytes, Found]:
        """Directories, but for those that look as they did."""
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
        directories = Directories(
            self.root, previous, self.terms, self.private, self.notes, progress=self.progress, told=self.told
        )
        found: dict[bytes, Found] = {}
        parts = self.directory / self.head.index if self.before is None else None  # else what was there is taken out
        self.parts.clear()
        with closing(go_through(directories, plan, parts)) as every:
            for done in every:
                if done.part is not None:
                    self.parts.append(done.part)
                self.report.unchanged += done.unchanged
                for one in done.found:
                    self._take(one)
                    found[one.path] = one
        return found

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
        if not one.same:
            self._put_rows(one)

    def _says_the_same(self) -> bool:
        """Whether a head that would be made now says what the present one does, times apart."""
        if self.before is None or self.previous is None:
            return False
        claim, record = self.before.volume, self.before.record
        if len(record.attestations) != len(self.keys) or not all(signed_by(record, [key]) for key in self.keys):
            return False  # by others too, or not by all of these, or a signature is damaged
        wanted = (self.head.volume, self.head.label, self.when.not_after, self.hash.number)
        return (claim.volume, claim.label, claim.when.not_after, self.before.hash) == wanted

    # putting it together

    def _opened(self) -> VolumeIndex:
        """The new index, which begins as the one before."""
        if self.index is None:
            target = self.directory / self.head.index
            if self.before is not None:
                copy_part(self.before.index, target)
            self.index = VolumeIndex(target, writable=True)
            if self.before is None:
                self.index.create()
            self.index.begin()
        return self.index

    def _put_rows(self, one: Found) -> None:
        """What was found in a directory goes to the new index at once, and is not kept in memory."""
        if one.is_put:
            return
        index = self._opened()
        if self.before is not None:
            index.remove_all_in(one.path)
        if one.note is not None:
            index.put(one.path, one.rows, one.note)
            index.put_trees(one.trees)
        one.rows, one.trees = [], []

    def _publish(self, found: dict[bytes, Found]) -> None:
        index = self._opened()
        for part in self.parts:
            index.take_in_part(part)
            part.unlink()
        notes = self._arrange(index, found)
        made = self._put_nodes(found, notes)
        self._put_certificates(index)
        noted = Extension(NOTES, False, digest_of(self.hash, notes, made))
        entries = sum(note.count for note in notes.values())
        self._put_head(index, entries, root_of(self.hash, made), noted)
        index.commit()
        used = index.kept_trees()
        self._close()
        target, trees = self.directory / self.head.index, self.directory / TREES
        moving = None if self.told is None else self.told.moving
        self._count(target)
        if self.report.entries != entries:
            raise StoreError(f"{target} was altered: it has {self.report.entries} entries, and {entries} were put")
        self._put_in_place([*self.made, trees, target, self._nodes], moving)
        self.report.generation = self.head.generation
        remove_trees(self.directory, used, self.previous)

    def _close(self) -> None:
        if self.index is not None:
            self.index.close()
            self.index = None

    def _put_certificates(self, index: VolumeIndex) -> None:
        for key in self.keys:
            for der in (key.certificate.der, *key.issuers):
                index.put_certificate(hashlib.sha256(der).digest(), der)

    def _put_in_place(self, parts: Iterable[Path], moving: Replacement | None = None) -> None:
        self.head = replace(self.head, digest=file_digest(self.directory / self.head.index))
        put_head(self.root, self.head, parts, moving)

    def _put_head(self, index: VolumeIndex, entries: int, root: bytes, notes: Extension | None) -> None:
        claim = Volume(self.head.volume, self.head.label, self.when, entries, root)
        statement = encode_statement(Statement(self.hash.number, claim, () if notes is None else (notes,)))
        index.put_head(encode_record(statement, [key.sign(statement) for key in self.keys]), self.hash.number)

    @property
    def _nodes(self) -> Path:
        return self.directory / (self.head.nodes or "")

    def _arrange(self, index: VolumeIndex, found: dict[bytes, Found]) -> dict[bytes, DirectoryNote]:
        """Every directory that has entries, in order. Those that are gone are removed from the new index."""
        old = {} if self.notes is None else self.notes.directories
        notes: dict[bytes, DirectoryNote] = {}
        alive: set[bytes] = set()
        for path in sorted(old.keys() | found.keys(), key=lambda path: path.replace(b"/", b"\0")):
            parent, _, name = path.rpartition(b"/")
            one, above = found.get(path), found.get(parent) if path else None
            if path and (parent not in alive or (above is not None and not above.same and name not in above.below)):
                if one is None:
                    self.report.removed += index.count_files(path)
                index.remove_all_in(path)
                continue
            alive.add(path)
            note = old.get(path) if one is None or one.same else one.note
            if note is not None:
                notes[path] = note
        before = {} if self.notes is None else self.notes.first
        put = {path for path, one in found.items() if not one.same}
        first = first_of(notes)
        index.arrange({path: at for path, at in first.items() if path in put or before.get(path) != at})
        return notes

    def _put_nodes(self, found: dict[bytes, Found], notes: Iterable[bytes]) -> list[bytes]:
        """The tree over what is in these directories."""
        leaves: list[bytes] = []
        is_same_hash = self.notes is not None and self.notes.hash == self.hash.number
        for path in notes:
            one = found.get(path)
            if one is not None and not one.same:
                leaves.append(one.leaves)
            elif is_same_hash and self.notes is not None:
                leaves.append(self.notes.leaves_in(path))
            else:
                raise PublicationError("another hash needs all of the tree to be signed")
        made = levels(self.hash, b"".join(leaves), self.levels if is_same_hash else ())
        write_nodes(self._nodes, made)
        return made
