# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What is served: the present publication of one tree, and what of it is in storage at the moment.

Every look at the storage goes name by name from the root's descriptor and follows no link (fip-server-4), so that
no path and no handle leaves the tree, whatever is renamed meanwhile.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nfsverity_proto.errors import VerificationError
from nfsverity_proto.hashes import HASH_NUMBERS
from nfsverity_proto.messages import ROOT_HANDLE, Attributes, Entry, FileType, Status
from nfsverity_proto.path import split_path
from nfsverity_proto.statement import Content, File, Kind, Statement, Tag, Time, decode_statement, tag_of
from nfsverity_proto.tree import RFC9162
from nfsverity_store.content import NotRegular, open_directory, open_file
from nfsverity_store.index import ROOT_ID, IndexEntry
from nfsverity_store.layout import DIRECTORY_BYTES, StoreError, head_path, read_head
from nfsverity_store.published import open_published
from nfsverity_store.volume_view import VolumeView

from . import handles

log = logging.getLogger("nfsverity.server")
DECODED_MAX = 1024
"""Records that are remembered decoded."""
DIRECTORIES_MAX = 10_000
"""Directories of the index that are remembered."""
FILES_MAX = 128
"""Files of the index that are remembered, each with a tree of up to 64 KiB."""
LONG_MAX = 1024
"""Paths too long for a handle that are remembered by theirs."""
NAMES_AT_ONCE = 1024

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EMLINK, errno.ENAMETOOLONG, errno.ENXIO)
"""What opening a name says where there is no such object: EMLINK is a symbolic link on BSD, ENXIO a socket."""


class Answer(Exception):
    """Ends the work on a call with a status other than OK."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.name)
        self.status = status


@dataclass(frozen=True, slots=True)
class Object:
    """A file or directory that is served. `entry` is None for what only `--all` shows."""

    path: bytes
    status: os.stat_result
    entry: IndexEntry | None

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def attributes(self) -> Attributes:
        return _attributes(self.status, self.entry is not None)


@dataclass(frozen=True, slots=True)
class Claims:
    """What a record says, as far as serving the file needs it."""

    statement: Statement
    content: Content
    tag: Tag | None
    """None where its hash is not known here."""

    @property
    def is_supported(self) -> bool:
        """Whether the tree can be had: its type and its hash are known here."""
        return self.tag is not None and self.content.tree.type == RFC9162


class OpenFile:
    """A file, open for reading: close it, or use it in a `with`."""

    def __init__(self, found: Object, record: bytes, fd: int, published: float) -> None:
        self.path = found.path
        self.status = found.status
        self.entry = found.entry
        self.record = record
        self.published = published
        """When what is served now was published, in Unix seconds."""
        self.fd = fd

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self.fd >= 0:
            os.close(self.fd)

    def detach(self) -> int:
        """The descriptor, which is the caller's from now on."""
        fd, self.fd = self.fd, -1
        return fd


class Catalog:
    """One published tree. Raises `StoreError` where there is none."""

    def __init__(self, root: Path, *, show_all: bool = False) -> None:
        self.root = root
        self.show_all = show_all
        self._head = os.fspath(head_path(root))
        self._root_fd = -1
        self._refused = (-1, -1)
        self._published = 0.0
        self._identity = self._head_identity()
        self._open()

    def _open(self) -> None:
        head, index = open_published(self.root)
        try:
            root_entry = index.by_id(ROOT_ID)
            if root_entry is None:
                raise StoreError(f"{index.path} is damaged: it has no root")
            root_fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except BaseException:
            index.close()
            raise
        if self._root_fd >= 0:
            self.close()
        self.head, self.index, self._root_fd, self._root_entry = head, index, root_fd, root_entry
        self._directories: dict[tuple[int, bytes], IndexEntry] = {}
        self._files: OrderedDict[tuple[int, bytes], IndexEntry] = OrderedDict()
        self._decoded: OrderedDict[bytes, Claims] = OrderedDict()
        self._long: OrderedDict[bytes, bytes] = OrderedDict()

    @property
    def volume(self) -> VolumeView | None:
        """What is served, where it is a volume."""
        return self.index if isinstance(self.index, VolumeView) else None

    def close(self) -> None:
        self.index.close()
        os.close(self._root_fd)
        self._root_fd = -1

    def _head_identity(self) -> tuple[int, int]:
        try:
            status = os.stat(self._head)
        except OSError:
            return (-1, -1)
        self._published = status.st_ctime
        return status.st_ino, status.st_mtime_ns

    def refresh(self) -> bool:
        """Turn to a newer publication where there is one; whether there was. One that is damaged is passed over."""
        identity = self._head_identity()
        if identity in (self._identity, self._refused, (-1, -1)):
            return False
        try:
            changed = read_head(self.root) != self.head
            if changed:
                self._open()
        except (StoreError, OSError) as error:
            log.error("a new publication cannot be read, the one before is served on: %s", error)
            self._refused = identity
            return False
        self._identity = identity
        return changed

    def look(self, handle: bytes) -> Object:
        """The object that a handle stands for. Raises `Answer`."""
        names = self._names_of(handle)
        return self._find(names, len(names))[0]

    def resolve(self, base: bytes, path: bytes) -> Object:
        """The object at a path below another one. Raises `Answer`."""
        below = _split(path)
        names = self._names_of(base)
        return self._find((*names, *below), len(names))[0]

    def open(self, base: bytes, path: bytes = b"") -> OpenFile:
        """The file at a path below an object, or the object itself.

        Raises `Answer` in the order of fip-status-2: BAD_HANDLE, NOT_FOUND or NOT_DIRECTORY, IS_DIRECTORY, ACCESS,
        UNSIGNED.
        """
        found, record, fd = self._opened(base, path)
        if record is None:
            os.close(fd)
            raise Answer(Status.UNSIGNED)
        return OpenFile(found, record, fd, self._published)

    def open_any(self, handle: bytes) -> OpenFile:
        """A file with a record or without one; that is empty then. Raises `Answer` as `open` does."""
        found, record, fd = self._opened(handle, b"")
        return OpenFile(found, record or b"", fd, self._published)

    def _opened(self, base: bytes, path: bytes) -> tuple[Object, bytes | None, int]:
        below = _split(path)
        names = self._names_of(base)
        found, fd = self._find((*names, *below), len(names), opening=True)
        if found.is_directory:
            raise Answer(Status.IS_DIRECTORY)
        record = None if found.entry is None else found.entry.record
        return Object(found.path, os.fstat(fd), found.entry), record, fd

    def claims(self, record: bytes) -> Claims:
        """A record that was published, decoded. Raises `Answer(IO)` where it cannot be."""
        found = self._decoded.get(record)
        if found is None:
            length = int.from_bytes(record[:4], "big")
            data = record[4 : 4 + length]  # a record's first field, an opaque; the rest is for those who verify
            try:
                statement = decode_statement(data, Kind.FILE if self.volume is None else Kind.CONTENT)
                tag = tag_of(data, statement.hash) if statement.hash in HASH_NUMBERS else None
            except VerificationError as error:
                log.error("a record in the index cannot be decoded: %s", error)
                raise Answer(Status.IO) from None
            claim = statement.claim
            if not isinstance(claim, File | Content):
                raise Answer(Status.IO)
            content = claim.content if isinstance(claim, File) else claim
            found = self._decoded[record] = Claims(statement, content, tag)
            if len(self._decoded) > DECODED_MAX:
                self._decoded.popitem(last=False)
        return found

    def handle_of(self, path: bytes) -> bytes:
        return handles.encode(self.head.volume, path) if path else ROOT_HANDLE

    def _names_of(self, handle: bytes) -> Sequence[bytes]:
        if handle == ROOT_HANDLE:
            return ()
        path = self._long.get(handle)
        if path is None:
            try:
                path = handles.decode(self.head.volume, handle, self._names_in)
            except handles.BadHandle:
                raise Answer(Status.BAD_HANDLE) from None
            if handles.is_long(handle):
                self._long[handle] = path
                if len(self._long) > LONG_MAX:
                    self._long.popitem(last=False)
        return split_path(path)

    def _child(self, entry: IndexEntry | None, name: bytes) -> IndexEntry | None:
        if entry is None or entry.is_file:
            return None
        key = entry.id, name
        found = self._directories.get(key) or self._files.get(key)
        if found is None:
            found = self.index.child(entry.id, name)
            if found is not None and found.is_file:
                self._files[key] = found
                if len(self._files) > FILES_MAX:
                    self._files.popitem(last=False)
            elif found is not None and len(self._directories) < DIRECTORIES_MAX:
                self._directories[key] = found
        return found

    def _find(self, names: Sequence[bytes], base: int, *, opening: bool = False) -> tuple[Object, int]:
        """The object at some names, of which the first `base` are from a handle; and its descriptor.

        That is -1 for a directory, and where none is asked for. Raises `Answer`.
        """
        at = self._root_fd
        found = Object(b"", os.fstat(at), self._root_entry)
        fd = -1
        try:
            for position, name in enumerate(names):
                gone = Status.BAD_HANDLE if position < base else Status.NOT_FOUND
                if not found.is_directory:
                    raise Answer(Status.NOT_DIRECTORY if position >= base else Status.BAD_HANDLE)
                if position:
                    at = self._step(names[position - 1], at, Status.BAD_HANDLE if position <= base else gone)
                entry = self._child(found.entry, name)
                served = self._served(name, at, None if entry is None else entry.is_file)
                if served is None:
                    raise Answer(gone)
                status, fits = served
                found = Object(b"/".join(names[: position + 1]), status, entry if fits else None)
            if opening and not found.is_directory:
                fd = _open(names[-1], at, Status.BAD_HANDLE if len(names) == base else Status.NOT_FOUND)
        finally:
            if at != self._root_fd:
                os.close(at)
        return found, fd

    def _step(self, name: bytes, at: int, gone: Status) -> int:
        try:
            below = open_directory(name, at)
        except OSError as error:
            raise Answer(_status_of(error, gone)) from None
        if at != self._root_fd:
            os.close(at)
        return below

    def _served(self, name: bytes, at: int, signed: bool | None) -> tuple[os.stat_result, bool] | None:
        """What `name` in the open directory `at` is; None where it is nothing that is served. Raises `Answer`.

        `signed` tells what the index has of that name: a file, a directory (False), or nothing (None); the
        result, whether that is what there is.
        """
        if name == DIRECTORY_BYTES or (signed is None and not self.show_all):
            return None
        try:
            status = os.stat(name, dir_fd=at, follow_symlinks=False)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise Answer(_status_of(error, Status.IO)) from None
        kind = stat.S_IFMT(status.st_mode)
        if kind not in (stat.S_IFREG, stat.S_IFDIR):
            return None
        fits = signed is not None and signed == (kind == stat.S_IFREG)
        return (status, fits) if fits or self.show_all else None

    def open_directory(self, names: Iterable[bytes]) -> int:
        """A descriptor of a directory of the tree, followed name by name. Raises `OSError`."""
        at = os.dup(self._root_fd)
        for name in names:
            try:
                below = open_directory(name, at)
            finally:
                os.close(at)
            at = below
        return at

    def entries(self, found: Object, after: bytes, most: int) -> tuple[list[Entry], bool]:
        """At most `most` names above `after` in byte order, and whether those were the last. Raises `Answer`."""
        if not found.is_directory:
            raise Answer(Status.NOT_DIRECTORY)
        try:
            fd = self.open_directory(split_path(found.path))
        except OSError as error:
            raise Answer(_status_of(error, Status.BAD_HANDLE)) from None
        listed: list[Entry] = []
        try:
            for name, signed in self._names_after(fd, found.entry, after):
                served = self._served(name, fd, signed)
                if served is None:
                    continue
                if len(listed) == most:
                    return listed, False
                path = found.path + b"/" + name if found.path else name
                listed.append(Entry(name, self.handle_of(path), _attributes(*served)))
        finally:
            os.close(fd)
        return listed, True

    def _names_after(self, fd: int, entry: IndexEntry | None, after: bytes) -> Iterator[tuple[bytes, bool | None]]:
        """Names above `after`, and what the index has of them (as `_served` wants it)."""
        if self.show_all:
            signed = {} if entry is None else dict(self.index.names(entry.id, after, -1))
            yield from sorted((name, signed.get(name)) for name in _scan(fd) if name > after)
            return
        names = [(after, False)]
        while names and entry is not None:
            names = self.index.names(entry.id, names[-1][0], NAMES_AT_ONCE)
            yield from names

    def _names_in(self, names: Sequence[bytes]) -> Iterable[bytes]:
        """The names of what may be served in a directory; none where there is no such directory."""
        try:
            fd = self.open_directory(names)
        except OSError:
            return ()
        try:
            if self.show_all:
                return _scan(fd)
        finally:
            os.close(fd)
        entry: IndexEntry | None = self._root_entry
        for name in names:
            entry = self._child(entry, name)
        return () if entry is None else [name for name, _ in self.index.names(entry.id, b"", -1)]


def _split(path: bytes) -> tuple[bytes, ...]:
    try:
        return split_path(path)
    except ValueError:
        raise Answer(Status.INVALID) from None


def _open(name: bytes, at: int, gone: Status) -> int:
    try:
        return open_file(name, at)
    except OSError as error:
        raise Answer(_status_of(error, gone)) from None


def _scan(fd: int) -> list[bytes]:
    with os.scandir(fd) as scan:
        return [os.fsencode(item.name) for item in scan]


def _status_of(error: OSError, absent: Status) -> Status:
    if isinstance(error, NotRegular) or error.errno in _ABSENT:
        return absent
    return Status.ACCESS if error.errno in (errno.EACCES, errno.EPERM) else Status.IO


def _attributes(status: os.stat_result, has_record: bool) -> Attributes:
    mtime = Time.from_ns(status.st_mtime_ns)
    if stat.S_ISDIR(status.st_mode):
        return Attributes(FileType.DIRECTORY, False, False, 0, mtime)
    return Attributes(FileType.FILE, has_record, bool(status.st_mode & stat.S_IXUSR), status.st_size, mtime)
