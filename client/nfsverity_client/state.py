# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What must not be forgotten, in one durable file: marks, accepted revocations, the latest time of issue.

It is an SQLite database in the user's state directory, which all processes of the user share. What was changed
is on durable storage when `changing` ends, whole or not at all; a process may be killed at any moment. It is
state, not a cache: a file that is damaged, of another format or not to be read is an error, and never taken
for an empty one. Only where there is none yet, nothing is known (fim-mark-4).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from nfsverity_proto.errors import NfsVerityError

from .trust_store import state_directory

NAME = "state.db"
APPLICATION = 0x6E667376
"""What tells the file from any other database: "nfsv"."""
FORMAT = 1
BUSY = 60.0
"""Seconds within which another process has to end its change."""

SCHEMA = """
CREATE TABLE anchor (id INTEGER PRIMARY KEY, value BLOB NOT NULL UNIQUE, sum BLOB NOT NULL);
CREATE TABLE signer (id INTEGER PRIMARY KEY, value BLOB NOT NULL UNIQUE, sum BLOB NOT NULL);
CREATE TABLE mark (
    anchor INTEGER NOT NULL, volume BLOB NOT NULL, kind INTEGER NOT NULL, path BLOB NOT NULL,
    signer INTEGER NOT NULL, generation BLOB NOT NULL, hash INTEGER NOT NULL, digest BLOB NOT NULL,
    made INTEGER NOT NULL, sum BLOB NOT NULL,
    PRIMARY KEY (anchor, volume, kind, path, signer)
) WITHOUT ROWID;
CREATE TABLE revoked (
    volume BLOB NOT NULL, what INTEGER NOT NULL, hash INTEGER NOT NULL, digest BLOB NOT NULL, since INTEGER NOT NULL,
    sum BLOB NOT NULL,
    PRIMARY KEY (volume, what, hash, digest)
) WITHOUT ROWID;
CREATE TABLE revocation (
    volume BLOB NOT NULL, signer INTEGER NOT NULL, record BLOB NOT NULL, accepted INTEGER NOT NULL,
    PRIMARY KEY (volume, signer)
) WITHOUT ROWID;
CREATE TABLE latest (id INTEGER PRIMARY KEY CHECK (id = 1), issued INTEGER NOT NULL);
INSERT INTO latest VALUES (1, -9223372036854775808);
"""

_NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_FULL = frozenset((sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR))
_DAMAGED = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH))


def _parts(name: str) -> tuple[str, ...]:
    """The files that a database may consist of."""
    return name, name + "-wal", name + "-shm", name + "-journal"


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


class StateError(NfsVerityError):
    """The state cannot be read or written. Nothing is delivered that would have to be remembered."""

    advice = ""

    def __init__(self, where: str, message: str) -> None:
        super().__init__(where, message)
        self.where = where
        self.message = message

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class StateUnusable(StateError):
    """It cannot be opened, or another process does not let go of it."""

    advice = (
        "the user needs to be able to write there; NFSVERITY_STATE_DIR names another directory, in which nothing "
        "is known of what was accepted before"
    )


class StateFull(StateError):
    """What was accepted cannot be stored."""

    advice = "make room on that file system (or raise the limit); until then nothing new is accepted"


class StateDamaged(StateError):
    """It is not what was written."""

    advice = (
        "restore it, or move it away together with the files of the same name and -wal and -shm: then what was "
        "accepted before is forgotten, and older versions are not noticed until newer ones were seen again"
    )


class StateNewer(StateError):
    """It is of a format that this program does not know."""

    advice = "use a newer version of this program"


class State:
    """The state of one user. Safe to use by many threads, and after a fork. Opened when it is first needed."""

    def __init__(self, directory: Path | None = None) -> None:
        self.path = (directory or state_directory()) / NAME
        self._reading, self._writing = threading.RLock(), threading.RLock()
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._process = os.getpid()
        self._left: list[sqlite3.Connection | None] = []
        """Of a process that this one was forked from; what is opened there must not be used here."""

    def close(self) -> None:
        self._check_process()
        with self._writing, self._reading:
            for connection in (self._reader, self._writer):
                if connection is not None:
                    with contextlib.suppress(sqlite3.Error):  # what was changed is durable already
                        connection.close()
            self._reader = self._writer = None

    def _check_process(self) -> None:
        if self._process != os.getpid():
            self._left += [self._reader, self._writer]
            self._reader = self._writer = None
            self._reading, self._writing = threading.RLock(), threading.RLock()
            self._process = os.getpid()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """For questions; None where there is no file yet. Nothing waits for a change. Raises `StateError`."""
        self._check_process()
        with self._reading, self._told():
            if self._reader is None and os.path.lexists(self.path):
                self._reader = self._open()
            yield self._reader

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Questions inside see one and the same state, which is cheaper, too. Raises `StateError`."""
        with self.reading() as connection:
            if connection is None or connection.in_transaction:
                yield
                return
            connection.execute("BEGIN")
            try:
                yield
            finally:
                connection.execute("ROLLBACK")  # nothing was changed

    @contextlib.contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """One change: durable when the block has ended well, and else none. Raises `StateError`."""
        self._check_process()
        with self._writing, self._told():
            if self._writer is None:
                if not os.path.lexists(self.path):
                    self._create()
                self._writer = self._open()
            connection = self._writer
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    with contextlib.suppress(sqlite3.Error):  # what is not committed counts for nothing
                        connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What went wrong, by its kind."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._error(error) from error
        except OSError as error:
            text = error.strerror or str(error)
            if error.errno in _NO_ROOM:
                raise StateFull(str(self.path), f"cannot be written: {text}") from error
            raise StateUnusable(str(self.path), f"cannot be used: {text}") from error

    def _error(self, error: sqlite3.Error) -> StateError:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        where = str(self.path)
        if code in _FULL:
            return StateFull(where, f"cannot be written or read, as when there is no room: {error}")
        if code in _DAMAGED:
            return StateDamaged(where, f"is damaged: {error}")
        return StateUnusable(where, f"cannot be used: {error}")

    def damaged(self, why: str) -> StateDamaged:
        return StateDamaged(str(self.path), f"is damaged: {why}")

    def _open(self) -> sqlite3.Connection:
        """Raises `StateDamaged`, `StateNewer`, `sqlite3.Error`."""
        uri = f"{self.path.absolute().as_uri()}?mode=rw"  # a file that has gone is not made again in silence
        connection = sqlite3.connect(uri, BUSY, isolation_level=None, check_same_thread=False, uri=True)
        try:
            if os.stat(self.path).st_size == 0:  # which SQLite takes for an empty database
                raise self.damaged("it is empty")
            if connection.execute("PRAGMA application_id").fetchone() != (APPLICATION,):
                raise self.damaged("it is another program's file")
            (format,) = connection.execute("PRAGMA user_version").fetchone()
            if format != FORMAT:
                text = f"is of format {format}; this program knows {FORMAT}"
                raise (StateNewer if format > FORMAT else StateDamaged)(str(self.path), text)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA fullfsync = ON")  # macOS, where fsync alone is not durable
            connection.execute("PRAGMA trusted_schema = OFF")
        except BaseException:
            connection.close()
            raise
        return connection

    def _create(self) -> None:
        """An empty one is made beside it, and put in place whole: half of one is never seen."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self.path.with_name(NAME + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        new = self.path.with_name(NAME + ".new")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not os.path.lexists(self.path):
                self._place(new)
        finally:
            os.close(lock)

    def _place(self, new: Path) -> None:
        """For who has the lock."""
        # of a file that was moved away, and of a process that was killed here
        _remove(self.path.with_name(name) for name in (NAME + "-wal", NAME + "-shm", *_parts(new.name)))
        try:
            fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                self._fill(new)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(new, self.path)
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        finally:
            _remove(new.with_name(name) for name in _parts(new.name))

    def _fill(self, new: Path) -> None:
        with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")  # all of it is synced before it is in place
            pragmas = f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {FORMAT};"
            connection.executescript(f"BEGIN; {pragmas} {SCHEMA} COMMIT;")
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise StateUnusable(str(self.path), "cannot be shared by processes on this file system")
