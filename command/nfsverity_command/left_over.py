# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What a run has of a file when it is interrupted, or killed: the next run to the same destination takes it up.

It lies beside the destination, on its file system, under a name that follows from it, for one run at a time.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from nfsverity_proto.errors import PeerError, Stale, StatusError

from .failure import say

PREFIX = ".nfsverity-get-"
DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
SLOTS = 16
"""Of runs that write to one destination at the same time, so many can be resumed."""
_PASSING = (PeerError, StatusError, Stale, TimeoutError, ConnectionError)
"""After these another run may come further; after others it would not, or there is no room for what is left."""


def is_interruption(error: BaseException) -> bool:
    """Whether what was fetched is of use to the next run."""
    return isinstance(error, _PASSING) or not isinstance(error, Exception)


def tell_left(path: Path) -> None:
    say(f"nfsverity: what was fetched is in {path}, for the next run")


def name_of(destination: Path) -> str:
    """What a run gives to what is for a destination, so that the next one finds it."""
    return PREFIX + hashlib.sha256(os.fsencode(destination.name)).hexdigest()[:16]


def named(error: OSError, destination: Path | str) -> OSError:
    """The error with the name of the destination, not of what stands in for it."""
    if error.filename is None or PREFIX in os.fsdecode(error.filename):
        error.filename = str(destination)
    error.filename2 = None
    return error


@contextlib.contextmanager
def naming(destination: Path | str) -> Iterator[None]:
    """Errors inside name the destination, not what stands in for it."""
    try:
        yield
    except OSError as error:
        raise named(error, destination)  # noqa: B904 - it is the same one


def has_left_over(destination: Path) -> bool:
    """Whether an interrupted run may have left something of a file."""
    name = name_of(destination)
    return any(os.path.lexists(destination.parent / f"{name}.{number}") for number in range(SLOTS))


def slot(destination: Path, parent: int) -> tuple[str, int, bool]:
    """A file for this run alone: its name, open, and whether a run before has left something in it."""
    for number in range(SLOTS):
        name = f"{name_of(destination)}.{number}"
        with contextlib.suppress(FileExistsError):
            return name, _locked_new(name, parent), False
        fd = _left_by_us(name, parent)
        if fd is not None:
            return name, fd, True
        with contextlib.suppress(FileExistsError):  # it was no use, or is gone by now
            return name, _locked_new(name, parent), False
    name = PREFIX + secrets.token_hex(8)
    return name, _locked_new(name, parent), False


def _locked_new(name: str, parent: int) -> int:
    """Raises `FileExistsError`, also where another run took it at once for something left over."""
    fd = os.open(name, CREATE, 0o600, dir_fd=parent)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), os.stat(name, dir_fd=parent, follow_symlinks=False)):
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    raise FileExistsError(errno.EEXIST, "another run has it, or had it")


def _left_by_us(name: str, parent: int) -> int | None:
    """What nobody writes to any more, or can write to but this user; else it is removed if it is this user's."""
    try:
        fd = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(fd)
        ours = status.st_uid == os.geteuid()
        if ours and os.path.samestat(status, os.stat(name, dir_fd=parent, follow_symlinks=False)):
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and not status.st_mode & 0o022:
                os.fchmod(fd, 0o600)
                return fd
            os.unlink(name, dir_fd=parent)
    except OSError:  # another run has it, or had it until now
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def remove_left_over(destination: Path) -> None:
    """What interrupted runs have left of a file that is in place now."""
    if has_left_over(destination):
        with opened(destination.parent) as parent:
            remove_others(destination, parent)


def remove_others(destination: Path, parent: int) -> None:
    for number in range(SLOTS):
        name = f"{name_of(destination)}.{number}"
        fd = _left_by_us(name, parent)
        if fd is not None:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=parent)
            os.close(fd)


@contextlib.contextmanager
def opened(directory: Path) -> Iterator[int]:
    try:
        fd = os.open(directory, DIRECTORY_FLAGS)
    except FileNotFoundError as error:
        error.advice = "make that directory first"  # type: ignore[attr-defined] # as those of `failure.TABLE`
        raise
    try:
        yield fd
    finally:
        os.close(fd)
