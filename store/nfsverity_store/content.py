# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Opening what is in a published tree, and only that: no link is followed, nothing outside is reached."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class NotRegular(OSError):
    """A symbolic link, a directory or a special file, where a file is due."""


def open_directory(name: bytes, above: int) -> int:
    """A descriptor of the directory `name` in the open directory `above`. Raises `OSError`, for a link too."""
    return os.open(name, _DIRECTORY, dir_fd=above)


def open_file(name: bytes, above: int) -> int:
    """A descriptor of the regular file `name` in the open directory `above`. Raises `NotRegular`, `OSError`."""
    fd = os.open(name, _FILE, dir_fd=above)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotRegular("not a regular file")
    return fd


def open_below(root: Path, names: Iterable[bytes], *, directory: bool = False) -> int:
    """A descriptor of the file (or directory) at `names` below `root`.

    Every step is made from the directory before it and follows no link, so that no name can leave the
    tree. Raises `NotRegular`, `OSError`.
    """
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        steps = list(names)
        for name in steps if directory else steps[:-1]:
            below = open_directory(name, at)
            os.close(at)
            at = below
        if directory:
            found, at = at, -1
            return found
        return open_file(steps[-1], at)
    finally:
        if at >= 0:
            os.close(at)
