# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""One file that is written: whole, verified and synced it takes its place at its destination."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

from nfsverity_store.hashing import next_data, next_hole

from .left_over import PREFIX, is_interruption, naming, opened, remove_others, slot, tell_left

_NO_SHARING = frozenset((errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.EBADF))
"""How a system says that it cannot copy from one file to another by itself."""
COPY = 2**24
"""Bytes that are copied at once: a clone of that length costs nothing, a copy ends soon."""


@cache
def _umask() -> int:
    """As it was when it was first asked for: reading it is setting it, twice."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def mode_of(executable: bool) -> int:
    """The permissions of a file that is new."""
    return (0o777 if executable else 0o666) & ~_umask()


def _copy_range(source: int, target: int, at: int, stop: int, progress: Callable[[int], None]) -> None:
    """Bytes [at, stop) of one file, as many as there are, to the same place of another; shared where that can be."""
    while at < stop:
        count = _copy_some(source, target, at, min(stop - at, COPY))
        if not count:
            return
        at += count
        progress(count)


def _copy_some(source: int, target: int, at: int, count: int) -> int:
    if hasattr(os, "copy_file_range"):
        try:
            return os.copy_file_range(source, target, count, at, at)
        except OSError as error:
            if error.errno not in _NO_SHARING:
                raise
    data = os.pread(source, count, at)
    return os.pwrite(target, data, at) if data else 0


class NewFile:
    """A file that is being written. Long runs of zeros become holes."""

    def __init__(self, fd: int, executable: bool, where: str, *, resumed: bool = False) -> None:
        self.fd = fd
        self.where = where
        """Where it belongs, for errors."""
        self.executable = executable
        self.resumed = resumed
        """Whether a run before has left something in it, which `begin_as` keeps."""
        self._at = self._stored = 0

    @property
    def has_content(self) -> bool:
        """Whether something is in it that another run can use."""
        return self.resumed or self._stored > 0

    def write(self, data: memoryview) -> None:
        length = len(data)
        if data[0] == 0 == data[-1] and not any(data[:4096]) and bytes(length) == data:
            self._at += length
            return
        at, stop = self._at, self._at + length
        with naming(self.where):
            while at < stop:
                at += os.pwrite(self.fd, data[at - self._at :], at)
        self._at = self._stored = stop

    def begin_as(self, old: Sequence[int], size: int, progress: Callable[[int], None]) -> None:
        """Be what open files have, cut off or continued with zeros to `size` bytes; each where none before has data.

        What a run before has left here comes first. Holes stay holes. The old files are only read, and may change
        meanwhile: what counts is what is in here then.
        """
        has_content = self.resumed
        with naming(self.where):
            if not has_content:
                os.ftruncate(self.fd, 0)
            os.ftruncate(self.fd, size)
            for source in old:
                self._fill(source, min(os.fstat(source).st_size, size), has_content, progress)
                has_content = True
        self._at = self._stored = size

    def _fill(self, source: int, end: int, has_content: bool, progress: Callable[[int], None]) -> None:
        at = 0
        while at < end:
            start = next_data(source, next_hole(self.fd, at, end) if has_content else at, end)
            at = min(next_hole(source, start, end), next_data(self.fd, start, end) if has_content else end)
            _copy_range(source, self.fd, start, at, progress)

    def put(self, offset: int, data: memoryview) -> None:
        """Write in the middle of what is there."""
        with naming(self.where):
            while data:
                count = os.pwrite(self.fd, data, offset)
                data, offset = data[count:], offset + count

    def finish(self, mtime: int | None) -> None:
        """Size, mode and time (nanoseconds) as they were signed; None: the time is not."""
        if self._stored < self._at:
            os.ftruncate(self.fd, self._at)
        os.fchmod(self.fd, mode_of(self.executable))
        if mtime is not None:
            with contextlib.suppress(OverflowError, OSError):  # a time that this system cannot have
                os.utime(self.fd, ns=(mtime, mtime))


@contextlib.contextmanager
def new_file(destination: Path, executable: bool, *, whole: bool = False) -> Iterator[NewFile]:
    """A file that is at `destination` when the context ends well, durably, in place of what was there.

    What an interrupted run has left of it is in there already, unless `whole`: it proves nothing.
    """
    if destination.is_dir() and not destination.is_symlink():
        raise IsADirectoryError(21, "there is a directory", str(destination))
    with naming(destination), opened(destination.parent) as parent:
        name, fd, resumed = slot(destination, parent)
        file = NewFile(fd, executable, str(destination), resumed=resumed and not whole)
        try:
            if whole and resumed:
                os.ftruncate(fd, 0)
            yield file
            os.fsync(fd)
            os.replace(name, destination.name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException as error:
            if is_interruption(error) and not whole and file.has_content:
                tell_left(destination.parent / name)
            else:
                os.unlink(name, dir_fd=parent)
            raise
        finally:
            os.close(fd)
        remove_others(destination, parent)
        os.fsync(parent)


def new_link(destination: Path, target: bytes) -> None:
    """A symbolic link at `destination`, durably, in place of what was there. Raises `OSError`."""
    if destination.is_dir() and not destination.is_symlink():
        raise IsADirectoryError(21, "there is a directory", str(destination))
    with naming(destination), opened(destination.parent) as parent:
        name = PREFIX + secrets.token_hex(8)
        os.symlink(target, name, dir_fd=parent)
        try:
            os.replace(name, destination.name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            os.unlink(name, dir_fd=parent)
            raise
        os.fsync(parent)
