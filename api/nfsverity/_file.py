# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Verified files as ordinary binary file objects."""

from __future__ import annotations

import errno
import io
import os

from nfsverity_client.opening import Opened
from nfsverity_client.sequential import SequentialReader
from nfsverity_proto.verification import Verified
from nfsverity_proto.xdr import Buffer

from ._loop import begin, wait_for

BUFFER = 2**18
"""Bytes that one read from the server is for, at least."""


class _Raw(io.RawIOBase):
    """Unbuffered. What it gives has been verified; what does not verify raises, and gives nothing."""

    def __init__(self, reader: Opened) -> None:
        self.reader = reader
        self._sequential = SequentialReader(reader)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._check_open()
        if whence == os.SEEK_END:
            self.reader.pin()  # who knows where the end is counts on it
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.reader.size}.get(whence)
        if base is None or base + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        self._check_open()
        return self._at

    def readinto(self, buffer: Buffer, /) -> int:  # type: ignore[override] # typeshed has a protocol of its own
        self._check_open()
        view = memoryview(buffer).cast("B")
        count = wait_for(self._sequential.readinto(self._at, view))
        self._at += count
        return count

    def readall(self) -> bytes:
        self._check_open()
        data = wait_for(self.reader.pread(self._at))
        self._at += len(data)
        return data

    def close(self) -> None:
        if not self.closed and self._sequential.active:
            begin(self._sequential.close())
        super().close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("the file is closed")


class File(io.BufferedReader):
    """A verified file: read it, seek in it, give it to whatever takes a binary file.

    Every read raises `VerificationError` rather than give a byte that was not signed.
    """

    def __init__(self, reader: Opened) -> None:
        super().__init__(_Raw(reader), BUFFER)
        self._reader = reader

    @property
    def name(self) -> str:
        """The URL."""
        return self._reader.url

    @property
    def size(self) -> int:
        """Bytes, as signed. No newer version is turned to once this was asked."""
        self._reader.pin()
        return self._reader.size

    @property
    def unverified(self) -> str | None:
        """Which rule of the policy lets it pass without being verified. None: every byte that is read is."""
        return self._reader.unverified

    @property
    def verified(self) -> Verified:
        """The record: who signed what, for which volume and path, in which generation.

        Raises `ValueError` where the file is not verified.
        """
        return self._reader.verified
