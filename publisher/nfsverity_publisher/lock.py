# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""One publisher at a time works on a metadata directory; the next one waits."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from nfsverity_proto.errors import NfsVerityError
from nfsverity_store.layout import TREES

INTERVAL = 0.05
"""Seconds between two tries: flock has no time limit of its own."""


class PublicationError(NfsVerityError):
    """The tree cannot be published as it was asked for."""


class Busy(PublicationError):
    """Another process is publishing the tree, and did not come to an end in time."""


@contextlib.contextmanager
def locked(directory: Path, wait: float, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """The metadata directory, for one publisher. What was made for the first publication goes if it fails.

    Another publisher is waited for `wait` seconds; `waiting` is called when that begins. Raises `Busy`.
    """
    if directory.is_symlink():
        raise PublicationError(f"{directory} is a symbolic link; metadata lies in the tree itself")
    fd = _take(directory, time.monotonic() + wait, waiting)
    try:
        try:
            (directory / TREES).mkdir(exist_ok=True)
            yield
        except BaseException:
            if not os.path.lexists(directory / "head"):
                shutil.rmtree(directory)
            raise
    finally:
        os.close(fd)


def _take(directory: Path, deadline: float, waiting: Callable[[], None] | None) -> int:
    """A descriptor of the lock, which is held as long as it is open."""
    while True:
        fd = _try(directory)
        if fd is not None:
            return fd
        if time.monotonic() >= deadline:
            raise Busy(f"another process is signing {directory.parent}")
        if waiting is not None:
            waiting()
            waiting = None
        time.sleep(INTERVAL)


def _try(directory: Path) -> int | None:
    """None where somebody else has the lock, or removed it with the directory while it was being taken."""
    directory.mkdir(exist_ok=True)
    path = directory / "lock"
    if path.is_symlink():
        raise PublicationError(f"{path} is a symbolic link: remove it")
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), os.stat(path)):
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None
