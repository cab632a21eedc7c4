# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The file of the node cache: SQLite, shared by the processes of one user, bounded in bytes. Blocking.

Nothing in it is believed, and all of it may be lost: so nothing is synced, and a store that is damaged, of another
format or gone is replaced by an empty one. SQLite and not a memory-mapped store, and not SQLite's write-ahead
log, whose index is one: a mapped file that somebody cuts short kills the process. A process that is killed while it
writes leaves a journal, which the next one rolls back.

Runs leave by age: `used` counts batches of writes, and those used longest ago go first.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from .cache_place import make_private
from .node_runs import VALUE_MAX

NAME = "nodes.sqlite3"
APPLICATION = 0x4E465663
"""Marks a file as ours, in SQLite's header."""
FORMAT = 1
BUSY_MS = 50
"""Milliseconds to wait for another process: then a read finds nothing, and a batch is not written."""
PAGE = 4096
LIMIT_MIN = 64 * PAGE
KEEP = 0.9
"""Of the limit is left when runs have been evicted."""
EVICT_AT_ONCE = 64
PRESENT_MAX = 4096
"""Keys that are asked for at once."""
ATTEMPTS = 3
"""How often one piece of work is begun again, on a new store."""
COUNTERS = (
    "hits", "misses", "dropped", "bytes_saved", "evicted",
    "data_hits", "data_misses", "data_dropped", "data_bytes_saved",
)  # fmt: skip

T = TypeVar("T")
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE run (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, used INTEGER NOT NULL, value BLOB NOT NULL);
CREATE INDEX run_used ON run (used);
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {FORMAT};
COMMIT;
"""


class StoreUnusable(Exception):
    """There is no store, and none can be made."""


class _Damaged(Exception):
    """The file is not what this program has written."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What is in a store."""

    contents: int
    runs: int
    bytes: int
    """Of the file."""
    counters: Mapping[str, int]


class NodeStore:
    """For one thread at a time. What goes wrong with the file is no error: less is found, or kept."""

    def __init__(self, directory: Path, limit: int) -> None:
        self.path = directory / NAME
        self.limit = max(limit, LIMIT_MIN)
        self.read_only = False
        self.damaged: str | None = None
        """Why a store was replaced, the last time that one was."""
        self.full: str | None = None
        """Why nothing is written any more."""
        self._connection: sqlite3.Connection | None = None
        self._evicted = 0

    # opening

    def _open(self, *, create: bool = True) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._opened(create)
        return self._connection

    def _opened(self, create: bool) -> sqlite3.Connection:
        try:
            if create:
                make_private(self.path.parent)
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            mode = "rw"
        except OSError as error:
            self.read_only = True
            mode = "ro"
            if not os.access(self.path, os.R_OK):
                raise StoreUnusable(f"{self.path}: {error.strerror}") from error
        try:
            connection = sqlite3.connect(
                f"file:{_quoted(self.path)}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False,
                timeout=BUSY_MS / 1000,
            )  # fmt: skip
        except sqlite3.Error as error:
            raise StoreUnusable(f"{self.path}: {error}") from error
        try:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 4 * VALUE_MAX)
            for pragma in ("mmap_size = 0", "cell_size_check = ON", "trusted_schema = OFF", "synchronous = OFF"):
                connection.execute(f"PRAGMA {pragma}")
            if not self.read_only:
                self._make(connection)
            if _pragma(connection, "application_id") != APPLICATION or _pragma(connection, "user_version") != FORMAT:
                raise _Damaged("it is of another format")
        except BaseException:
            connection.close()
            raise
        return connection

    def _make(self, connection: sqlite3.Connection) -> None:
        if os.path.getsize(self.path) in (0, PAGE):  # `auto_vacuum` writes one page, before there is a table
            connection.execute(f"PRAGMA page_size = {PAGE}")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            try:
                connection.executescript(_SCHEMA)
            except sqlite3.OperationalError:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                if _pragma(connection, "application_id") != APPLICATION:  # else another process was first
                    raise
        connection.execute("PRAGMA journal_mode = TRUNCATE").fetchone()
        connection.execute(f"PRAGMA max_page_count = {self.limit // PAGE}").fetchone()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def abandon(self) -> None:
        """Leave the connection of another process, whose locks it would drop, alone."""
        _left.append(self._connection)
        self._connection = None

    def remove(self) -> int:
        """Delete the store; the bytes that it had. Processes that use it go on, and make a new one."""
        self.close()
        freed = 0
        with _locked(self.path.parent):
            for path in (self.path, self.path.with_name(NAME + "-journal")):
                with contextlib.suppress(FileNotFoundError):
                    freed += path.stat().st_size
                    path.unlink()
        return freed

    def _replace(self, why: object) -> None:
        """Make way for a new store, unless another process has done so."""
        self.damaged = str(why)
        if self.read_only:
            raise StoreUnusable(f"{self.path}: {why}")
        self.close()
        try:
            with _locked(self.path.parent):
                if not self._sound():
                    for path in (self.path.with_name(NAME + "-journal"), self.path):
                        with contextlib.suppress(FileNotFoundError):
                            path.unlink()
        except OSError as error:
            raise StoreUnusable(f"{self.path}: {error.strerror}") from error

    def _sound(self) -> bool:
        """Whether what is there now can be read from end to end: another process may have replaced it."""
        try:
            connection = self._opened(create=True)
        except (*_FAILURES, _Damaged, StoreUnusable):
            return False
        try:
            return bool(connection.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",))
        except _FAILURES:
            return False
        finally:
            connection.close()

    # work

    def present(self, content: bytes) -> set[bytes] | None:
        """The keys of a content's runs; None: too many to say, or it cannot be said."""

        def work(connection: sqlite3.Connection) -> set[bytes] | None:
            query = "SELECT key FROM run WHERE key >= ? AND key < ? LIMIT ?"
            found = connection.execute(query, (content, content + b"\xff", PRESENT_MAX)).fetchall()
            return None if len(found) == PRESENT_MAX else {key for (key,) in found if isinstance(key, bytes)}

        nothing: set[bytes] | None = set()
        return self._do(work, nothing)

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """What is stored under each key; whatever it is, it proves nothing."""

        def work(connection: sqlite3.Connection) -> list[bytes | None]:
            query = "SELECT value FROM run WHERE key = ?"
            found = [connection.execute(query, (key,)).fetchone() for key in keys]
            return [row[0] if row is not None and isinstance(row[0], bytes) else None for row in found]

        return self._do(work, [None] * len(keys))

    def write(
        self, values: Mapping[bytes, bytes], used: Sequence[bytes], dropped: Sequence[bytes], counts: Mapping[str, int]
    ) -> bool:
        """One batch, and then as much eviction as it needs; whether it was written."""
        if self.full is not None or self.read_only:
            return False

        def work(connection: sqlite3.Connection) -> bool:
            with _transaction(connection):
                now = connection.execute("SELECT max(used) FROM run").fetchone()[0]
                now = now + 1 if isinstance(now, int) and 0 <= now < 2**62 else 1
                connection.executemany("DELETE FROM run WHERE key = ?", [(key,) for key in dropped])
                connection.executemany("UPDATE run SET used = ? WHERE key = ?", [(now, key) for key in used])
                self._make_room(connection, sum(map(len, values.values())) + PAGE * len(values))
                connection.executemany(
                    "INSERT INTO run (key, used, value) VALUES (?, ?, ?)"
                    " ON CONFLICT (key) DO UPDATE SET used = excluded.used, value = excluded.value",
                    [(key, now, value) for key, value in values.items()],
                )
                for name, count in (*counts.items(), ("evicted", self._evicted)):
                    if count:
                        connection.execute(
                            "INSERT INTO counter VALUES (?, ?) ON CONFLICT (name)"
                            " DO UPDATE SET value = min(value + excluded.value, 1 << 62)",
                            (name, count),
                        )
            self._evicted = 0
            pages = _pragma(connection, "page_count")
            if isinstance(pages, int) and pages * PAGE > self.limit:  # it was made under a higher limit
                connection.executescript("PRAGMA incremental_vacuum;")  # `execute` would free one page only
            return True

        return self._do(work, False)

    def _make_room(self, connection: sqlite3.Connection, needed: int) -> None:
        """Evict until so many bytes fit."""
        most = self.limit // PAGE
        if _used_pages(connection) * PAGE + needed < self.limit:
            return
        goal = max(int(most * KEEP) - needed // PAGE, 0)
        while _used_pages(connection) > goal:
            query = "DELETE FROM run WHERE id IN (SELECT id FROM run ORDER BY used, id LIMIT ?)"
            gone = connection.execute(query, (EVICT_AT_ONCE,)).rowcount
            if gone <= 0:
                return
            self._evicted += gone

    def usage(self) -> Usage:
        """Raises `StoreUnusable`."""

        def work(connection: sqlite3.Connection) -> Usage:
            runs, contents = connection.execute(
                "SELECT count(*), count(DISTINCT substr(key, 1, 32)) FROM run"
            ).fetchone()
            counters = dict.fromkeys(COUNTERS, 0)
            for name, value in connection.execute("SELECT name, value FROM counter"):
                if name in counters and isinstance(value, int):
                    counters[name] = value
            return Usage(contents, runs, os.path.getsize(self.path), counters)

        if not self.path.exists():
            return Usage(0, 0, 0, dict.fromkeys(COUNTERS, 0))
        usage = self._do(work, None)
        if usage is None:
            raise StoreUnusable(f"{self.path}: it is in use, or cannot be read")
        return usage

    def _do(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """The result of `work`, on a new store where this one is damaged or gone. Raises `StoreUnusable`."""
        for attempt in range(ATTEMPTS):
            try:
                return work(self._open())
            except _Damaged as error:
                self._replace(error)
            except OSError as error:
                if attempt + 1 == ATTEMPTS:
                    raise StoreUnusable(f"{self.path}: {error.strerror}") from error
                self.close()  # it was deleted just now
            except _FAILURES as error:
                code = getattr(error, "sqlite_errorcode", 0) or 0
                if code == sqlite3.SQLITE_READONLY_DBMOVED or not self.path.exists():
                    self.close()  # it was deleted
                elif code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                    return otherwise
                elif code & 0xFF in _NO_ROOM:
                    self.close()
                    self.full = str(error)
                    return otherwise
                else:
                    self._replace(error)
        return otherwise


_NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
"""What says nothing about the content of the file."""
_FAILURES = (sqlite3.Error, UnicodeError, OverflowError, MemoryError)
"""What work with a damaged file may raise; its own error texts are not always UTF-8."""
_left: list[object] = []
"""Connections of another process, after a fork."""


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    fd = os.open(directory / "nodes.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _pragma(connection: sqlite3.Connection, name: str) -> object:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def _used_pages(connection: sqlite3.Connection) -> int:
    count, free = _pragma(connection, "page_count"), _pragma(connection, "freelist_count")
    return (count if isinstance(count, int) else 0) - (free if isinstance(free, int) else 0)


def _quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(os.fsencode(path.absolute()))
