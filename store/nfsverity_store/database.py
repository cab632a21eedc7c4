# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What the indexes of both forms have in common: one SQLite file, which is never changed once a head names it."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import quote

from .layout import StoreError

_COMMON = """
CREATE INDEX kept ON entry (kept) WHERE kept IS NOT NULL;
CREATE TABLE certificate (digest BLOB PRIMARY KEY, der BLOB NOT NULL);
"""


_NOT_DUE = "{} is damaged: it has not the tables that an index has"


def _objects(connection: sqlite3.Connection, which: str) -> list[Any]:
    """All that is defined in a database. Names that are no text are errors."""
    return connection.execute(
        f"SELECT type, name, tbl_name, sql FROM {which}.sqlite_master WHERE sql NOTNULL ORDER BY name"  # noqa: S608 - our own words
    ).fetchall()


def _check_regular(path: Path) -> None:
    if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
        raise StoreError(f"{path} is no regular file")


@cache
def _due(schema: str) -> list[Any]:
    """What is defined in an index, and nothing else: whoever can write there could put a view that never ends."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(schema + _COMMON)
        return _objects(connection, "main")


def _uri(path: Path, mode: str) -> str:
    return f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}"


class Database:
    """An index that is open: close it, or use it in a `with`. Raises `StoreError` for one that is damaged."""

    schema: ClassVar[str]
    """Of the tables; there is one `entry`, with the name of a file's kept tree in `kept`."""

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        self.path = path
        _check_regular(path)
        uri = _uri(path, "rwc" if writable else "ro&immutable=1")
        try:
            self._db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise StoreError(f"{path} cannot be opened: {error}") from error
        try:
            if writable:
                self._db.execute("PRAGMA journal_mode = OFF")
                self._db.execute("PRAGMA synchronous = OFF")
            found = _objects(self._db, "main")
        except (sqlite3.Error, ValueError) as error:
            self._db.close()
            raise StoreError(f"{path} cannot be read: {error}") from error
        if found != _due(self.schema) and (found or not writable):
            self._db.close()
            raise StoreError(_NOT_DUE.format(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def _execute(self, sql: str, *values: object) -> list[Any]:
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _rows(self, sql: str, *values: object) -> Iterator[Any]:
        """The rows one after the other, not all of them in memory."""
        try:
            yield from self._db.execute(sql, values)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _execute_many(self, sql: str, values: Iterable[tuple[object, ...]]) -> None:
        try:
            self._db.executemany(sql, values)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _failed(self, error: sqlite3.Error) -> StoreError:
        return StoreError(f"{self.path} is damaged, or cannot be written: {error}")

    def create(self) -> None:
        try:
            self._db.executescript(self.schema + _COMMON)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def begin(self) -> None:
        self._execute("BEGIN")

    def commit(self) -> None:
        self._execute("COMMIT")

    def take_in(self, part: Path, tables: Iterable[str]) -> None:
        """Put all that another index, which is closed, has in these tables; what was begun here goes on."""
        _check_regular(part)
        self._execute("COMMIT")
        self._execute("ATTACH ? AS part", _uri(part, "ro&immutable=1"))
        try:
            found = _objects(self._db, "part")
        except (sqlite3.Error, ValueError) as error:
            raise StoreError(f"{part} cannot be read: {error}") from error
        if found != _due(self.schema):
            raise StoreError(_NOT_DUE.format(part))
        self._execute("BEGIN")
        for table in tables:
            self._execute(f"INSERT OR REPLACE INTO main.{table} SELECT * FROM part.{table}")  # noqa: S608 - our own words
        self._execute("COMMIT")
        self._execute("DETACH part")
        self._execute("BEGIN")

    def kept_trees(self) -> set[str]:
        """The names of the tree files that entries need."""
        return {row[0] for row in self._execute("SELECT DISTINCT kept FROM entry WHERE kept IS NOT NULL")}

    def put_certificate(self, digest: bytes, der: bytes) -> None:
        self._execute("INSERT OR REPLACE INTO certificate VALUES (?, ?)", digest, der)

    def certificates(self) -> list[bytes]:
        return [row[0] for row in self._execute("SELECT der FROM certificate ORDER BY digest")]
