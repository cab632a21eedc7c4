# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Publishing a tree: walk, hash what changed, sign, write a new index, rename the head.

Nothing that a head names is ever changed, so a publisher may be killed at any moment: readers keep what they
have, and the next run removes what was left behind. There is one sync, at the end, before the new head.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from nfsverity_proto.errors import VerificationError
from nfsverity_proto.hashes import SHA256, hash_by_number
from nfsverity_proto.path import join_path
from nfsverity_proto.record import decode_record, encode_record
from nfsverity_proto.statement import (
    Content,
    File,
    Kind,
    Statement,
    When,
    decode_statement,
    encode_statement,
)
from nfsverity_proto.tree import UNIT_LOG2_DEFAULT
from nfsverity_store.content import open_below, open_directory, open_file
from nfsverity_store.differences import differences
from nfsverity_store.index import ROOT_ID, FileRow, Index, IndexEntry, Known, Seen
from nfsverity_store.kept import kept_tree
from nfsverity_store.layout import (
    DIRECTORY,
    DIRECTORY_BYTES,
    TREES,
    Head,
    copy_part,
)
from nfsverity_store.revocation import PublishedRevocation
from nfsverity_store.update import NotTakenOver

from .content import Before, Hashed, Hasher, Place, seen_of, signed_by
from .keys import SigningKey
from .lock import PublicationError, locked
from .private import PrivateKeys
from .replacement import Replacement
from .revocation import check_keys as check_revoked
from .transaction import (
    RACY,
    Change,
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
from .workers import Changed

ROWS_MAX = 500
ROWS_BYTES_MAX = 2**22
"""How much is gathered before it goes to the index."""


Progress = Callable[[bytes, int], None]
"""Told a path, and how many more bytes of it are hashed."""


def publish(
    root: Path,
    below: Sequence[bytes],
    keys: Sequence[SigningKey],
    options: Options,
    progress: Progress | None = None,
    private: Sequence[Path] = (),
    waiting: Callable[[], None] | None = None,
) -> Report:
    """Sign what is at `below` (paths in the tree) and publish it, all at once.

    `private` are the key files: a tree that holds one of them is refused. `waiting` is called where another publisher
    is waited for. Raises `PublicationError`, `StoreError`, `OSError`; then nothing is published.
    """
    check_keys(root, keys, private)
    check_single(root, below, options)
    with PrivateKeys(private) as secret, locked(root / DIRECTORY, options.wait, waiting):
        return _Publication(root, below, keys, options, progress, secret).run(below)


class _Directory:
    """A directory on the way: its place in the index, made when the first file below it is signed."""

    def __init__(self, path: bytes, parent: _Directory | None, id: int | None) -> None:
        self.path = path
        self.parent = parent
        self.id = id

    def below(self, name: bytes, id: int | None) -> _Directory:
        return _Directory(join_path(self.path, name), self, id)


class _Publication:
    """The state of one `publish`."""

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
        self.directory = root / DIRECTORY
        self.keys = keys
        self.options = options
        self.progress = progress
        self.private = private
        self.previous = previous_head(root)
        due = identity(root, self.previous, options, Form.RECORDS, below)
        self.now = time.time_ns()
        generation = max(due.generation + 1, self.now // 1000)
        self.head = Head(due.volume, due.label, generation, f"index-{generation}-{os.urandom(4).hex()}")
        self.report = Report(root, due.volume, due.label, due.generation, Form.RECORDS)
        self.before = self.previous if self.previous and form_of(self.previous) is Form.RECORDS else None
        self.terms = self._terms()
        self.hasher = Hasher(root, options.jobs)
        self.index: Index | None = None
        """The previous index, and from the first change on the new one. None before the first publication."""
        self.writable = False
        self.rows: list[FileRow] = []
        self.rows_bytes = 0
        self.replacement: Replacement | None = None

    def _terms(self) -> bytes:
        """A digest of what a record says beside path, content and generation: a record with others is made anew."""
        signers = sorted((key.certificate.fingerprint.hash, key.certificate.fingerprint.digest) for key in self.keys)
        said = (self.head.volume, self.head.label, self.options.not_after, signers)
        return hashlib.sha256(repr(said).encode()).digest()[:16]

    def run(self, below: Sequence[bytes]) -> Report:
        check_revoked(PublishedRevocation(self.root), self.head.volume, self.keys)
        if self.before is not None:
            self.index = Index(self.directory / self.before.index)
        clean(self.directory, self.previous)
        try:
            if self.before is None:
                self._change()
            for path in below:
                self._sign_path(path)
            self._flush()
            if self.writable:
                self._publish()
        except BaseException:
            abandon(self.root, self.head, self.previous)
            raise
        finally:
            if self.index is not None:
                self.index.close()
            if self.replacement is not None:
                self.replacement.close()
        return self.report

    def _change(self) -> Index:
        """The new index, copied from the previous one where there is one."""
        if self.writable and self.index is not None:
            return self.index
        target = self.directory / self.head.index
        if self.before is not None:
            copy_part(self.directory / self.before.index, target)
        if self.index is not None:
            self.index.close()
        self.index = Index(target, writable=True)
        self.writable = True
        if self.before is None:
            self.index.create()
        self.index.begin()
        for key in self.keys:
            for der in (key.certificate.der, *key.issuers):
                self.index.put_certificate(hashlib.sha256(der).digest(), der)
        return self.index

    def _publish(self) -> None:
        index = self._change()
        index.commit()
        used = index.kept_trees()
        index.close()
        parts = [*self.hasher.made, self.directory / TREES, self.directory / self.head.index]
        put_head(self.root, self.head, parts, self.replacement)
        self.report.generation = self.head.generation
        remove_trees(self.directory, used, self.previous)

    def _sign_path(self, path: bytes) -> None:
        if not path:
            fd = open_below(self.root, (), directory=True)
            try:
                self._sign_directory(fd, _Directory(b"", None, ROOT_ID))
            finally:
                os.close(fd)
            return
        *above, name = path.split(b"/")
        directory = _Directory(b"", None, ROOT_ID)
        for step in above:
            known = self._known(directory).get(step)
            directory = directory.below(step, None if known is None or known.is_file else known.id)
        fd = open_below(self.root, above, directory=True)
        try:
            if self.options.replacement is not None:
                self.replacement = Replacement(self.options.replacement, fd, name)
                self._sign_replacement(self.replacement, directory)
                return
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            self._sign_entry(fd, directory, name, stat.S_IFMT(status.st_mode), self._known(directory).get(name))
        finally:
            os.close(fd)

    def _known(self, directory: _Directory) -> dict[bytes, Known]:
        if directory.id is None or self.index is None:
            return {}
        return self.index.known(directory.id)

    def _sign_directory(self, fd: int, directory: _Directory) -> bool:
        """All in a directory and below it; whether any file there has a record."""
        known = self._known(directory)
        try:
            with os.scandir(fd) as scan:
                found = sorted((os.fsencode(item.name), _kind(item)) for item in scan)
        except OSError as error:
            self.report.failed.append((directory.path, _reason(error)))
            return bool(known)
        if directory.path and (DIRECTORY_BYTES, stat.S_IFDIR) in found:
            nested = self.root / os.fsdecode(directory.path) / DIRECTORY
            raise PublicationError(f"{nested} is inside the published tree of {self.directory}")
        signed = False
        for name, kind in found:
            if name != DIRECTORY_BYTES:
                signed |= self._sign_entry(fd, directory, name, kind, known.pop(name, None))
        for gone in known.values():
            self._remove(gone)
        return signed

    def _remove(self, known: Known) -> None:
        self._flush()
        self.report.removed += self._change().remove(known.id)

    def _sign_entry(self, fd: int, directory: _Directory, name: bytes, kind: int, known: Known | None) -> bool:
        """One name in the open directory `fd`; whether it, or a file below it, has a record then."""
        if kind not in (stat.S_IFDIR, stat.S_IFREG):
            path = b"/".join(filter(None, (directory.path, name)))
            self.report.skipped.append((path, "symbolic link" if kind == stat.S_IFLNK else "special file"))
        if known is not None and kind != (stat.S_IFREG if known.is_file else stat.S_IFDIR):
            self._remove(known)
            known = None
        try:
            if kind == stat.S_IFREG:
                return self._sign_file(fd, directory, name, known)
            if kind != stat.S_IFDIR:
                return False
            below = directory.below(name, None if known is None else known.id)
            below_fd = open_directory(name, fd)
        except (OSError, ValueError) as error:  # ValueError: the path is longer or deeper than a path may be
            path = b"/".join(filter(None, (directory.path, name)))
            self.report.failed.append((path, _reason(error)))
            return known is not None
        try:
            signed = self._sign_directory(below_fd, below)
        finally:
            os.close(below_fd)
        if not signed and below.id is not None:
            self._flush()
            self._change().remove(below.id)
        return signed

    def _sign_file(self, above: int, directory: _Directory, name: bytes, known: Known | None) -> bool:
        path = join_path(directory.path, name)
        status = os.stat(name, dir_fd=above, follow_symlinks=False)
        self.private.check(status, above, name, directory.path)
        if known is not None and not self._looks_in and self._is_same(known, status):
            self.report.unchanged += 1
            return True
        fd = open_file(name, above)
        try:
            status = os.fstat(fd)
            seen = seen_of(status)
            hashed = self._content(fd, path, seen, known)
            if Seen.of(os.fstat(fd)) != seen:
                raise Changed
        finally:
            os.close(fd)
        self._put(directory, name, path, status, hashed, known)
        return True

    def _sign_replacement(self, replacement: Replacement, directory: _Directory) -> None:
        """The file that is to be moved in, as the one that it replaces."""
        path = join_path(directory.path, replacement.name)
        known = self._known(directory).get(replacement.name)
        if known is not None and not known.is_file:
            self._remove(known)
            known = None
        self._change()
        fd = replacement.open()
        try:
            status = os.fstat(fd)
            self.private.check(status, replacement.source, replacement.source_name, os.fsencode(replacement.above))
            seen = seen_of(status)
            hashed = self._content(fd, path, seen, known, (replacement.above, (replacement.source_name,)))
            if Seen.of(os.fstat(fd)) != seen:
                raise Changed
            os.fsync(fd)
        finally:
            os.close(fd)
        self._put(directory, replacement.name, path, status, hashed, known)

    @property
    def _looks_in(self) -> bool:
        """Whether also what seems unchanged is hashed, all of it or what is said to have changed."""
        return self.options.rehash or self.options.is_partial

    def _is_same(self, known: Known, status: os.stat_result) -> bool:
        """Whether nothing in `stat` tells that the content may be another, and the record would be the same."""
        return known.seen == Seen.of(status) and self._has_same_terms(known, status)

    def _has_same_terms(self, known: Known, status: os.stat_result) -> bool:
        return (
            known.terms == self.terms
            and known.executable == _is_executable(status)
            and self.options.hash in (None, known.hash)
            and self.options.unit_log2 in (None, known.unit_log2)
        )

    def _says_the_same(self, known: Known, status: os.stat_result, hashed: Hashed) -> bool:
        """Whether the record is the one that would be made now."""
        return self._has_same_terms(known, status) and _content_of(self._entry(known)) == hashed.content

    def _algorithms(self, known: Known | None) -> tuple[int, int]:
        """The hash number and unit size (as a power of two) to sign with."""
        if known is None:
            return self.options.hash or SHA256, self.options.unit_log2 or UNIT_LOG2_DEFAULT
        return self.options.hash or known.hash, self.options.unit_log2 or known.unit_log2

    def _content(self, fd: int, path: bytes, seen: Seen, known: Known | None, place: Place | None = None) -> Hashed:
        """What the file holds: as it was signed, where nothing tells that it is another, or else hashed.

        `place` is where it lies, if that is not `path` yet.
        """
        number, unit_log2 = self._algorithms(known)
        if known is not None and (known.seen, known.hash, known.unit_log2) == (seen, number, unit_log2):
            entry = self._entry(known)
            content = None if entry is None or entry.record is None else self._own_content(entry.record, path)
            if entry is not None and content is not None and not self._looks_in:
                return Hashed(content, entry.tree, self._kept_name(known), 0)
        place = place or (self.root, tuple(path.split(b"/")))
        hashed = None
        if self.options.is_partial:
            try:
                hashed = self._updated(fd, path, place, seen, known)
            except NotTakenOver as error:
                self.report.whole.append((path, str(error)))
        if hashed is None:
            hash = hash_by_number(number)
            hashed = self.hasher.hash(fd, place, seen, hash, unit_log2, lambda count: self._done(path, count))
        self.report.bytes_hashed += hashed.count
        return hashed

    def _updated(self, fd: int, path: bytes, place: Place, seen: Seen, known: Known | None) -> Hashed:
        """The content, hashed where it is said to have changed. Raises `NotTakenOver`, `OSError`."""
        entry = None if known is None else self._entry(known)
        if known is None or entry is None or entry.record is None:
            raise NotTakenOver("it was not signed before")
        content = self._own_content(entry.record, path)
        if content is None:
            raise NotTakenOver("the record that it has is not by a key that signs now")
        before = Before(known.hash, content.tree, entry.tree)
        return self.hasher.update_as_told(
            fd, place, seen, *self._algorithms(known), before, self.options.changed, self.options.appended,
            lambda count: self._done(path, count),
        )  # fmt: skip

    def _own_content(self, data: bytes, path: bytes) -> Content | None:
        """What a record says of the content, if one of the keys signed it for this path (fim-keep-1)."""
        try:
            record = decode_record(data)
            claim = decode_statement(record.statement, Kind.FILE).claim
            if not isinstance(claim, File) or (claim.volume, claim.path) != (self.report.volume, path):
                return None
            return claim.content if signed_by(record, self.keys) else None
        except VerificationError:
            return None

    def _done(self, path: bytes, count: int) -> None:
        if self.progress is not None:
            self.progress(path, count)

    def _entry(self, known: Known) -> IndexEntry | None:
        return None if self.index is None else self.index.by_id(known.id)

    def _kept_name(self, known: Known) -> str | None:
        return None if self.index is None else self.index.kept_name(known.id)

    def _put(
        self, directory: _Directory, name: bytes, path: bytes, status: os.stat_result, hashed: Hashed,
        known: Known | None,
    ) -> None:  # fmt: skip
        """Sign it, unless the record that there is says the same."""
        seen = Seen.of(status)
        if seen.ctime > time.time_ns() - RACY:
            seen = Seen(seen.size, seen.mtime, 0, seen.inode)
        if known is not None and self._says_the_same(known, status, hashed):
            if known.seen != seen:
                self._change().touch(known.id, seen)
            self.report.unchanged += 1
            return
        if known is not None:
            self._note_change(path, known, hashed)
        number, unit_log2 = self._algorithms(known)
        executable = _is_executable(status)
        when = When(self.head.generation, self.now // 1_000_000_000, self.options.not_after)
        claim = File(self.head.volume, self.head.label, path, when, executable, hashed.content)
        statement = encode_statement(Statement(number, claim))
        record = encode_record(statement, [key.sign(statement) for key in self.keys])
        parent = self._directory_id(directory)
        signed = (executable, number, unit_log2, self.terms, hashed.kept, record, hashed.tree)
        self.rows.append(FileRow(parent, name, seen, *signed))
        self.rows_bytes += len(record) + len(hashed.tree or b"")
        if len(self.rows) >= ROWS_MAX or self.rows_bytes >= ROWS_BYTES_MAX:
            self._flush()
        self.report.signed += 1

    def _note_change(self, path: bytes, known: Known, hashed: Hashed) -> None:
        """What changed since a file was signed the last time."""
        entry = self._entry(known)
        before, after = _content_of(entry), hashed.content
        if entry is None or before is None or before.tree == after.tree:
            return
        ranges = None
        if (known.hash, known.unit_log2) == self._algorithms(known):
            hash = hash_by_number(known.hash)
            old = kept_tree(self.root, hash, before.tree, entry.tree)
            new = kept_tree(self.root, hash, after.tree, hashed.tree)
            if old is not None and new is not None:
                ranges = differences(old, new)
        self.report.changes.append(Change(path, before.tree.size, after.tree.size, ranges))

    def _directory_id(self, directory: _Directory) -> int:
        missing: list[_Directory] = []
        at: _Directory | None = directory
        while at is not None and at.id is None:
            missing.append(at)
            at = at.parent
        id = ROOT_ID if at is None or at.id is None else at.id
        for below in reversed(missing):
            id = below.id = self._change().put_directory(id, below.path.rpartition(b"/")[2])
        return id

    def _flush(self) -> None:
        if self.rows:
            self._change().put_files(self.rows)
            self.rows.clear()
            self.rows_bytes = 0


def _kind(item: os.DirEntry[str]) -> int:
    """As stat.S_IFMT has it; 0 for special files."""
    if item.is_symlink():
        return stat.S_IFLNK
    if item.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    return stat.S_IFREG if item.is_file(follow_symlinks=False) else 0


def _is_executable(status: os.stat_result) -> bool:
    return bool(status.st_mode & stat.S_IXUSR)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _content_of(entry: IndexEntry | None) -> Content | None:
    """What an entry's record says of the content; None where it cannot be decoded."""
    if entry is None or entry.record is None:
        return None
    try:
        claim = decode_statement(decode_record(entry.record).statement, Kind.FILE).claim
    except VerificationError:
        return None
    return claim.content if isinstance(claim, File) else None
