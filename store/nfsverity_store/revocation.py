# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The current revocation of a tree's volume (fim, "Revocation"), in the tree's metadata directory.

    revocation        one record
    revocation.certs  the certificates of its signers and their issuers, each behind its length in four bytes

A publisher renames each into its place: certificates for the record before and the new one, the new record, and the
certificates for that alone. So there are always those that the record needs. A revocation of another volume, which
the tree had before, is none.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from nfsverity_proto.certificate import DER_MAX
from nfsverity_proto.errors import VerificationError
from nfsverity_proto.record import RECORD_MAX, decode_record
from nfsverity_proto.statement import Kind, Revocation, decode_statement

from .layout import DIRECTORY, StoreError, open_part

T = TypeVar("T")
REVOCATION = "revocation"
CERTIFICATES = "revocation.certs"
CERTIFICATES_MAX = 2**21
"""Bytes: more than eight signers with eight certificates each ever have."""


def revocation_path(root: Path) -> Path:
    return root / DIRECTORY / REVOCATION


def certificates_path(root: Path) -> Path:
    return root / DIRECTORY / CERTIFICATES


class PublishedRevocation:
    """Each of its files is read again when it is another one."""

    def __init__(self, root: Path) -> None:
        self._record = _Watched(revocation_path(root), RECORD_MAX, _decoded)
        self._certificates = _Watched(certificates_path(root), CERTIFICATES_MAX, _split)

    def record(self, volume: bytes) -> bytes | None:
        """None where there is none for the volume. Raises `OSError`, `StoreError`."""
        found = self._record.read()
        return None if found is None or found[1].volume != volume else found[0]

    def claim(self, volume: bytes) -> Revocation | None:
        """What that record says."""
        found = self._record.read()
        return None if found is None or found[1].volume != volume else found[1]

    def certificates(self) -> tuple[bytes, ...]:
        """DER, of its signers and their issuers. Raises `OSError`, `StoreError`."""
        return self._certificates.read() or ()


class _Watched(Generic[T]):
    """What a file says, remembered as long as it is the same file."""

    def __init__(self, path: Path, most: int, parse: Callable[[Path, bytes], T]) -> None:
        self._path = path
        self._most = most
        self._parse = parse
        self._seen: tuple[int, int, int] | None = None
        self._found: T | None = None

    def read(self) -> T | None:
        """None where there is no such file. Raises `OSError`, `StoreError`."""
        try:
            status = os.lstat(self._path)
            seen = status.st_ino, status.st_mtime_ns, status.st_size
            if seen != self._seen:
                with open_part(self._path) as file:
                    data = file.read(self._most + 1)
                if len(data) > self._most:
                    raise StoreError(f"{self._path} is damaged: it has more than {self._most} bytes")
                self._seen, self._found = None, self._parse(self._path, data)
                self._seen = seen
        except FileNotFoundError:
            self._seen, self._found = None, None
        return self._found


def _decoded(path: Path, record: bytes) -> tuple[bytes, Revocation]:
    try:
        claim = decode_statement(decode_record(record).statement, Kind.REVOCATION).claim
    except VerificationError as error:
        raise StoreError(f"{path} is damaged: {error}") from error
    if not isinstance(claim, Revocation):
        raise StoreError(f"{path} is damaged: it holds no revocation")
    return record, claim


def joined(certificates: Sequence[bytes]) -> bytes:
    """The content of the file of certificates."""
    return b"".join(len(der).to_bytes(4, "big") + der for der in certificates)


def _split(path: Path, data: bytes) -> tuple[bytes, ...]:
    found = []
    while data:
        length = int.from_bytes(data[:4], "big")
        if not 0 < length <= min(DER_MAX, len(data) - 4):
            raise StoreError(f"{path} is damaged")
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    return tuple(found)
