# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Publishing a tree: walk, hash what changed, sign, write a new index, rename the head."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from nfsverity_proto.errors import NfsVerityError, VerificationError
from nfsverity_proto.hashes import Hash, hash_by_number
from nfsverity_proto.path import join_path
from nfsverity_proto.record import SIGNATURE, Fingerprint, decode_record, encode_record, signature_of
from nfsverity_proto.statement import (
    NO_END,
    Content,
    File,
    Kind,
    Statement,
    Time,
    Tree,
    When,
    decode_statement,
    encode_statement,
)
from nfsverity_proto.tree import RFC9162, UNIT_LOG2_DEFAULT, Shape
from nfsverity_store.content import open_below
from nfsverity_store.hashing import RUN_LOG2, Run, build, hash_run, hash_runs
from nfsverity_store.index import ROOT_ID, Index, IndexEntry, Seen
from nfsverity_store.layout import (
    DIRECTORY,
    DIRECTORY_BYTES,
    Head,
    NotPublished,
    find_root,
    head_path,
    read_head,
)
from nfsverity_store.nodes import INLINE_MAX, FileStore, MemoryStore, Nodes, Store, tree_length

from .keys import SigningKey

PARALLEL_MIN = 2**26
"""Bytes from which on a file is hashed by several processes."""


class PublicationError(NfsVerityError):
    """The tree cannot be published as it was asked for."""


class Changed(PublicationError):
    """A file changed while it was being signed; it has no new record."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to sign. `jobs`: processes that hash; `not_after`: Unix seconds."""

    unit_log2: int | None = None
    hash: int | None = None
    volume: bytes | None = None
    not_after: int = NO_END
    rehash: bool = False
    jobs: int = 1


@dataclass(slots=True)
class Report:
    """What one publication did."""

    root: Path
    volume: bytes = b""
    label: bytes = b""
    generation: int = 0
    signed: int = 0
    unchanged: int = 0
    removed: int = 0
    bytes_hashed: int = 0
    skipped: list[tuple[bytes, str]] = field(default_factory=list)
    """Symbolic links and special files: path and what it is."""
    failed: list[tuple[bytes, str]] = field(default_factory=list)
    """Files that have no new record: path and why."""


Progress = Callable[[bytes, int], None]
"""Told a path, and how many more bytes of it are hashed."""


def plan(paths: Sequence[Path]) -> dict[Path, list[bytes]]:
    """The published root of each path (found upward, or made from it), with the paths below it.

    Raises `PublicationError`, `FileNotFoundError`.
    """
    roots: dict[Path, list[bytes]] = {}
    for given in paths:
        status = os.lstat(given)
        if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
            raise PublicationError(f"{given} is neither a file nor a directory")
        path = given.parent.resolve() / given.name if given.name not in ("", "..") else given.resolve()
        if DIRECTORY in path.parts:
            raise PublicationError(f"{given} is metadata ({DIRECTORY}); sign the tree that it belongs to")
        start = path if stat.S_ISDIR(status.st_mode) else path.parent
        root = find_root(start) or start
        outer = find_root(root.parent)
        if outer is not None and outer != root:
            raise PublicationError(f"{root / DIRECTORY} is inside the published tree of {outer / DIRECTORY}")
        below = os.fsencode(path.relative_to(root))
        roots.setdefault(root, []).append(b"" if below == b"." else below)
    return roots


def publish(
    root: Path,
    below: Sequence[bytes],
    keys: Sequence[SigningKey],
    options: Options,
    progress: Progress | None = None,
    private: Sequence[Path] = (),
) -> Report:
    """Sign what is at `below` (paths in the tree) and publish it, all at once.

    `private` are the key files: a tree that holds one of them is refused. Raises `PublicationError`,
    `StoreError`, `OSError`; then nothing is published.
    """
    for path in private:
        if root in path.resolve().parents:
            raise PublicationError(f"{root} holds the private key {path}: move the key out of the tree first")
    directory = root / DIRECTORY
    directory.mkdir(exist_ok=True)
    (directory / "trees").mkdir(exist_ok=True)
    with _locked(directory):
        return _Publication(root, keys, options, progress).run(below)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """One publisher at a time."""
    fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PublicationError(f"another process is signing {directory.parent}") from None
        yield
    finally:
        os.close(fd)


def _hash_run_of(root: str, names: tuple[bytes, ...], seen: Seen, shape: Shape, number: int, index: int) -> Run:
    """One run of a large file, in a process of its own."""
    fd = open_below(Path(root), names)
    try:
        if Seen.of(os.fstat(fd)) != seen:
            raise Changed("it changed while it was being signed")
        return hash_run(fd, shape, hash_by_number(number), index)
    finally:
        os.close(fd)


class _Publication:
    """The state of one `publish`."""

    def __init__(self, root: Path, keys: Sequence[SigningKey], options: Options, progress: Progress | None) -> None:
        self.root = root
        self.directory = root / DIRECTORY
        self.keys = keys
        self.signers = {key.certificate.fingerprint for key in keys}
        self.options = options
        self.progress = progress
        try:
            self.previous: Head | None = read_head(root)
        except NotPublished:
            self.previous = None
        label = os.fsencode(root.name)[:255] or b"root"
        volume, last = options.volume or secrets.token_bytes(16), 0
        if self.previous is not None:
            label, last = self.previous.label, self.previous.generation
            volume = options.volume or self.previous.volume
        self.now = time.time_ns()
        generation = max(last + 1, self.now // 1000)
        self.head = Head(volume, label, generation, f"index-{generation}-{secrets.token_hex(4)}")
        self.report = Report(root, volume, label, generation)
        self.trees: set[str] = set()

    def run(self, below: Sequence[bytes]) -> Report:
        target = self.directory / self.head.index
        try:
            if self.previous is not None:
                shutil.copyfile(self.directory / self.previous.index, target)
            self.index = Index(target, writable=True)
            if self.previous is None:
                self.index.create()
            self.index.begin()
            for key in self.keys:
                self.index.put_certificate(key.certificate.fingerprint.digest, key.certificate.der)
            for path in below:
                self._sign_path(path)
            self.index.commit()
            self.index.close()
            self._replace_head(target)
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        self._clean(target)
        return self.report

    def _replace_head(self, index: Path) -> None:
        new = self.directory / "head.new"
        new.write_bytes(self.head.encode())
        for path in (index, new):
            with path.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(new, head_path(self.root))
        fd = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _clean(self, kept: Path) -> None:
        """Remove older indexes; whoever has one open keeps it until it is closed."""
        for path in self.directory.glob("index-*"):
            if path != kept and self.previous is not None and path.name != self.previous.index:
                path.unlink(missing_ok=True)

    def _sign_path(self, path: bytes) -> None:
        names = tuple(path.split(b"/")) if path else ()
        parent = ROOT_ID
        for name in names[:-1]:
            parent = self.index.put_directory(parent, name)
        full = os.path.join(os.fsencode(self.root), path)
        if not names:
            self._sign_directory(full, b"", ROOT_ID)
        elif os.path.isdir(full):
            self._sign_directory(full, path, self.index.put_directory(parent, names[-1]))
        else:
            self._sign_file(path, names, parent, self.index.child(parent, names[-1]))

    def _sign_directory(self, full: bytes, path: bytes, id: int) -> int:
        """All below a directory; returns the number of files that have a record there."""
        known = {entry.name: entry for entry in self.index.children(id)}
        files = 0
        with os.scandir(full) as scan:
            found = sorted(scan, key=lambda item: item.name)
        for item in found:
            name = item.name
            below = join_path(path, name)
            if name == DIRECTORY_BYTES:
                if path:
                    outer = self.directory
                    raise PublicationError(f"{os.fsdecode(item.path)} is inside the published tree of {outer}")
                continue
            if item.is_symlink():
                self.report.skipped.append((below, "symbolic link"))
            elif item.is_dir(follow_symlinks=False):
                known.pop(name, None)
                below_id = self.index.put_directory(id, name)
                signed = self._sign_directory(item.path, below, below_id)
                files += signed
                if not signed:
                    self.index.remove(below_id)
            elif item.is_file(follow_symlinks=False):
                if self._sign_file(below, tuple(below.split(b"/")), id, known.pop(name, None)):
                    files += 1
            else:
                self.report.skipped.append((below, "special file"))
        for entry in known.values():
            self.report.removed += 1
            self.index.remove(entry.id)
        return files

    def _sign_file(self, path: bytes, names: tuple[bytes, ...], parent: int, known: IndexEntry | None) -> bool:
        try:
            fd = open_below(self.root, names)
        except OSError as error:
            self.report.failed.append((path, error.strerror or str(error)))
            return False
        try:
            status = os.fstat(fd)
            seen = Seen.of(status)
            executable = bool(status.st_mode & stat.S_IXUSR)
            old = self._old_statement(known, path)
            content = self._known_content(known, old, seen)
            if content is not None and old is not None and known is not None:
                if old[0].executable == executable and old[1] == self.signers and old[0].volume == self.head.volume:
                    if known.seen != seen:
                        self.index.touch(known.id, seen)
                    self.report.unchanged += 1
                    return True
                tree: bytes | None = known.tree
            else:
                content, tree = self._hash_content(fd, path, names, seen)
            if Seen.of(os.fstat(fd)) != seen:
                raise Changed("it changed while it was being signed")
        except OSError as error:
            self.report.failed.append((path, str(error)))
            return known is not None
        except Changed as error:
            self.report.failed.append((path, str(error)))
            return known is not None
        finally:
            os.close(fd)
        statement = self._statement(path, executable, content)
        record = encode_record(statement, [key.sign(statement) for key in self.keys])
        self.index.put_file(parent, names[-1], record, seen, executable, tree)
        self.report.signed += 1
        return True

    def _statement(self, path: bytes, executable: bool, content: Content) -> bytes:
        when = When(self.head.generation, self.now // 1_000_000_000, self.options.not_after)
        claim = File(self.head.volume, self.head.label, path, when, executable, content)
        return encode_statement(Statement(self._hash_number, claim))

    @property
    def _hash_number(self) -> int:
        return 1 if self.options.hash is None else self.options.hash

    def _old_statement(self, known: IndexEntry | None, path: bytes) -> tuple[File, set[Fingerprint], int] | None:
        """The claim, signers and hash of the present record; None where there is none that can be used."""
        if known is None or known.record is None:
            return None
        try:
            record = decode_record(known.record)
            statement = decode_statement(record.statement, Kind.FILE)
            claim = statement.claim
            signers = {signature_of(a).signer for a in record.attestations if a.type == SIGNATURE}
        except VerificationError:
            return None
        if not isinstance(claim, File) or claim.path != path:
            return None
        return claim, signers, statement.hash

    def _known_content(
        self, known: IndexEntry | None, old: tuple[File, set[Fingerprint], int] | None, seen: Seen
    ) -> Content | None:
        """The content as it was signed, where nothing says that it is another now."""
        if known is None or old is None or self.options.rehash or known.seen != seen:
            return None
        content = old[0].content
        if self.options.unit_log2 not in (None, content.tree.unit_log2) or self._hash_number != old[2]:
            return None
        return content

    def _hash_content(self, fd: int, path: bytes, names: tuple[bytes, ...], seen: Seen) -> tuple[Content, bytes | None]:
        shape = Shape(seen.size, self.options.unit_log2 or UNIT_LOG2_DEFAULT)
        hash = hash_by_number(self._hash_number)
        length = tree_length(hash, shape)
        kept: bytearray | None = None
        store: Store | None = None
        temporary: Path | None = None
        if shape.units > 1:
            if length <= INLINE_MAX:
                kept = bytearray(length)
                store = MemoryStore(kept)
            else:
                temporary = self.directory / "trees" / f"new-{secrets.token_hex(8)}"
                store = FileStore(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
                os.ftruncate(store.fd, length)
        nodes = None if store is None else Nodes(hash, shape, store)
        try:
            found = build(shape, hash, self._runs(fd, path, names, seen, shape, hash), nodes)
            if temporary is not None:
                os.replace(temporary, self.directory / "trees" / f"{hash.name}-{shape.unit_log2}-{found.hex()}")
                temporary = None
        finally:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
        self.report.bytes_hashed += seen.size
        tree = Tree(RFC9162, shape.unit_log2, shape.size, found)
        return Content(Time.from_ns(seen.mtime), tree), None if kept is None else bytes(kept)

    def _runs(
        self, fd: int, path: bytes, names: tuple[bytes, ...], seen: Seen, shape: Shape, hash: Hash
    ) -> Iterator[Run]:
        def done(count: int) -> None:
            if self.progress is not None:
                self.progress(path, count)

        if self.options.jobs < 2 or seen.size < PARALLEL_MIN or os.fstat(fd).st_blocks * 512 < PARALLEL_MIN:
            yield from hash_runs(fd, shape, hash, done)
            return
        with ProcessPoolExecutor(self.options.jobs) as pool:
            jobs = [
                pool.submit(_hash_run_of, os.fspath(self.root), names, seen, shape, hash.number, index)
                for index in range(shape.width(RUN_LOG2))
            ]
            try:
                for index, job in enumerate(jobs):
                    yield job.result()
                    start, stop = shape.unit_span(index << RUN_LOG2, min((index + 1) << RUN_LOG2, shape.units))
                    done(stop - start)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
